"""Scans as a hospital or a data set stores them: DICOM series, stacks of thick slices."""

import locale
from pathlib import Path

import numpy as np
import SimpleITK as sitk

UID = "1.2.826.0.1.3680043.2.1125.7"


def write_series(
    image: sitk.Image, folder: Path, modality: str, series: int = 1, tilt_mm: float = 0.0
) -> Path:
    """Write a volume as a DICOM series, a file a slice; a CT's stored values lie 1024 above its HU.

    Each slice is shifted by ``tilt_mm`` along y against the one before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spoken = locale.setlocale(locale.LC_CTYPE)
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
        writer.SetFileName(str(folder / f"{series}-{z:03d}.dcm"))
        writer.Execute(part)
    locale.setlocale(locale.LC_CTYPE, spoken)  # GDCM leaves "C" behind
    return folder


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
