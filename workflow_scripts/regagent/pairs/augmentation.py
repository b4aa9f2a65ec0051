"""Augmentation of training pairs: one random deformation of both images, random intensities for each."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regagent.pairs.contrasts import redraw
from regagent.pairs.draws import Draw
from regagent.pairs.training_pairs import Pool
from regagent.settings import Augmentation


def augment_pairs(
    pairs: Pool, settings: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return random variations of aligned pairs: MR and CT (B, H, H) in [0, 1] and points (B, N, 2).

    First their contrast, lesions and fields of view may be drawn anew (see ``contrasts``). The same
    mirroring, affine map and smooth deformation move both images of a pair and its points, so that the pair
    stays aligned. Gamma, gain, bias field, noise and blur are drawn for each image by itself. What
    is 0 stays 0.
    """
    mr, ct, points, tissue = pairs
    if not settings.enabled:
        return mr, ct, points
    draw = Draw(generator, len(mr))
    images = torch.stack(redraw(mr, ct, tissue, settings, draw), 1)
    size = mr.shape[-1]
    # The map goes backwards: the value at x is read from matrix @ x + field(x).
    matrix = _affine(settings, draw)
    field = settings.deformation_px * draw.fields(2, size)
    half = (size - 1) / 2
    x = torch.linspace(-half, half, size, device=images.device)
    a = matrix.float()[..., None, None]
    source = [a[:, i, 0] * x + a[:, i, 1] * x[:, None] + a[:, i, 2] + field[:, i] for i in (0, 1)]
    moved = F.grid_sample(images, torch.stack(source, -1) / half, align_corners=True)
    new_mr, new_ct = _rescan(moved, settings, draw).unbind(1)
    return new_mr, new_ct, _forward(points, matrix, field)


def draw_pairs(
    pool: Pool,
    count: int,
    per_pair: int,
    settings: Augmentation,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``count`` pairs drawn from a pool, each augmented: MR, CT (B, H, H) and points (B, N, 2).

    Every ``per_pair`` of them in a row are the same one.
    """
    drawn = torch.randint(
        len(pool.mr), (-(-count // per_pair),), generator=generator, device=generator.device
    )
    pairs = augment_pairs(pool.pick(drawn), settings, generator)
    mr, ct, points = (array.repeat_interleave(per_pair, 0)[:count] for array in pairs)
    return mr, ct, points


def _affine(settings: Augmentation, draw: Draw) -> Tensor:
    """Return backward matrices (B, 2, 3): rotation, unequal scales along two axes, mirroring, shift."""
    turn = _rotation(torch.deg2rad(draw.between(-1, 1) * settings.rotation_deg))
    axis = _rotation(draw.between(0, np.pi))
    scale, stretch = draw.between(-1, 1, 1) * settings.scale, draw.between(-1, 1, 2) * settings.anisotropy
    linear = turn @ axis @ torch.diag_embed(torch.exp(scale + stretch)) @ axis.mT
    mirror = torch.where(draw.between(0, 1) < settings.mirror, -1.0, 1.0).to(linear)
    linear = linear * torch.stack([mirror, torch.ones_like(mirror)], -1)[:, None]
    return torch.cat([linear, draw.between(-1, 1, 2, 1) * settings.shift_px], -1)


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def _forward(points: Tensor, matrix: Tensor, field: Tensor) -> Tensor:
    """Return the new positions (B, N, 2) of points p: the x with matrix @ x + field(x) = p."""
    size = field.shape[-1]
    back = torch.linalg.inv_ex(matrix[..., :2]).inverse.mT
    target = points - matrix[:, None, :, 2]
    field = field.flatten(2).mT.to(points.dtype)
    moved = target @ back
    for _ in range(3):  # the field changes slowly, so this converges fast
        at = torch.nan_to_num(moved + (size - 1) / 2).round().long().clamp(0, size - 1)
        number = (at[..., 1] * size + at[..., 0])[..., None].expand(-1, -1, 2)
        moved = (target - field.gather(1, number)) @ back
    return moved


def _rescan(images: Tensor, settings: Augmentation, draw: Draw) -> Tensor:
    """Return images (B, 2, H, H) with random intensities, as from other scanners."""

    def amounts(most: float) -> Tensor:
        return (draw.between(-1, 1, 2, 1, 1) * most).float()

    images = images ** torch.exp(amounts(settings.gamma))
    factor = 1 + settings.bias * draw.fields(2, images.shape[-1])
    images = images * (torch.exp(amounts(settings.gain)) * factor)
    smooth = F.conv2d(images.flatten(0, 1)[:, None], images.new_full((1, 1, 3, 3), 1 / 9), padding=1)
    smooth = smooth.view_as(images)
    images = images + amounts(settings.blur).abs() * (smooth - images)
    noise = draw.normal(images) * amounts(settings.noise)
    return (images + noise * (images > 0)).clamp(0, 1)
