"""The landmarks on which the reward is computed (§3.3), and the evaluation points of the TRE (§4).

Points are (N, 2) in centred pixel coordinates, as in ``regagent.geometry``.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from regagent.images import to_uint8

#: Lower than OpenCV's default of 0.04, which finds few points: windowed CT is smooth in soft tissue and bone.
CONTRAST_THRESHOLD = 0.02


def sift_landmarks(image: NDArray, mask: NDArray, maximum: int) -> NDArray[np.float64]:
    """Return the at most ``maximum`` strongest SIFT positions (N, 2) in px within the mask.

    ``image`` (H, H) is in [0, 1], and ``mask`` (H, H) is bool. SIFT reports a position once for every
    orientation that it finds there. Of positions less than a pixel apart only the strongest is kept.
    """
    detector = cv2.SIFT.create(contrastThreshold=CONTRAST_THRESHOLD)
    keypoints = detector.detect(to_uint8(image), mask.astype(np.uint8) * 255)
    # Equal responses are sorted by position, so that the order does not depend on OpenCV.
    keypoints = sorted(keypoints, key=lambda k: (-k.response, k.pt))
    centre = (image.shape[0] - 1) / 2
    landmarks: list[NDArray[np.float64]] = []
    for keypoint in keypoints:
        position = np.array(keypoint.pt) - centre
        if not landmarks or nearest_distance(position[None], np.array(landmarks))[0] >= 1.0:
            landmarks.append(position)
        if len(landmarks) == maximum:
            break
    return np.array(landmarks).reshape(-1, 2)


def masked_grid(mask: NDArray, spacing: float) -> NDArray[np.float64]:
    """Return the points (N, 2) of a regular grid of ``spacing`` px, centred in the image, inside the mask."""
    half = (mask.shape[0] - 1) / 2
    reach = np.floor(half / spacing) * spacing
    axis = np.arange(-reach, reach + spacing / 2, spacing)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    columns, rows = np.rint(points + half).astype(int).T
    return points[mask[rows, columns]]


def grid_landmarks(mask: NDArray, minimum: int, maximum: int) -> NDArray[np.float64]:
    """Return a masked grid (N, 2) of at most ``maximum`` points in px, for images where SIFT finds too few.

    The grid is shifted by half a step from the centred one, away from the evaluation points. It is made finer
    until it has ``minimum`` points or its spacing is 2 px.
    """
    spacing = max(2.0, np.sqrt(mask.sum() / maximum))
    while True:
        points = masked_grid(mask, spacing) + spacing / 2
        columns, rows = np.rint(points + (mask.shape[0] - 1) / 2).astype(int).T
        inside = (np.maximum(columns, rows) < mask.shape[0]) & (np.minimum(columns, rows) >= 0)
        points = points[inside]
        points = points[mask[rows[inside], columns[inside]]]
        if len(points) >= minimum or spacing <= 2.0:
            return points[np.linspace(0, len(points) - 1, min(len(points), maximum)).round().astype(int)]
        spacing = max(2.0, spacing * 0.8)


def evaluation_grid(mask: NDArray, spacing: float, landmarks: NDArray) -> NDArray[np.float64]:
    """Return a masked grid (N, 2) without the points that lie within a pixel of a landmark (§4)."""
    points = masked_grid(mask, spacing)
    if len(landmarks) == 0:
        return points
    return points[nearest_distance(points, landmarks) >= 1.0]


def nearest_distance(points: NDArray, others: NDArray) -> NDArray[np.float64]:
    """Return for each point (N, 2) the distance (N,) to the nearest of ``others`` (K, 2)."""
    return np.linalg.norm(points[:, None] - others[None], axis=-1).min(1)
