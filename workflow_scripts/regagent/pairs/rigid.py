"""Rigid transforms of space, as ``geometry`` has similarity transforms of the plane.

A *pose* is an array (..., 7): the shift x, y, z in mm, then a unit quaternion w, x, y, z. Points are (..., N,
3) in mm: the axes are LPS, and the origin is the point about which the pose turns.

A registration's pose T brings perturbed content back, T(P(p)) = p at the truth, as in the plane.

All functions but ``mean_pose`` and those of ITK's transforms take NumPy arrays or torch tensors, on any
device, and return the same kind.
"""

from functools import cache

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from regagent.geometry import Array, arrays

IDENTITY: NDArray[np.float64] = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])

#: Times a pose: the same registration where both volumes are mirrored left to right.
MIRROR: NDArray[np.float64] = np.array([-1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0])


def rotation(pose: Array) -> Array:
    """Return the rotation matrices (..., 3, 3) of poses (..., 7)."""
    xp, pose = arrays(pose)
    w, x, y, z = (pose[..., i] for i in (3, 4, 5, 6))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return xp.stack([xp.stack(row, -1) for row in rows], -2)


def transform(pose: Array, points: Array) -> Array:
    """Map points (..., N, 3) by the poses (..., 7); leading axes broadcast."""
    xp, pose, points = arrays(pose, points)
    return points @ xp.swapaxes(rotation(pose), -1, -2) + pose[..., None, :3]


def compose(second: Array, first: Array) -> Array:
    """Return ``second`` after ``first`` (second ∘ first) of poses (..., 7)."""
    xp, second, first = arrays(second, first)
    shift = (rotation(second) @ first[..., :3, None])[..., 0] + second[..., :3]
    a, b, c, d = (second[..., i] for i in (3, 4, 5, 6))
    w, x, y, z = (first[..., i] for i in (3, 4, 5, 6))
    turned = xp.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        -1,
    )
    length = xp.sqrt((turned * turned).sum(-1))[..., None]
    return xp.concatenate([shift, turned / length], -1)


def invert(pose: Array) -> Array:
    """Return the inverse poses (..., 7)."""
    xp, pose = arrays(pose)
    shift = -(xp.swapaxes(rotation(pose), -1, -2) @ pose[..., :3, None])[..., 0]
    return xp.concatenate([shift, pose[..., 3:4], -pose[..., 4:]], -1)


#: Points about the middle of a head, in mm, at which poses or transforms are compared.
CORNERS = 60.0 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])


def displacement(pose: Array, points: Array) -> Array:
    """Return the mean distance (...) in mm that poses (..., 7) move points (..., N, 3) by; NaN is padding."""
    xp, pose, points = arrays(pose, points)
    moved = transform(pose, points) - points
    return xp.nanmean(xp.sqrt((moved * moved).sum(-1)), -1)


def from_motion(motion: Array) -> Array:
    """Return the poses (..., 7) of motions (..., 6): a shift in mm, and a rotation about the vector's
    direction by its length in degrees."""
    xp, motion = arrays(motion)
    half = xp.deg2rad(motion[..., 3:]) / 2
    angle = xp.sqrt((half * half).sum(-1))[..., None]
    # sin(a)/a, which is 1 at 0.
    ratio = xp.sinc(angle / np.pi)
    return xp.concatenate([motion[..., :3], xp.cos(angle), half * ratio], -1)


def motion(pose: Array) -> Array:
    """Return the motions (..., 6) of poses (..., 7), see ``from_motion``; the angle lies in [0, 180]."""
    xp, pose = arrays(pose)
    axis, w = pose[..., 4:], pose[..., 3:4]
    length = xp.sqrt((axis * axis).sum(-1))[..., None]
    sign = xp.where(w < 0, -xp.ones_like(w), xp.ones_like(w))
    angle = 2 * xp.arctan2(length, sign * w)
    small = xp.where(length > 1e-12, length, xp.ones_like(length))
    factor = xp.where(length > 1e-12, angle / small, 2 * xp.ones_like(length))
    return xp.concatenate([pose[..., :3], xp.rad2deg(sign * factor * axis)], -1)


def mean_pose(poses: NDArray, weights: NDArray) -> NDArray:
    """Return the means (N, 7) of poses (N, M, 7), of rotations that lie near each other; weights (N, M)."""
    weights = weights / weights.sum(-1, keepdims=True)
    heaviest = np.take_along_axis(poses, weights.argmax(-1)[..., None, None], -2)[..., 3:]
    turned = poses[..., 3:] * np.where((poses[..., 3:] * heaviest).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    mean = (weights[..., None] * np.concatenate([poses[..., :3], turned], -1)).sum(-2)
    return np.concatenate(
        [mean[..., :3], mean[..., 3:] / np.linalg.norm(mean[..., 3:], axis=-1)[..., None]], -1
    )


@cache
def covering() -> NDArray[np.float64]:
    """Return poses (24, 7) without a shift: the rotations that map a cube onto itself, the identity first.

    No rotation lies farther than 62.8 degrees from one of them.
    """
    halves = [-0.5, 0.5]
    quaternions = {(1.0, 0.0, 0.0, 0.0)}
    root = 0.5**0.5
    for i in range(1, 4):
        axis = np.eye(4)[i]
        quaternions |= {tuple(axis), tuple(root * (np.eye(4)[0] + axis)), tuple(root * (np.eye(4)[0] - axis))}
        for j in range(i + 1, 4):
            quaternions |= {tuple(root * (axis + sign * np.eye(4)[j])) for sign in (1, -1)}
    quaternions |= {(0.5, a, b, c) for a in halves for b in halves for c in halves}
    ordered = sorted(quaternions, key=lambda q: (-round(q[0], 6), *q))
    return np.concatenate([np.zeros((len(ordered), 3)), np.array(ordered)], -1)


def to_itk(pose: ArrayLike, centre: ArrayLike) -> sitk.VersorRigid3DTransform:
    """Return the map of points in mm that a pose (7,) makes about a centre (3,)."""
    x, y, z, qw, qx, qy, qz = map(float, np.asarray(pose))
    rigid = sitk.VersorRigid3DTransform()
    rigid.SetCenter([float(c) for c in np.asarray(centre)])
    sign = -1.0 if qw < 0 else 1.0
    rigid.SetRotation([sign * qx, sign * qy, sign * qz, sign * qw])
    rigid.SetTranslation([x, y, z])
    return rigid


def from_itk(transform: sitk.Transform) -> NDArray[np.float64]:
    """Return the pose (7,) about the origin of a rigid map of points in mm: ``to_itk``'s inverse there."""
    ends = np.array([transform.TransformPoint(end) for end in (100 * np.eye(3)).tolist()])
    shift = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    return _pose((ends - shift).T / 100, shift)


def rigid_of(matrix: ArrayLike) -> sitk.VersorRigid3DTransform:
    """Return the rigid map of points in mm next to a (4, 4) matrix that is one but for rounding.

    Raises ``ValueError`` where it is not finite or mirrors.
    """
    matrix = np.asarray(matrix, float)
    return to_itk(_pose(matrix[:3, :3], matrix[:3, 3]), np.zeros(3))


def _pose(linear: NDArray, shift: NDArray) -> NDArray[np.float64]:
    x, y, z, w = Rotation.from_matrix(linear).as_quat()
    return np.array([*shift, w, x, y, z])
