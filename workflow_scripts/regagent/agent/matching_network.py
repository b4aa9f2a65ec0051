"""The network of matching: encoders of MR and of CT, and the planes through a cube that they see."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regagent.pairs.draws import Draw

#: The right, the down and the forward axis in LPS of axial, coronal and sagittal planes.
AXES = (
    ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)),
    ((1.0, 0, 0), (0, 0, -1.0), (0, 1.0, 0)),
    ((0, 1.0, 0), (0, 0, -1.0), (1.0, 0, 0)),
)
#: Features are those of so many pixels' edge, and of every so many of them along an edge one is a place.
CELL, PLACE = 2, 4
#: The planes of an orientation lie within this part of the cube's edge from its middle.
WITHIN = 0.28


class Planes(NamedTuple):
    """P planes through a cube, in mm about its middle."""

    pixels: Tensor  # (P, H, H, 3)
    places: Tensor  # (P, S, 3)
    axes: Tensor  # (P, 2, 3) unit vectors along the rows and the columns of the images


class Encoder(nn.Module):
    """Convolutions of images (B, 1, H, H) to features (B, F, H/2, H/2), that see some 80 pixels around."""

    def __init__(self, channels: int, features: int):
        super().__init__()

        def layer(before: int, after: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
            return nn.Conv2d(before, after, 3, stride, dilation, dilation)

        deep = 2 * channels
        self.near = nn.ModuleList(
            [layer(1, channels, 2), layer(channels, channels), layer(channels, channels)]
        )
        self.far = nn.ModuleList(
            [layer(channels, deep, 2), layer(deep, deep), layer(deep, deep, 1, 2), layer(deep, deep, 1, 2)]
        )
        self.of_near, self.of_far = nn.Conv2d(channels, features, 1), nn.Conv2d(deep, features, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight, 1.0 if module.kernel_size == (1, 1) else 2**0.5)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type] # every layer here has one
        # A CPU convolves few channels twice as fast where those of a pixel lie beside each other.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, F, H/2, H/2) of images (B, 1, H, H)."""
        first = F.elu(self.near[0](images.contiguous(memory_format=torch.channels_last)))
        near = F.elu(self.near[2](F.elu(self.near[1](first)))) + first
        far = F.elu(self.far[0](near))
        far = F.elu(self.far[2](F.elu(self.far[1](far)))) + far
        far = F.elu(self.far[3](far)) + far
        wide = F.interpolate(self.of_far(far), scale_factor=2, mode="bilinear", align_corners=False)
        return (self.of_near(near) + wide).contiguous()


class MatchingNetwork(nn.Module):
    """The encoders of MR and CT, for cubes of ``size`` voxels along an edge, a multiple of 4.

    A place's displacement is sought within ``reach`` cells of two pixels along each axis.
    """

    offsets: Tensor  # (O, 2) in mm
    where: Tensor  # (S, 2) the places of a plane in mm

    def __init__(self, size: int, spacing_mm: float, channels: int = 24, features: int = 24, reach: int = 4):
        super().__init__()
        self.arguments = {
            **{"size": size, "spacing_mm": spacing_mm},
            **{"channels": channels, "features": features, "reach": reach},
        }
        self.size, self.spacing_mm, self.reach = size, spacing_mm, reach
        self.of_mr, self.of_ct = Encoder(channels, features), Encoder(channels, features)
        self.log_sharpness = nn.Parameter(torch.tensor(-0.5 * np.log(features), dtype=torch.float32))
        step = CELL * spacing_mm
        ticks = (torch.arange(PLACE // 2, size // CELL, PLACE) * CELL - (size - 1) / 2) * spacing_mm
        self.register_buffer("where", torch.cartesian_prod(ticks, ticks).flip(-1), persistent=False)
        around = torch.arange(-reach, reach + 1) * step
        self.register_buffer("offsets", torch.cartesian_prod(around, around).flip(-1), persistent=False)

    def planes(self, orientation: Tensor, offset_mm: Tensor) -> Planes:
        """Return planes of these orientations (P,), numbers of ``AXES``, so far (P,) from the middle."""
        axes = self.where.new_tensor(AXES)[orientation]
        away = offset_mm.to(axes)[:, None] * axes[:, 2]
        ticks = (torch.arange(self.size, device=axes.device) - (self.size - 1) / 2) * self.spacing_mm
        pixels = torch.cartesian_prod(ticks, ticks).flip(-1)

        def in_space(flat: Tensor) -> Tensor:
            return away[:, None] + flat @ axes[:, :2]

        return Planes(in_space(pixels).unflatten(1, (self.size,) * 2), in_space(self.where), axes[:, :2])

    def regular_planes(self, count: int) -> Planes:
        """Return ``count`` planes of each orientation at equal distances."""
        return self._spread((torch.arange(count) + 0.5) / count)

    def random_planes(self, count: int, draw: Draw) -> Planes:
        """Return ``count`` planes of each orientation at random, one in each of as many equal parts."""
        return self._spread((torch.arange(count) + draw.between(0, 1, count)[0].cpu()) / count)

    def _spread(self, parts: Tensor) -> Planes:
        offset = (2 * parts - 1) * WITHIN * self.size * self.spacing_mm
        orientation = torch.arange(len(AXES)).repeat_interleave(len(parts))
        return self.planes(orientation, offset.repeat(len(AXES)))

    def log_chances(self, mr: Tensor, ct: Tensor) -> Tensor:
        """Return the logarithm of each displacement's probability (B, S, O) at each place of images.

        ``mr`` and ``ct`` are the features (B, F, H/2, H/2) of the encoders.
        """
        along = 2 * self.reach + 1
        # The window about a place begins ``reach`` cells before it.
        before, after = self.reach - PLACE // 2, self.reach
        around = F.unfold(F.pad(mr, (before, after, before, after)), along, stride=PLACE)
        around = around.unflatten(1, (mr.shape[1], along**2))
        places = ct[..., PLACE // 2 :: PLACE, PLACE // 2 :: PLACE].flatten(2)
        agreement = torch.einsum("bfos,bfs->bso", around, places)
        return F.log_softmax(agreement * self.log_sharpness.exp(), -1)
