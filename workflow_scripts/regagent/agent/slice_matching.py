"""Matching of slices: the places of a CT are found in the MR, at half the resolution and then at the whole.

What ``matching`` does with planes through a head is done with one slice, and the motion that fits its places
is a similarity. Where that ends, a small network tells from what all places say how far off it is; it learns
that once the others have learned to match.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from regagent.agent.distance import (
    FARTHEST,
    distance_loss,
    expected_distance,
    linear_rest,
    rest_pose,
    similarity_moves,
)
from regagent.agent.matching import cross_entropy, encoded, fitting_motion
from regagent.agent.matching_network import CELL, LEVELS, SliceMatchingNetwork
from regagent.agent.networks import from_blocks
from regagent.agent.residual import linear_schedule
from regagent.agent.starts import UNLIKE_LEARNED, Starts, draw_starts
from regagent.geometry import compose, displacement, invert, transform
from regagent.images import warp_images
from regagent.pairs.training_pairs import Pairs, Pool
from regagent.settings import Matching

Array = NDArray[np.float64]

#: Starts of a batch that share one augmented pair, and the looks at each, from where the last one led.
STARTS_PER_PAIR, LOOKS = 2, 2
#: Times the level: starts are off by at most so much (px, px, degrees, scale), and some by a part of it.
FARTHEST_OFF, NEAR_PART = (8.0, 8.0, 11.0, 0.11), 0.15
#: D is learned where so many looks at each resolution end, on so many of these ends at once, so many times
#: on each. A number that is always alike has a unit, too.
LOOKS_TO_THE_END, ENDS_AT_ONCE, EPOCHS, LEAST_UNIT = 5, 32, 40, 1e-2
#: A case is not looked at any more once a look moves its places by less than this in px, times the level.
SETTLED = 0.05
#: Pairs that are looked at side by side: on a CPU as many as its cache holds.
PAIRS_AT_ONCE = {"cpu": 8, "cuda": 256}


class SliceMatcher:
    """A network at N MR slices (N, H, H) and B CT slices (B, H, H), in pixels of ``level`` px.

    The first B/N of the CT belong to the first MR, and so on.
    """

    def __init__(self, network: SliceMatchingNetwork, fixed: Tensor, moving: Tensor, level: int):
        self.network, self.level, self.grid = network, level, network.grid(level)
        self.moves = similarity_moves(self.grid.where)
        fixed, self.moving = (F.avg_pool2d(images[:, None], level) for images in (fixed, moving))
        of_mr, self.in_mr = encoded(network.matching.of_mr, fixed)
        self.around = network.matching.surroundings(of_mr)

    def look(self, pose: Tensor, rows: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return the ``log_chances`` (B, S, O) at poses (B, 4), and which places (B, S) both show.

        With ``rows``, of as many MR as CT, at these alone.
        """
        there = torch.cat([pose[:, :2] / self.level, pose[:, 2:]], -1)
        of_ct, in_ct = encoded(self.network.matching.of_ct, warp_images(self.moving[rows, 0], there)[:, None])
        log_chances = self.network.matching.log_chances(self.around[rows], of_ct)
        in_mr = self.in_mr[rows, 0]
        return log_chances, in_mr.repeat_interleave(len(pose) // len(in_mr), 0) & in_ct[:, 0]

    def moved(self, pose: Tensor, log_chances: Tensor, counts: Tensor) -> Tensor:
        """Return the poses (B, 4) to which looks at poses lead."""
        rest = linear_rest(fitting_motion(log_chances, counts, self.grid, self.moves))
        return compose(rest_pose(rest.double()), pose)

    def follow(self, pose: Tensor, looks: int) -> Tensor:
        """Return the poses (B, 4) to which so many looks lead, or fewer where one moves hardly anything."""
        pose, rows = pose.clone(), torch.arange(len(pose), device=pose.device)
        where, every = self.grid.where.double(), slice(None)
        for _ in range(looks):
            # All at once need no copies.
            new = self.moved(pose[rows], *self.look(pose[rows], rows if len(rows) < len(pose) else every))
            away = displacement(compose(new, invert(pose[rows])), where.expand(len(rows), -1, -1))
            pose[rows] = new
            rows = rows[away > SETTLED * self.level]
            if not len(rows):
                break
        return pose


class SliceMatches:
    """What the network learns: where the places of the CT lie in the MR."""

    def __init__(self, pairs: Pairs, settings: Matching, generator: torch.Generator):
        self.settings, self.generator, self.clip = settings, generator, settings.gradient_clip
        self.pool, device = pairs.tensors(generator.device), generator.device
        network = SliceMatchingNetwork(pairs.size, settings.channels, settings.features, settings.reach)
        self.network = network.to(device)
        self.optimiser = torch.optim.Adam(self.network.matching.parameters(), lr=settings.learning_rate)
        self.schedule = linear_schedule(self.optimiser, settings.steps, settings.warmup_fraction)

    def draw(self, level: int) -> Starts:
        """Return a batch of starts for images in pixels of so many px: the more of them, the smaller."""
        settings, generator, count = self.settings, self.generator, level * self.settings.batch
        ranges = settings.augmentation, settings.starts
        starts = draw_starts(self.pool, *ranges, count, STARTS_PER_PAIR, generator)

        def uniform(width: int) -> Tensor:
            return torch.rand(count, width, generator=generator, device=generator.device, dtype=torch.float64)

        part = torch.where(uniform(1) < settings.near, NEAR_PART, 1.0)
        change = (2 * uniform(4) - 1) * part * level * torch.tensor(FARTHEST_OFF, device=generator.device)
        change[:, 3] += 1.0
        return starts._replace(pose=compose(change, invert(starts.perturbation)))

    def loss(self) -> Tensor:
        """Return the mean cross-entropy of the places' true displacements, at one of the two resolutions."""
        generator = self.generator
        level = LEVELS[int(torch.randint(len(LEVELS), (1,), generator=generator, device=generator.device))]
        starts, network, losses = self.draw(level), self.network, []
        matcher = SliceMatcher(network, from_blocks(starts.fixed)[::STARTS_PER_PAIR], starts.moving, level)
        where, pose = matcher.grid.where.double(), starts.pose
        for _ in range(LOOKS):
            log_chances, counts = matcher.look(pose)
            gone = transform(invert(compose(pose, starts.perturbation)), where) - where
            lost, within = cross_entropy(log_chances, gone.float() / (CELL * level), network.matching.reach)
            taught = counts & within
            losses.append((lost * taught).sum() / taught.sum().clamp(min=1))
            pose = matcher.moved(pose, log_chances.detach(), counts)
        return torch.stack(losses).mean()


class End(NamedTuple):
    """Where B pairs end."""

    pose: Tensor  # (B, 4)
    seen: Tensor  # (B, K, S) the evidence there
    counts: Tensor  # (B, S) the places that count


@torch.no_grad()
def end_of(
    network: SliceMatchingNetwork,
    fixed: Tensor,
    moving: Tensor,
    pose: Tensor,
    looks: int,
    levels: tuple[int, ...] = LEVELS,
) -> End:
    """Return where looks lead from poses (B, 4), at each level so many.

    Images are those of ``residual.look``.
    """
    parts = []
    for first in range(0, len(pose), size := PAIRS_AT_ONCE[moving.device.type]):
        part = slice(first, first + size)
        there, images = pose[part], (from_blocks(fixed[part]), moving[part])
        for level in levels:
            matcher = SliceMatcher(network, *images, level)
            there = matcher.follow(there, looks)
        log_chances, counts = matcher.look(there)
        parts.append(End(there, network.evidence(log_chances, counts), counts))
    return End(*(torch.cat(column) for column in zip(*parts, strict=True)))


def look_closely(
    network: SliceMatchingNetwork,
    fixed: Tensor,
    moving: Tensor,
    pose: Array,
    looks: int,
    levels: tuple[int, ...] = LEVELS,
) -> tuple[Array, Array]:
    """Return where looks lead from poses (B, 4), and the D (B,) in px predicted there, as ``end_of``."""
    end = end_of(network, fixed, moving, torch.as_tensor(pose, device=moving.device), looks, levels)
    with torch.no_grad():
        distance = expected_distance(network.distance(end.seen, end.counts))
    return end.pose.cpu().numpy(), distance.double().cpu().numpy()


def distance_at(network: SliceMatchingNetwork, fixed: Tensor, moving: Tensor, pose: Array) -> Array:
    """Return the D (B,) in px predicted at the poses (B, 4). Images are those of ``residual.look``."""
    return look_closely(network, fixed, moving, pose, 0, levels=(1,))[1]


def learn_distance(
    network: SliceMatchingNetwork, pool: Pool, settings: Matching, count: int, generator: torch.Generator
) -> None:
    """Let a network that matches learn D where its looks end: at ``count`` pairs, half of which do not
    belong together and count as the farthest."""
    torch.manual_seed(generator.initial_seed())
    ends, distances = [], []
    for first in range(0, count, ENDS_AT_ONCE):
        starts = draw_starts(
            pool, settings.augmentation, settings.starts, min(ENDS_AT_ONCE, count - first), 1, generator,
            unlike=0.5, kinds=UNLIKE_LEARNED,
        )  # fmt: skip
        end = end_of(network, starts.fixed, starts.moving, starts.pose, LOOKS_TO_THE_END)
        distance = displacement(compose(end.pose, starts.perturbation), starts.points)
        distances.append(torch.where(starts.like, distance, distance.new_tensor(FARTHEST)))
        ends.append(end)
    seen, counts = torch.cat([end.seen for end in ends]), torch.cat([end.counts for end in ends])
    distance, judge = torch.cat(distances), network.distance
    of_places = seen.mT[counts]
    judge.middle.copy_(of_places.mean(0)[:, None])
    judge.unit.copy_(of_places.std(0)[:, None] + LEAST_UNIT)
    optimiser = torch.optim.AdamW(judge.parameters(), weight_decay=1e-2)
    batches = len(seen) // ENDS_AT_ONCE
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=EPOCHS * batches)
    judge.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(seen), generator=generator, device=generator.device)
        for rows in order[: batches * ENDS_AT_ONCE].view(batches, -1):
            loss = distance_loss(judge(seen[rows], counts[rows]), distance[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    judge.eval()
