"""What a head looks like in MR and CT: levels in Hounsfield units, and the mask of the head (§4)."""

from collections.abc import Sequence

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

#: What air measures, and what a CT is filled with where it was not scanned.
AIR_HU = -1000.0
#: Between air and tissue: a CT that never falls below it has no air, and is not in Hounsfield units.
TISSUE_HU = -500.0
#: Above it a voxel belongs to the body, its skin included.
SKIN_HU = -300.0
#: A CT that never rises above it shows no skull.
SKULL_HU = 200.0
#: Dense bone.
BONE_HU = 300.0

#: A head is brighter than the air around it by at least this factor; halves of noise are not.
MINIMUM_CONTRAST = 2.0


def head_mask(intensity: NDArray, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Return the head (Z, Y, X) of an MR volume: Otsu's threshold, holes filled, the largest part.

    ``spacing`` is (x, y, z) in mm. Smoothing over about 3 mm keeps noise in the air out of the mask.
    Raises ``ValueError`` when nothing remains.
    """
    sigma = [1.5 / step for step in reversed(spacing)]
    smooth = ndimage.gaussian_filter(intensity, sigma)
    # Otsu on the square root: bright fat would otherwise put the threshold inside the head.
    above = smooth - smooth.min()
    root = np.sqrt(above).astype(np.float32)
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetNumberOfHistogramBins(256)
    otsu.Execute(sitk.GetImageFromArray(root))
    mask = root > otsu.GetThreshold()
    if not mask.any() or above[mask].mean() < MINIMUM_CONTRAST * above[~mask].mean():
        raise ValueError("nothing in the MR stands out from its background")

    # Skull is dark in MR and sinuses are open to the outside: closing over 10 mm joins skin and brain and
    # shuts the sinuses before the filling; opening over as much then removes what noise has left in the air.
    width = 2 * round(5.0 / min(spacing[:2])) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    for z in np.flatnonzero(mask.any((1, 2))):
        padded = np.pad(mask[z].astype(np.uint8), width)
        closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[width:-width, width:-width]
        filled = ndimage.binary_fill_holes(closed).astype(np.uint8)
        mask[z] = cv2.morphologyEx(filled, cv2.MORPH_OPEN, kernel)
    labels, parts = ndimage.label(mask)
    if parts == 0:
        raise ValueError("no bright connected region was found in the MR")
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
