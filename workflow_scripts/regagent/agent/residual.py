"""The residual regressor: from any pose it predicts the rest of the way to the truth, and its length D.

It looks, goes to where it saw the truth, and looks again (see ``settling``).
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regagent.agent.displacements import displacement_loss
from regagent.agent.distance import distance_loss, expected_distance, rest_loss, rest_pose
from regagent.agent.environment import mirrored, observe
from regagent.agent.networks import ResidualNetwork, RestNetwork, Seen
from regagent.agent.starts import Starts, draw_starts
from regagent.geometry import MIRROR, compose, displacement, invert, mean_pose, transform
from regagent.pairs.training_pairs import Pairs
from regagent.settings import ResidualRegressor

Array = NDArray[np.float64]

#: Starts of a batch that share one augmented pair.
STARTS_PER_PAIR = 4

#: Weight of D's loss relative to that of the rest.
DISTANCE_WEIGHT = 0.1

#: Weight of the loss of the places' displacements relative to that of the rest.
PLACES_WEIGHT = 0.1

#: States that go through the convolutions at once: on a CPU as many as its cache holds.
STATES_AT_ONCE = {"cpu": 32, "cuda": 1024}

#: Looks count for the mean pose by this power of their predicted D.
DISTANCE_POWER = -4


def linear_schedule(
    optimiser: torch.optim.Optimizer, steps: int, warmup_fraction: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a learning rate that rises over the warm-up and falls to 0 at the end."""

    def rate(step: int) -> float:
        done = step / steps
        return min(1.0, done / warmup_fraction) * (1.0 - done)

    return torch.optim.lr_scheduler.LambdaLR(optimiser, rate)


class Residuals:
    """What a residual regressor learns: the rest of the way, of starts and of where its own looks lead it.

    Without the latter it would never see the states in which its looks end, right or wrong.
    """

    def __init__(self, pairs: Pairs, settings: ResidualRegressor, generator: torch.Generator):
        self.settings, self.generator, self.clip = settings, generator, settings.gradient_clip
        self.pool = pairs.tensors(generator.device)
        self.network = ResidualNetwork(pairs.size, settings.width).to(generator.device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.schedule = linear_schedule(self.optimiser, settings.steps, settings.warmup_fraction)

    def draw(self) -> Starts:
        """Return a batch of starts, near the truth and on the way to it."""
        settings = self.settings
        ranges, generator = (settings.augmentation, settings.starts), self.generator
        kinds = settings.near, settings.exploring_starts
        return draw_starts(self.pool, *ranges, settings.batch, STARTS_PER_PAIR, generator, *kinds)

    def loss(self) -> Tensor:
        """Return the mean ``look_loss``: errors of the rests count relative to D."""
        starts, losses = self.draw(), []
        pose = starts.pose
        for _ in range(self.settings.looks):
            error = compose(pose, starts.perturbation)
            distance = displacement(error, starts.points)
            seen = self.network(observe(starts.fixed, starts.moving, pose))
            rest = invert(error)
            of_rest = partial(rest_loss, pose=rest, distance=distance)
            losses.append(
                look_loss(seen, of_rest, partial(transform, rest), self.network, starts.like, distance)
            )
            pose = compose(rest_pose(seen.rest.detach()).double(), pose)
        return torch.stack(losses).mean()


def look_loss(
    seen: Seen,
    of_rest: Callable[[Tensor], Tensor],
    move: Callable[[Tensor], Tensor],
    network: RestNetwork,
    like: Tensor,
    distance: Tensor,
    unit: float = 1.0,
) -> Tensor:
    """Return the mean loss of B looks: ``of_rest`` (B,) of the rest, and the cross-entropy of D (B,).

    Where the network predicts displacements of places, those of its guess and of the places are added. The
    rest of the way ``move``s points (S, d) to (B, S, d), and the network predicts it in a ``unit``. Where a
    look is at images that are not ``like`` (B,), D alone counts.
    """
    total = of_rest(seen.rest)
    if seen.places is not None and seen.guess is not None:
        where = network.where.double()
        true = ((move(where) - where) / unit).to(seen.places)
        total = total + of_rest(seen.guess) + PLACES_WEIGHT * displacement_loss(seen.places, true)
    total = torch.where(like, total, 0.0).mean()
    return total + DISTANCE_WEIGHT * distance_loss(seen.logits, distance).mean()


@torch.no_grad()
def look(network: ResidualNetwork, fixed: Tensor, moving: Tensor, pose: Array) -> tuple[Array, Array]:
    """Return where the truth is seen from the poses (B, 4), as poses (B, 4), and the predicted D (B,) in px.

    ``fixed`` (B, H/4, H/4, 16) are in blocks, ``moving`` are (B, H, H).
    """
    rests, distances = [], []
    for first in range(0, len(pose), size := STATES_AT_ONCE[moving.device.type]):
        part = slice(first, first + size)
        there = torch.as_tensor(pose[part], device=moving.device)
        seen = network(observe(fixed[part], moving[part], there))
        rests.append(rest_pose(seen.rest))
        distances.append(expected_distance(seen.logits))
    rest, distance = (torch.cat(parts).double().cpu().numpy() for parts in (rests, distances))
    return compose(rest, pose), distance


def look_closely(
    network: ResidualNetwork, fixed: Tensor, moving: Tensor, pose: Array, looks: int
) -> tuple[Array, Array]:
    """Return what ``many_looks`` gives of pairs of slices. Images are those of ``look``."""
    poses, weights, distance = many_looks(
        partial(look, network), mirrored, MIRROR, fixed, moving, pose, looks
    )
    return mean_pose(poses, weights), distance


def many_looks(
    look: Callable[[Tensor, Tensor, Array], tuple[Array, Array]],
    mirrored: Callable[[Tensor, Tensor, Array], tuple[Tensor, Tensor, Array]],
    mirror: Array,
    fixed: Tensor,
    moving: Tensor,
    pose: Array,
    looks: int,
) -> tuple[Array, Array, Array]:
    """Return where the truth is seen in so many looks, each from where the last one saw it.

    Every second look is at the ``mirrored`` pair, where a pose times ``mirror`` (P,) does the same: so the
    errors of two looks differ. The poses (B, looks, P) come with weights (B, looks) for their mean, a look
    from half the predicted D weighs sixteen times as much, and the lowest D (B,).
    """
    poses, distances = [], []
    for number in range(looks):
        if number:
            fixed, moving, pose = mirrored(fixed, moving, pose)
        pose, distance = look(fixed, moving, pose)
        poses.append(pose * mirror if number % 2 else pose)
        distances.append(distance)
    return np.stack(poses, 1), np.stack(distances, 1) ** DISTANCE_POWER, np.min(distances, axis=0)


def distance_at(network: ResidualNetwork, fixed: Tensor, moving: Tensor, pose: Array) -> Array:
    """Return the D (B,) in px that is predicted at the poses (B, 4), there and at the mirrored pair.

    It is their geometric mean, and tells right from wrong better than the lowest D on the way does. Images
    are those of ``look``.
    """
    _, one = look(network, fixed, moving, pose)
    _, other = look(network, *mirrored(fixed, moving, pose))
    return np.sqrt(one * other)
