"""Volumes and images read from files, or from the folder of a DICOM series, and checked."""

from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

from regagent.files import UserError, naming
from regagent.volumes.checks import check_finite, check_voxels, in_plane
from regagent.volumes.dicom import read_dicom, read_dicom_grid
from regagent.volumes.dicom_headers import is_dicom
from regagent.volumes.metaimage import is_metaimage, read_metaimage, read_metaimage_grid
from regagent.volumes.nifti import PAIR, is_nifti, read_nifti, read_nifti_grid
from regagent.volumes.nrrd import is_nrrd, read_nrrd, read_nrrd_grid

Reader = Callable[[str | Path, str], sitk.Image]

PAIR_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")


def read_volume(path: str | Path, patient: str | None = None, modality: str | None = None) -> sitk.Image:
    """Read a scalar 3D volume from a file, or from the folder of a DICOM series, and check it.

    DICOM must be of the ``modality``, MR or CT, where one is given. Raises ``UserError`` naming the file and,
    if given, the patient: for a file that is missing, unreadable or not 3D, for voxels of several numbers or
    that do not pass ``check_voxels``, and for a grid of implausible spacing or sheared axes.
    """
    where = f"patient {patient}: {path}" if patient else f"{path}"
    image = _read(path, where, modality)
    if image.GetDimension() != 3:
        raise UserError(f"{where}: {image.GetDimension()}D image, expected a 3D volume")
    if image.GetDepth() == 1 and is_dicom(path):
        raise UserError(f"{where}: a file of one slice, expected a 3D volume; give the folder of its series")
    check_voxels(image, where)
    return image


def read_image(
    path: str | Path, modality: str | None = None, constant_too: bool = False, flat: bool = True
) -> sitk.Image:
    """Read a scalar 2D image or 3D volume and check it as ``read_volume`` does.

    A volume of a single slice is returned as a 2D image if ``flat``, and must be axial then. With
    ``constant_too`` all pixels may be the same, as those of an empty mask are. Raises ``UserError`` naming
    the file.
    """
    image = _read(path, f"{path}", modality)
    image = _flat(image, f"{path}") if flat else image
    (check_finite if constant_too else check_voxels)(image, f"{path}")
    return image


def read_grid(path: str | Path, flat: bool = True) -> sitk.Image:
    """Read the grid of a 2D image or 3D volume: its size, spacing, origin and directions, with voxels of 0.

    Its voxels may be anything. Of an image of more dimensions the first three count. A grid of a single slice
    is returned as a 2D one if ``flat``, and must be axial then. Raises ``UserError`` naming the file.
    """
    where = f"{path}"
    _check_name(path, where)
    if is_dicom(path):
        image = read_dicom_grid(path, where)
    elif is_nifti(path):
        image = read_nifti_grid(path, where)
    else:
        with naming(path):
            image = _text_header(path, where)[1](path, where)
    return _flat(image, where) if flat else image


def _read(path: str | Path, where: str, modality: str | None) -> sitk.Image:
    _check_name(path, where)
    if is_dicom(path):
        return read_dicom(path, where, modality)
    if is_nifti(path):
        return read_nifti(path, where)
    with naming(path):
        return _text_header(path, where)[0](path, where)


def _text_header(path: str | Path, where: str) -> tuple[Reader, Reader]:
    """Return what reads a file with a header in text, and what reads its grid."""
    if is_metaimage(path):
        return read_metaimage, read_metaimage_grid
    if is_nrrd(path):
        return read_nrrd, read_nrrd_grid
    raise UserError(
        f"{where}: not a readable volume by its content; give NIfTI, DICOM, MetaImage or NRRD, as ITK does"
        " not notice when a file of another format is cut off"
    )


def _check_name(path: str | Path, where: str) -> None:
    if not Path(path).exists():
        raise UserError(f"{where}: no such file")
    if not (Path(path).is_file() or Path(path).is_dir()):
        raise UserError(f"{where}: a pipe or a device, expected a file; write it to one first")
    if str(path).lower().endswith(PAIR_SUFFIXES):
        raise UserError(f"{where}: {PAIR}")


def _flat(image: sitk.Image, where: str) -> sitk.Image:
    """Return a volume of one slice, which must be axial, as a 2D image; any other as it is."""
    if image.GetSize()[2:] != (1,):
        return image
    flat = image[:, :, 0]
    flat.SetDirection(in_plane(image.GetDirection(), where).ravel().tolist())
    return flat
