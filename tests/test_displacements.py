"""What each place of an image says of the way to the truth, and the transform that fits all of them."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from regagent.agent.displacements import displacement_loss, fit
from regagent.agent.distance import linear_rest, rest_pose, similarity_moves
from regagent.geometry import transform

#: Rests of two pairs: px, px, degrees, scale.
RESTS = torch.tensor([[3.0, -2.0, 8.0, 1.05], [10.0, 4.0, -40.0, 0.9]], dtype=torch.float64)
SURE, UNSURE = 2.5, -9.0


class Network(NamedTuple):
    """What is asked of a network: its places, and how a rest moves them."""

    where: torch.Tensor
    motions: torch.Tensor


@pytest.fixture
def network():
    ticks = torch.arange(-60.0, 61, 8)
    where = torch.cartesian_prod(ticks, ticks)
    return Network(where, similarity_moves(where))


def said(network, rests=RESTS, sureness=0.0):
    """Return what places (B, 5, S) say that know the rests, as sure as that along both axes."""
    where = network.where.double()
    shift = (transform(rests, where) - where).mT
    roots = torch.tensor([sureness, 0.0, sureness])[:, None].expand(len(rests), 3, shift.shape[-1])
    return torch.cat([shift, roots], 1).float()


def fitted(network, places, guess=0.0, sureness=-30.0):
    count = len(places)
    found, doubts = fit(
        places, torch.full((count, 4), guess), torch.full((count, 4), sureness), network.motions
    )
    return rest_pose(linear_rest(found)), doubts


def test_places_that_know_it_give_the_rest_of_the_way(network):
    found, doubts = fitted(network, said(network))
    assert torch.allclose(found.double(), RESTS, atol=1e-3)
    surer = fitted(network, said(network, sureness=2.0))[1]
    assert (surer[:, 0] < doubts[:, 0] - 1.5).all()  # the expected error is e to this


def test_a_place_counts_as_far_as_it_is_sure(network):
    places = said(network, sureness=SURE)
    wrong = torch.arange(places.shape[-1]) % 3 > 0  # two in three
    places[:, :2, wrong] += 20.0
    assert not torch.allclose(fitted(network, places)[0].double(), RESTS, atol=1.0)
    disagreeing = fitted(network, places)[1][:, 1]
    places[:, 2:5:2, wrong] = UNSURE
    assert torch.allclose(fitted(network, places)[0].double(), RESTS, atol=0.1)
    assert (fitted(network, places)[1][:, 1] < disagreeing - 1).all()


def test_a_place_on_an_edge_knows_the_way_across_it_alone(network):
    """One half knows x and is wrong about y, the other one the other way round."""
    places = said(network, sureness=SURE)
    of_x = torch.arange(places.shape[-1]) % 2 == 0
    places[:, 1, of_x] += 30.0
    places[:, 4, of_x] = UNSURE
    places[:, 0, ~of_x] -= 30.0
    places[:, 2, ~of_x] = UNSURE
    assert torch.allclose(fitted(network, places)[0].double(), RESTS, atol=0.1)


def test_where_no_place_knows_the_guess_decides(network):
    places = said(network, sureness=UNSURE)
    found, _ = fitted(network, places, guess=2.0, sureness=9.0)
    assert torch.allclose(found[:, :2], torch.tensor(2.0), atol=0.1)


def test_the_loss_is_least_where_the_spread_is_that_of_the_errors(network):
    true = torch.zeros(1, 256, 2)
    rng = np.random.default_rng(0)
    places = said(network, torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64))
    places[:, :2] += torch.tensor(rng.normal(0, 2.0, (1, 2, 256))).float()

    def loss(log_root):
        changed = places.clone()
        changed[:, 2:5:2] = log_root
        return float(displacement_loss(changed, true))

    losses = [loss(value) for value in np.linspace(-2.5, 2.5, 26)]
    assert -1.0 < np.linspace(-2.5, 2.5, 26)[int(np.argmin(losses))] < 0.5
    nearer = places.clone()
    nearer[:, :2] *= 0.5
    assert displacement_loss(nearer, true) < displacement_loss(places, true)
