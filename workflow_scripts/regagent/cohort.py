"""The cohort: the sample sheet, the users' own volumes, and the split by patient (§4)."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from regagent.files import UserError, write_table
from regagent.images import read_volume, write_image
from regagent.series import read_series
from regagent.settings import Split

COLUMNS = ("patient", "mr", "ct")
OPTIONAL = ("transform", "set")
PATIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

#: Air around the head is about -1000 HU; a CT that never falls below this is not in Hounsfield units.
AIR_BELOW_HU = -500.0
#: Bone is denser than this; a CT that never rises above it shows no skull.
BONE_ABOVE_HU = 200.0


def read_sheet(path: str | Path) -> pd.DataFrame:
    """Read a sample sheet: tab-separated columns patient, mr, ct and, where given, set (train or test).

    Relative paths count from the sheet's folder; the table returned has them joined. An empty ``set`` leaves
    that patient to the random split. Raises ``UserError`` naming the sheet and the row (the header is row 1).
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such sample sheet") from error
    except OSError as error:
        raise UserError(f"{path}: not a readable sample sheet ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text (byte {error.start}); save the sheet as UTF-8, tab-separated"
        ) from error
    lines = [line.rstrip("\r") for line in text.split("\n")]
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError(f"{path}: the sheet is empty, expected a header with {', '.join(COLUMNS)}")
    header = [name.strip() for name in rows[0][1]]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise UserError(
            f"{path}: column {missing[0]!r} is missing; found {', '.join(header)},"
            f" expected tab-separated {', '.join(COLUMNS)} and optionally set"
        )
    if len(rows) == 1:
        raise UserError(f"{path}: no patients, only a header")

    seen: dict[str, int] = {}
    records = []
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise UserError(f"{path}, row {number}: {len(cells)} columns, expected {len(header)}")
        record = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        _check_row(record, f"{path}, row {number}")
        patient = record["patient"]
        if patient in seen:
            raise UserError(
                f"{path}, row {number}: patient {patient} again, first named in row {seen[patient]}"
            )
        seen[patient] = number
        for column in ("mr", "ct"):
            file = path.parent / record[column]
            if not os.path.exists(file):  # False also for a name too long
                raise UserError(
                    f"{path}, row {number}: patient {patient}: {column} file {file} does not exist"
                )
            record[column] = str(file)
        records.append(record)
    return pd.DataFrame(records)[[*COLUMNS, *(["set"] if "set" in header else [])]]


def _check_row(record: dict[str, str], where: str) -> None:
    for column in COLUMNS:
        if not record[column]:
            raise UserError(f"{where}: column {column!r} is empty")
    if not PATIENT_NAME.fullmatch(record["patient"]):
        raise UserError(
            f"{where}: patient {record['patient']!r} cannot name a folder;"
            " expected letters, digits, '_' and '-', starting with a letter or digit"
        )
    if record.get("set", "") not in ("", "train", "test"):
        raise UserError(f"{where}: set is {record['set']!r}, expected train, test or nothing")


def split_patients(
    patients: Sequence[str], output: str | Path, settings: Split, sheet: str | Path | None = None
) -> None:
    """Write the table (patient, set): about ``train_fraction`` of the patients train, the others test.

    Both sets get at least one patient. Patients that ``sheet`` puts into a set stay there; the others fill
    the sets up at random. Raises ``UserError`` for fewer than two patients, for a name given twice, and
    for a sheet that leaves a set without patients.
    """
    names = sorted(patients)
    if len(names) < 2:
        raise UserError(f"{len(names)} patient(s): a training and a test set need at least 2")
    if len(set(names)) < len(names):
        raise UserError("a patient is named twice")
    given = _sets_of(sheet) if sheet else {}
    fixed = {name: given[name] for name in names if given.get(name)}
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


def _sets_of(sheet: str | Path) -> dict[str, str]:
    frame = read_sheet(sheet)
    return dict(zip(frame["patient"], frame["set"], strict=True)) if "set" in frame else {}


def read_patients(path: str | Path) -> pd.DataFrame:
    """Read a sample sheet as ``read_sheet`` does, with the columns ``row`` and ``transform`` as well.

    ``row`` is the patient's row in the sheet, the header being row 1; ``transform`` is the path of an ITK
    transform that maps MR points to CT points, empty where the sheet gives none. Raises ``UserError`` also
    for a column that is not known or stands there twice, for a transform that does not exist, and for braces
    in a path, between which Snakemake sees wildcards.
    """
    path = Path(path)
    patients = read_sheet(path)
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    rows = [
        (number, [cell.strip() for cell in line.split("\t")])
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    header = rows[0][1]
    for name in header:
        if name not in (*COLUMNS, *OPTIONAL) or header.count(name) > 1:
            fault = "stands there twice" if header.count(name) > 1 else "is not known"
            raise UserError(
                f"{path}: column {name!r} {fault}; expected {', '.join(COLUMNS)}"
                f" and optionally {', '.join(OPTIONAL)}"
            )
    patients["row"] = [number for number, _ in rows[1:]]
    given = [dict(zip(header, cells, strict=True)).get("transform", "") for _, cells in rows[1:]]
    patients["transform"] = [str(path.parent / name) if name else "" for name in given]
    for row in patients.itertuples():
        for file in (row.mr, row.ct, row.transform):
            if set("{}") & set(file):
                raise UserError(
                    f"{path}, row {row.row}: patient {row.patient}: {file}: the pipeline cannot take paths"
                    " with { or }; rename the file or its folder"
                )
        if row.transform and not Path(row.transform).is_file():
            raise UserError(
                f"{path}, row {row.row}: patient {row.patient}: transform file {row.transform} does not exist"
            )
    return patients


@contextmanager
def naming_row(sheet: str | Path | None, patient: str) -> Iterator[None]:
    """Put the sheet and the patient's row in front of the message of a ``UserError`` of the body."""
    try:
        yield
    except UserError as error:
        if sheet is None:
            raise
        patients = read_patients(sheet)
        row = ", ".join(str(number) for number in patients.loc[patients["patient"] == patient, "row"])
        raise UserError(f"{sheet}, row {row}: {error}") from error


def import_patient(
    patient: str,
    mr: str | Path,
    ct: str | Path,
    output_mr: str | Path,
    output_ct: str | Path,
    sheet: str | Path | None = None,
) -> None:
    """Read a patient's MR and CT, check them and write them in LPS orientation, their voxels as they are.

    Each is a file (NIfTI, MetaImage, NRRD or what else ITK reads) or the folder of a DICOM series. Raises
    ``UserError``, with the patient's row in ``sheet``, for an unreadable or implausible volume, for one image
    given as both, for a CT that is not in Hounsfield units and for an MR that seems to be.
    """
    with naming_row(sheet, patient):
        if Path(mr).resolve() == Path(ct).resolve():
            raise UserError(f"patient {patient}: MR and CT are the same file {mr}")
        fixed, moving = (
            read_series(path, patient, modality) if Path(path).is_dir() else read_volume(path, patient)
            for path, modality in ((mr, "MR"), (ct, "CT"))
        )
        _check_modalities(fixed, moving, f"patient {patient}", mr, ct)
    for volume, output in ((fixed, output_mr), (moving, output_ct)):
        write_image(sitk.DICOMOrient(volume, "LPS"), output)


def _check_modalities(
    fixed: sitk.Image, moving: sitk.Image, where: str, mr: str | Path, ct: str | Path
) -> None:
    signal, hounsfield = sitk.GetArrayViewFromImage(fixed), sitk.GetArrayViewFromImage(moving)
    if np.array_equal(signal, hounsfield):
        raise UserError(f"{where}: MR and CT hold the same image: {mr} and {ct}")
    mr_lowest, lowest, highest = float(signal.min()), float(hounsfield.min()), float(hounsfield.max())
    if mr_lowest < AIR_BELOW_HU < lowest:
        raise UserError(
            f"{where}: MR and CT are exchanged: {mr} falls to {mr_lowest:g} as Hounsfield units do,"
            f" {ct} no lower than {lowest:g}"
        )
    if mr_lowest < AIR_BELOW_HU:
        raise UserError(
            f"{where}: {mr} falls to {mr_lowest:g}: it looks like a CT, expected an MR;"
            " if it is one, set its background to 0"
        )
    if lowest > AIR_BELOW_HU:
        raise UserError(
            f"{where}: {ct}: the lowest value is {lowest:g}, expected Hounsfield units with air"
            f" below {AIR_BELOW_HU:g}; is it a CT, and was its rescale intercept lost?"
        )
    if highest < BONE_ABOVE_HU:
        raise UserError(
            f"{where}: {ct}: the highest value is {highest:g}, expected Hounsfield units with bone"
            f" above {BONE_ABOVE_HU:g}"
        )
