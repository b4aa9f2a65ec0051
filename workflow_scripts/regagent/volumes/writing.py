"""Volumes and images written whole."""

from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.files import UserError, itk_name, write_whole
from regagent.volumes.nifti import NIFTI_SUFFIXES, read_nifti


def write_image(image: sitk.Image, path: str | Path, compression_level: int = -1) -> None:
    """Write an image or volume whole, in the format of its suffix. Raises ``UserError``.

    On a full disk ITK writes half a NIfTI file without an error, so the written file is checked.
    """
    itk_name(Path(path).parent)
    with write_whole(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True, compressionLevel=compression_level)
            if temporary.name.lower().endswith(NIFTI_SUFFIXES):
                read_nifti(temporary, f"{path}")
        except (RuntimeError, UserError) as error:
            raise UserError(f"{path}: cannot be written whole; is the disk full?") from error


def write_png(pixels: NDArray[np.uint8], path: str | Path) -> None:
    """Write a grey image (H, W) or a BGR image (H, W, 3) whole as PNG. Raises ``UserError``."""
    with write_whole(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
