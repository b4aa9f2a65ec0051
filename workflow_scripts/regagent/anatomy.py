"""The head in MR and CT: thresholds in Hounsfield units, and the mask of the head in an MR (§4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    import SimpleITK as sitk

#: The CT number of air. A CT is filled with it where nothing was scanned.
AIR_HU = -1000.0
#: Between air and tissue. A CT that never falls below it shows no air, so it is not in Hounsfield units.
TISSUE_HU = -500.0
#: A voxel above it belongs to the body, skin included.
SKIN_HU = -300.0
#: A CT that never rises above it shows no skull.
SKULL_HU = 200.0
#: A voxel above it is dense bone.
BONE_HU = 300.0

#: A head is at least this many times as bright as the air around it. Two halves of mere noise are not.
MINIMUM_CONTRAST = 2.0

#: So many times as bright as all but a thousandth of a volume is no tissue.
OUTLYING = 50.0


def head_mask(intensity: NDArray, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Return the mask (Z, Y, X) of the head in an MR volume (Z, Y, X); ``spacing`` is (x, y, z) in mm.

    The mask is the largest connected part above Otsu's threshold, its holes filled. The volume is smoothed
    over about 3 mm first, which keeps noise in the air out of the mask. Raises ``ValueError`` for a volume
    that shows no head.
    """
    import SimpleITK as sitk  # here, as trainings need the numbers above alone

    if intensity.max() > OUTLYING * (highest := np.percentile(intensity, 99.9)):
        intensity = np.minimum(intensity, highest)  # a few wrong voxels would hide the head
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

    # The skull is dark in MR, and the sinuses are open to the outside. Closing over 10 mm joins skin and
    # brain and shuts the sinuses before the filling. Opening over 10 mm then removes noise in the air.
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


def largest_part(mask: sitk.Image) -> sitk.Image:
    """Return the largest connected part of a mask, 1 in it and 0 elsewhere; all 0 for an empty one."""
    import SimpleITK as sitk  # as above

    return sitk.RelabelComponent(sitk.ConnectedComponent(mask)) == 1
