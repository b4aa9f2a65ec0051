"""Volumes and images on disk: read, checked and written whole."""

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.files import UserError, write_whole

#: The smallest and the largest spacing that is accepted.
PLAUSIBLE_SPACING_MM = (0.05, 20.0)

#: NIfTI's codes of metres and micrometres, each with the unit's length in mm.
NIFTI_UNITS_MM = {1: 1000.0, 3: 0.001}


def read_volume(path: str | Path, patient: str | None = None) -> sitk.Image:
    """Read a scalar 3D volume and check it.

    Raises ``UserError`` naming the file and, if given, the patient: for a file that is missing, unreadable or
    not 3D, or that does not pass ``check_grid`` and ``check_voxels``.
    """
    return _read(path, f"patient {patient}: {path}" if patient else f"{path}", flat_too=False)


def read_image(path: str | Path) -> sitk.Image:
    """Read a scalar 2D image or 3D volume and check it as ``read_volume`` does.

    A volume of a single slice is returned as a 2D image. Raises ``UserError`` naming the file.
    """
    return _read(path, f"{path}", flat_too=True)


def _read(path: str | Path, where: str, flat_too: bool) -> sitk.Image:
    if not Path(path).exists():
        raise UserError(f"{where}: no such file")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        flat = flat_too and (reader.GetDimension() == 2 or reader.GetSize()[2:] == (1,))
        if reader.GetDimension() != 3 and not flat:
            raise UserError(f"{where}: {reader.GetDimension()}D image, expected a 3D volume")
        spacing = _stated_spacing(reader, path, where)[: 2 if flat else 3]
        check_grid(spacing, reader.GetNumberOfComponents(), where)
        image = reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{where}: not a readable volume ({reason})") from error
    if flat and image.GetDimension() == 3:
        image = image[:, :, 0]
    check_voxels(image, where)
    return image


def check_grid(spacing: Sequence[float], components: int, where: str) -> None:
    """Check the spacing (mm, x first) of an image or volume, and that each voxel is one number.

    Raises ``UserError``, which begins with ``where``.
    """
    if components != 1:
        raise UserError(f"{where}: {components} values a {_element(len(spacing))}, expected one")
    low, high = PLAUSIBLE_SPACING_MM
    if not all(low <= step <= high for step in spacing):
        raise UserError(f"{where}: spacing {spacing} mm, expected {low} to {high} mm along each axis")


def check_voxels(image: sitk.Image, where: str) -> None:
    """Check that an image or volume has 2 voxels or more along each axis, all finite and not all the same.

    Raises ``UserError``, which begins with ``where``.
    """
    values, element = sitk.GetArrayViewFromImage(image), _element(image.GetDimension())
    if min(values.shape) < 2:
        raise UserError(f"{where}: size {image.GetSize()}, expected at least 2 {element}s along each axis")
    _check_finite(values, element, where)
    if values.min() == values.max():
        raise UserError(f"{where}: empty, every {element} is {values.flat[0]}")


def _element(dimension: int) -> str:
    return "pixel" if dimension == 2 else "voxel"


def _check_finite(values: NDArray, element: str, where: str) -> None:
    if not np.isfinite(values).all():
        raise UserError(f"{where}: holds NaN or infinite {element}s, expected finite intensities only")


def _stated_spacing(reader: sitk.ImageFileReader, path: str | Path, where: str) -> tuple[float, ...]:
    """Return the spacing in mm that the file states, and check that the voxels of a NIfTI file are finite.

    Raises ``UserError`` as ``_read_nifti`` does, for a NIfTI file with NaN or infinite voxels, and for a pair
    of .hdr and .img.
    """
    name = str(path).lower()
    if name.endswith((".hdr", ".img", ".img.gz")):
        raise UserError(f"{where}: a pair of .hdr and .img cannot be checked here; convert it to .nii.gz")
    if not name.endswith((".nii", ".nii.gz")):
        return reader.GetSpacing()
    spacing, voxels = _read_nifti(path, where)
    if voxels.dtype.kind == "f":
        _check_finite(voxels, _element(reader.GetDimension()), where)
    return spacing


def _read_nifti(path: str | Path, where: str) -> tuple[tuple[float, ...], NDArray]:
    """Return the spacing in mm that a NIfTI file states, and its voxels (N,) as they are stored.

    ITK reports none of these faults. It takes 1 mm where the header says 0 or NaN, zeros for voxels that are
    missing or not finite, and drops origin and directions where the header lacks NIfTI's mark. Raises
    ``UserError`` for a file that is damaged, cut off, or has no NIfTI header.
    """
    from nibabel import Nifti1Header  # the import takes 0.1 s, too long for ``regagent --help``

    with (gzip.open if str(path).lower().endswith(".gz") else open)(path, "rb") as file:
        try:
            content = file.read()  # to the end: the checksum of gzip is there
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{where}: damaged or cut off ({error}); copy or export it again") from error
    block = content[: Nifti1Header.sizeof_hdr]
    # With ``check`` nibabel would replace a spacing of 0 by 1 mm.
    header = Nifti1Header(block, check=False) if Nifti1Header.may_contain_header(block) else None
    if header is None or header["sizeof_hdr"] != len(block):
        raise UserError(f"{where}: not a readable volume (no NIfTI header)")
    offset, shape, dtype = header["vox_offset"].item(), header.get_data_shape(), header.get_data_dtype()
    if not 0 <= offset <= len(content):
        found = f"byte {offset:g} of {len(content)}"
        raise UserError(f"{where}: its header says that the voxels begin at {found}")
    if min(shape) < 1:
        raise UserError(f"{where}: size {shape}, expected at least 1 voxel along each axis")
    start, count = max(int(offset), len(block)), math.prod(shape)  # ITK reads no voxels from the header
    expected = start + count * dtype.itemsize
    if len(content) < expected:
        raise UserError(
            f"{where}: cut off: holds {len(content)} bytes, expected {expected}; copy or export it again"
        )
    unit = NIFTI_UNITS_MM.get(int(header["xyzt_units"]) & 7, 1.0)  # the other bits are the unit of time
    spacing = tuple(unit * step for step in header["pixdim"][1:4].tolist())
    return spacing, np.frombuffer(content, dtype, count, start)


def write_image(image: sitk.Image, path: str | Path, compression_level: int = -1) -> None:
    """Write an image or volume whole, in the format of its suffix. Raises ``UserError``.

    On a full disk ITK writes half a NIfTI file without an error, so the written file is checked.
    """
    with write_whole(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True, compressionLevel=compression_level)
            if temporary.name.lower().endswith((".nii", ".nii.gz")):
                _read_nifti(temporary, f"{path}")
        except (RuntimeError, UserError) as error:
            raise UserError(f"{path}: cannot be written whole; is the disk full?") from error


def write_png(pixels: NDArray[np.uint8], path: str | Path) -> None:
    """Write a grey image (H, W) or a BGR image (H, W, 3) whole as PNG. Raises ``UserError``."""
    with write_whole(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
