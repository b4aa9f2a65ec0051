"""Random numbers and smooth random fields for a batch of training pairs."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

#: Knots along each axis of the smooth random fields.
KNOTS = 4


class Draw:
    """Draws random numbers for B pairs at once."""

    def __init__(self, generator: torch.Generator, count: int):
        self.generator, self.count = generator, count

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        """Return uniform numbers (B, *shape) in [low, high), float64."""
        drawn = torch.rand(
            self.count, *shape, generator=self.generator, device=self.generator.device, dtype=torch.float64
        )
        return low + (high - low) * drawn

    def amount(self, low: float, high: float) -> Tensor:
        """Return a uniform number in [low, high) for each image, (B, 1, 1) float32."""
        return self.between(low, high, 1, 1).float()

    def amount3(self, low: float, high: float) -> Tensor:
        """Return a uniform number in [low, high) for each cube, (B, 1, 1, 1) float32."""
        return self.between(low, high, 1, 1, 1).float()

    def fields3(self, channels: int, size: int) -> Tensor:
        """Return smooth fields (B, channels, N, N, N) of about unit amplitude, float32."""
        knots = self.between(-1, 1, channels, KNOTS, KNOTS, KNOTS).float()
        return F.interpolate(knots, (size,) * 3, mode="trilinear", align_corners=True)

    def fields(self, channels: int, size: int) -> Tensor:
        """Return smooth fields (B, channels, H, H) of about unit amplitude, float32."""
        knots = self.between(-1, 1, channels, KNOTS, KNOTS).float()
        along = _cubic(size, knots.device)
        return along @ knots @ along.T

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal numbers of the shape of ``like``."""
        return torch.empty_like(like).normal_(generator=self.generator)

    def share(self, fraction: float) -> Tensor:
        """Return (B,) true in about this fraction of the pairs."""
        return self.between(0, 1) < fraction


@cache
def _cubic(size: int, device: torch.device) -> Tensor:
    """Return the matrix (H, KNOTS) that interpolates knots along one axis."""
    unit = torch.eye(KNOTS, device=device)[:, None]
    return F.interpolate(unit[..., None], (size, 1), mode="bicubic", align_corners=True)[:, 0, :, 0].T
