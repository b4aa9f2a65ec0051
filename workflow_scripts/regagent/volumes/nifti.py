"""NIfTI files, recognised by their content, their voxels placed as the header's sform or qform says.

ITK is not asked. Without a word it takes the voxels of ``x.nii`` for those of ``x.nii.gz`` beside it, the
qform where the sform is sheared, 1 mm for a spacing of 0, and zeros for voxels that are not finite.
"""

import gzip
import logging
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.files import UserError
from regagent.volumes.checks import (
    MISPLACED_MM,
    PLAUSIBLE_SPACING_MM,
    ROUNDED_MM,
    check_components,
    check_spacing,
    farthest_mm,
    in_plane,
    on_grid,
    right_angled,
    spatial,
    zeros,
)

if TYPE_CHECKING:
    from nibabel import Nifti1Header

logger = logging.getLogger("regagent")

Array = NDArray[np.float64]

NIFTI_SUFFIXES = (".nii", ".nii.gz")

#: Bytes, of NIfTI-2; that of NIfTI-1 has 348.
LONGEST_HEADER = 540

#: The codes of metres and micrometres, each with the unit's length in mm.
UNITS_MM = {1: 1000.0, 3: 0.001}

#: From the header's world, x to the right, y to the front, to ITK's, x to the left, y to the back (LPS).
TO_LPS = np.diag([-1.0, -1.0, 1.0])

#: What is said of a .hdr and .img, or of the two in one.
PAIR = "a pair of .hdr and .img cannot be checked here; convert it to .nii.gz"

#: A slope that is nearer to 0 is none that a program meant.
SMALLEST_SLOPE = 1e-30

#: The vector of a quaternion may be longer than 1 by this much, as its numbers are rounded.
ROUNDED_QUATERNION = 1e-3


def is_nifti(path: str | Path) -> bool:
    """Return whether a file's name or its content, packed by gzip or not, is that of a NIfTI file."""
    if str(path).lower().endswith(NIFTI_SUFFIXES):
        return True
    try:
        with _open(path) as file:
            _header(file.read(LONGEST_HEADER), "")
    except (UserError, OSError, EOFError, zlib.error):
        return False
    return True


def read_nifti(path: str | Path, where: str) -> sitk.Image:
    """Read a 2D image or 3D volume of one number a voxel.

    If sform, qform and spacing of the header differ, the log says by how much, and that the sform is taken.
    Raises ``UserError``, which begins with ``where``: for a file that is damaged, cut off or no NIfTI file,
    for voxels of several numbers or in more dimensions, for an implausible spacing, for sheared axes, and
    where the header's statements place a corner more than ``MISPLACED_MM`` apart, and for a 2D image that is
    not axial.
    """
    content = read_content(path, where)  # to the end: the checksum of gzip is there
    header = _header(content, where)
    voxels = _voxels(content, header, where)
    del content  # which may be as large as the voxels
    return _placed(sitk.GetImageFromArray(voxels), header, where)


def read_nifti_grid(path: str | Path, where: str) -> sitk.Image:
    """Read the grid of an image, of which ``read_nifti`` would read the voxels, as an image of zeros.

    Of more dimensions the first three are read. Raises ``UserError`` as ``read_nifti`` does, but for voxels.
    """
    header = _header(read_content(path, where, LONGEST_HEADER), where)
    return _placed(zeros(_shape(header, where)[:3], where), header, where)


def _placed(image: sitk.Image, header: "Nifti1Header", where: str) -> sitk.Image:
    """Return the image with spacing, origin and directions of the header."""
    dimension, size = image.GetDimension(), (*image.GetSize(), 1)[:3]
    spacing, first, directions = _grid(header, size, where)
    axes = in_plane(directions, where) if dimension == 2 else directions
    return on_grid(image, spacing[:dimension], first[:dimension], axes)


def _open(path: str | Path) -> BinaryIO:
    """Open a file for reading, unpacked if its first two bytes are those of gzip, whatever its name is."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else open(path, "rb")


def read_content(path: str | Path, where: str, count: int = -1) -> bytes:
    """Return the first ``count`` bytes of a file, unpacked if it is packed by gzip, or all of them.

    Raises ``UserError``, which begins with ``where``, for what is damaged or cut off.
    """
    with _open(path) as file:
        try:
            return file.read(count)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{where}: damaged or cut off ({error}); copy or export it again") from error


def _header(content: bytes, where: str) -> "Nifti1Header":
    from nibabel import Nifti1Header, Nifti2Header  # the import takes 0.1 s, too long for ``--help``

    for kind in (Nifti1Header, Nifti2Header):
        block = content[: kind.sizeof_hdr]
        if kind.may_contain_header(block):
            # With ``check`` nibabel would replace a spacing of 0 by 1 mm.
            header = kind(block, check=False)
            if header["sizeof_hdr"] == len(block):
                return header
    raise UserError(f"{where}: not a readable volume (no NIfTI header)")


def _shape(header: "Nifti1Header", where: str) -> list[int]:
    """Return the number of voxels along each axis; those of one voxel behind the third are left out."""
    dimension, *shape = header["dim"].tolist()
    shape = shape[: max(dimension, 0)]
    shape[3:] = [count or 1 for count in shape[3:]]
    if len(shape) < 2 or min(shape) < 1:
        raise UserError(f"{where}: size {tuple(shape)}, expected at least 1 voxel along each of 2 or 3 axes")
    return list(spatial(shape))


def _voxels(content: bytes, header: "Nifti1Header", where: str) -> NDArray:
    """Return the voxels, the last axis first, in the units of the header's slope and intercept."""
    if header["magic"].item().startswith(b"ni"):
        raise UserError(f"{where}: {PAIR}")
    shape = _shape(header, where)
    try:
        dtype = header.get_data_dtype()
    except KeyError as error:
        raise UserError(f"{where}: its header has an unknown type of voxels, {error}") from error
    if dtype.itemsize == 0:
        raise UserError(f"{where}: its header states no type of voxels")
    several = len(dtype.names or "1") * (2 if dtype.kind == "c" else 1)
    if len(shape) == 5 and shape[3] == 1:  # the place of a vector's components
        several *= shape[4]
    check_components(several, len(shape), where)
    if len(shape) > 3:
        raise UserError(f"{where}: {len(shape)}D image, expected a 3D volume")
    offset = header["vox_offset"].item()
    if not 0 <= offset <= len(content):
        found = f"byte {offset:g} of {len(content)}"
        raise UserError(f"{where}: its header says that the voxels begin at {found}")
    # Behind the header are four bytes that announce an extension.
    start, count = max(int(offset), header.sizeof_hdr + 4), math.prod(shape)
    expected = start + count * dtype.itemsize
    if len(content) < expected:
        raise UserError(
            f"{where}: cut off: holds {len(content)} bytes, expected {expected}; copy or export it again"
        )
    announced = content[header.sizeof_hdr : header.sizeof_hdr + 1] != b"\0"
    if len(content) > expected and (announced or content.count(0, expected) < len(content) - expected):
        raise UserError(
            f"{where}: holds {len(content)} bytes, {len(content) - expected} more than its header says: the"
            f" voxels are of another type or number, or begin behind byte {start}; export it again"
        )
    stored = np.frombuffer(content, dtype, count, start).reshape(shape[::-1])
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if 0 < abs(slope) < SMALLEST_SLOPE:
        raise UserError(
            f"{where}: its header states a slope (scl_slope) of {slope:g}, which makes every voxel 0; export"
            " it again"
        )
    if slope != 0 and math.isfinite(slope) and (slope, inter) != (1, 0):
        short = dtype.itemsize <= (2 if dtype.kind in "iu" else 4)
        scaled = np.empty(stored.shape, np.float32 if short else float)
        for values, into in zip(stored, scaled, strict=True):
            into[:] = values * slope + inter
        return scaled
    return stored.astype(float if dtype.itemsize > 8 else dtype.newbyteorder("="), copy=False)


def _grid(header: "Nifti1Header", size: tuple[int, ...], where: str) -> tuple[Array, Array, Array]:
    """Return the spacing (3,) and the first voxel (3,) in mm, and the directions (3, 3) of the axes."""
    unit = UNITS_MM.get(int(header["xyzt_units"]) & 7, 1.0)  # the other bits are the unit of time
    pixdim = unit * header["pixdim"][1:4].astype(float)
    low, high = PLAUSIBLE_SPACING_MM
    if size[2] == 1 and not low <= pixdim[2] <= high:  # of one slice nothing need be said across it
        pixdim[2] = 1.0
    check_spacing(pixdim[: 2 if size[2] == 1 else 3], where)
    places = {}
    if header["sform_code"] > 0:
        places["sform"] = unit * header.get_sform()[:3]
        if size[2] == 1:
            normal = np.cross(*places["sform"][:, :2].T)
            places["sform"][:, 2] = pixdim[2] * normal / max(np.linalg.norm(normal), 1e-12)
        check_spacing(np.linalg.norm(places["sform"][:, :3], axis=0), f"{where}: sform")
        turned = places["sform"][:, :3] / np.linalg.norm(places["sform"][:, :3], axis=0)
        places["spacing"] = np.column_stack([turned * pixdim, places["sform"][:, 3]])
    if header["qform_code"] > 0:
        places["qform"] = _qform(header, pixdim, unit, where)
    if not places:
        logger.warning(
            "%s: its header does not say where its axes point (sform and qform have code 0): taken as to the"
            " patient's left, back and head; left and right may be exchanged",
            where,
        )
        return pixdim, np.zeros(3), np.eye(3)
    taken, *others = places
    if not np.isfinite(place := places[taken][:, 3]).all():
        raise UserError(
            f"{where}: its header's {taken} places the first voxel at ({', '.join(f'{x:g}' for x in place)})"
            " mm, expected three numbers"
        )
    steps, first = np.hsplit(TO_LPS @ places[taken], [3])
    directions = right_angled(steps, size, where)
    for other in others:
        apart = farthest_mm(places[taken], places[other], size)
        if not apart <= MISPLACED_MM:
            raise UserError(
                f"{where}: its header's {taken} and {other} place voxels up to {apart:.1f} mm apart, so that"
                " other programs may read it differently; find out which is right and store that in both"
            )
        if apart > ROUNDED_MM:
            logger.warning(
                "%s: its header's %s and %s place voxels up to %.1f mm apart; the %s is taken",
                where, taken, other, apart, taken,
            )  # fmt: skip
    return np.linalg.norm(steps, axis=0), first[:, 0], directions


def _qform(header: "Nifti1Header", pixdim: Array, unit: float, where: str) -> Array:
    """Return the steps (3, 3) and the first voxel of the header's quaternion, as an array (3, 4) in mm."""
    from nibabel.quaternions import fillpositive, quat2mat

    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=float)
    length = np.linalg.norm(vector)
    if not length < 1 + ROUNDED_QUATERNION:
        raise UserError(
            f"{where}: its header's qform is no rotation (its quaternion's vector has the length {length:g},"
            " expected at most 1)"
        )
    turned = quat2mat(fillpositive(vector / max(length, 1.0), header.quaternion_threshold)).astype(float)
    turned[:, 2] *= -1 if header["pixdim"][0] < 0 else 1
    first = [unit * header[f"qoffset_{axis}"] for axis in "xyz"]
    return np.column_stack([turned * pixdim, first])
