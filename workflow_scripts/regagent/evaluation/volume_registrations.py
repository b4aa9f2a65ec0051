"""The registrations of volumes in space: every case of a set by one method, and its error."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import SimpleITK as sitk
from tqdm import tqdm

from regagent.elastix import RegistrationFailed
from regagent.files import read_table, write_table
from regagent.jobs import clock
from regagent.pairs.cubes import NoHead
from regagent.pairs.rigid import from_itk
from regagent.pairs.volume_cases import POSE, cases_of_patient, registration_error
from regagent.settings import Cubes

logger = logging.getLogger("regagent")


class Result(NamedTuple):
    """What a method found."""

    transform: sitk.Transform  # from MR to CT points in mm
    expected_mm: float = np.nan  # the error to be expected, if it is known
    earlier: float = 0.0  # the seconds that earlier methods took on the way
    accepted: bool = True  # False where the method says that it is lost


#: Registers the case of a number, an MR and a CT. Raises ``RegistrationFailed`` or ``NoHead`` where it finds
#: nothing.
Method = Callable[[int, sitk.Image, sitk.Image], Result]
#: Tells of an MR, a CT and a map from MR to CT points the expected error in mm, and whether it is accepted.
Judge = Callable[[sitk.Image, sitk.Image, sitk.Transform], tuple[float, bool]]
#: The files of a patient, in a folder of the patient's name: MR, CT and truth (.tfm, from MR to CT points).
Files = tuple[str | Path, str | Path, str | Path]


def by_patient(files: Iterable[Files]) -> dict[str, Files]:
    """Return the files of each patient by the patient's name."""
    return {Path(own[0]).parent.name: own for own in files}


def register_volume_cases(
    perturbations: str | Path,
    files: Iterable[Files],
    per_patient: int,
    part: float,
    cubes: Cubes,
    register: Method,
    output: str | Path,
) -> None:
    """Register the first ``per_patient`` cases of each patient of a set and write the table of registrations.

    ``part`` is how much of the head is cut off where a case says so. The table has the map from MR to CT
    points as a pose about the origin. Where the method fails, its case keeps the error of the start.
    """
    cases, rows, still = read_table(perturbations), [], sitk.Transform(3, sitk.sitkIdentity)
    cases = cases.groupby("patient", sort=False).head(per_patient)
    files_of = by_patient(files)
    progress = tqdm(total=len(cases), mininterval=15.0, ascii=True)
    for patient, own in cases.groupby("patient", sort=False):
        pairs = cases_of_patient(own, *files_of[str(patient)], cubes, part)
        for row, case in zip(own.itertuples(index=False), pairs, strict=True):
            begun = clock()
            try:
                found, expected, earlier, accepted = register(int(row.case), case.mr, case.ct)
                status = "registered" if accepted else "refused"
            except (RegistrationFailed, NoHead) as error:
                logger.warning("patient %s, case %d: %s", patient, row.case, error)
                found, expected, earlier, status = still, np.nan, 0.0, "failed"
            seconds = clock() - begun + earlier
            errors = registration_error(still, case), registration_error(found, case)
            rows.append((row.case, patient, *from_itk(found), *errors, expected, seconds, status))
            progress.update()
    columns = ["case", "patient", *POSE, "initial_mm", "tre_mm", "expected_mm", "seconds", "status"]
    write_table(pd.DataFrame(rows, columns=columns), output)
