"""Augmentation of training pairs: one random anatomy for both images, another scanner for each of them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from regagent.images import Image
from regagent.settings import Augmentation

#: Knots along each axis of the smooth random fields.
KNOTS = 4


def augment_pair(
    mr: Image, ct: Image, points: NDArray[np.float64], settings: Augmentation, rng: np.random.Generator
) -> tuple[Image, Image, NDArray[np.float64]]:
    """Return a random variation of an aligned pair (H, H) in [0, 1] and of its points (N, 2) in centred px.

    The same mirroring, affine map and smooth deformation move both images and the points, so the pair
    stays aligned. Gamma, gain, bias field, noise and blur are drawn for each image by itself; air stays 0.
    """
    if not settings.enabled:
        return mr, ct, points
    size = mr.shape[0]
    matrix = _affine(settings, rng)
    field = _smooth_field(rng, size, 2) * np.float32(settings.deformation_px)
    # The images are read backwards: what stands at x came from matrix @ x + field(x).
    centre = (size - 1) / 2
    x = np.arange(size, dtype=np.float32) - np.float32(centre)
    a = matrix.astype(np.float32)
    source_x = a[0, 0] * x + a[0, 1] * x[:, None] + a[0, 2] + field[..., 0] + np.float32(centre)
    source_y = a[1, 0] * x + a[1, 1] * x[:, None] + a[1, 2] + field[..., 1] + np.float32(centre)
    moved = [cv2.remap(image, source_x, source_y, cv2.INTER_LINEAR) for image in (mr, ct)]
    mr, ct = (_rescan(image, settings, rng) for image in moved)
    return mr, ct, _forward(points, matrix, field)


def _affine(settings: Augmentation, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a backward matrix (2, 3): rotation, unequal scales along two axes, shift, mirroring."""
    turn, axis = np.deg2rad(rng.uniform(-1, 1) * settings.rotation_deg), rng.uniform(0, np.pi)
    scales = np.exp(rng.uniform(-1, 1) * settings.scale + rng.uniform(-1, 1, 2) * settings.anisotropy)
    stretch = _rotation(axis) @ np.diag(scales) @ _rotation(-axis)
    linear = _rotation(turn) @ stretch
    if rng.random() < settings.mirror:
        linear = linear @ np.diag([-1.0, 1.0])
    shift = rng.uniform(-1, 1, 2) * settings.shift_px
    return np.concatenate([linear, shift[:, None]], 1)


def _rotation(angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _smooth_field(rng: np.random.Generator, size: int, channels: int) -> Image:
    """Return a field (H, H) or (H, H, channels) of about unit amplitude that changes slowly."""
    knots = rng.uniform(-1, 1, (KNOTS, KNOTS, channels)).astype(np.float32)
    return cv2.resize(knots, (size, size), interpolation=cv2.INTER_CUBIC)


def _forward(points: NDArray[np.float64], matrix: NDArray[np.float64], field: Image) -> NDArray[np.float64]:
    """Return where the points (N, 2) lie afterwards: the x with matrix @ x + field(x) = p."""
    centre = (len(field) - 1) / 2
    inverse = np.linalg.inv(matrix[:, :2])
    moved = (points - matrix[:, 2]) @ inverse.T
    for _ in range(3):  # the field changes slowly, so this converges at once
        at = np.nan_to_num(np.rint(moved + centre)).astype(int).clip(0, len(field) - 1)
        moved = (points - field[at[:, 1], at[:, 0]] - matrix[:, 2]) @ inverse.T
    return moved


def _rescan(image: Image, settings: Augmentation, rng: np.random.Generator) -> Image:
    """Return the image as another scanner might have taken it."""
    gamma, gain = np.exp(rng.uniform(-1, 1, 2) * (settings.gamma, settings.gain))
    factor = 1 + np.float32(settings.bias) * _smooth_field(rng, len(image), 1)
    image = cv2.pow(image, float(gamma)) * (factor * np.float32(gain))
    blur = rng.uniform(0, settings.blur_px)
    if blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, settings.noise))
    return np.clip(image + noise * (image > 0), 0, 1)
