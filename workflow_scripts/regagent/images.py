"""Images: reading and checking volumes, normalising slices, and the one warp."""

from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from regagent.files import UserError
from regagent.geometry import corner_matrix

Image = NDArray[np.float32]

PLAUSIBLE_SPACING_MM = (0.05, 20.0)


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
        spacing = reader.GetSpacing()
        if dimension != 3:
            raise UserError(f"{where}: {dimension}D image, expected a 3D volume")
        if components != 1:
            raise UserError(f"{where}: {components} values a voxel, expected one")
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


def normalise(image: ArrayLike, low: float, high: float) -> Image:
    """Map the window [low, high] linearly to [0, 1], clipped, as float32."""
    scaled = (np.asarray(image, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
    return np.clip(scaled, 0.0, 1.0)


def to_uint8(image: ArrayLike) -> NDArray[np.uint8]:
    """Map an image in [0, 1] to 0..255."""
    return np.rint(np.clip(np.asarray(image), 0, 1) * 255).astype(np.uint8)


def warp(image: NDArray, pose: ArrayLike) -> NDArray:
    """Move the content of a square image (H, H) forward by the pose: out(T(p)) = image(p).

    Linear interpolation, 0 (air) outside the field of view.
    """
    size = image.shape[0]
    return cv2.warpAffine(image, corner_matrix(pose, size), (size, size), flags=cv2.INTER_LINEAR)
