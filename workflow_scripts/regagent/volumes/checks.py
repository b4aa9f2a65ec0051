"""What an image or volume must be: one number a voxel, a plausible grid with right angles, finite values."""

import itertools
import logging
import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import psutil
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from regagent.files import UserError

#: The smallest and the largest spacing that is accepted.
PLAUSIBLE_SPACING_MM = (0.05, 20.0)

#: A file whose statements about a voxel's place differ by more than this is refused.
MISPLACED_MM = 1.0

#: One whose statements differ by more than this is read, and the log tells how far.
ROUNDED_MM = 0.1

#: A slice that is tilted against the axial plane by more than this is not taken as a 2D image.
TILT_DEGREES = 35.0

logger = logging.getLogger("regagent")


def check_components(components: int, dimension: int, where: str) -> None:
    """Check that a voxel is one number. Raises ``UserError``, which begins with ``where``."""
    if components != 1:
        raise UserError(f"{where}: {components} values a {_element(dimension)}, expected one")


def check_spacing(spacing: Sequence[float], where: str) -> None:
    """Check a spacing (mm, x first). Raises ``UserError``, which begins with ``where``."""
    low, high = PLAUSIBLE_SPACING_MM
    if not all(low <= step <= high for step in spacing):
        raise UserError(
            f"{where}: spacing {tuple(map(float, spacing))} mm, expected {low} to {high} mm along each axis"
        )


def spatial(size: Sequence[int]) -> tuple[int, ...]:
    """Return a size without the axes of one voxel behind the third."""
    kept = len(size)
    while kept > 3 and size[kept - 1] == 1:
        kept -= 1
    return tuple(size[:kept])


def right_angled(axes: ArrayLike, size: Sequence[int], where: str) -> NDArray[np.float64]:
    """Return the directions of a grid as a rotation (D, D), in which a reflection may be.

    ``axes`` (D, D) has the step from a voxel to the next along each axis in its columns, in mm, ``size`` the
    number of voxels. Raises ``UserError``, which begins with ``where``, if the grid is sheared: if a corner
    lies more than ``MISPLACED_MM`` from where it would lie with right angles. The log tells of one more than
    ``ROUNDED_MM`` from there.
    """
    axes = np.asarray(axes, dtype=float)
    spacing = np.linalg.norm(axes, axis=0)
    left, _, right = np.linalg.svd(axes / spacing)
    directions = left @ right
    off = farthest_mm(axes, directions * spacing, size)
    if off > MISPLACED_MM:
        raise UserError(
            f"{where}: sheared: its axes do not stand at right angles, which misplaces voxels by up to"
            f" {off:.1f} mm (a tilted gantry?); resample it to right angles first"
        )
    if off > ROUNDED_MM:
        logger.warning(
            "%s: its axes do not stand at right angles (a tilted gantry?): taken as if they did, which"
            " misplaces voxels by up to %.2f mm",
            where, off,
        )  # fmt: skip
    return directions


def farthest_mm(one: ArrayLike, other: ArrayLike, size: Sequence[int]) -> float:
    """Return how far, in mm, two grids place a corner of a volume apart at most.

    Each grid is an array (D, D) of steps, or (D, D + 1) with the place of the first voxel behind them.
    """
    difference = np.asarray(one, dtype=float) - np.asarray(other, dtype=float)
    corners = np.array(list(itertools.product(*((0, count - 1) for count in size))))
    if difference.shape[1] > difference.shape[0]:
        corners = np.column_stack([corners, np.ones(len(corners))])
    return float(np.linalg.norm(corners @ difference.T, axis=1).max())


def in_plane(directions: ArrayLike, where: str) -> NDArray[np.float64]:
    """Return the directions (2, 2) of an axial slice in its own plane, given those (3, 3) of its volume.

    They are the rotation, in which a reflection may be, that comes nearest to what x and y show of a slice
    that is tilted: a distance in the plane stays as it is. Raises ``UserError``, which begins with ``where``,
    if the slice is tilted by more than ``TILT_DEGREES``.
    """
    left, cosines, right = np.linalg.svd(np.reshape(directions, (3, 3))[:2, :2])
    tilt = np.degrees(np.arccos(min(cosines.min(), 1.0)))
    if tilt > TILT_DEGREES:
        raise UserError(
            f"{where}: a 2D image whose plane is not axial (tilted by {tilt:.0f} degrees), so that x and y do"
            " not tell its place; give an axial slice"
        )
    return left @ right


def on_grid(image: sitk.Image, spacing: ArrayLike, first: ArrayLike, directions: ArrayLike) -> sitk.Image:
    """Return the image (D axes) with its spacing (D,) and first voxel (D,) in mm, and directions (D, D)."""
    image.SetSpacing(np.asarray(spacing).tolist())
    image.SetOrigin(np.asarray(first).tolist())
    image.SetDirection(np.ravel(directions).tolist())
    return image


def zeros(size: Sequence[int], where: str) -> sitk.Image:
    """Return an image of zeros, of which only the grid counts. Raises ``UserError`` if it is too large."""
    if math.prod(size) <= psutil.virtual_memory().total:
        with suppress(RuntimeError):  # what the memory holds may not be free
            return sitk.Image(size, sitk.sitkUInt8)
    raise UserError(f"{where}: {' x '.join(map(str, size))} voxels, which the memory cannot hold")


def check_voxels(image: sitk.Image, where: str) -> None:
    """Check that an image or volume has 2 voxels or more along each axis, all finite and not all the same.

    Raises ``UserError``, which begins with ``where``.
    """
    values = sitk.GetArrayViewFromImage(image)
    element = _element(image.GetDimension())
    if min(values.shape) < 2:
        raise UserError(f"{where}: size {image.GetSize()}, expected at least 2 {element}s along each axis")
    check_finite(image, where)
    if values.min() == values.max():
        raise UserError(f"{where}: empty, every {element} is {values.flat[0]}")


def check_finite(image: sitk.Image, where: str) -> None:
    """Check that all voxels are finite. Raises ``UserError``, which begins with ``where``."""
    if not np.isfinite(sitk.GetArrayViewFromImage(image)).all():
        element = _element(image.GetDimension())
        raise UserError(f"{where}: holds NaN or infinite {element}s, expected finite intensities only")


def _element(dimension: int) -> str:
    return "pixel" if dimension == 2 else "voxel"
