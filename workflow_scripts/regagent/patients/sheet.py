"""The sample sheet: the user's patients, one in each row, with the paths of their scans (§4)."""

import itertools
import logging
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from regagent.files import UserError, read_rows

logger = logging.getLogger("regagent")

COLUMNS = ("patient", "mr", "ct")
OPTIONAL = ("transform", "set")
FILES = ("mr", "ct", "transform")
PATIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")

#: Forms of a path that no file here has, and what to do about each.
NO_PATHS = {
    r"(^|/)~": "~ is not replaced by your home folder; write the whole path",
    r"\\|(^|/)[A-Za-z]:": "it looks like a path in Windows; write it as this machine sees the file, with /",
}

#: What spreadsheets save where a formula failed, in English and other languages: #N/A, #REF!, #NAME?, #NV.
ERROR_VALUE = re.compile(r"#\S*[!?]|#N/?\w")

#: Why two patients may not share an image, and what to do.
TWINS = "one image under two names may be in both sets, train and test; delete one of the rows"

#: Why two patients may not share a transform, and what to do.
SHARED_TRANSFORM = "each patient has a transform of its own; give a copy if both truly have the same"


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
                f"patient {patient[:200]!r} cannot name a folder;"
                " expected at most 100 letters, digits, '_' and '-', starting with a letter or digit"
            )
        return patient

    @field_validator(*FILES)
    @classmethod
    def _is_there(cls, file: str, info: ValidationInfo) -> str:
        where = f"patient {info.data.get('patient')}: {info.field_name} file {file}"
        if file and (fault := absence(file)):
            raise ValueError(f"{where} {fault}")
        if info.field_name == "transform" and os.path.isdir(file):
            raise ValueError(f"{where} is a folder, expected a file")
        if "{" in file or "}" in file:  # Snakemake takes {name} for a wildcard
            raise ValueError(f"{where} has {{ or }} in its path; rename the file or its folder")
        return file

    @field_validator("set")
    @classmethod
    def _is_a_set(cls, name: str) -> str:
        if name.lower() not in ("", "train", "test"):
            raise ValueError(f"set is {name!r}, expected train, test or nothing")
        return name.lower()


def read_sheet(path: str | Path) -> list[SheetRow]:
    """Read a sample sheet: tab-separated columns patient, mr, ct and, optionally, transform and set.

    The text is what a spreadsheet saves as tab-separated: UTF-8 or, with its mark, UTF-16; a cell may stand
    in quotes, with those inside it doubled. Empty rows, empty columns and empty cells at the end of a row do
    not count, nor do rows that begin with # in the column ``patient`` or, above the header, in the first one;
    the log tells which of the former have other cells, as a patient may be named so. Names of columns may be
    in capitals. Relative paths count from the sheet's folder and are returned joined to it. Raises
    ``UserError`` naming the sheet and the row of the first fault, as when two patients have the same file,
    under whatever path.
    """
    path = Path(path)
    rows = _filled_rows(path)
    while rows and rows[0][1][0].startswith("#"):
        rows.pop(0)
    if not rows:
        raise UserError(f"{path}: the sheet is empty, expected a header with {', '.join(COLUMNS)}")
    (_, header), *rows = rows
    header = [name.lower() for name in header]
    _check_header(header, path)
    patients: dict[str, SheetRow] = {}
    left_out = []
    for number, cells in rows:
        where = f"{path}, row {number}"
        named = dict(itertools.zip_longest(header, cells[: len(header)], fillvalue=""))
        if ERROR_VALUE.fullmatch(named["patient"]):
            raise UserError(
                f"{where}: patient {named['patient']}, an error value of a spreadsheet, as of a lookup that"
                " failed; write the patient's name, or `# ` before the row to leave it out"
            )
        if named["patient"].startswith("#"):
            if sum(map(bool, cells)) > 1:
                left_out.append(f"row {number} ({named['patient'][:40]})")
            continue
        for column, (name, cell) in enumerate(itertools.zip_longest(header, cells, fillvalue=""), 1):
            if cell and not name:
                raise UserError(
                    f"{where}: trailing cell {cell!r} in column {column}, which has no name in the header;"
                    " delete the cell, or the tab that is too many before it"
                )
        record = {
            name: str(path.parent / cell) if cell and name in FILES else cell for name, cell in named.items()
        }
        try:
            row = SheetRow.model_validate({"row": number, **record})
        except ValidationError as error:
            raise UserError(f"{where}: {error.errors()[0]['ctx']['error']}") from error
        first = patients.setdefault(row.patient.casefold(), row)
        if first is not row:
            other = f" as {first.patient}; some disks take both for one folder"
            raise UserError(
                f"{where}: patient {row.patient} again, first named in row {first.row}"
                f"{other if first.patient != row.patient else ''}"
            )
    if left_out:
        logger.warning(
            "%s: rows whose patient begins with # are left out as comments: %s%s",
            path, ", ".join(left_out[:20]), f" and {len(left_out) - 20} more" if len(left_out) > 20 else "",
        )  # fmt: skip
    if not patients:
        raise UserError(f"{path}: no patients, only a header")
    _refuse_shared_files(patients.values(), path)
    return list(patients.values())


def _refuse_shared_files(rows: Iterable[SheetRow], path: Path) -> None:
    owners: dict[tuple[int, int], SheetRow] = {}
    for row in rows:
        for file in filter(None, (row.mr, row.ct, row.transform)):
            status = os.stat(file)
            owner = owners.setdefault((status.st_dev, status.st_ino), row)  # the same by links and ../ too
            if owner is not row:
                raise UserError(
                    f"{path}, row {row.row}: patient {row.patient}: {file} is also a file of patient"
                    f" {owner.patient} in row {owner.row};"
                    f" {SHARED_TRANSFORM if file == row.transform else TWINS}"
                )


def absence(file: str | Path) -> str:
    """Return why a file or folder cannot be had, as the end of a sentence about it; '' if it is there."""
    try:
        mode = os.stat(file).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return "is neither a file nor a folder"
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(file):
            return f"is a link to {os.readlink(file)}, which does not exist"
        hints = [hint for form, hint in NO_PATHS.items() if re.search(form, str(file))]
        forms = {unicodedata.normalize(form, str(file)) for form in ("NFC", "NFD")}
        if any(os.path.exists(form) for form in forms):
            hints.append("a file of this name in another form of Unicode does; copy its name into the sheet")
        if any(unicodedata.category(character) == "Cf" for character in str(file)):
            hints.append("its name has an invisible character in the sheet; type it anew")
        with suppress(OSError):
            folder, name = os.path.split(file)
            if any(other.strip() == name for other in os.listdir(folder or ".")):
                hints.append("one whose name has a space at its end or start does; rename that")
        return "; ".join(["does not exist", *hints[:1]])
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def _filled_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty, with their numbers, as their cells without spaces at the ends."""
    rows = []
    for number, row in enumerate(read_rows(path, "\t"), 1):
        cells = [cell.strip() for cell in row]
        if broken := next((cell for cell in cells if "\n" in cell), ""):
            raise UserError(
                f"{path}, row {number}: a line break in the cell that begins with"
                f" {broken.splitlines()[0]!r}; delete it, or is a quote not closed?"
            )
        if any(cells):
            rows.append((number, cells))
    return rows


def _check_header(header: list[str], path: Path) -> None:
    expected = f"expected tab-separated {', '.join(COLUMNS)} and optionally {', '.join(OPTIONAL)}"
    named = [name for name in header if name]
    for name in COLUMNS:
        if name not in named:
            raise UserError(f"{path}: column {name!r} is missing; found {', '.join(named)}, {expected}")
    for name in named:
        if named.count(name) > 1:
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
