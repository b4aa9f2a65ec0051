"""Augmentation of training pairs of cubes, and their motion: the work of ``augmentation`` and ``images`` in
space."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from regagent.pairs.contrasts import painted, windowed
from regagent.pairs.draws import Draw
from regagent.pairs.rigid import from_motion, rotation
from regagent.pairs.training_pairs import Pool
from regagent.phantom.tissues import UNKNOWN
from regagent.settings import CubeAugmentation

#: At least this part of a cube's width is left between its centre and the plane at which it is cut.
CUT_FROM = 0.08
#: The same for a plane that cuts off what lies below, and the largest tangent of its tilt along each axis.
CAUDAL_FROM, CAUDAL_TILT = 0.0, 0.35


def augment_cubes(
    pairs: Pool, spacing_mm: float, settings: CubeAugmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return random variations of aligned pairs: MR and CT (B, N, N, N) in [0, 1] and points (B, K, 3) in mm.

    First the MR's contrast may be drawn anew, of labels on a grid that may be finer. One affine map moves
    both cubes of a pair and its points, so that the pair stays aligned. Intensities and the end of the field
    of view are drawn for each cube by itself.
    """
    mr, ct, points, tissue = pairs
    draw = Draw(generator, len(mr))
    if settings.contrast:
        chosen = draw.share(settings.contrast) & (tissue != UNKNOWN).flatten(1).any(1)
        new = shrunk(painted(tissue, draw), tissue.shape[-1] // mr.shape[-1])
        mr = torch.where(chosen[:, None, None, None], new, mr)
    if settings.ct_window:
        ct = torch.where(draw.share(settings.ct_window)[:, None, None, None], windowed(ct, draw), ct)
    linear, shift = _affine(settings, draw)
    field = settings.deformation_mm * draw.fields3(3, mr.shape[-1])
    moved = resample(torch.stack([mr, ct], 1), linear.float(), shift.float(), spacing_mm, field)
    points = (points - shift[:, None]) @ torch.linalg.inv_ex(linear).inverse.mT
    new_mr, new_ct = _rescan(moved, settings, draw).unbind(1)
    return _cut(new_mr, settings, draw), _cut(new_ct, settings, draw), points


def shrunk(cubes: Tensor, factor: int) -> Tensor:
    """Return cubes (B, N, N, N) whose voxels are the means of ``factor``³ ones."""
    return F.avg_pool3d(cubes[:, None], factor)[:, 0] if factor > 1 else cubes


def resample(
    cubes: Tensor, linear: Tensor, shift: Tensor, spacing_mm: float, field: Tensor | None = None
) -> Tensor:
    """Return cubes (B, C, N, N, N) whose value at x is that at linear @ x + shift + field, in mm.

    It is 0 beyond them. ``field`` (B, 3, N, N, N) is a displacement of its own at each x.
    """
    edge = cubes.shape[-1] * spacing_mm / 2
    backward = torch.cat([linear, shift[..., None] / edge], -1)
    # The cache of a CPU holds the grid of one.
    at_once = 1 if cubes.device.type == "cpu" else len(cubes)
    moved = []
    for first in range(0, len(cubes), at_once):
        some = slice(first, first + at_once)
        shape = [len(cubes[some]), 1, *cubes.shape[2:]]
        where = F.affine_grid(backward[some], shape, align_corners=False)
        if field is not None:
            where = where + field[some].movedim(1, -1) / edge
        moved.append(F.grid_sample(cubes[some], where, align_corners=False))
    return torch.cat(moved)


def move_cubes(cubes: Tensor, pose: Tensor, spacing_mm: float) -> Tensor:
    """Move the content of each cube (B, N, N, N) forward by its rigid pose (B, 7): out(T(p)) = cube(p)."""
    back = rotation(pose).mT
    shift = -(back @ pose[:, :3, None])[..., 0]
    return resample(cubes[:, None], back.to(cubes), shift.to(cubes), spacing_mm)[:, 0]


def planes_of(cubes: Tensor, pose: Tensor, pixels: Tensor, spacing_mm: float) -> Tensor:
    """Return what planes (B, P, H, H) show of cubes (B, N, N, N) at their rigid poses (B, 7).

    ``pixels`` (P, H, H, 3) lie at so many mm about the middle of the cubes.
    """
    edge = cubes.shape[-1] * spacing_mm / 2
    seen = []
    for cube, turn, shift in zip(cubes, rotation(pose).to(cubes), pose[:, :3].to(cubes), strict=True):
        where = ((pixels - shift) @ turn / edge).flatten(1, 2)[None, None]
        seen.append(F.grid_sample(cube[None, None], where, align_corners=False)[0, 0, 0])
    return torch.stack(seen).unflatten(2, pixels.shape[1:3])


def _affine(settings: CubeAugmentation, draw: Draw) -> tuple[Tensor, Tensor]:
    """Return backward maps: linear parts (B, 3, 3) and shifts (B, 3) in mm."""
    turn = rotation(random_rotation(settings.rotation_deg, draw))
    quaternion = draw.normal(torch.empty(len(turn), 4, dtype=turn.dtype, device=turn.device))
    still = torch.zeros(len(turn), 3, dtype=turn.dtype, device=turn.device)
    axes = rotation(torch.cat([still, F.normalize(quaternion)], -1))
    stretch = draw.between(-1, 1, 1) * settings.scale + draw.between(-1, 1, 3) * settings.anisotropy
    linear = turn @ axes @ torch.diag_embed(torch.exp(stretch)) @ axes.mT
    mirror = torch.where(draw.share(settings.mirror), -1.0, 1.0).to(linear)
    linear = linear * torch.stack([mirror, torch.ones_like(mirror), torch.ones_like(mirror)], -1)[:, None]
    return linear, draw.between(-1, 1, 3) * settings.shift_mm


def random_rotation(most_deg: float, draw: Draw) -> Tensor:
    """Return poses (B, 7) without a shift: turns of up to so many degrees about axes of any direction."""
    turn = random_direction(draw) * draw.between(0, most_deg, 1)
    return from_motion(torch.cat([torch.zeros_like(turn), turn], -1))


def random_direction(draw: Draw) -> Tensor:
    """Return unit vectors (B, 3), uniform over all directions."""
    height, angle = draw.between(-1, 1), draw.between(0, 2 * math.pi)
    flat = (1 - height**2).clamp(min=0).sqrt()
    return torch.stack([flat * torch.cos(angle), flat * torch.sin(angle), height], -1)


def _rescan(cubes: Tensor, settings: CubeAugmentation, draw: Draw) -> Tensor:
    """Return cubes (B, 2, N, N, N) with random intensities, as from other scanners."""

    def amounts(most: float) -> Tensor:
        return (draw.between(-1, 1, 2, 1, 1, 1) * most).float()

    cubes = cubes ** torch.exp(amounts(settings.gamma))
    factor = 1 + settings.bias * draw.fields3(2, cubes.shape[-1])
    cubes = cubes * (torch.exp(amounts(settings.gain)) * factor)
    noise = draw.normal(cubes) * amounts(settings.noise)
    return (cubes + noise * (cubes > 0)).clamp(0, 1)


def _cut(cubes: Tensor, settings: CubeAugmentation, draw: Draw) -> Tensor:
    """Return cubes (B, N, N, N) of which some show nothing beyond a random plane, some nothing below."""
    cubes = _until(cubes, random_direction(draw), draw.between(CUT_FROM, 0.5), draw.share(settings.cut))
    tilt = draw.between(-CAUDAL_TILT, CAUDAL_TILT, 2)
    down = F.normalize(torch.cat([tilt, torch.full_like(tilt[:, :1], -1)], -1))
    return _until(cubes, down, draw.between(CAUDAL_FROM, 0.5), draw.share(settings.caudal))


def _until(cubes: Tensor, normal: Tensor, limit: Tensor, chosen: Tensor) -> Tensor:
    """Return cubes (B, N, N, N) of which the ``chosen`` (B,) show nothing beyond a plane.

    It lies across the unit vector ``normal`` (B, 3), at ``limit`` (B,) of the width from the middle.
    """
    size = cubes.shape[-1]
    ticks = (torch.arange(size, device=cubes.device) - (size - 1) / 2) / size
    x, y, z = (
        normal.float()[:, i, None, None, None] * ticks.view(shape)
        for i, shape in enumerate([(1, 1, -1), (1, -1, 1), (-1, 1, 1)])
    )
    shown = x + y + z < limit.float()[:, None, None, None]
    return torch.where(chosen[:, None, None, None], cubes * shown, cubes)
