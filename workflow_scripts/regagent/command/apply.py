"""``regagent apply``: apply a transform to an image or to a table of points."""

from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from regagent.command.outputs import IMAGE_SUFFIXES, TABLE_SUFFIXES, UsageError, check_outputs
from regagent.files import UserError, read_text_table, write_table
from regagent.transforms import read_transform
from regagent.volumes.reading import read_image
from regagent.volumes.writing import write_image


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
    if not points and not (image and reference):
        raise UsageError("--image needs --reference, the image whose grid the result has")
    if points and (reference or nearest or outside is not None):
        raise UsageError("--reference, --nearest and --outside go with --image, not with --points")
    check_outputs(
        [transform, image, points, reference], [(out, TABLE_SUFFIXES if points else IMAGE_SUFFIXES)]
    )
    mapping = read_transform(transform, inverse)
    if points:
        transform_points(mapping, points, out)
    elif image and reference:
        transform_image(mapping, image, reference, out, nearest, outside)


def transform_image(
    transform: sitk.Transform,
    image: str | Path,
    reference: str | Path,
    output: str | Path,
    nearest: bool = False,
    outside: float | None = None,
) -> None:
    """Resample the image onto the reference's grid and write it.

    ``transform`` maps points of the reference to points of the image, in mm. Interpolation is linear;
    ``nearest`` takes the nearest voxel instead, for maps of labels. ``outside`` is the value beyond the
    image, by default the image's lowest value. The type of the pixels stays: values are rounded if it holds
    whole numbers. Raises ``UserError`` when the dimensions differ or ``outside`` does not fit the type.
    """
    moving, fixed = read_image(image), read_image(reference)
    for path, found in ((image, moving), (reference, fixed)):
        if found.GetDimension() != transform.GetDimension():
            raise UserError(
                f"{path}: a {found.GetDimension()}D image, but the transform is {transform.GetDimension()}D"
            )
    if outside is None:
        outside = float(sitk.GetArrayViewFromImage(moving).min())
    pixels = sitk.GetArrayViewFromImage(moving).dtype
    whole = np.issubdtype(pixels, np.integer)
    if whole and not (np.iinfo(pixels).min <= outside <= np.iinfo(pixels).max and outside == int(outside)):
        raise UserError(
            f"{image}: its pixels are {pixels}, which cannot hold {outside:g} for what is outside"
        )
    interpolator = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    laid = sitk.Resample(moving, fixed, transform, interpolator, outside, sitk.sitkFloat64)
    write_image(sitk.Cast(sitk.Round(laid) if whole else laid, moving.GetPixelID()), output)


def transform_points(transform: sitk.Transform, points: str | Path, output: str | Path) -> None:
    """Write the table of points with mapped coordinates; its other columns stay as they are.

    Coordinates are the columns x, y and, for a 3D transform, z, in mm. Raises ``UserError`` when one of these
    columns is missing, and naming the row (the header is row 1) of a coordinate that is not a number.
    """
    table = read_text_table(points)
    axes = ["x", "y", "z"][: transform.GetDimension()]
    missing = [axis for axis in axes if axis not in table]
    if missing:
        raise UserError(
            f"{points}: column {missing[0]!r} is missing; found {', '.join(table.columns)}, expected"
            f" {', '.join(axes)} in mm for a {transform.GetDimension()}D transform"
        )
    values = table[axes].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    faulty = np.flatnonzero(~np.isfinite(values).all(1))
    if len(faulty):
        found = ", ".join(cell or "nothing" for cell in table.loc[faulty[0], axes])
        raise UserError(f"{points}, row {faulty[0] + 2}: coordinates {found}, expected numbers in mm")
    mapped = np.array([transform.TransformPoint(point) for point in values.tolist()]).reshape(-1, len(axes))
    write_table(table.assign(**dict(zip(axes, mapped.T, strict=True))), output)
