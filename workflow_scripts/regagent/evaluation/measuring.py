"""The target registration error of every case (§4)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from regagent.evaluation.registrations import STATUS
from regagent.geometry import IDENTITY, POSE, landmark_distance
from regagent.pairs.slices import SlicePairs


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
