"""The split of the patients into a training and a test set (§4)."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from regagent.files import UserError, write_table
from regagent.patients.sheet import TWINS, naming_row, read_sheet
from regagent.settings import Split


def split_patients(
    patients: Sequence[str],
    output: str | Path,
    settings: Split,
    sheet: str | Path | None = None,
    voxels: Iterable[str | Path] = (),
) -> None:
    """Write the table (patient, set): about ``train_fraction`` of the patients train, the others test.

    Both sets get at least one patient. Patients that ``sheet`` puts into a set stay there, and the others are
    assigned at random. ``voxels`` are the files that ``import_patient`` writes.
    Raises ``UserError`` for fewer than two patients, for a name given twice, for a sheet that leaves a set
    without patients, and for two patients with the same MR or the same CT, voxel by voxel.
    """
    names = sorted(patients)
    if len(names) < 2:
        raise UserError(f"{len(names)} patient(s): a training and a test set need at least 2")
    if len(set(names)) < len(names):
        raise UserError("a patient is named twice")
    rows = {row.patient: row for row in read_sheet(sheet)} if sheet else {}
    _refuse_twins(voxels, sheet)
    fixed = {name: rows[name].set for name in names if name in rows and rows[name].set}
    free = [name for name in names if name not in fixed]
    wanted = min(max(round(settings.train_fraction * len(names)), 1), len(names) - 1)
    already = sum(group == "train" for group in fixed.values())
    order = np.random.default_rng(settings.seed).permutation(len(free))
    train = {free[index] for index in order[: max(wanted - already, 0)]}
    sets = fixed | {name: "train" if name in train else "test" for name in free}
    for group in ("train", "test"):
        if group not in sets.values():
            raise UserError(f"{sheet}: column 'set' leaves no patient for the {group} set")
    write_table(pd.DataFrame({"patient": names, "set": [sets[name] for name in names]}), output)


def _refuse_twins(voxels: Iterable[str | Path], sheet: str | Path | None) -> None:
    owners: dict[tuple[str, str], str] = {}
    for file in voxels:
        hashes = json.loads(Path(file).read_text(encoding="utf-8"))
        patient = hashes["patient"]
        for modality in ("mr", "ct"):
            owner = owners.setdefault((modality, hashes[modality]), patient)
            if owner != patient:
                with naming_row(sheet, patient):
                    raise UserError(
                        f"patient {patient} has the same {modality.upper()}, voxel by voxel, as patient"
                        f" {owner}; {TWINS}"
                    )
