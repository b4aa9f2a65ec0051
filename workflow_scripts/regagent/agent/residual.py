"""The residual regressor: from any pose it predicts the rest of the way to the truth, and its length D.

It looks, goes to where it saw the truth, and looks again: by itself, or from where an agent has led. While
the D that it predicts stays high, it does so from other starts; the lowest D wins.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regagent.agent.displacements import displacement_loss
from regagent.agent.distance import FARTHEST, distance_loss, expected_distance, rest_loss, rest_pose
from regagent.agent.environment import mirrored, observe
from regagent.agent.networks import ResidualNetwork, RestNetwork, Seen, from_blocks, to_blocks
from regagent.geometry import IDENTITY, MIRROR, compose, displacement, invert, mean_pose, transform
from regagent.images import Image, warp_images
from regagent.pairs.augmentation import draw_pairs
from regagent.pairs.perturbations import Images, poses_on_the_way, sample_perturbations
from regagent.pairs.training_pairs import Pairs, Pool
from regagent.settings import Inference, ResidualRegressor

Array = NDArray[np.float64]

#: Starts of a batch that share one augmented pair.
STARTS_PER_PAIR = 4

#: States near the truth differ from it by at most this much: px, px, degrees, scale.
NEAR = (3.0, 3.0, 3.0, 0.05)

#: How often images that do not belong together are of another pair, mirrored left to right, upside down, two
#: CTs, or a CT and noise: where a network is judged, and where it learns. It meets more of the hardest there.
UNLIKE = (0.55, 0.15, 0.1, 0.1, 0.1)
UNLIKE_LEARNED = (0.4, 0.3, 0.2, 0.05, 0.05)

#: Weight of D's loss relative to that of the rest.
DISTANCE_WEIGHT = 0.1

#: Weight of the loss of the places' displacements relative to that of the rest.
PLACES_WEIGHT = 0.1

#: States that go through the convolutions at once: on a CPU as many as its cache holds.
STATES_AT_ONCE = {"cpu": 32, "cuda": 1024}

#: Looks count for the mean pose by this power of their predicted D.
DISTANCE_POWER = -4

#: Leads from a start, a pose (4,), to the poses (n, 4) of the cases of these numbers (n,), in steps (n,). It
#: gets the images of all cases, as ``look`` does.
Approach = Callable[[NDArray, Array, Tensor, Tensor], tuple[Array, NDArray]]


class Starts(NamedTuple):
    """B pairs, and poses from which to look."""

    fixed: Tensor  # (B, H/4, H/4, 16) in blocks
    moving: Tensor  # (B, H, H) after the perturbation
    points: Tensor  # (B, N, 2) landmarks
    perturbation: Tensor  # (B, 4)
    pose: Tensor  # (B, 4)
    like: Tensor  # (B,) False where the two images are none that belong together


def draw_starts(
    pool: Pool,
    settings: ResidualRegressor,
    count: int,
    per_pair: int,
    generator: torch.Generator,
    kinds: tuple[float, ...] = UNLIKE,
) -> Starts:
    """Return freshly perturbed, augmented pairs, and poses near the truth and on the way to it.

    Every ``per_pair`` of the ``count`` in a row are of one augmented pair. Of those that do not belong
    together so many are of each of the ``kinds`` of ``UNLIKE``.
    """

    def uniform(width: int) -> Tensor:
        return torch.rand(count, width, generator=generator, device=generator.device, dtype=torch.float64)

    fixed, aligned, points = draw_pairs(pool, count, per_pair, settings.augmentation, generator)
    perturbation = sample_perturbations(uniform(4), settings.starts)
    on_the_way = poses_on_the_way(perturbation, settings.exploring_starts, uniform(1), uniform(4))
    change = (2 * uniform(4) - 1) * uniform(1) * torch.tensor(NEAR, device=generator.device)
    change[:, 3] += 1.0
    near = compose(change, invert(perturbation))
    pose = torch.where(uniform(1) < settings.near, near, on_the_way)
    like = torch.ones(count, dtype=torch.bool, device=generator.device)
    if settings.unlike:
        fixed, like = _break(fixed, aligned, settings.unlike, kinds, per_pair, generator)
    moving = warp_images(aligned, perturbation)
    return Starts(to_blocks(fixed), moving, points, perturbation, pose, like)


def _break(
    fixed: Tensor,
    aligned: Tensor,
    unlike: float,
    kinds: tuple[float, ...],
    per_pair: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return the fixed images (B, H, H), some of which fit at no pose, and whether each fits (B,).

    In their place stand those of another pair, mirrored or upside-down ones, the CT itself, or nothing
    but noise. The starts of a pair share their fate.
    """
    device, pairs = fixed.device, -(-len(fixed) // per_pair)

    def uniform() -> Tensor:
        drawn = torch.rand(pairs, generator=generator, device=device)
        return drawn.repeat_interleave(per_pair)[: len(fixed)]

    noise = torch.rand(fixed.shape, generator=generator, device=device) * uniform()[:, None, None]
    others = torch.stack([fixed.roll(per_pair, 0), fixed.flip(-1), fixed.flip(-2), aligned, noise])
    kind = torch.bucketize(uniform(), torch.tensor(kinds, device=device).cumsum(0)[:-1])
    same = (fixed == fixed.roll(per_pair, 0)).flatten(1).all(1) & (kind == 0)
    like = (uniform() >= unlike) | same
    broken = others[kind, torch.arange(len(fixed), device=device)]
    return torch.where(like[:, None, None], fixed, broken), like


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
        self.network = ResidualNetwork(pairs.size, settings.width, settings.places).to(generator.device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.schedule = linear_schedule(self.optimiser, settings.steps, settings.warmup_fraction)

    def draw(self) -> Starts:
        """Return a batch of starts, near the truth and on the way to it."""
        settings, generator = self.settings, self.generator
        return draw_starts(self.pool, settings, settings.batch, STARTS_PER_PAIR, generator, UNLIKE_LEARNED)

    def loss(self) -> Tensor:
        """Return the mean ``look_loss``: errors of the rests count relative to D.

        Images that do not belong together have no rest, and the largest D.
        """
        starts, losses = self.draw(), []
        farthest = torch.tensor(FARTHEST, dtype=starts.points.dtype, device=starts.points.device)
        pose = starts.pose
        for _ in range(self.settings.looks):
            error = compose(pose, starts.perturbation)
            distance = torch.where(starts.like, displacement(error, starts.points), farthest)
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


def settle(
    network: ResidualNetwork, fixed: Tensor, moving: Tensor, approach: Approach, settings: Inference
) -> tuple[Array, Array, NDArray]:
    """Return poses (N, 4), predicted D (N,) in px and steps (N,) of pairs, approached and looked at closely.

    The steps are those of all starts. The pairs are registered as they are and shrunk or enlarged by each of
    the ``zooms``, from where the looks go on at the pair as it is. The lowest D at the end counts. Images are
    those of ``look``.
    """
    best = _settle_once(network, fixed, moving, approach, settings)
    for zoom in settings.zooms:
        enlarging = torch.tensor([0.0, 0.0, 0.0, zoom]).repeat(len(moving), 1).to(moving.device)
        images = to_blocks(warp_images(from_blocks(fixed), enlarging)), warp_images(moving, enlarging)
        pose, _, steps = _settle_once(network, *images, approach, settings)
        pose[:, :2] /= zoom
        pose, _ = look_closely(network, fixed, moving, pose, settings.looks)
        found = pose, distance_at(network, fixed, moving, pose)
        better = found[1] < best[1]
        for column, new in zip(best, found, strict=False):
            column[better] = new[better]
        best[2][:] += steps + settings.looks
    return best


def _settle_once(
    network: ResidualNetwork, fixed: Tensor, moving: Tensor, approach: Approach, settings: Inference
) -> tuple[Array, Array, NDArray]:
    """Return what ``settle`` does of pairs as they are.

    Where the lowest D on the way stays above ``lost_px``, the next of the turned starts is tried, until one
    leads near. A start is not tried where an earlier one did: a head that is turned by a half looks nearly as
    right. The D returned is that at the poses.
    """
    cases = np.arange(len(moving))
    pose, steps = np.tile(IDENTITY, (len(cases), 1)), np.zeros_like(cases)
    distance = np.full(len(cases), np.inf)
    for angle in (0.0, *settings.restarts_deg):
        lost = cases[distance > settings.lost_px]
        if not len(lost):
            break
        rows = torch.as_tensor(lost, device=moving.device)
        start, count = approach(lost, np.array([0.0, 0.0, angle, 1.0]), fixed, moving)
        seen, nearest = look_closely(network, fixed[rows], moving[rows], start, settings.looks)
        nearer = nearest < distance[lost]
        chosen = lost[nearer]
        pose[chosen], distance[chosen] = seen[nearer], nearest[nearer]
        steps[lost] += count + settings.looks
    return pose, distance_at(network, fixed, moving, pose), steps


def stay(cases: NDArray, start: Array, fixed: Tensor, moving: Tensor) -> tuple[Array, NDArray]:
    """Lead nowhere: the approach of a network that looks without an agent."""
    return np.tile(start, (len(cases), 1)), np.zeros(len(cases), int)


def register_alone(
    network: ResidualNetwork, fixed: Image | Images, moving: Image | Images, settings: Inference
) -> tuple[Array, Array, NDArray]:
    """Register the moving images (N, H, H) to the fixed ones without an agent; return as ``settle`` does."""
    device, parts = network.rest.weight.device, []
    for first in range(0, len(fixed), settings.batch):
        batch = slice(first, first + settings.batch)
        still, moved = (torch.from_numpy(images[batch]).to(device) for images in (fixed, moving))
        parts.append(settle(network, to_blocks(still), moved, stay, settings))
    pose, distance, steps = (np.concatenate(column) for column in zip(*parts, strict=True))
    return pose, distance, steps
