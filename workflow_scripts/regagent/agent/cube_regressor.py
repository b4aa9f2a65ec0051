"""The regressor of space: of two heads at any pose it predicts the rest of the way, and its length D.

It is the residual regressor of slices in three dimensions (the paper's future work): it looks, goes to where
it saw the truth and looks again. It begins at the 24 rotations that map a cube onto itself, so that a head
may lie any way; the lowest D wins.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from regagent.agent.distance import FARTHEST, expected_distance
from regagent.agent.matching_network import MatchingNetwork
from regagent.agent.networks import LEVER_MM, CubeNetwork
from regagent.agent.residual import (
    STARTS_PER_PAIR,
    linear_schedule,
    look_loss,
    many_looks,
)
from regagent.pairs.cube_augmentation import augment_cubes, move_cubes, random_direction, shrunk
from regagent.pairs.draws import Draw
from regagent.pairs.rigid import (
    MIRROR,
    compose,
    covering,
    displacement,
    from_motion,
    invert,
    mean_pose,
    motion,
    transform,
)
from regagent.pairs.training_pairs import CubePairs, Pool
from regagent.settings import CubeRegressor, CubeSettings

Array = NDArray[np.float64]

#: Errors of the rest count in proportion to D plus so many units: near the truth, parts of a voxel count.
REST_OFFSET = 0.6
#: What is brighter in an MR shows the head.
SHOWN = 0.1
#: States near the truth are off by at most this part of the largest error.
NEAR = 0.15

#: How often cubes that do not belong together are of another head, mirrored left to right, two CTs, or a CT
#: and noise.
UNLIKE = (0.6, 0.2, 0.1, 0.1)
#: States that go through the convolutions at once.
STATES_AT_ONCE = {"cpu": 32, "cuda": 512}


class CubeStarts(NamedTuple):
    """B pairs of cubes, and how far each moving one is off."""

    fixed: Tensor  # (B, N, N, N)
    moving: Tensor  # (B, N, N, N)
    place: Tensor  # (B, 7) the pose at which the moving cube is aligned with the fixed one
    points: Tensor  # (B, K, 3) in mm
    error: Tensor  # (B, 7) the pose that moves the aligned cube to where it is seen
    like: Tensor  # (B,) False where the two cubes are none that belong together


def states_of(fixed: Tensor, moving: Tensor, pose: Tensor, spacing_mm: float) -> Tensor:
    """Return the states (B, 2, N, N, N) of moving cubes (B, N, N, N) at the poses (B, 7)."""
    return torch.stack([fixed, move_cubes(moving, pose, spacing_mm)], 1)


def middles(cubes: Tensor, spacing_mm: float) -> Tensor:
    """Return the middles (B, 3) in mm of what cubes (B, N, N, N) show brighter than ``SHOWN``."""
    ticks = (torch.arange(cubes.shape[-1], device=cubes.device) - (cubes.shape[-1] - 1) / 2) * spacing_mm
    shown = (cubes > SHOWN).double()
    across = [shown.sum(axes) @ ticks.double() for axes in ((1, 2), (1, 3), (2, 3))]
    return torch.stack(across, -1) / shown.sum((1, 2, 3)).clamp(min=1)[:, None]


def to_rest(pose: Tensor) -> Tensor:
    """Return poses (..., 7) as rests (..., 6) in mm: the shift, and the rotation at the lever."""
    moved = motion(pose)
    return torch.cat([moved[..., :3], torch.deg2rad(moved[..., 3:]) * LEVER_MM], -1)


def rest_pose(rest: Tensor) -> Tensor:
    """Return rests (..., 6) in mm as poses (..., 7), see ``to_rest``."""
    return from_motion(torch.cat([rest[..., :3], torch.rad2deg(rest[..., 3:] / LEVER_MM)], -1))


class CubeLearner(ABC):
    """A network that learns on pairs of cubes, and how its batches are drawn.

    So many of the starts are ``turned`` by more than the settings say, and so many of the pairs ``unlike``.
    """

    turned = unlike = 0.0

    def __init__(
        self,
        pool: Pool,
        spacing_mm: float,
        network: CubeNetwork | MatchingNetwork,
        settings: CubeSettings,
        generator: torch.Generator,
    ):
        self.pool, self.spacing_mm, self.network = pool, spacing_mm, network.to(generator.device)
        self.settings, self.generator, self.clip = settings, generator, settings.gradient_clip
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.schedule = linear_schedule(self.optimiser, settings.steps, settings.warmup_fraction)

    @abstractmethod
    def loss(self) -> Tensor:
        """Return the loss of a batch."""

    def draw(self) -> CubeStarts:
        """Return a batch of augmented pairs, and how far off the moving cubes are: near, far or turned."""
        settings, count, pairs = (
            self.settings,
            self.settings.batch,
            -(-self.settings.batch // STARTS_PER_PAIR),
        )
        device = self.generator.device
        drawn = torch.randint(len(self.pool.mr), (pairs,), generator=self.generator, device=device)
        augmented = augment_cubes(
            self.pool.pick(drawn), self.spacing_mm, settings.augmentation, self.generator
        )
        (fixed, ahead), (moving, aside) = (self._centred(cubes) for cubes in augmented[:2])
        place, points = compose(ahead, invert(aside)), augmented[2] + ahead[:, None, :3]
        like = torch.ones(pairs, dtype=torch.bool, device=device)
        if self.unlike:
            fixed, like = self._broken(fixed, moving, drawn)
        fixed, moving, place, points, like = (
            part.repeat_interleave(STARTS_PER_PAIR, 0)[:count]
            for part in (fixed, moving, place, points, like)
        )
        draw = Draw(self.generator, count)
        near = draw.share(settings.near)[:, None]
        part = torch.where(near, NEAR * draw.between(0, 1, 1), draw.between(0, 1, 1) ** 0.5)
        most = settings.rotation_deg
        turned = draw.share(self.turned)[:, None]
        angle = torch.where(turned, draw.between(most, 180, 1), part * draw.between(0, most, 1))
        shift = part * draw.between(-1, 1, 3) * settings.translation_mm
        error = from_motion(torch.cat([shift, angle * random_direction(draw)], -1))
        return CubeStarts(fixed, moving, place, points, error, like)

    def _centred(self, cubes: Tensor) -> tuple[Tensor, Tensor]:
        """Return cubes (B, N, N, N) about the middle of what they show, and the moves (B, 7) there.

        As ``middle_of`` finds it, a little off: where a field of view ends early, that is not the head's.
        """
        most = self.settings.augmentation.shift_mm
        jitter = Draw(self.generator, len(cubes)).between(-1, 1, 3) * most
        move = from_motion(torch.cat([jitter - middles(cubes, self.spacing_mm), 0 * jitter], -1))
        return move_cubes(cubes, move, self.spacing_mm), move

    def _broken(self, fixed: Tensor, moving: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fixed cubes (B, N, N, N), some of which fit at no pose, and whether each fits (B,).

        ``heads`` (B,) are the numbers of their pairs: a cube of the same head, augmented otherwise, stays.
        """
        draw = Draw(self.generator, len(fixed))
        noise = torch.rand(fixed.shape, generator=self.generator, device=fixed.device)
        others = torch.stack([fixed.roll(1, 0), fixed.flip(-1), moving, noise * draw.amount3(0, 1)])
        kind = torch.bucketize(
            draw.between(0, 1).float(), torch.tensor(UNLIKE, device=fixed.device).cumsum(0)[:-1]
        )
        same = (heads == heads.roll(1)) & (kind == 0)
        like = ~draw.share(self.unlike) | same
        broken = others[kind, torch.arange(len(fixed), device=fixed.device)]
        return torch.where(like[:, None, None, None], fixed, broken), like


class CubeResiduals(CubeLearner):
    """What the regressor learns: the rest of the way, of starts and of where its own looks lead it."""

    network: CubeNetwork
    settings: CubeRegressor

    def __init__(self, pairs: CubePairs, settings: CubeRegressor, generator: torch.Generator):
        whole, spacing_mm = pairs.tensors(generator.device), pairs.spacing_mm * settings.shrink
        mr, ct = (shrunk(cubes, settings.shrink) for cubes in (whole.mr, whole.ct))
        network = CubeNetwork(mr.shape[-1], tuple(settings.channels), spacing_mm, settings.places)
        super().__init__(Pool(mr, ct, whole.points, whole.tissue), spacing_mm, network, settings, generator)
        self.unit, self.turned, self.unlike = network.unit_mm, settings.turned, settings.unlike

    def loss(self) -> Tensor:
        """Return the mean ``look_loss``, as for slices."""
        starts, losses = self.draw(), []
        farthest = torch.tensor(FARTHEST, dtype=starts.points.dtype, device=starts.points.device)
        error = starts.error
        for _ in range(self.settings.looks):
            distance = displacement(error, starts.points) / self.unit
            distance = torch.where(starts.like, distance, farthest)
            pose = compose(error, starts.place)
            states = states_of(starts.fixed, starts.moving, pose, self.spacing_mm)
            seen = self.network(states)
            rest = invert(error)
            of_rest = partial(self._rest_loss, pose=rest, distance=distance)
            move = partial(transform, rest)
            losses.append(look_loss(seen, of_rest, move, self.network, starts.like, distance, self.unit))
            error = compose(rest_pose(seen.rest.detach().double() * self.unit), error)
        return torch.stack(losses).mean()

    def _rest_loss(self, predicted: Tensor, pose: Tensor, distance: Tensor) -> Tensor:
        """Return the error (B,) of predicted rests (B, 6) against poses (B, 7) at distances D (B,)."""
        target = (to_rest(pose) / self.unit).to(predicted)
        off = (predicted - target) / (distance[:, None] + REST_OFFSET).to(predicted)
        return F.smooth_l1_loss(off, torch.zeros_like(off), reduction="none").mean(-1)


@torch.no_grad()
def look(network: CubeNetwork, fixed: Tensor, moving: Tensor, pose: Array) -> tuple[Array, Array]:
    """Return where the truth is seen from the poses (B, 7), as poses (B, 7), and the predicted D (B,) in mm.

    ``fixed`` and ``moving`` are cubes (B, N, N, N).
    """
    rests, distances, unit = [], [], network.unit_mm
    for first in range(0, len(pose), size := STATES_AT_ONCE[moving.device.type]):
        part = slice(first, first + size)
        there = torch.as_tensor(pose[part], device=moving.device)
        seen = network(states_of(fixed[part], moving[part], there, network.spacing_mm))
        rests.append(rest_pose(seen.rest.double() * unit))
        distances.append(expected_distance(seen.logits) * unit)
    rest, distance = (torch.cat(parts).double().cpu().numpy() for parts in (rests, distances))
    return compose(rest, pose), distance


def look_closely(
    network: CubeNetwork, fixed: Tensor, moving: Tensor, pose: Array, looks: int
) -> tuple[Array, Array, Array]:
    """Return the mean pose (B, 7), the lowest D (B,) in mm and the poses (B, looks, 7) of ``many_looks``.

    The cubes are those of ``look``.
    """

    def mirrored(fixed: Tensor, moving: Tensor, pose: Array) -> tuple[Tensor, Tensor, Array]:
        return fixed.flip(-1), moving.flip(-1), pose * MIRROR

    poses, weights, distance = many_looks(
        partial(look, network), mirrored, MIRROR, fixed, moving, pose, looks
    )
    return mean_pose(poses, weights), distance, poses


def settle(
    networks: Sequence[CubeNetwork], fixed: Tensor, moving: Tensor, looks: int, further: int, kept: int
) -> tuple[Array, Array, Array]:
    """Return the ``kept`` best poses (kept, 7) of one pair (N, N, N), the lowest D first, and their D in mm.

    The first network looks from each of the rotations that cover all others, and looks on ``further`` times
    from the best poses; so do the next ones, from these. The last (kept, 1 + number of looks, 7) are the
    starts and what was seen from there. A network with fewer voxels than the pair sees means of them.
    """
    pose, distance = covering(), np.zeros(0)
    path = pose[:, None]
    for network in networks:
        pair = [shrunk(cube[None], fixed.shape[-1] // network.size) for cube in (fixed, moving)]
        for count in (looks, further):
            still, moved = (cube.expand(len(pose), -1, -1, -1) for cube in pair)
            pose, _, seen = look_closely(network, still, moved, pose, count)
            _, distance = look(network, still, moved, pose)
            best = np.argsort(distance)[:kept]
            pose, distance, path = pose[best], distance[best], np.concatenate([path, seen], 1)[best]
    return pose, distance, path
