"""The cohort: the sample sheet, the users' own volumes, and the split by patient (§4)."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from regagent.files import UserError

COLUMNS = ("patient", "mr", "ct")
OPTIONAL = ("transform", "set")
PATIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


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
