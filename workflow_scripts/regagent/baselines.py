"""The conventional methods of Table 2: nothing at all, SIFT matches, and 2D Elastix (§4).

A method that finds nothing leaves the case at the identity with the status ``failed``. The methods take
no steps as the agents do: the column ``steps`` is 0.
"""

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from tqdm import tqdm

from regagent.elastix import RegistrationFailed, elastix
from regagent.files import read_table, write_table
from regagent.geometry import IDENTITY, invert, pose_of
from regagent.images import to_uint8, warp
from regagent.metrics import POSE, registration_table, summarise
from regagent.settings import Baselines
from regagent.slices import read_cohort

logger = logging.getLogger("regagent")

#: A similarity outside these scales is no registration of two images of one head.
PLAUSIBLE_SCALE = (0.3, 3.0)

#: Takes a fixed and a moving image (H, H) in [0, 1]; returns T (4,) or None for a failure.
Method = Callable[[NDArray, NDArray], NDArray | None]


def register_initial(perturbations: str | Path, slices: Iterable[str | Path], output: str | Path) -> None:
    """Write the errors without any registration."""
    _register(lambda fixed, moving: IDENTITY, perturbations, slices, output)


def register_sift(
    perturbations: str | Path, slices: Iterable[str | Path], output: str | Path, settings: Baselines
) -> None:
    """Register every case by SIFT matches and write the table of registrations."""
    _register(
        lambda fixed, moving: sift_pose(fixed, moving, settings.sift_ratio, settings.sift_minimum_matches),
        perturbations,
        slices,
        output,
    )


def register_elastix(
    perturbations: str | Path, slices: Iterable[str | Path], output: str | Path, parameter_map: str | Path
) -> None:
    """Register every case by 2D Elastix from the identity and write the table of registrations."""
    register = elastix(parameter_map)
    _register(lambda fixed, moving: elastix_pose(register, fixed, moving), perturbations, slices, output)


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


def elastix_pose(
    register: Callable[[sitk.Image, sitk.Image], sitk.Transform], fixed: NDArray, moving: NDArray
) -> NDArray | None:
    """Return the pose T (4,) by a function that ``elastix`` made, or None.

    The images are laid in the plane so that physical points are centred pixel coordinates. Elastix's
    result maps fixed points to moving points; T brings moving content to the fixed image: its inverse.
    """
    try:
        result = register(_centred(fixed), _centred(moving))
    except RegistrationFailed:
        return None
    shift = np.array(result.TransformPoint((0.0, 0.0)))
    columns = [np.array(result.TransformPoint(axis)) - shift for axis in ((1.0, 0.0), (0.0, 1.0))]
    return invert(pose_of(np.column_stack([*columns, shift])))


def _register(
    method: Method, perturbations: str | Path, slices: Iterable[str | Path], output: str | Path
) -> None:
    cases = read_table(perturbations)
    cohort = read_cohort(slices)
    poses, seconds, status = [], [], []
    rows = cases[["patient", "slice", *POSE]].itertuples(index=False)
    for patient, number, *perturbation in tqdm(rows, total=len(cases), mininterval=15.0, ascii=True):
        pairs = cohort[patient]
        moving = warp(pairs.ct[number], perturbation)
        start = time.perf_counter()
        pose = method(pairs.mr[number], moving)
        seconds.append(time.perf_counter() - start)
        found = pose is not None and PLAUSIBLE_SCALE[0] <= pose[3] <= PLAUSIBLE_SCALE[1]
        poses.append(pose if found else IDENTITY)
        status.append("registered" if found else "failed")
    table = registration_table(cases, np.array(poses), cohort, 0, seconds, status)
    write_table(table, output)
    summary = summarise(table)
    logger.info(
        "%d cases: TRE %.2f ± %.2f px, median %.2f, 90th percentile %.2f; %d failed",
        summary["n"], summary["mean"], summary["std"], summary["p50"], summary["p90"], summary["failures"],
    )  # fmt: skip


def _centred(image: NDArray) -> sitk.Image:
    laid = sitk.GetImageFromArray(np.asarray(image, dtype=np.float32))
    height, width = image.shape
    laid.SetOrigin((-(width - 1) / 2, -(height - 1) / 2))
    return laid
