"""The networks of matching: encoders of MR and of CT, and what they see: planes through cubes, or slices."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regagent.agent.distance import BINS
from regagent.agent.judged import Judged
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
#: Slices are looked at in pixels of so many px, one after the other.
LEVELS = (2, 1)


class Grid(NamedTuple):
    """Where a network looks in images, about their middle, x first, in mm or px."""

    where: Tensor  # (S, 2) the places
    offsets: Tensor  # (O, 2) the displacements among which it seeks that of a place
    spacing: float  # of the pixels


def grid(size: int, spacing: float, reach: int) -> Grid:
    """Return where a network looks in images of so many pixels along an edge."""
    ticks = (torch.arange(PLACE // 2, size // CELL, PLACE) * CELL - (size - 1) / 2) * spacing
    around = torch.arange(-reach, reach + 1) * CELL * spacing
    where, offsets = (torch.cartesian_prod(one, one).flip(-1) for one in (ticks, around))
    return Grid(where, offsets, spacing)


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
        for name, points in zip(("where", "offsets"), grid(size, spacing_mm, reach)[:2], strict=True):
            self.register_buffer(name, points, persistent=False)

    @property
    def grid(self) -> Grid:
        """Where it looks in a plane."""
        return Grid(self.where, self.offsets, self.spacing_mm)

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

    def surroundings(self, mr: Tensor) -> Tensor:
        """Return the features (N, S, O, F) around each place of the MR's (N, F, H/2, H/2)."""
        along = 2 * self.reach + 1
        # The window about a place begins ``reach`` cells before it.
        before, after = self.reach - PLACE // 2, self.reach
        around = F.unfold(F.pad(mr, (before, after, before, after)), along, stride=PLACE)
        # As the product of each place reads them: else they would be moved before every one.
        return around.unflatten(1, (mr.shape[1], along**2)).permute(0, 3, 2, 1).contiguous()

    def log_chances(self, around: Tensor, ct: Tensor) -> Tensor:
        """Return the logarithm of each displacement's probability (B, S, O) at each place of images.

        ``around`` (N, S, O, F) are the ``surroundings`` of N images of MR, and ``ct`` the features
        (B, F, H/2, H/2) of B images of CT, the first B/N of which belong to the first of MR, and so on.
        """
        places = ct[..., PLACE // 2 :: PLACE, PLACE // 2 :: PLACE].flatten(2)
        agreement = around @ places.unflatten(0, (len(around), -1)).permute(0, 3, 2, 1)  # (N, S, O, B/N)
        return F.log_softmax(agreement.permute(0, 3, 1, 2).flatten(0, 1) * self.log_sharpness.exp(), -1)


#: The numbers that ``evidence`` gives of a place, and what judges them: so many channels and layers.
EVIDENCE, JUDGING, JUDGING_LAYERS = 9, 24, 3


def evidence(log_chances: Tensor, counts: Tensor, offsets: Tensor) -> Tensor:
    """Return what distributions (B, S, O) say of each place (B, K, S), each number of about unit size.

    How likely it lies where it is, at its likeliest and within a cell of here, by how much the second exceeds
    the first, how unsure it is, and where it lies and how spread. A place that does not count is all zero.
    """
    chances, along = log_chances.exp(), int(log_chances.shape[-1] ** 0.5)
    here, likeliest = log_chances[..., log_chances.shape[-1] // 2], log_chances.amax(-1)
    mean = chances @ offsets
    apart = (offsets - mean[..., None, :]).square().sum(-1)
    middle = slice(along // 2 - 1, along // 2 + 2)
    numbers = [
        *(here / 4, likeliest / 4, (likeliest - here) / 2, -(chances * log_chances).sum(-1) / 4),
        2 * chances.unflatten(-1, (along, along))[..., middle, middle].sum((-1, -2)),
        *(mean / 4).unbind(-1),
        ((chances * apart).sum(-1) + 1e-3).log() / 3,
        torch.ones_like(here),
    ]
    return torch.stack(numbers, 1) * counts[:, None]


class DistanceNetwork(nn.Module):
    """Predicts D from what all places of a slice say.

    The numbers of each are counted from their ``middle`` in their ``unit`` (K, 1), and its neighbours' are
    taken into account; then the mean and the spread over the places that count.
    """

    middle: Tensor
    unit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.of_place = nn.Conv2d(EVIDENCE, JUDGING, 1)
        layers = [nn.Conv2d(JUDGING, JUDGING, 3, padding=1) for _ in range(JUDGING_LAYERS)]
        self.of_neighbours = nn.ModuleList(layers)
        self.of_all = nn.Sequential(
            nn.Linear(2 * JUDGING + 1, 2 * JUDGING), nn.ELU(), nn.Dropout(0.2), nn.Linear(2 * JUDGING, BINS)
        )
        self.register_buffer("middle", torch.zeros(EVIDENCE, 1))
        self.register_buffer("unit", torch.ones(EVIDENCE, 1))

    def forward(self, seen: Tensor, counts: Tensor) -> Tensor:
        """Return the logits (B, BINS) of D of ``evidence`` (B, K, S) and the places that count (B, S)."""
        along = int(counts.shape[1] ** 0.5)
        there = counts[:, None].to(seen)
        layer = ((seen - self.middle) / self.unit * there).unflatten(-1, (along, along))
        there = there.unflatten(-1, (along, along))
        layer = F.elu(self.of_place(layer))
        for convolution in self.of_neighbours:
            layer = layer + F.elu(convolution(layer))
        number = there.sum((2, 3)).clamp(min=1)
        mean = (layer * there).sum((2, 3)) / number
        spread = ((layer - mean[..., None, None]).square() * there).sum((2, 3)) / number
        return self.of_all(torch.cat([mean, (spread + 1e-4).sqrt(), number / counts.shape[1]], -1))


class SliceMatchingNetwork(Judged):
    """The network of matching for slices of ``size`` px, in whole and halved; it predicts D, too."""

    def __init__(self, size: int = 168, channels: int = 24, features: int = 24, reach: int = 6):
        super().__init__()
        self.arguments = {"size": size, "channels": channels, "features": features, "reach": reach}
        self.matching = MatchingNetwork(size, 1.0, channels, features, reach)
        self.distance = DistanceNetwork()

    def grid(self, level: int) -> Grid:
        """Return where it looks in slices whose pixels are ``level`` px wide, in px."""
        matching = self.matching
        found = grid(matching.size // level, float(level), matching.reach)
        return Grid(found.where.to(matching.where), found.offsets.to(matching.where), found.spacing)

    def evidence(self, log_chances: Tensor, counts: Tensor) -> Tensor:
        """Return the ``evidence`` of looks at slices as they are."""
        return evidence(log_chances, counts, self.matching.offsets)
