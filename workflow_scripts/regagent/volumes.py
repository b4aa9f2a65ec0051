"""Volumes and images on disk: read and checked, written whole."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.files import UserError, write_whole

PLAUSIBLE_SPACING_MM = (0.05, 20.0)


#: The codes of NIfTI's real-valued voxels.
NIFTI_FLOATS = {16: "f4", 64: "f8"}


#: The codes of NIfTI's units of length other than mm: metres and micrometres.
NIFTI_UNITS_MM = {1: 1000.0, 3: 0.001}


def read_volume(path: str | Path, patient: str | None = None) -> sitk.Image:
    """Read a scalar 3D volume and check it.

    Raises ``UserError`` naming the patient and the file when the file is missing or unreadable, is
    not 3D or not scalar, is empty, holds NaN or infinity or one value only, or has an impossible spacing.
    """
    where = f"patient {patient}: {path}" if patient else f"{path}"
    if not Path(path).exists():
        raise UserError(f"{where}: no such file")
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        dimension, components = reader.GetDimension(), reader.GetNumberOfComponents()
        if dimension != 3:
            raise UserError(f"{where}: {dimension}D image, expected a 3D volume")
        if components != 1:
            raise UserError(f"{where}: {components} values a voxel, expected one")
        spacing = _spacing(reader, path, where)
        low, high = PLAUSIBLE_SPACING_MM
        if not all(low <= step <= high for step in spacing):
            raise UserError(f"{where}: spacing {spacing} mm, expected {low} to {high} mm along each axis")
        volume = reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{where}: not a readable volume ({reason})") from error
    values = sitk.GetArrayViewFromImage(volume)
    if min(values.shape) < 2:
        raise UserError(f"{where}: size {volume.GetSize()}, expected at least 2 voxels along each axis")
    if not np.isfinite(values).all():
        raise UserError(f"{where}: holds NaN or infinite voxels, expected finite intensities only")
    if values.min() == values.max():
        raise UserError(f"{where}: empty, every voxel is {values.flat[0]}")
    return volume


def read_image(path: str | Path) -> sitk.Image:
    """Read a scalar 2D image or 3D volume and check it as ``read_volume`` does; one slice alone comes as 2D.

    Raises ``UserError`` naming the file.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return read_volume(path)  # which says what is wrong
    if reader.GetDimension() != 2 and reader.GetSize()[2:] != (1,):
        return read_volume(path)
    if reader.GetNumberOfComponents() != 1:
        raise UserError(f"{path}: {reader.GetNumberOfComponents()} values a pixel, expected one")
    spacing = _spacing(reader, path, f"{path}")
    low, high = PLAUSIBLE_SPACING_MM
    if not all(low <= step <= high for step in spacing[:2]):
        raise UserError(f"{path}: spacing {spacing[:2]} mm, expected {low} to {high} mm along each axis")
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise UserError(f"{path}: not a readable image ({str(error).strip().splitlines()[-1]})") from error
    image = image[:, :, 0] if image.GetDimension() == 3 else image
    values = sitk.GetArrayViewFromImage(image)
    if min(values.shape) < 2:
        raise UserError(f"{path}: size {image.GetSize()}, expected at least 2 pixels along each axis")
    if not np.isfinite(values).all():
        raise UserError(f"{path}: holds NaN or infinite pixels, expected finite intensities only")
    if values.min() == values.max():
        raise UserError(f"{path}: empty, every pixel is {values.flat[0]}")
    return image


def _spacing(reader: sitk.ImageFileReader, path: str | Path, where: str) -> tuple[float, ...]:
    """Return the spacing in mm that the file states. Raises ``UserError`` as ``_nifti_spacing`` does."""
    name = str(path).lower()
    if name.endswith((".hdr", ".img", ".img.gz")):
        raise UserError(f"{where}: a pair of .hdr and .img cannot be checked here; convert it to .nii.gz")
    return _nifti_spacing(path, where) if name.endswith((".nii", ".nii.gz")) else reader.GetSpacing()


def _nifti_spacing(path: str | Path, where: str, finite: bool = True) -> tuple[float, ...]:
    """Return the spacing in mm that a NIfTI file's header states, having looked at the file itself.

    ITK tells nobody: it takes 1 mm where the header says 0 or NaN, and zeros for voxels that are missing
    or not finite. Raises ``UserError`` for such voxels, for those not finite if they must be ``finite``.
    """
    with (gzip.open if str(path).lower().endswith(".gz") else open)(path, "rb") as file:
        try:
            content = file.read()
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{where}: damaged or cut off ({error}); copy or export it again") from error
    first = content[:4].ljust(4, b"\0")
    order = next((o for o in "<>" if struct.unpack(o + "i", first)[0] in (348, 540)), None)
    if order is None or len(content) < struct.unpack(order + "i", first)[0]:
        raise UserError(f"{where}: not a readable volume (no NIfTI header)")
    if struct.unpack_from(order + "i", content)[0] == 348:
        axes = struct.unpack_from(order + "8h", content, 40)
        kind, bits = struct.unpack_from(order + "2h", content, 70)
        spacing = struct.unpack_from(order + "3f", content, 80)
        start = struct.unpack_from(order + "f", content, 108)[0]
        unit = content[123]
    else:
        kind, bits = struct.unpack_from(order + "2h", content, 12)
        axes = struct.unpack_from(order + "8q", content, 16)
        spacing = struct.unpack_from(order + "3d", content, 112)
        start = struct.unpack_from(order + "q", content, 168)[0]
        unit = struct.unpack_from(order + "i", content, 500)[0]
    if not 0 <= start <= len(content):
        raise UserError(f"{where}: its header says that the voxels begin at byte {start:g} of {len(content)}")
    sizes = axes[1 : 1 + axes[0]]
    if min(sizes, default=0) < 1:
        raise UserError(f"{where}: size {sizes}, expected at least 1 voxel along each axis")
    start, voxels = int(start), math.prod(sizes)
    width = np.dtype(NIFTI_FLOATS[kind]).itemsize if kind in NIFTI_FLOATS else bits // 8
    expected = start + voxels * width
    if len(content) < expected:
        raise UserError(
            f"{where}: cut off: holds {len(content)} bytes, expected {expected}; copy or export it again"
        )
    if finite and kind in NIFTI_FLOATS:
        values = np.frombuffer(content, order + NIFTI_FLOATS[kind], voxels, start)
        if not np.isfinite(values).all():
            raise UserError(f"{where}: holds NaN or infinite voxels, expected finite intensities only")
    return tuple(NIFTI_UNITS_MM.get(unit & 7, 1.0) * step for step in spacing)


def write_image(image: sitk.Image, path: str | Path, compression_level: int = -1) -> None:
    """Write an image or volume whole, in the format of its suffix. Raises ``UserError``.

    Where the disk is full ITK writes half a NIfTI file and says nothing, so the file is looked at.
    """
    with write_whole(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True, compressionLevel=compression_level)
            if temporary.name.lower().endswith((".nii", ".nii.gz")):
                _nifti_spacing(temporary, f"{path}", finite=False)
        except (RuntimeError, UserError) as error:
            raise UserError(f"{path}: cannot be written whole; is the disk full?") from error


def write_png(pixels: NDArray[np.uint8], path: str | Path) -> None:
    """Write an image (H, W) or (H, W, 3), BGR, whole as PNG."""
    with write_whole(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
