"""Similarity transforms of the plane (Eq. 3), the actions (§3.2) and the distances between poses.

A *pose* is an array (..., 4): tx px, ty px, angle degrees, scale. Points are (..., N, 2) in centred
pixel coordinates: x to the right, y down, the origin at the centre ((W-1)/2, (H-1)/2) of the image.

A perturbation P moves the aligned content at p to P(p). A registration's pose T brings it back:
T(P(p)) = p at the truth, T = invert(P).

Of points as complex numbers x + iy, a pose is z ↦ a·z + b: that takes half the operations of matrices.

All functions but ``pose_of`` and ``mean_pose`` take NumPy arrays or torch tensors, on any device, and return
the same kind. PyTorch is not imported for arrays alone, which takes two seconds.
"""

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: A NumPy array or a torch tensor: what a function takes and returns is of one kind.
Array = TypeVar("Array", NDArray, "Tensor")

#: The columns of a pose in every table.
POSE = ["tx", "ty", "angle", "scale"]

IDENTITY: NDArray[np.float64] = np.array([0.0, 0.0, 0.0, 1.0])

#: Times a pose: the same registration where both images are mirrored left to right.
MIRROR: NDArray[np.float64] = np.array([-1.0, 1.0, -1.0, 1.0])

#: The paper's eight actions as poses: one pixel in x and y, one degree, 0.05 of scale, both ways.
ACTIONS: NDArray[np.float64] = np.array(
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


def arrays(*values: Any) -> tuple[Any, ...]:
    """Return torch if a value is a tensor, else NumPy, and then the values as arrays of that library."""
    torch = sys.modules.get("torch")  # before it is imported, nothing is a tensor
    tensor = next((value for value in values if torch and torch.is_tensor(value)), None)
    if torch is None or tensor is None:
        return np, *(np.asarray(value, dtype=float) for value in values)
    return torch, *(torch.as_tensor(value, dtype=tensor.dtype, device=tensor.device) for value in values)


def matrix(pose: Array) -> Array:
    """Return the (..., 2, 3) matrices of the poses (..., 4) in centred coordinates (Eq. 3)."""
    xp, pose = arrays(pose)
    angle = xp.deg2rad(pose[..., 2])
    cos, sin = pose[..., 3] * xp.cos(angle), pose[..., 3] * xp.sin(angle)
    rows = [xp.stack([cos, -sin, pose[..., 0]], -1), xp.stack([sin, cos, pose[..., 1]], -1)]
    return xp.stack(rows, -2)


def coefficients(pose: Array) -> tuple[Array, Array]:
    """Return the complex a and b (...) of the maps z ↦ a·z + b that the poses (..., 4) are."""
    xp, pose = arrays(pose)
    angle = xp.deg2rad(pose[..., 2])
    if xp is np:
        return pose[..., 3] * np.exp(1j * angle), pose[..., 0] + 1j * pose[..., 1]
    return xp.polar(pose[..., 3], angle), xp.complex(pose[..., 0], pose[..., 1])


def pose_of(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return the poses (..., 4) of similarity matrices (..., 2, 3); the angle lies in (-180, 180]."""
    m = np.asarray(matrices, dtype=float)
    cos, sin = (m[..., 0, 0] + m[..., 1, 1]) / 2, (m[..., 1, 0] - m[..., 0, 1]) / 2
    return np.stack([m[..., 0, 2], m[..., 1, 2], np.rad2deg(np.arctan2(sin, cos)), np.hypot(cos, sin)], -1)


def compose(second: Array, first: Array) -> Array:
    """Return ``second`` after ``first`` (second ∘ first) of poses (..., 4)."""
    xp, second, first = arrays(second, first)
    (a, b), (_, first_b) = coefficients(second), coefficients(first)
    shift = a * first_b + b
    angle = (second[..., 2] + first[..., 2] + 180.0) % 360.0 - 180.0
    return xp.stack([shift.real, shift.imag, angle, second[..., 3] * first[..., 3]], -1)


def invert(pose: Array) -> Array:
    """Return the inverse poses (..., 4)."""
    xp, pose = arrays(pose)
    a, b = coefficients(pose)
    shift = -b / a
    return xp.stack([shift.real, shift.imag, -pose[..., 2], 1.0 / pose[..., 3]], -1)


def transform(pose: Array, points: Array) -> Array:
    """Map points (..., N, 2) by the poses (..., 4); leading axes broadcast."""
    xp, pose, points = arrays(pose, points)
    m = matrix(pose)
    return points @ xp.swapaxes(m[..., :, :2], -1, -2) + m[..., None, :, 2]


def mean_pose(poses: NDArray, weights: NDArray) -> NDArray:
    """Return the means (N, 4) of poses (N, M, 4) with weights (N, M), of which some are not 0."""
    weights = weights / weights.sum(-1, keepdims=True)
    angle = np.deg2rad(poses[..., 2])
    mean = (
        weights[..., None] * np.stack([*np.moveaxis(poses, -1, 0), np.cos(angle), np.sin(angle)], -1)
    ).sum(-2)
    return np.stack(
        [mean[..., 0], mean[..., 1], np.rad2deg(np.arctan2(mean[..., 5], mean[..., 4])), mean[..., 3]], -1
    )


#: The sizes of the actions that an agent may take: one, as in the paper.
PAPER_SIZES = (1.0,)


@cache
def actions(sizes: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the eight actions (8·K, 4) of each of K sizes: with 0.25, a quarter of the paper's."""
    steps = ACTIONS - IDENTITY
    return np.concatenate([IDENTITY + size * steps for size in sizes])


@cache
def _actions_on(sizes: tuple[float, ...], device: "torch.device") -> "Tensor":
    import torch

    return torch.tensor(actions(sizes), device=device)


@cache
def _acting_on(sizes: tuple[float, ...], device: "torch.device") -> "tuple[Tensor, Tensor]":
    """Return the ``coefficients`` (A,) of the actions."""
    return coefficients(_actions_on(sizes, device))


def act(pose: Array, action: int | Array, sizes: tuple[float, ...] = PAPER_SIZES) -> Array:
    """Return a ∘ T for the pose(s) T (..., 4) and the number(s) of ``actions`` (§3.2)."""
    xp, there = arrays(pose)
    if xp is np:
        return compose(actions(sizes)[np.asarray(action)], there)
    return compose(_actions_on(sizes, there.device)[action], there)


def act_all(pose: "Tensor", sizes: tuple[float, ...] = PAPER_SIZES) -> "Tensor":
    """Return a ∘ T (..., A, 4) for the poses T (..., 4) and each of the A ``actions`` a."""
    return compose(_actions_on(sizes, pose.device), pose[..., None, :])


def corner_matrix(pose: Array, size: int) -> Array:
    """Return the (..., 2, 3) forward matrices in corner pixel coordinates of a size × size image.

    These are the matrices that OpenCV's ``warpAffine`` takes: pixel (x, y) counted from the centre
    of the top left pixel.
    """
    xp, pose = arrays(pose)
    m, centre = matrix(pose), (size - 1) / 2
    shift = m[..., :, 2] + centre - centre * m[..., :, :2].sum(-1)
    return xp.concatenate([m[..., :, :2], shift[..., None]], -1)


def landmark_distance(pose: Array, perturbation: Array, points: Array) -> Array:
    """Return the mean distance (...) in px between p and T(P(p)) over points (..., N, 2) (Eq. 4).

    Rows of NaN are padding, and the mean leaves them out. The same formula is the landmark error on SIFT
    landmarks and the target registration error on evaluation points.
    """
    return displacement(compose(pose, perturbation), points)


def displacement(pose: Array, points: Array) -> Array:
    """Return the mean distance (...) in px that poses (..., 4) move points (..., N, 2) by; NaN is padding."""
    _, points, pose = arrays(points, pose)
    return _displacement(*coefficients(pose), points)


def displacements_after(pose: "Tensor", points: "Tensor", sizes: tuple[float, ...] = PAPER_SIZES) -> "Tensor":
    """Return what ``displacement`` does (..., A) of the poses after each of the A ``actions``."""
    (a, b), (by, to) = coefficients(pose), _acting_on(sizes, pose.device)
    return _displacement(by * a[..., None], by * b[..., None] + to, points[..., None, :, :])


def _displacement(a: Array, b: Array, points: Array) -> Array:
    """Return the mean distance (...) that z ↦ a·z + b moves points (..., N, 2) by."""
    xp, points = arrays(points)
    z = points[..., 0] + 1j * points[..., 1] if xp is np else xp.view_as_complex(points)
    moved = (a - 1)[..., None] * z + b[..., None]
    distance = np.abs(moved) if xp is np else xp.view_as_real(moved).norm(dim=-1)  # abs() takes longer there
    return xp.nanmean(distance, -1)


def frobenius_distance(pose: Array, perturbation: Array) -> Array:
    """Return the Frobenius norm (...) of the difference of the matrices of T and of the truth P⁻¹ (§3.3).

    That is the paper's "Euclidean distance between these two matrices", read as that of Eq. 3's six entries
    about the centre of the image: shifts count in px, rotation and scale as numbers of order one.
    """
    xp, pose, perturbation = arrays(pose, perturbation)
    return xp.sqrt(((matrix(pose) - matrix(invert(perturbation))) ** 2).sum((-2, -1)))


def matrix_distance(pose: Array, perturbation: Array, scale_weight: float) -> Array:
    """Return the Euclidean distance (...) of the parameters of T to those of the truth P⁻¹ (§3.3).

    Shifts count in px, the angle in degrees, the scale times ``scale_weight``. With a weight of 20 one action
    of any kind is about one unit. With 1, the plain distance of the paper, the scale hardly counts.
    """
    xp, pose, perturbation = arrays(pose, perturbation)
    difference = pose - invert(perturbation)
    angle = (difference[..., 2] + 180.0) % 360.0 - 180.0
    squares = (difference[..., :2] ** 2).sum(-1) + angle**2 + (scale_weight * difference[..., 3]) ** 2
    return xp.sqrt(squares)
