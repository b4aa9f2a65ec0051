"""Scans as a hospital or a data set stores them: DICOM series, multi-frame files, stacks of thick slices."""

import locale
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian

UID = "1.2.826.0.1.3680043.2.1125.7"


def write_series(
    image: sitk.Image, folder: Path, modality: str, series: int = 1, tilt_mm: float = 0.0
) -> Path:
    """Write a volume as a DICOM series, a file a slice; a CT's stored values lie 1024 above its HU.

    Each slice is shifted by ``tilt_mm`` along y against the one before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.Cast(image, sitk.sitkInt16)
    direction = np.reshape(image.GetDirection(), (3, 3))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    uid = f"{UID}.{series}"
    for z in range(image.GetDepth()):
        part = image[:, :, z]
        for tag in part.GetMetaDataKeys():  # of the file that the volume came from
            part.EraseMetaData(tag)
        x, y, height = image.TransformIndexToPhysicalPoint((0, 0, z))
        tags = {
            "0008|0060": modality,
            "0008|0018": f"{uid}.{z + 1}",
            "0008|103e": f"{modality} {series}",
            "0020|000d": UID,
            "0020|000e": uid,
            "0020|0013": str(z + 1),
            "0020|0032": _decimals((x, y + z * tilt_mm, height)),
            "0020|0037": _decimals(direction[:, :2].T.ravel()),
            "0028|1052": "-1024" if modality == "CT" else "0",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            part.SetMetaData(tag, value)
        write_slice(writer, part, folder / f"{series}-{z:03d}.dcm")
    return folder


def write_slice(writer: sitk.ImageFileWriter, part: sitk.Image, path: Path) -> None:
    """Write a DICOM file by GDCM, which leaves the locale "C" behind."""
    spoken = locale.setlocale(locale.LC_CTYPE)
    writer.SetFileName(str(path))
    writer.Execute(part)
    locale.setlocale(locale.LC_CTYPE, spoken)


def write_frames(image: sitk.Image, path: Path, modality: str, order=None) -> Path:
    """Write a volume as an Enhanced CT or MR file; ``order`` are the numbers of its slices as stored.

    A CT's stored values lie 1024 above its HU. The file states no spacing of slices, but a wrong thickness.
    """
    values = sitk.GetArrayFromImage(image)
    order = range(len(values)) if order is None else order
    x, y, _ = image.GetSpacing()
    direction = np.reshape(image.GetDirection(), (3, 3))
    intercept = -1024 if modality == "CT" else 0
    file, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta = meta
    file.SOPClassUID = EnhancedCTImageStorage if modality == "CT" else EnhancedMRImageStorage
    file.SOPInstanceUID, file.StudyInstanceUID, file.SeriesInstanceUID = f"{UID}.9.1", UID, f"{UID}.9"
    file.Modality = modality
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.NumberOfFrames, file.Rows, file.Columns = len(order), *values.shape[1:]
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit = 15
    file.SharedFunctionalGroupsSequence = [
        groups(
            PixelMeasuresSequence={"PixelSpacing": [y, x], "SliceThickness": 9},
            PlaneOrientationSequence={"ImageOrientationPatient": direction[:, :2].T.ravel().tolist()},
            PixelValueTransformationSequence={"RescaleSlope": 1, "RescaleIntercept": intercept},
        )
    ]
    file.PerFrameFunctionalGroupsSequence = [
        groups(
            PlanePositionSequence={
                "ImagePositionPatient": image.TransformIndexToPhysicalPoint((0, 0, int(number)))
            }
        )
        for number in order
    ]
    file.add_new("PixelData", "OW", (values[list(order)].astype(int) - intercept).astype(np.uint16).tobytes())
    file.save_as(path, enforce_file_format=True)
    return path


def groups(**sequences) -> Dataset:
    """Return functional groups, each a sequence of one item."""
    result = Dataset()
    for name, values in sequences.items():
        item = Dataset()
        for keyword, value in values.items():
            if keyword.startswith("Image"):
                value = [f"{number:.12g}" for number in value]
            setattr(item, keyword, value)
        setattr(result, name, [item])
    return result


@contextmanager
def edited(path: Path):
    """Yield what is in a DICOM file, to be changed, and write it back."""
    content = dcmread(path)
    yield content
    content.save_as(path)


def _decimals(values) -> str:
    return "\\".join(f"{value:.12g}" for value in values)


def thick_stack(image: sitk.Image, slices: int, outside: float, size: int = 256, distance: float = 5.0):
    """Return the middle of a volume as a stack of thick slices, each the mean of what lies within it."""
    thin = 5
    spacing = np.array(
        [max(n * s for n, s in zip(image.GetSize()[:2], image.GetSpacing()[:2], strict=True))] * 2
    )
    spacing = [*(spacing / size), distance / thin]
    shape = [size, size, slices * thin]
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    origin = [m - (n - 1) / 2 * s for m, n, s in zip(middle, shape, spacing, strict=True)]
    fine = sitk.Resample(
        sitk.Cast(image, sitk.sitkFloat32), shape, sitk.Transform(), sitk.sitkLinear, origin, spacing,
        np.eye(3).ravel().tolist(), outside,
    )  # fmt: skip
    return sitk.Cast(sitk.Round(sitk.BinShrink(fine, [1, 1, thin])), sitk.sitkInt16)
