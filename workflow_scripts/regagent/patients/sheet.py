"""The sample sheet: the user's patients, one in each row, with the paths of their scans (§4)."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from regagent.files import UserError

COLUMNS = ("patient", "mr", "ct")
OPTIONAL = ("transform", "set")
FILES = ("mr", "ct", "transform")
PATIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class SheetRow(BaseModel):
    """A patient of a sample sheet.

    ``mr`` and ``ct`` are the paths of files or of DICOM folders. ``transform`` is the path of an ITK
    transform that maps MR points to CT points in mm. ``transform`` and ``set`` (train or test) are empty
    where the sheet gives none. ``row`` is the number of the row; the header is row 1.
    """

    model_config = ConfigDict(frozen=True)

    row: int
    patient: str
    mr: str
    ct: str
    transform: str = ""
    set: str = ""

    @field_validator(*COLUMNS)
    @classmethod
    def _is_given(cls, cell: str, info: ValidationInfo) -> str:
        if not cell:
            raise ValueError(f"column {info.field_name!r} is empty")
        return cell

    @field_validator("patient")
    @classmethod
    def _names_a_folder(cls, patient: str) -> str:
        if not PATIENT_NAME.fullmatch(patient):
            raise ValueError(
                f"patient {patient!r} cannot name a folder;"
                " expected letters, digits, '_' and '-', starting with a letter or digit"
            )
        return patient

    @field_validator(*FILES)
    @classmethod
    def _is_there(cls, file: str, info: ValidationInfo) -> str:
        patient = info.data.get("patient")
        exists = os.path.isfile if info.field_name == "transform" else os.path.exists
        if file and not exists(file):  # False also for a path that is too long
            raise ValueError(f"patient {patient}: {info.field_name} file {file} does not exist")
        if "{" in file or "}" in file:  # Snakemake takes {name} for a wildcard
            raise ValueError(
                f"patient {patient}: {file}: the pipeline cannot take paths with {{ or }};"
                " rename the file or its folder"
            )
        return file

    @field_validator("set")
    @classmethod
    def _is_a_set(cls, name: str) -> str:
        if name not in ("", "train", "test"):
            raise ValueError(f"set is {name!r}, expected train, test or nothing")
        return name


def read_sheet(path: str | Path) -> list[SheetRow]:
    """Read a sample sheet: tab-separated columns patient, mr, ct and, optionally, transform and set.

    Relative paths count from the sheet's folder and are returned joined to it. Empty rows are skipped. Quotes
    are ordinary characters. Raises ``UserError`` naming the sheet and the row of the first fault.
    """
    path = Path(path)
    lines = [
        (number, [cell.strip() for cell in line.split("\t")])
        for number, line in enumerate(_text(path).split("\n"), 1)
        if line.strip()
    ]
    if not lines:
        raise UserError(f"{path}: the sheet is empty, expected a header with {', '.join(COLUMNS)}")
    (_, header), *lines = lines
    _check_header(header, path)
    if not lines:
        raise UserError(f"{path}: no patients, only a header")
    rows: dict[str, SheetRow] = {}
    for number, cells in lines:
        where = f"{path}, row {number}"
        if len(cells) != len(header):
            raise UserError(f"{where}: {len(cells)} columns, expected {len(header)}")
        record = {
            name: str(path.parent / cell) if cell and name in FILES else cell
            for name, cell in zip(header, cells, strict=True)
        }
        try:
            row = SheetRow.model_validate({"row": number, **record})
        except ValidationError as error:
            raise UserError(f"{where}: {error.errors()[0]['ctx']['error']}") from error
        if row.patient in rows:
            first = rows[row.patient].row
            raise UserError(f"{where}: patient {row.patient} again, first named in row {first}")
        rows[row.patient] = row
    return list(rows.values())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such sample sheet") from error
    except OSError as error:
        raise UserError(f"{path}: not a readable sample sheet ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text (byte {error.start}); save the sheet as UTF-8, tab-separated"
        ) from error


def _check_header(header: list[str], path: Path) -> None:
    expected = f"expected tab-separated {', '.join(COLUMNS)} and optionally {', '.join(OPTIONAL)}"
    for name in COLUMNS:
        if name not in header:
            raise UserError(f"{path}: column {name!r} is missing; found {', '.join(header)}, {expected}")
    for name in header:
        if header.count(name) > 1:
            raise UserError(f"{path}: column {name!r} stands there twice; {expected}")
        if name not in COLUMNS + OPTIONAL:
            raise UserError(f"{path}: column {name!r} is not known; {expected}")


@contextmanager
def naming_row(sheet: str | Path | None, patient: str) -> Iterator[None]:
    """Put the sheet and the patient's row in front of the message of a ``UserError`` of the body."""
    try:
        yield
    except UserError as error:
        if sheet is None:
            raise
        rows = {row.patient: f", row {row.row}" for row in read_sheet(sheet)}
        raise UserError(f"{sheet}{rows.get(patient, '')}: {error}") from error
