"""Volumes and images written whole."""

from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.files import UserError, itk_name, naming, write_whole
from regagent.process import silent_stderr
from regagent.volumes.nifti import NIFTI_SUFFIXES, read_content

#: Bytes before the voxels of a NIfTI file.
HEADER = 352


def write_image(image: sitk.Image, path: str | Path, compression_level: int = -1) -> None:
    """Write an image or volume whole, in the format of its suffix. Raises ``UserError``.

    On a full disk ITK writes half a NIfTI file without an error, so its bytes are counted. What its libraries
    print there is dropped, as the error tells it.
    """
    itk_name(Path(path).parent)
    with write_whole(path) as temporary:
        with naming(f"{path}: cannot be written", RuntimeError), silent_stderr():
            sitk.WriteImage(image, str(temporary), useCompression=True, compressionLevel=compression_level)
        if temporary.name.endswith(NIFTI_SUFFIXES):
            voxel = image.GetSizeOfPixelComponent() * image.GetNumberOfComponentsPerPixel()
            expected = HEADER + voxel * image.GetNumberOfPixels()
            try:
                found = len(read_content(temporary, f"{path}"))
            except UserError:  # cut off
                found = 0
            if found < expected:
                raise UserError(f"{path}: cannot be written whole; is the disk full?")


def write_png(pixels: NDArray[np.uint8], path: str | Path) -> None:
    """Write a grey image (H, W) or a BGR image (H, W, 3) whole as PNG. Raises ``UserError``."""
    with write_whole(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
