"""Discs in an ellipse as an MR and a CT that a known transform takes apart, and an agent that never errs."""

import cv2
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from regagent.agent.inference import Registrations
from regagent.geometry import pose_of

#: Discs: centre in mm about the centre of the MR, in the directions of its x and y axes, and radius.
DISCS = ((-22.0, -35.0, 13.0), (28.0, -18.0, 11.0), (-30.0, 25.0, 9.0), (18.0, 40.0, 7.0))
HALF_AXES = (58.0, 75.0)
CENTRE = (30.0, -20.0, 700.0)
MR_VALUES, CT_VALUES = (0, 200, 800), (-1000, 40, 900)  # air, ellipse, discs


def grid(size, spacing, direction, centre):
    """Return an empty image with its middle at ``centre`` mm."""
    image = sitk.Image(size, sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetDirection(np.asarray(direction, float).ravel())
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size])
    image.SetOrigin(np.subtract(centre, middle))
    return image


def points_of(image):
    """Return the physical points (..., D) of all voxels, in the order of the image's array."""
    index = np.moveaxis(np.indices(image.GetSize()[::-1]), 0, -1)[..., ::-1]
    dimension = image.GetDimension()
    columns = np.reshape(image.GetDirection(), (dimension, dimension)) * image.GetSpacing()
    return index @ columns.T + image.GetOrigin()


def draw(image, scene, values):
    """Fill an image; ``scene`` (D + 1, D + 1) takes its points to (x, y) about the scene's centre, in mm."""
    points = points_of(image)
    x, y = np.moveaxis(points @ scene[:-1, :-1].T + scene[:-1, -1], -1, 0)[:2]
    tissue = ((x / HALF_AXES[0]) ** 2 + (y / HALF_AXES[1]) ** 2 < 1).astype(int)
    for left, top, radius in DISCS:
        tissue[np.hypot(x - left, y - top) < radius] = 2
    drawn = sitk.GetImageFromArray(np.asarray(values, np.int16)[tissue])
    drawn.CopyInformation(image)
    return drawn


def homogeneous(transform):
    """Return the matrix (D + 1, D + 1) of an ITK transform, read off its own mapping of points."""
    dimension = transform.GetDimension()
    origin = np.array(transform.TransformPoint([0.0] * dimension))
    columns = [np.array(transform.TransformPoint(axis)) - origin for axis in np.eye(dimension).tolist()]
    return np.block([[np.column_stack(columns), origin[:, None]], [np.zeros(dimension), 1.0]])


def make_pair(mr_grid, ct_grid, truth, axes, centre):
    """Return the MR and the CT; ``truth`` maps points of the MR to points of the CT.

    ``axes`` are the directions of the scene's x, y (and z) in the world, as columns, ``centre`` its place.
    """
    dimension = len(centre)
    scene = np.eye(dimension + 1)
    scene[:-1, :-1] = np.transpose(axes)
    scene[:-1, -1] = -np.transpose(axes) @ centre
    mr = draw(mr_grid, scene, MR_VALUES)
    return mr, draw(ct_grid, scene @ np.linalg.inv(homogeneous(truth)), CT_VALUES)


def turned(scale):
    """Return a transform of points of an MR to those of its CT, in mm, about ``CENTRE``."""
    transform = sitk.AffineTransform(3)
    transform.SetCenter(CENTRE)
    cos, sin = scale * np.cos(0.2), scale * np.sin(0.2)
    transform.SetMatrix([cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0])
    transform.SetTranslation((12.0, -8.0, 0.0))
    return transform


def make_volumes(truth, mr_direction):
    """Return an MR of 10 slices, whose axes are ``mr_direction``, and a CT of 12, as ``make_pair`` does."""
    mr_grid = grid((90, 80, 10), (2.2, 2.5, 8.0), mr_direction, CENTRE)
    ct_grid = grid((130, 130, 12), (1.8, 1.8, 8.0), np.eye(3), CENTRE)
    return make_pair(mr_grid, ct_grid, truth, np.eye(3), CENTRE)


def find_pose(fixed, moving):
    """Return the pose (4,) that lays the discs of one image (H, H) on those of another."""
    centres = [disc_centres(image) for image in (moving, fixed)]
    found, _ = cv2.estimateAffinePartial2D(*centres, method=cv2.LMEDS)
    return pose_of(found)


def disc_centres(image):
    """Return the discs' centres (N, 2) in centred px, the largest disc first."""
    labels, count = ndimage.label(image > 0.5)
    areas = ndimage.sum_labels(np.ones_like(image), labels, range(1, count + 1))
    order = 1 + np.argsort(areas)[::-1][: len(DISCS)]
    rows = np.array(ndimage.center_of_mass(image > 0.5, labels, order))
    return rows[:, ::-1] - (len(image) - 1) / 2


def perfect_register(network, fixed, moving, ways, settings):
    """Stand for ``inference.register``: every slice is registered by its discs."""
    return [perfectly_registered(fixed, moving, 9.8) for _ in ways]


def perfect_register_finely(network, residual, fixed, moving, threshold, settings):
    """Stand for ``inference.register_finely``."""
    return perfectly_registered(fixed, moving, -0.4)


def perfectly_registered(fixed, moving, value):
    """Return what registering by the discs gives, at a value that is the same for all."""
    poses = np.array([find_pose(*images) for images in zip(fixed, moving, strict=True)])
    ones = np.ones(len(poses))
    return Registrations(poses, 40 * ones.astype(int), value * ones, ones.astype(bool), 0 * ones)
