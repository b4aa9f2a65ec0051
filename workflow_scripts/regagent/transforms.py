"""Transform files: read, checked and written whole.

A transform maps points of the fixed image to points of the moving one, in mm in ITK's world: x to the
patient's left, y to the back, z to the head (LPS).
"""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regagent.files import UserError, itk_name, reason, write_whole

TRANSFORM_SUFFIXES = (".tfm", ".txt", ".h5")


def read_transform(
    path: str | Path, inverse: bool = False, patient: str | None = None, dimension: int | None = None
) -> sitk.Transform:
    """Read a transform of 2D or 3D points, or its inverse; ``dimension`` (2 or 3) accepts only one of them.

    Raises ``UserError`` naming the file and, if given, the patient: for a file that is missing or unreadable,
    another dimension, and an inverse that does not exist.
    """
    where = f"patient {patient}: transform {path}" if patient else f"{path}"
    itk_name(path)
    if not Path(path).exists():
        raise UserError(f"{where}: no such file, expected a transform ({', '.join(TRANSFORM_SUFFIXES)})")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise UserError(f"{where}: not a transform that ITK reads ({reason(error)})") from error
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
    """Write a transform whole. Raises ``UserError``, also for a full disk, of which ITK says nothing."""
    itk_name(Path(path).parent)
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
