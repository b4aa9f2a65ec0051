"""Registration by SIFT matches (§4, Table 2)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from regagent.geometry import pose_of
from regagent.images import to_uint8


def sift_pose(fixed: NDArray, moving: NDArray, ratio: float, minimum_matches: int) -> NDArray | None:
    """Return the pose T (4,) that RANSAC finds in the SIFT matches of two images (H, H) in [0, 1].

    ``ratio`` is that of the ratio test. Returns None if fewer than ``minimum_matches`` matches agree on a
    pose.
    """
    detector = cv2.SIFT.create()
    fixed_keys, fixed_values = detector.detectAndCompute(to_uint8(fixed), None)
    moving_keys, moving_values = detector.detectAndCompute(to_uint8(moving), None)
    if len(moving_keys) < minimum_matches or len(fixed_keys) < 2:
        return None
    candidates = cv2.BFMatcher(cv2.NORM_L2).knnMatch(moving_values, fixed_values, k=2)
    matches = [best for best, second in candidates if best.distance < ratio * second.distance]
    if len(matches) < minimum_matches:
        return None
    centre = (fixed.shape[0] - 1) / 2
    source = np.array([moving_keys[match.queryIdx].pt for match in matches]) - centre
    target = np.array([fixed_keys[match.trainIdx].pt for match in matches]) - centre
    cv2.setRNGSeed(0)  # RANSAC draws from OpenCV's global stream
    found, inliers = cv2.estimateAffinePartial2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=3.0)
    # Any two matches agree on some similarity, so a few inliers may be chance.
    if found is None or inliers.sum() < minimum_matches:
        return None
    return pose_of(found)
