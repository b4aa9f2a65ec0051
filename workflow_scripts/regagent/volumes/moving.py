"""Motion of a volume by its header alone: no voxel is interpolated."""

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk

from regagent.volumes.transforms import parts


def moved_by(image: sitk.Image, motion: sitk.Transform) -> sitk.Image:
    """Return the volume with its content moved by a rigid map of points: another header, the same voxels."""
    moved = sitk.Image(image)
    axes = np.array(image.GetDirection()).reshape(3, 3)
    origin = np.array(motion.TransformPoint(image.GetOrigin()))
    # Over 100 mm, so that no rounding counts.
    ends = [motion.TransformPoint((np.array(image.GetOrigin()) + 100 * axis).tolist()) for axis in axes.T]
    turned = (np.array(ends) - origin).T / 100
    moved.SetOrigin(origin.tolist())
    moved.SetDirection(turned.ravel().tolist())
    return moved


def go_on(
    register: Callable[[sitk.Image, sitk.Image], sitk.Transform],
    fixed: sitk.Image,
    moving: sitk.Image,
    start: sitk.Transform,
) -> tuple[sitk.Transform, sitk.Transform]:
    """Register (fixed, moving) from where a rigid ``start`` leads, both maps from fixed to moving points.

    Return the whole map, and what was added to the start: the whole is the start after that.
    """
    further = register(fixed, moved_by(moving, start.GetInverse()))
    return sitk.CompositeTransform([*parts(start), further]), further
