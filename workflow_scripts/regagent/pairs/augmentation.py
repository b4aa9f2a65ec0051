"""Augmentation of training pairs: one random deformation of both images, random intensities for each."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regagent.settings import Augmentation

#: Knots along each axis of the smooth random fields.
KNOTS = 4


def augment_pairs(
    mr: Tensor, ct: Tensor, points: Tensor, settings: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return random variations of aligned pairs (B, H, H) in [0, 1] and of points (B, N, 2) in centred px.

    The same mirroring, affine map and smooth deformation move both images of a pair and its points, so that
    the pair stays aligned. Gamma, gain, bias field, noise and blur are drawn for each image by itself. Air
    stays 0.
    """
    if not settings.enabled:
        return mr, ct, points
    draw = _Draw(generator, len(mr))
    images = torch.stack([mr, ct], 1)
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
    pool: tuple[Tensor, Tensor, Tensor],
    count: int,
    per_pair: int,
    settings: Augmentation,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``count`` pairs drawn from a pool of MR, CT (M, H, H) and points (M, N, 2), each augmented.

    Every ``per_pair`` of them in a row are the same one.
    """
    drawn = torch.randint(
        len(pool[0]), (-(-count // per_pair),), generator=generator, device=generator.device
    )
    mr, ct, points = (array[drawn] for array in pool)
    pairs = augment_pairs(mr, ct, points, settings, generator)
    mr, ct, points = (array.repeat_interleave(per_pair, 0)[:count] for array in pairs)
    return mr, ct, points


class _Draw:
    """Draws random numbers for B pairs at once."""

    def __init__(self, generator: torch.Generator, count: int):
        self.generator, self.count = generator, count

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        """Return uniform numbers (B, *shape) in [low, high), float64."""
        drawn = torch.rand(
            self.count, *shape, generator=self.generator, device=self.generator.device, dtype=torch.float64
        )
        return low + (high - low) * drawn

    def fields(self, channels: int, size: int) -> Tensor:
        """Return smooth fields (B, channels, H, H) of about unit amplitude, float32."""
        knots = self.between(-1, 1, channels, KNOTS, KNOTS).float()
        along = _cubic(size, knots.device)
        return along @ knots @ along.T

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal numbers of the shape of ``like``."""
        return torch.empty_like(like).normal_(generator=self.generator)


@cache
def _cubic(size: int, device: torch.device) -> Tensor:
    """Return the matrix (H, KNOTS) that interpolates knots along one axis."""
    unit = torch.eye(KNOTS, device=device)[:, None]
    return F.interpolate(unit[..., None], (size, 1), mode="bicubic", align_corners=True)[:, 0, :, 0].T


def _affine(settings: Augmentation, draw: _Draw) -> Tensor:
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


def _rescan(images: Tensor, settings: Augmentation, draw: _Draw) -> Tensor:
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
