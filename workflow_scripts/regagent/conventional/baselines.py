"""The conventional methods of Table 2: each registers all test cases and writes the table of registrations.

The paper has SIFT matches and 2D Elastix (§4). Not in the paper are 2D Elastix from several starts, a global
search for the highest mutual information, and SimpleITK from the centres of mass.

A case for which a method finds no pose stays at the identity with the status ``failed``. These methods take
no steps as the agents do, so the column ``steps`` is 0.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from regagent.conventional.grid_search import search_pose
from regagent.conventional.sift import sift_pose
from regagent.conventional.slice_registration import itk_pose, mattes, multistart_pose
from regagent.elastix import elastix
from regagent.evaluation.measuring import registration_table
from regagent.evaluation.registrations import summarise
from regagent.files import read_table, write_table
from regagent.geometry import IDENTITY, POSE
from regagent.images import warp
from regagent.jobs import clock
from regagent.pairs.slices import read_cohort
from regagent.settings import Baselines, Search

logger = logging.getLogger("regagent")

#: A similarity outside these scales is no registration of two images of one head.
PLAUSIBLE_SCALE = (0.3, 3.0)

#: Takes a fixed and a moving image (H, H) in [0, 1] and the pose (4,) to start from; returns the pose T (4,),
#: or None if it finds none.
Method = Callable[[NDArray, NDArray, NDArray], NDArray | None]


def register_initial(perturbations: str | Path, slices: Iterable[str | Path], output: str | Path) -> None:
    """Write the table of registrations with every case at the identity."""
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
    """Register every case by the search of ``search_pose`` and write the table of registrations."""
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
    """Refine the registrations of another method by 2D Elastix from its poses; write the refined table.

    Steps and status stay those of the other method, and the seconds are those of both. Where Elastix finds no
    pose, the other method's pose stays.
    """
    method = partial(itk_pose, elastix(parameter_map))
    _register(method, perturbations, slices, output, read_table(registrations))


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
