"""The mutual information of a slice pair under many poses at once, and the search for the highest.

Conventional methods that are not in the paper use it. For each level of intensity, ones and zeros indicate
the pixels of that level. The joint histograms of all poses are then one matrix product of these indicators.
Counts of pixels are exact in float32, so the result does not depend on the number of threads.
"""

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from regagent.geometry import invert
from regagent.images import Image, warp
from regagent.mutual_information import mutual_information
from regagent.settings import Search

#: Intensities up to this are air and form the lowest level. The other levels hold equally many pixels each.
AIR = 0.05


def search_pose(fixed: Image, moving: Image, settings: Search) -> NDArray[np.float64] | None:
    """Return the pose T (4,) of the highest mutual information, coarse to fine, or None for an empty image.

    The fixed image is warped over the moving one by every pose of a grid, on pixels as wide as the grid's
    step. The best poses are tried again with their neighbours at half the steps, and the inverse of the best
    one is T.
    """
    step, turn, growth = settings.translation_step_px, settings.rotation_step_deg, settings.scale_step
    turns = _spread(-settings.rotation_deg, settings.rotation_deg, turn)
    scales = _spread(*settings.scale, growth)
    poses = np.array([(0.0, 0.0, angle, scale) for angle in turns for scale in scales])
    around = np.array([(0.0, 0.0, a * turn / 2, s * growth / 2) for a in (-1, 0, 1) for s in (-1, 0, 1)])
    reach = int(np.ceil(settings.translation_px / step))
    try:
        best = _best(settings.candidates, *_scan(moving, fixed, poses, step, reach, settings.bins))
        near = (best[:, None] + around).reshape(-1, 4)
        return invert(_best(1, *_scan(moving, fixed, near, step / 2, 1, settings.bins))[0])
    except EmptyImage:
        return None


def mutual_information_at(
    fixed: Image, moving: Image, pose: NDArray, pixel: float = 2.0, bins: int = 16
) -> float:
    """Return the mutual information in nats of the images (H, H) under the pose T (4,), 0 if one is empty.

    It is computed over the moving image's field of view, on pixels ``pixel`` px wide.
    """
    try:
        _, information = _scan(moving, fixed, invert(pose)[None], pixel, 0, bins)
    except EmptyImage:
        return 0.0
    return float(information[0])


class EmptyImage(Exception):
    """An image shows nothing but air."""


def _spread(low: float, high: float, step: float) -> NDArray[np.float64]:
    """Return numbers from ``low`` to ``high``, both included, at most ``step`` apart."""
    return np.linspace(low, high, int(np.ceil((high - low) / step - 1e-9)) + 1)


def _best(count: int, poses: NDArray, information: NDArray) -> NDArray:
    return poses[np.argsort(-information, kind="stable")[:count]]


def _scan(
    target: Image, source: Image, poses: NDArray, pixel: float, reach: int, bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return all poses that were tried (N, 4) and the mutual information (N,) of each.

    The source is warped over the target by each of ``poses`` (A, 4), and then shifted by up to ``reach``
    pixels along x and y. Before that both images are shrunk to pixels ``pixel`` px wide.
    """
    size = max(8, round(len(target) / pixel))
    pixel = len(target) / size
    small = [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in (target, source)]
    edges = [_edges(image, bins) for image in small]
    warped = np.stack([warp(small[1], [*pose[:2] / pixel, *pose[2:]]) for pose in poses])

    there = _indicators(small[0], edges[0])  # (I, size, size)
    padded = np.pad(there, ((0, 0), (reach, reach), (reach, reach)))
    windows = np.moveaxis(sliding_window_view(padded, (size, size), (1, 2)), 0, 2)  # (R, R, I, size, size)
    # The source's lowest level, air, is every pixel of no other level, also where the source does not reach.
    here = _indicators(warped, edges[1])[1:]  # (J - 1, A, size, size)
    counts = windows.reshape(-1, size * size) @ here.reshape(-1, size * size).T
    counts = counts.reshape(-1, len(there), len(here), len(poses)).transpose(0, 3, 1, 2)  # (R², A, I, J - 1)
    air = there.sum((1, 2))[:, None] - counts.sum(-1, keepdims=True)
    joint = np.concatenate([air, counts], -1) / size**2

    steps = np.arange(-reach, reach + 1) * pixel
    shifts = np.stack([*np.meshgrid(steps, steps), *np.zeros((2, len(steps), len(steps)))], -1)
    return (shifts.reshape(-1, 1, 4) + poses).reshape(-1, 4), mutual_information(joint).ravel()


def _edges(image: NDArray, bins: int) -> NDArray:
    """Return the lower bounds of all levels but the lowest. Raises ``EmptyImage``."""
    seen = image[image > AIR]
    if len(seen) == 0:
        raise EmptyImage
    return np.array([AIR, *np.quantile(seen, np.arange(1, bins - 1) / (bins - 1))])


def _indicators(images: NDArray, edges: NDArray) -> NDArray[np.float32]:
    """Return (levels, ...) of ones where a pixel (...) is of the level, and zeros elsewhere."""
    levels = np.digitize(images, edges)
    return np.stack([levels == level for level in range(len(edges) + 1)]).astype(np.float32)
