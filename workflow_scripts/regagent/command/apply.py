"""``regagent apply``: apply a transform to an image or to a file of points."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.command.outputs import IMAGE_SUFFIXES, TABLE_SUFFIXES, UsageError, check_outputs
from regagent.command.points import map_points, own_suffix
from regagent.files import UserError, naming
from regagent.volumes.reading import read_grid, read_image
from regagent.volumes.transforms import count_beyond_fields, read_transform
from regagent.volumes.writing import write_image

logger = logging.getLogger("regagent")

#: An image with at most this many different values may be a map of labels.
MOST_LABELS = 256
#: One with at most this many is taken for such a map where interpolation changes it.
FEW_LABELS = 30
#: Values are the same if they differ by less than this, or this part of a small range, as by whole voxels.
ROUNDED = 1e-3

#: ITK resamples in float64, which holds whole numbers up to this one.
EXACT_WHOLE = 2**53


def apply_transform(
    transform: str | Path,
    out: str | Path,
    image: str | Path | None = None,
    points: str | Path | None = None,
    reference: str | Path | None = None,
    inverse: bool = False,
    nearest: bool = False,
    outside: float | None = None,
) -> None:
    """Apply the transform of a file, or its inverse, to an image or to points, whichever is given.

    ``reference``, ``nearest`` and ``outside`` are for an image (``transform_image``). Raises ``UsageError``
    for options that do not go together, ``UserError`` for a fault in a file.
    """
    if points and (reference or nearest or outside is not None):
        raise UsageError("--reference, --nearest and --outside go with --image, not with --points")
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    if points:
        suffixes = TABLE_SUFFIXES + tuple(filter(None, [own_suffix(points)]))
        work = partial(transform_points, points=points, output=out)
    elif image and reference:
        work = partial(
            transform_image,
            image=image, reference=reference, output=out, nearest=nearest, outside=outside,
        )  # fmt: skip
    else:
        raise UsageError("--image needs --reference, the image whose grid the result has")
    check_outputs([transform, image, points, reference], [(out, suffixes)])
    work(read_transform(transform, inverse))


def transform_image(
    transform: sitk.Transform,
    image: str | Path,
    reference: str | Path,
    output: str | Path,
    nearest: bool = False,
    outside: float | None = None,
) -> None:
    """Resample the image onto the reference's grid and write it.

    ``transform`` maps points of the reference to points of the image, in mm. The image may be constant, as an
    empty mask is; of the reference only the grid counts. Interpolation is linear; ``nearest`` takes the
    nearest voxel instead, for maps of labels. ``outside`` is the value beyond the image, by default the
    image's lowest value. The type of the pixels stays: values are rounded if it holds whole numbers. The log
    says where the result lies beyond the image altogether, and where labels seem to be interpolated. Raises
    ``UserError`` when the dimensions differ or ``outside`` does not fit the type.
    """
    dimension = transform.GetDimension()
    with naming(image):
        moving = read_image(image, constant_too=True, flat=dimension == 2)
    with naming(reference):
        fixed = read_grid(reference, flat=dimension == 2)
    for path, found in ((image, moving), (reference, fixed)):
        if found.GetDimension() != dimension:
            raise UserError(f"{path}: a {found.GetDimension()}D image, but the transform is {dimension}D")
    values = sitk.GetArrayViewFromImage(moving)
    if outside is None:
        outside = float(values.min())
        if outside and outside == values.max():
            logger.warning(
                "%s: is %g everywhere, which is taken for what lies beyond it, too; --outside 0 ends it at"
                " its sides",
                image, outside,
            )  # fmt: skip
    whole = np.issubdtype(values.dtype, np.integer)
    if not _holds(values.dtype, outside):
        raise UserError(
            f"{image}: its pixels are {values.dtype}, which cannot hold {outside:g} for what is outside"
        )
    if values.dtype.itemsize == 8 and whole and max(-int(values.min()), int(values.max())) > EXACT_WHOLE:
        raise UserError(
            f"{image}: holds whole numbers beyond 2^53, which change in resampling; number its labels anew"
        )
    take_nearest = partial(sitk.Resample, moving, fixed, transform, sitk.sitkNearestNeighbor, outside)
    if nearest:
        laid = take_nearest()
    else:
        laid = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, outside, sitk.sitkFloat64)
        laid = sitk.Cast(sitk.Round(laid) if whole else laid, moving.GetPixelID())
    result = sitk.GetArrayViewFromImage(laid)
    beyond = np.isnan(result) if np.isnan(outside) else result == outside
    if beyond.all() and not _meets(moving, fixed, transform):
        logger.warning(
            "%s: this transform takes no voxel of %s into it, so that the result is %g everywhere (is"
            " --inverse needed, or wrong?)",
            image, reference, outside,
        )  # fmt: skip
    elif not nearest and _blends_labels(values, result, beyond, take_nearest):
        logger.warning(
            "%s: has few different values, which interpolation mixes; for a map of labels take --nearest",
            image,
        )
    write_image(laid, output)


def _holds(pixels: np.dtype, value: float) -> bool:
    """Return whether a type of pixels can hold a value."""
    if np.issubdtype(pixels, np.integer):
        limits = np.iinfo(pixels)
        return bool(limits.min <= value <= limits.max and value == int(value))
    return not np.isfinite(value) or abs(value) <= float(np.finfo(pixels).max)


def _meets(moving: sitk.Image, fixed: sitk.Image, transform: sitk.Transform) -> bool:
    """Return whether the transform takes a voxel of the grid into the image."""
    inside = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    inside.CopyInformation(moving)
    laid = sitk.Resample(inside, fixed, transform, sitk.sitkNearestNeighbor)
    return bool(sitk.GetArrayViewFromImage(laid).any())


def _blends_labels(
    values: NDArray, result: NDArray, beyond: NDArray[np.bool_], take_nearest: Callable[[], sitk.Image]
) -> bool:
    """Return whether a result shows that interpolation has mixed the labels of an image of few values.

    With very few values that is where it differs from the nearest voxels, which ``take_nearest`` gives: of
    the labels 0, 1 and 2 it has a 1 around each 2. With more it is where the result has other values, but
    for those ``beyond`` the image. A mask of whole numbers, as 0 and 1, is rounded to one of both: not mixed.
    """
    for step in (997, 1):  # a glance is enough for most images of many values
        known = pd.unique(values.ravel()[::step])
        if len(known) > MOST_LABELS:
            return False
    span = float(known.max()) - float(known.min())
    if len(known) == 2 and span == 1 and np.issubdtype(values.dtype, np.integer):
        return False
    if len(known) <= FEW_LABELS:
        labels = sitk.GetArrayFromImage(take_nearest())
        return not np.allclose(result, labels, rtol=1e-6, atol=ROUNDED * min(span, 1), equal_nan=True)
    inside = result[~beyond]
    if np.array_equal(known, np.rint(known)):
        inside = np.where(np.abs(inside - np.rint(inside)) < ROUNDED, np.rint(inside), inside)
    return not np.isin(inside, known).all()


def transform_points(transform: sitk.Transform, points: str | Path, output: str | Path) -> None:
    """Map the points of a file and write them (``map_points``); a 2D transform changes x and y alone.

    The log says how many points lie beyond a displacement field. Raises ``UserError``, also for a point that
    is mapped to no finite place.
    """
    dimension = transform.GetDimension()
    beyond = []

    def mapping(given: NDArray) -> NDArray:
        mapped = given.copy()
        for row in mapped:
            row[:dimension] = transform.TransformPoint(row[:dimension].tolist())
        lost = np.flatnonzero(~np.isfinite(mapped).all(1))
        if len(lost):
            place, found = (", ".join(f"{x:g}" for x in row[lost[0]]) for row in (given, mapped))
            raise UserError(f"{points}: the transform maps the point {place} to {found}; is it damaged?")
        beyond.append(count_beyond_fields(transform, given[:, :dimension]))
        return mapped

    map_points(points, mapping, dimension, output)
    if any(beyond):
        logger.warning(
            "%s: %d of its points lie beyond the transform's displacement field, which was taken for 0 there",
            points, sum(beyond),
        )  # fmt: skip
