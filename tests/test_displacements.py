"""What each place of an image says of the way to the truth, and the transform that fits all of them."""

import numpy as np
import pytest
import torch
from agents import PLAIN, make_pairs

from regagent.agent.displacements import displacement_loss, fit, outputs_of
from regagent.agent.distance import linear_rest, rest_pose
from regagent.agent.networks import ResidualNetwork, from_blocks, to_blocks
from regagent.agent.residual import Residuals, look
from regagent.geometry import transform
from regagent.settings import ResidualRegressor

#: Rests of two pairs: px, px, degrees, scale.
RESTS = torch.tensor([[3.0, -2.0, 8.0, 1.05], [10.0, 4.0, -40.0, 0.9]], dtype=torch.float64)
SURE, UNSURE = 2.5, -9.0


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ResidualNetwork(width=1, places=8)


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


def test_a_place_is_where_its_convolutions_look(network):
    """The middle of the pixels that a place's prediction depends on."""
    states = torch.randn(1, 32, 42, 42, requires_grad=True)
    outputs = network(states).places
    assert outputs.shape == (1, outputs_of(2), 256) == (1, 5, len(network.where))
    for place in (17, 100, 186):
        (gradient,) = torch.autograd.grad(outputs[0, 0, place], states, retain_graph=True)
        weight = from_blocks(gradient[:, :16].permute(0, 2, 3, 1).abs())[0]
        ticks = torch.arange(168) - 83.5
        rows, columns = (weight.sum(axis) > 0 for axis in (1, 0))
        middle = [float((ticks[seen].min() + ticks[seen].max()) / 2) for seen in (columns, rows)]
        assert middle == network.where[place].tolist()


def test_it_learns_the_places_of_pairs_that_belong_together():
    settings = ResidualRegressor(
        learner="residual", batch=16, looks=1, places=8, width=1, unlike=0.5, **PLAIN
    )
    task = Residuals(make_pairs(2), settings, torch.Generator().manual_seed(0))
    rates = []
    for step in range(40):
        task.generator.manual_seed(step % 4)
        loss = task.loss()
        task.optimiser.zero_grad()
        loss.backward()
        for group in task.optimiser.param_groups:
            group["lr"] = 2e-3
        task.optimiser.step()
        rates.append(loss.item())
    assert np.mean(rates[-4:]) < 0.9 * np.mean(rates[:4])
    assert all(parameter.grad.abs().sum() > 0 for parameter in task.network.parameters())


def test_a_look_goes_where_the_places_say(network, monkeypatch):
    pairs, pose = make_pairs(2), np.array([[1.0, 2.0, 3.0, 1.1], [0.0, 0.0, 0.0, 1.0]])
    places = said(network, sureness=2.9)
    monkeypatch.setattr(type(network.places), "forward", lambda *_: places.unflatten(-1, (16, 16)))
    monkeypatch.setattr(network.features, "forward", lambda states: states)
    monkeypatch.setattr(type(network.features), "__getitem__", lambda self, _: lambda x: torch.zeros(2, 256))
    seen, _ = look(network, to_blocks(torch.tensor(pairs.mr)), torch.tensor(pairs.ct), pose)
    assert np.allclose(seen[1], RESTS[1], atol=0.05)
