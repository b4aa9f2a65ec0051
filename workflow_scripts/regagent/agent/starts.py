"""Where networks learn and are judged: augmented pairs of slices, perturbed anew, and poses to look from."""

from typing import NamedTuple

import torch
from torch import Tensor

from regagent.agent.networks import to_blocks
from regagent.geometry import compose, invert
from regagent.images import warp_images
from regagent.pairs.augmentation import draw_pairs
from regagent.pairs.perturbations import poses_on_the_way, sample_perturbations
from regagent.pairs.training_pairs import Pool
from regagent.settings import Augmentation, PerturbationRange

#: States near the truth differ from it by at most this much: px, px, degrees, scale.
NEAR = (3.0, 3.0, 3.0, 0.05)

#: How often images that do not belong together are of another pair, mirrored left to right, upside down, two
#: CTs, or a CT and noise: where a network is judged, and where it learns. It meets more of the hardest there.
UNLIKE = (0.55, 0.15, 0.1, 0.1, 0.1)
UNLIKE_LEARNED = (0.4, 0.3, 0.2, 0.05, 0.05)


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
    augmentation: Augmentation,
    ranges: PerturbationRange,
    count: int,
    per_pair: int,
    generator: torch.Generator,
    near: float = 0.6,
    exploring: float = 0.75,
    unlike: float = 0.0,
    kinds: tuple[float, ...] = UNLIKE,
) -> Starts:
    """Return augmented pairs, freshly perturbed in these ranges, and poses from which to look.

    The part ``near`` of the poses lies near the truth, and the part ``exploring`` of the others on the way to
    it. Every ``per_pair`` of the ``count`` in a row are of one augmented pair. The part ``unlike`` of the
    pairs does not belong together; of these so many are of each of the ``kinds`` of ``UNLIKE``.
    """

    def uniform(width: int) -> Tensor:
        return torch.rand(count, width, generator=generator, device=generator.device, dtype=torch.float64)

    fixed, aligned, points = draw_pairs(pool, count, per_pair, augmentation, generator)
    perturbation = sample_perturbations(uniform(4), ranges)
    on_the_way = poses_on_the_way(perturbation, exploring, uniform(1), uniform(4))
    change = (2 * uniform(4) - 1) * uniform(1) * torch.tensor(NEAR, device=generator.device)
    change[:, 3] += 1.0
    pose = torch.where(uniform(1) < near, compose(change, invert(perturbation)), on_the_way)
    like = torch.ones(count, dtype=torch.bool, device=generator.device)
    if unlike:
        fixed, like = _break(fixed, aligned, unlike, kinds, per_pair, generator)
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
