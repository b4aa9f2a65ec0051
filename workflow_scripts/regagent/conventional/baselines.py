"""The conventional methods: nothing at all, SIFT matches and 2D Elastix (§4), and what a user would pick.

Not in the paper are 2D Elastix from several starts, a global search for the highest mutual information, and
SimpleITK from the centres of mass.

A method that finds nothing leaves the case at the identity with the status ``failed``. The methods take
no steps as the agents do: the column ``steps`` is 0.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from regagent.conventional.mutual_information import mutual_information, search_pose
from regagent.evaluation.registrations import registration_table, summarise
from regagent.files import read_table, write_table
from regagent.geometry import IDENTITY, POSE, compose, invert, matrix, pose_of
from regagent.images import to_uint8, warp
from regagent.jobs import clock
from regagent.pairs.slices import read_cohort
from regagent.patients.elastix import RegistrationFailed, elastix
from regagent.settings import Baselines, Search

logger = logging.getLogger("regagent")

#: A similarity outside these scales is no registration of two images of one head.
PLAUSIBLE_SCALE = (0.3, 3.0)

#: Takes a fixed and a moving image (H, H) in [0, 1] and the pose to start from; returns T (4,) or None for
#: a failure.
Method = Callable[[NDArray, NDArray, NDArray], NDArray | None]


def register_initial(perturbations: str | Path, slices: Iterable[str | Path], output: str | Path) -> None:
    """Write the errors without any registration."""
    _register(lambda fixed, moving, start: start, perturbations, slices, output)


def register_sift(
    perturbations: str | Path, slices: Iterable[str | Path], output: str | Path, settings: Baselines
) -> None:
    """Register every case by SIFT matches and write the table of registrations."""
    _register(
        lambda fixed, moving, _: sift_pose(fixed, moving, settings.sift_ratio, settings.sift_minimum_matches),
        perturbations,
        slices,
        output,
    )


def register_elastix(
    perturbations: str | Path, slices: Iterable[str | Path], output: str | Path, parameter_map: str | Path
) -> None:
    """Register every case by 2D Elastix from the identity and write the table of registrations."""
    _register(partial(itk_pose, elastix(parameter_map)), perturbations, slices, output)


def register_multistart(
    perturbations: str | Path,
    slices: Iterable[str | Path],
    output: str | Path,
    parameter_map: str | Path,
    rotations_deg: Iterable[float],
    scales: Iterable[float],
) -> None:
    """Register every case by 2D Elastix from each rotation and scale; write the table of registrations."""
    register = elastix(parameter_map)
    starts = [np.array([0.0, 0.0, angle, scale]) for angle, scale in product(rotations_deg, scales)]
    _register(
        lambda fixed, moving, _: multistart_pose(register, fixed, moving, starts),
        perturbations,
        slices,
        output,
    )


def register_search(
    perturbations: str | Path, slices: Iterable[str | Path], output: str | Path, settings: Search
) -> None:
    """Register every case by the highest mutual information of a grid; write the table of registrations."""
    _register(lambda fixed, moving, _: search_pose(fixed, moving, settings), perturbations, slices, output)


def register_simpleitk(perturbations: str | Path, slices: Iterable[str | Path], output: str | Path) -> None:
    """Register every case by SimpleITK from the centres of mass and write the table of registrations."""
    _register(partial(itk_pose, mattes), perturbations, slices, output)


def refine_registrations(
    perturbations: str | Path,
    slices: Iterable[str | Path],
    registrations: str | Path,
    output: str | Path,
    parameter_map: str | Path,
) -> None:
    """Finish the registrations of another method by 2D Elastix from its poses; write the table of them.

    Steps and status stay those of the other method, and the seconds count both. Where Elastix gives up, the
    other method's pose stays.
    """
    method = partial(itk_pose, elastix(parameter_map))
    _register(method, perturbations, slices, output, read_table(registrations))


def sift_pose(fixed: NDArray, moving: NDArray, ratio: float, minimum_matches: int) -> NDArray | None:
    """Return the pose T (4,) that RANSAC finds in the SIFT matches passing the ratio test.

    None when fewer than ``minimum_matches`` of them agree on it.
    """
    detector = cv2.SIFT_create()
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
    # Any two matches agree on some similarity: fewer inliers than that are chance.
    if found is None or inliers.sum() < minimum_matches:
        return None
    return pose_of(found)


def itk_pose(
    register: Callable[[sitk.Image, sitk.Image], sitk.Transform],
    fixed: NDArray,
    moving: NDArray,
    start: ArrayLike = IDENTITY,
) -> NDArray | None:
    """Return the pose T (4,) that ``register`` finds from the pose ``start``, or None where it fails.

    ``register`` is ``mattes`` or what ``elastix`` returns. The images are laid in the plane so that physical
    points are centred pixel coordinates, the moving one moved by ``start``, without resampling. The result
    maps fixed points to points of the moving image as it lies: T is ``start`` and then the inverse of that.
    """
    try:
        result = register(_laid(fixed, IDENTITY), _laid(moving, start))
    except RegistrationFailed:
        return None
    shift = np.array(result.TransformPoint((0.0, 0.0)))
    columns = [np.array(result.TransformPoint(axis)) - shift for axis in ((1.0, 0.0), (0.0, 1.0))]
    return compose(invert(pose_of(np.column_stack([*columns, shift]))), start)


def multistart_pose(
    register: Callable[[sitk.Image, sitk.Image], sitk.Transform],
    fixed: NDArray,
    moving: NDArray,
    starts: Iterable[ArrayLike],
) -> NDArray | None:
    """Return the pose T (4,) of the highest mutual information that ``itk_pose`` finds from the starts.

    None where it fails from all of them.
    """
    poses = [itk_pose(register, fixed, moving, start) for start in starts]
    return max(
        (pose for pose in poses if pose is not None),
        key=lambda pose: mutual_information(fixed, moving, pose),
        default=None,
    )


def mattes(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """Return the similarity of two 2D images by Mattes' mutual information, as SimpleITK has it.

    It starts with the centres of mass (moments) over each other and goes through three resolutions, over all
    pixels and by steps of up to half a pixel: the fewer samples and the fewer steps of SimpleITK's notebooks
    end farther off. The result maps fixed to moving points. Raises ``RegistrationFailed``.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # sums of several threads differ from run to run
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(50)
    registration.SetInterpolator(sitk.sitkLinear)
    registration.SetOptimizerAsGradientDescent(
        learningRate=1.0,  # estimated in each iteration instead
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


def _register(
    method: Method,
    perturbations: str | Path,
    slices: Iterable[str | Path],
    output: str | Path,
    started: pd.DataFrame | None = None,
) -> None:
    """Register every case, from the identity or from the registrations that were ``started``."""
    cases = read_table(perturbations)
    cohort = read_cohort(slices)
    starts = np.tile(IDENTITY, (len(cases), 1))
    if started is not None:
        started = started.set_index("case").loc[cases["case"]]
        starts = started[POSE].to_numpy()
    poses, seconds, found = [], [], []
    rows = cases[["patient", "slice", *POSE]].itertuples(index=False)
    progress = tqdm(zip(rows, starts, strict=True), total=len(cases), mininterval=15.0, ascii=True)
    for (patient, number, *perturbation), start in progress:
        pairs = cohort[patient]
        moving = warp(pairs.ct[number], perturbation)
        begun = clock()
        pose = method(pairs.mr[number], moving, start)
        seconds.append(clock() - begun)
        found.append(pose is not None and PLAUSIBLE_SCALE[0] <= pose[3] <= PLAUSIBLE_SCALE[1])
        poses.append(pose if found[-1] else start)
    steps, status = 0, np.where(found, "registered", "failed")
    if started is not None:
        steps, status = started.steps.to_numpy(), started.status.to_numpy()
        seconds = started.seconds.to_numpy() + seconds
    table = registration_table(cases, np.array(poses), cohort, steps, seconds, status)
    write_table(table, output)
    summary = summarise(table)
    logger.info(
        "%d cases: TRE %.2f ± %.2f px, median %.2f, 90th percentile %.2f; %d found nothing",
        *(summary[name] for name in ("n", "mean", "std", "p50", "p90")),
        len(found) - sum(found),
    )


def _laid(image: NDArray, pose: ArrayLike) -> sitk.Image:
    """Return a square image (H, H) as it lies in centred pixel coordinates after the pose."""
    placed, scale = matrix(pose), float(np.asarray(pose)[3])
    laid = sitk.GetImageFromArray(np.asarray(image, dtype=np.float32))
    laid.SetSpacing((scale, scale))
    laid.SetDirection((placed[:, :2] / scale).ravel())
    laid.SetOrigin(placed[:, 2] - placed[:, :2].sum(1) * (len(image) - 1) / 2)
    return laid
