"""One table of every case of a run (§4): its perturbation, pose, error and status."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from regagent.evaluation.run_tables import read_registrations
from regagent.files import UserError, read_table, write_table
from regagent.geometry import POSE
from regagent.jobs import logger

#: Grows by one when a column is renamed, dropped or changes its meaning; docs/tables.md describes them.
SCHEMA_VERSION = 2
PERTURBATION = [f"perturbation_{name}" for name in POSE]
CASE = ["set", "case", "patient", "slice"]
COLUMNS = (
    *("schema_version", "method", "seed", *CASE, *PERTURBATION, "initial_px"),
    *(*(f"pose_{name}" for name in POSE), "tre_px", "tre_mm", "steps", "seconds", "status"),
)


def gather_cases(registrations: pd.DataFrame, perturbations: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method, seed and case, in the order of ``registrations``.

    ``registrations`` is what ``read_registrations`` returns, ``perturbations`` has the columns ``CASE`` and
    the perturbing pose. Raises ``UserError`` for a case that ``perturbations`` lacks.
    """
    poses = registrations.rename(columns={name: f"pose_{name}" for name in POSE})
    drawn = perturbations[[*CASE, *POSE]].rename(columns=dict(zip(POSE, PERTURBATION, strict=True)))
    cases = poses.merge(drawn, on=CASE, how="left", validate="many_to_one", indicator=True)
    lost = cases[cases["_merge"] == "left_only"]
    if len(lost):
        first = lost.iloc[0]
        raise UserError(
            f"{first['method']}, seed {first['seed']}, {first['set']}: case {first['case']} of patient "
            f"{first['patient']}, slice {first['slice']}, is not in the table of perturbations"
        )
    return cases.assign(schema_version=SCHEMA_VERSION)[list(COLUMNS)]


def make_case_table(
    registrations: Iterable[str | Path], perturbations: Iterable[str | Path], output: str | Path
) -> None:
    """Write the table of all cases from registrations/{method}/seed{n}/{set}.csv and perturbations/{set}.csv.

    Raises ``UserError`` when one of these tables is faulty.
    """
    drawn = [read_table(path).assign(set=Path(path).stem) for path in perturbations]
    cases = gather_cases(read_registrations(registrations), pd.concat(drawn))
    write_table(cases, output)
    logger.info("%d cases of %d methods", len(cases), cases["method"].nunique())
