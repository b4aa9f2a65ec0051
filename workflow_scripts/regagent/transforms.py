"""Transform files: reading, writing and applying them to images and to tables of points.

A transform maps points of the fixed image to points of the moving one, in mm in ITK's world: x to the
patient's left, y to the back, z to the head (LPS).
"""

from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from regagent.files import UserError, read_text_table, write_table, write_whole
from regagent.volumes import read_image, write_image

TRANSFORM_SUFFIXES = (".tfm", ".txt", ".h5")
IMAGE_SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")


def read_transform(
    path: str | Path, inverse: bool = False, patient: str | None = None, dimension: int | None = None
) -> sitk.Transform:
    """Read a transform of 2D or 3D points, or its inverse; ``dimension`` says that only one of them will do.

    Raises ``UserError`` naming the file and, where given, the patient.
    """
    where = f"patient {patient}: transform {path}" if patient else f"{path}"
    if not Path(path).exists():
        raise UserError(f"{where}: no such file, expected a transform ({', '.join(TRANSFORM_SUFFIXES)})")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{where}: not a transform that ITK reads ({reason})") from error
    found = transform.GetDimension()
    if dimension not in (None, found):
        raise UserError(f"{where}: maps points in {found}D, expected {dimension}D")
    if not inverse:
        return transform
    try:
        return transform.GetInverse()
    except RuntimeError as error:
        raise UserError(f"{where}: a {transform.GetName()} that has no inverse") from error


def write_transform(transform: sitk.Transform, path: str | Path) -> None:
    """Write a transform whole. Raises ``UserError``, as ITK does not where the disk is full."""
    with write_whole(path) as temporary:
        try:
            sitk.WriteTransform(transform, str(temporary))
            whole = np.allclose(_numbers(sitk.ReadTransform(str(temporary))), _numbers(transform))
        except (RuntimeError, ValueError):
            whole = False
        if not whole:
            raise UserError(f"{path}: cannot be written whole; is the disk full?")


def _numbers(transform: sitk.Transform) -> list[float]:
    return [*transform.GetParameters(), *transform.GetFixedParameters()]


def transform_image(
    transform: sitk.Transform,
    image: str | Path,
    reference: str | Path,
    output: str | Path,
    nearest: bool = False,
    outside: float | None = None,
) -> None:
    """Write the image on the reference's grid; ``transform`` maps points of the reference to the image's.

    Interpolation is linear, or takes the nearest voxel, as labels need it. ``outside`` is the value beyond
    the image, its lowest one if not given. Pixels keep their type: values are rounded to it where it has
    whole numbers. Raises ``UserError`` when the dimensions differ or ``outside`` does not fit that type.
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
    """Write the table of points with their coordinates mapped; its other columns stay as they are.

    Coordinates are the columns x, y and, for a 3D transform, z, in mm. Raises ``UserError`` naming the row of
    a coordinate that is no number (the header is row 1).
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
