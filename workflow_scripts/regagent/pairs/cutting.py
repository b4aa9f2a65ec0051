"""The agent's grid: axial slices of an MR and a CT as square images in [0, 1] with isotropic pixels (§4)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regagent.anatomy import AIR_HU
from regagent.images import Image, field_of_view, normalise, square
from regagent.settings import Slices

Window = tuple[float, float]  # the intensities that become 0 and 1
Spacing = tuple[float, float]  # x, y in mm


def mr_window(intensity: NDArray, settings: Slices) -> Window:
    """Return the MR intensities that become 0 and 1. Raises ``ValueError`` if the two are equal."""
    low, high = np.percentile(intensity, settings.mr_percentiles)
    if not high > low:
        raise ValueError(f"the MR's percentiles {settings.mr_percentiles} are both {low:g}: no contrast")
    return low, high


def cut(
    intensity: NDArray,
    hounsfield: NDArray,
    numbers: Sequence[int],
    spacing: Spacing,
    window: Window,
    settings: Slices,
) -> tuple[Image, Image]:
    """Return S slices of an MR and a CT (Z, Y, X) on one grid, given by their numbers: two arrays (S, H, H).

    ``spacing`` (x, y) is in mm, and ``window`` is the MR's. The slices are resampled before they are clipped
    to the window, because clipping first would move the edges of bone.
    """

    def images(volume: NDArray, outside: float, bounds: Window) -> Image:
        slices = (square(volume[z], spacing, settings.size, outside) for z in numbers)
        return np.stack([normalise(image, *bounds) for image in slices])

    mr = images(intensity, float(window[0]), window)
    return mr, images(hounsfield, AIR_HU, settings.ct_window_hu)


def pixel_width_mm(shape: tuple[int, int], spacing: Spacing, settings: Slices) -> float:
    """Return the width in mm of a pixel of the grid, for slices (Y, X) with ``spacing`` (x, y) in mm."""
    return field_of_view(shape, spacing) / settings.size
