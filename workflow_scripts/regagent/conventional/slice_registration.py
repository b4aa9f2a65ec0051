"""Elastix and SimpleITK on a slice pair, and their physical transforms as poses (§4)."""

from collections.abc import Callable, Iterable

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.conventional.grid_search import mutual_information_at
from regagent.elastix import RegistrationFailed
from regagent.geometry import IDENTITY, compose, invert, matrix, pose_of


def itk_pose(
    register: Callable[[sitk.Image, sitk.Image], sitk.Transform],
    fixed: NDArray,
    moving: NDArray,
    start: NDArray = IDENTITY,
) -> NDArray | None:
    """Return the pose T (4,) that ``register`` finds from the pose ``start`` (4,), or None if it fails.

    ``register`` is ``mattes`` or a result of ``elastix``. Both images (H, H) are placed in the plane so that
    physical points are centred pixel coordinates. The moving image is placed after ``start``, without
    resampling. The result of ``register`` maps fixed points to points of the placed moving image, so T is
    ``start`` followed by the inverse of that map.
    """
    try:
        result = register(_placed(fixed, IDENTITY), _placed(moving, start))
    except RegistrationFailed:
        return None
    shift = np.array(result.TransformPoint((0.0, 0.0)))
    columns = [np.array(result.TransformPoint(axis)) - shift for axis in ((1.0, 0.0), (0.0, 1.0))]
    return compose(invert(pose_of(np.column_stack([*columns, shift]))), start)


def multistart_pose(
    register: Callable[[sitk.Image, sitk.Image], sitk.Transform],
    fixed: NDArray,
    moving: NDArray,
    starts: Iterable[NDArray],
) -> NDArray | None:
    """Return the pose T (4,) of the highest mutual information that ``itk_pose`` finds from the starts (4,).

    Returns None if it fails from all of them.
    """
    poses = [itk_pose(register, fixed, moving, start) for start in starts]
    return max(
        (pose for pose in poses if pose is not None),
        key=lambda pose: mutual_information_at(fixed, moving, pose),
        default=None,
    )


def mattes(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """Return the similarity transform of two 2D images by SimpleITK's Mattes mutual information.

    It starts with the centres of mass (moments) over each other and goes through three resolutions. It uses
    all pixels and steps of up to half a pixel. With the fewer samples and steps of SimpleITK's notebooks the
    result is less accurate. The result maps fixed to moving points. Raises ``RegistrationFailed``.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # sums over several threads differ from run to run
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(50)
    registration.SetInterpolator(sitk.sitkLinear)
    registration.SetOptimizerAsGradientDescent(
        learningRate=1.0,  # not used, as it is estimated in each iteration
        numberOfIterations=300,
        convergenceMinimumValue=1e-8,
        convergenceWindowSize=20,
        estimateLearningRate=registration.EachIteration,
        maximumStepSizeInPhysicalUnits=0.5,
    )
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetShrinkFactorsPerLevel([4, 2, 1])
    registration.SetSmoothingSigmasPerLevel([2, 1, 0])
    try:
        centred = sitk.CenteredTransformInitializer(
            fixed, moving, sitk.Similarity2DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
        )
        registration.SetInitialTransform(centred, inPlace=False)
        return registration.Execute(fixed, moving)
    except RuntimeError as error:
        raise RegistrationFailed(str(error)) from error


def _placed(image: NDArray, pose: NDArray) -> sitk.Image:
    """Return a square image (H, H) placed in centred pixel coordinates after the pose (4,)."""
    m, scale = matrix(pose), float(pose[3])
    placed = sitk.GetImageFromArray(np.asarray(image, dtype=np.float32))
    placed.SetSpacing((scale, scale))
    placed.SetDirection((m[:, :2] / scale).ravel())
    placed.SetOrigin(m[:, 2] - m[:, :2].sum(1) * (len(image) - 1) / 2)
    return placed
