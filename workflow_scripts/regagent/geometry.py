"""Similarity transforms of the plane (Eq. 3), the eight actions (§3.2) and the errors between poses.

A *pose* is an array (..., 4): tx px, ty px, angle degrees, scale. Points are (..., N, 2) in centred
pixel coordinates: x to the right, y down, the origin in the centre ((W-1)/2, (H-1)/2) of the image.

A perturbation P moves the aligned content at p to P(p). A registration's pose T brings it back:
T(P(p)) = p at the truth, T = invert(P).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

IDENTITY: Array = np.array([0.0, 0.0, 0.0, 1.0])

#: The eight actions as poses: one pixel in x and y, one degree, 0.05 of scale, each in both directions.
ACTIONS: Array = np.array(
    [
        [1.0, 0.0, 0.0, 1.0],
        [-1.0, 0.0, 0.0, 1.0],
        [0.0, 1.0, 0.0, 1.0],
        [0.0, -1.0, 0.0, 1.0],
        [0.0, 0.0, 1.0, 1.0],
        [0.0, 0.0, -1.0, 1.0],
        [0.0, 0.0, 0.0, 1.05],
        [0.0, 0.0, 0.0, 0.95],
    ]
)


def matrix(pose: ArrayLike) -> Array:
    """Return the (..., 2, 3) matrices of the poses (..., 4) in centred coordinates (Eq. 3)."""
    pose = np.asarray(pose, dtype=float)
    angle = np.deg2rad(pose[..., 2])
    cos, sin = pose[..., 3] * np.cos(angle), pose[..., 3] * np.sin(angle)
    rows = [np.stack([cos, -sin, pose[..., 0]], -1), np.stack([sin, cos, pose[..., 1]], -1)]
    return np.stack(rows, -2)


def pose_of(matrices: ArrayLike) -> Array:
    """Return the poses (..., 4) of similarity matrices (..., 2, 3); the angle lies in (-180, 180]."""
    m = np.asarray(matrices, dtype=float)
    cos, sin = (m[..., 0, 0] + m[..., 1, 1]) / 2, (m[..., 1, 0] - m[..., 0, 1]) / 2
    return np.stack([m[..., 0, 2], m[..., 1, 2], np.rad2deg(np.arctan2(sin, cos)), np.hypot(cos, sin)], -1)


def compose(second: ArrayLike, first: ArrayLike) -> Array:
    """Return ``second`` after ``first`` (second ∘ first) of poses (..., 4)."""
    second, first = np.asarray(second, dtype=float), np.asarray(first, dtype=float)
    m = matrix(second)
    shift = (m[..., :, :2] @ first[..., :2, None])[..., 0] + m[..., :, 2]
    angle = (second[..., 2] + first[..., 2] + 180.0) % 360.0 - 180.0
    return np.concatenate([shift, angle[..., None], (second[..., 3] * first[..., 3])[..., None]], -1)


def invert(pose: ArrayLike) -> Array:
    """Return the inverse poses (..., 4)."""
    pose = np.asarray(pose, dtype=float)
    rotation = np.concatenate(
        [np.zeros_like(pose[..., :2]), -pose[..., 2:3], 1.0 / pose[..., 3:4]], -1
    )  # the inverse without its shift
    shift = -(matrix(rotation)[..., :, :2] @ pose[..., :2, None])[..., 0]
    return np.concatenate([shift, rotation[..., 2:]], -1)


def transform(pose: ArrayLike, points: ArrayLike) -> Array:
    """Map points (..., N, 2) by the poses (..., 4); leading axes broadcast."""
    m = matrix(pose)
    return np.asarray(points, dtype=float) @ np.swapaxes(m[..., :, :2], -1, -2) + m[..., None, :, 2]


def act(pose: ArrayLike, action: ArrayLike) -> Array:
    """Return a ∘ T for the pose(s) T (..., 4) and action number(s) in 0..7 (§3.2)."""
    return compose(ACTIONS[np.asarray(action)], pose)


def corner_matrix(pose: ArrayLike, size: int) -> Array:
    """Return the (..., 2, 3) forward matrices in corner pixel coordinates of a size × size image.

    These are the matrices that OpenCV's ``warpAffine`` takes: pixel (x, y) counted from the centre
    of the top left pixel.
    """
    m = matrix(pose)
    centre = np.full(2, (size - 1) / 2)
    shift = m[..., :, 2] + centre - (m[..., :, :2] @ centre)
    return np.concatenate([m[..., :, :2], shift[..., None]], -1)


def landmark_distance(pose: ArrayLike, perturbation: ArrayLike, points: ArrayLike) -> Array:
    """Return the mean distance (...) in px between p and T(P(p)) over points (..., N, 2) (Eq. 4).

    Rows of NaN are padding and count for nothing. The same formula is the landmark error on SIFT
    landmarks and the target registration error on evaluation points.
    """
    residual = transform(compose(pose, perturbation), points) - np.asarray(points, dtype=float)
    return np.nanmean(np.hypot(residual[..., 0], residual[..., 1]), -1)


def matrix_distance(pose: ArrayLike, perturbation: ArrayLike, scale_weight: float) -> Array:
    """Return the Euclidean distance (...) of the parameters of T to those of the truth P⁻¹ (§3.3).

    Shifts count in px, the angle in degrees, the scale times ``scale_weight``: with 20, one action of any
    kind is one unit. With 1, as the paper says of the plain distance, scale hardly counts.
    """
    difference = np.asarray(pose, dtype=float) - invert(perturbation)
    difference[..., 2] = (difference[..., 2] + 180.0) % 360.0 - 180.0
    difference[..., 3] *= scale_weight
    return np.sqrt((difference**2).sum(-1))
