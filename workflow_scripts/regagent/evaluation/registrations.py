"""The target registration error of every case and its summary (§4, Table 2)."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from regagent.geometry import IDENTITY, POSE, landmark_distance
from regagent.pairs.slices import SlicePairs

#: Takes the TRE (..., N) in px of the cases and returns one number for all N, (...).
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]

#: The statistics of TRE (px) over cases; the standard deviation is the population's.
STATISTICS: dict[str, Statistic] = {
    "mean": lambda error: np.mean(error, -1),
    "std": lambda error: np.std(error, -1),
    "p50": lambda error: np.percentile(error, 50, -1),
    "p90": lambda error: np.percentile(error, 90, -1),
}

#: A case within this TRE counts as a success; a pixel is about 1.5 mm.
SUCCESS_PX = 2.0

#: How a case ended: by the method's own criterion, at the step limit, or without a result.
STATUS = ("registered", "step_limit", "failed")


def registration_table(
    cases: pd.DataFrame,
    poses: ArrayLike,
    slices: Mapping[str, SlicePairs],
    steps: ArrayLike,
    seconds: ArrayLike,
    status: ArrayLike,
) -> pd.DataFrame:
    """Return the table of registrations, one row per case, in the order of ``cases``.

    ``cases`` is a table of N perturbations, ``poses`` (N, 4) are the estimated T, ``slices`` has the slice
    pairs of each patient. ``steps``, ``seconds`` and ``status`` are (N,) or one value for all cases. Errors
    are means over the slice's evaluation points: ``initial_px`` before registration, ``tre_px`` and
    ``tre_mm`` after it.
    Raises ``ValueError`` for poses that are not finite or a status that is not one of ``STATUS``.
    """
    poses = np.asarray(poses, dtype=float).reshape(len(cases), 4)
    if not np.isfinite(poses).all():
        raise ValueError("a registration's pose is not finite")
    unknown = set(np.atleast_1d(status).tolist()) - set(STATUS)
    if unknown:
        raise ValueError(f"status {sorted(unknown)}, expected some of {STATUS}")
    initial, error, millimetres = np.zeros((3, len(cases)))
    for row, (patient, number, *perturbation) in enumerate(
        cases[["patient", "slice", *POSE]].itertuples(index=False)
    ):
        pairs = slices[patient]
        points = pairs.evaluation_points[number]
        initial[row] = landmark_distance(IDENTITY, perturbation, points)
        error[row] = landmark_distance(poses[row], perturbation, points)
        millimetres[row] = error[row] * pairs.mm_per_px
    return pd.DataFrame(
        {
            "case": cases["case"].to_numpy(),
            "patient": cases["patient"].to_numpy(),
            "slice": cases["slice"].to_numpy(),
            **dict(zip(POSE, poses.T, strict=True)),
            "initial_px": initial,
            "tre_px": error,
            "tre_mm": millimetres,
            "steps": np.broadcast_to(steps, len(cases)),
            "seconds": np.broadcast_to(seconds, len(cases)),
            "status": np.broadcast_to(status, len(cases)),
        }
    )


def summarise(frame: pd.DataFrame) -> dict[str, float]:
    """Return mean, std, p50 and p90 of ``tre_px``, the number ``n`` of cases and of ``failures``.

    A failure is a case with the status ``failed``; its error counts in the statistics like any other.
    Raises ``ValueError`` for a table without rows.
    """
    if len(frame) == 0:
        raise ValueError("no registrations to summarise")
    error = frame["tre_px"].to_numpy()
    return {
        **{name: float(statistic(error)) for name, statistic in STATISTICS.items()},
        "failures": int((frame["status"] == "failed").sum()),
        "n": len(frame),
    }
