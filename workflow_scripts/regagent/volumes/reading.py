"""Volumes and images read from files, or from the folder of a DICOM series, and checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regagent.files import UserError, itk_name, reason
from regagent.volumes.checks import (
    check_components,
    check_finite,
    check_spacing,
    check_voxels,
    in_plane,
    right_angled,
)
from regagent.volumes.dicom import read_dicom, read_dicom_grid
from regagent.volumes.dicom_headers import is_dicom
from regagent.volumes.nifti import PAIR, is_nifti, read_nifti, read_nifti_grid

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
        with _naming(where):
            image = _grid_of(path, where)
    return _flat(image, where) if flat else image


def _read(path: str | Path, where: str, modality: str | None) -> sitk.Image:
    _check_name(path, where)
    if is_dicom(path):
        return read_dicom(path, where, modality)
    if is_nifti(path):
        return read_nifti(path, where)
    with _naming(where):
        header = _information(path, where)
        if header.GetDimension() not in (2, 3):
            raise UserError(f"{where}: {header.GetDimension()}D image, expected a 3D volume")
        check_components(header.GetNumberOfComponents(), header.GetDimension(), where)
        return _straight(header.Execute(), where)


def _check_name(path: str | Path, where: str) -> None:
    if not Path(path).exists():
        raise UserError(f"{where}: no such file")
    if str(path).lower().endswith(PAIR_SUFFIXES):
        raise UserError(f"{where}: {PAIR}")


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Tell an error of ITK in one line."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(f"{where}: not a readable volume ({reason(error)})") from error


def _information(path: str | Path, where: str) -> sitk.ImageFileReader:
    """Return ITK's reader of a file, with its header read and the spacing of up to three axes checked."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    reader.ReadImageInformation()
    check_spacing(reader.GetSpacing()[: 2 if reader.GetSize()[2:] == (1,) else 3], where)
    return reader


def _grid_of(path: str | Path, where: str) -> sitk.Image:
    """Return an image of zeros on the grid that ITK finds in a file, along its first three axes."""
    header = _information(path, where)
    dimension = header.GetDimension()
    known = min(3, dimension)
    directions = np.reshape(header.GetDirection(), (dimension, dimension))
    image = sitk.Image(header.GetSize()[:known], sitk.sitkUInt8)
    image.SetSpacing(header.GetSpacing()[:known])
    image.SetOrigin(header.GetOrigin()[:known])
    image.SetDirection(directions[:known, :known].ravel().tolist())
    return _straight(image, where)


def _straight(image: sitk.Image, where: str) -> sitk.Image:
    """Return an image of ITK with its axes at right angles, as the other readers give it."""
    axes = np.reshape(image.GetDirection(), 2 * [image.GetDimension()]) * image.GetSpacing()
    image.SetDirection(right_angled(axes, image.GetSize(), where).ravel().tolist())
    return image


def _flat(image: sitk.Image, where: str) -> sitk.Image:
    """Return a volume of one slice, which must be axial, as a 2D image; any other as it is."""
    if image.GetSize()[2:] != (1,):
        return image
    flat = image[:, :, 0]
    flat.SetDirection(in_plane(image.GetDirection(), where).ravel().tolist())
    return flat
