"""Test cases in space: a patient's CT is moved by its header alone, and a field of view may be cut.

No voxel is interpolated before a method does so itself.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.anatomy import SKIN_HU
from regagent.files import UserError, read_table, write_table
from regagent.pairs.cubes import NoHead, head_points, middle_of
from regagent.pairs.perturbations import stream_seed
from regagent.pairs.rigid import from_motion, to_itk
from regagent.settings import Cubes, Motion, Volumes
from regagent.volumes.moving import moved_by
from regagent.volumes.reading import read_volume

#: The columns of a pose in space, in mm and as a unit quaternion.
POSE = ["x", "y", "z", "qw", "qx", "qy", "qz"]
#: Nothing is cut.
WHOLE = "whole"


class VolumeCase(NamedTuple):
    """A pair of volumes to register, and the truth."""

    mr: sitk.Image
    ct: sitk.Image
    truth: sitk.Transform  # from MR to CT points in mm
    points: NDArray[np.float64]  # (K, 3) in mm, in the head of the whole MR


def perturb_volumes(split: str | Path, output: str | Path, settings: Volumes, set_name: str) -> None:
    """Write the cases of the set ``V1``, ``V2`` or ``V3``: ``per_patient`` motions of each test patient's CT.

    The column ``cut`` says which volume ends where: its kind, its axis (0, 1, 2 of the voxels' indices) and
    the side, as in ``ct 2 +``.
    """
    ranges: Motion = getattr(settings, set_name)
    sets = read_table(split).set_index("patient")["set"]
    rows: list[tuple] = []
    for patient in sorted(sets.index[sets == "test"]):
        seed = stream_seed(settings.seed, set_name, patient)
        rng = np.random.default_rng(seed)
        for _ in range(settings.per_patient):
            rows.append((len(rows), patient, *draw_motion(ranges, rng), seed))
    write_table(pd.DataFrame(rows, columns=["case", "patient", *POSE, "cut", "seed"]), output)


def draw_motion(ranges: Motion, rng: np.random.Generator) -> tuple:
    """Return the pose (7 numbers) of a random motion, and which volume ends where."""
    axis = rng.standard_normal(3)
    turn = axis / np.linalg.norm(axis) * rng.uniform(0, ranges.rotation_deg)
    shift = ranges.translation_mm * rng.uniform(-1, 1, size=3)
    cut = f"{rng.choice(['mr', 'ct'])} {rng.integers(3)} {rng.choice(['-', '+'])}" if ranges.cut else WHOLE
    return *from_motion(np.array([*shift, *turn])), cut


def cases_of_patient(
    cases: pd.DataFrame, mr: str | Path, ct: str | Path, truth: str | Path, cubes: Cubes, part: float
) -> Iterable[VolumeCase]:
    """Yield the pairs of the rows of a patient's cases; ``truth`` maps MR to CT points (.tfm).

    ``part`` of the head is cut off where the case says so. Raises ``UserError`` where a volume shows no head.
    """
    patient = str(cases.patient.iloc[0])
    fixed, moving, known = read_volume(mr, patient), read_volume(ct, patient), sitk.ReadTransform(str(truth))
    try:
        middle = middle_of(fixed)
        points = head_points(fixed, middle, cubes) + middle
        yield from _cases(cases, fixed, moving, known, middle, points, part)
    except ValueError as error:
        raise UserError(f"patient {patient}: {error} ({mr}, {ct})") from error


def _cases(
    cases: pd.DataFrame,
    fixed: sitk.Image,
    moving: sitk.Image,
    known: sitk.Transform,
    middle: NDArray,
    points: NDArray,
    part: float,
) -> Iterable[VolumeCase]:
    for row in cases.itertuples(index=False):
        motion = to_itk(np.array([getattr(row, name) for name in POSE]), middle)
        still, moved = fixed, moved_by(moving, sitk.CompositeTransform([motion, known.GetInverse()]))
        kind, *where = str(row.cut).split()
        if kind == "mr":
            still = cut_off(still, None, int(where[0]), where[1], part)
        elif kind == "ct":
            moved = cut_off(moved, SKIN_HU, int(where[0]), where[1], part)
        yield VolumeCase(still, moved, motion, points)


def cut_off(image: sitk.Image, above: float | None, axis: int, side: str, part: float) -> sitk.Image:
    """Return the volume without that part of its head's extent along an axis, on a side, '-' or '+'.

    The head is what is brighter than ``above``, or than a fifth of what nearly all of the volume is below.
    Raises ``NoHead`` where nothing is.
    """
    values = sitk.GetArrayViewFromImage(image)
    level = above if above is not None else float(np.percentile(values, 99.5)) / 5
    along = 2 - axis  # the array's axes are the other way round
    shown = np.flatnonzero((values > level).mean(axis=tuple({0, 1, 2} - {along})) > 0.01)
    if not len(shown):
        raise NoHead("nothing in it stands out from its background")
    low, high = int(shown[0]), int(shown[-1]) + 1
    gone = round(part * (high - low))
    start, stop = (low + gone, image.GetSize()[axis]) if side == "-" else (0, high - gone)
    slices = [slice(None)] * 3
    slices[axis] = slice(start, stop)
    return image[tuple(slices)]


def registration_error(found: sitk.Transform, case: VolumeCase) -> float:
    """Return the mean distance in mm between where a transform and the truth map the points of the head."""
    ends = [
        np.subtract(found.TransformPoint(point), case.truth.TransformPoint(point))
        for point in case.points.tolist()
    ]
    return float(np.linalg.norm(ends, axis=1).mean())
