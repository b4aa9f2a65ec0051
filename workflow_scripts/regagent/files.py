"""Files: written whole or not at all, tables read, and the error that a faulty input raises."""

import codecs
import csv
import io
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd

#: The package's files that are no code: Elastix's parameter maps, and Matplotlib's style of the figures.
DATA = Path(__file__).parent / "data"

#: What comes with the software: an agent (`make agent`), and the networks of volumes (`make networks`).
OWN = DATA / "agent.pt"
SPACE = DATA / "space.pt"
STYLE = DATA / "figures.mplstyle"

#: What the name of a file begins with until it is whole. The machine and the number of the process follow.
PARTIAL = ".regagent-partial-"
MACHINE = re.sub(r"\W", "_", socket.gethostname())

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

#: The first bytes of a spreadsheet's own file: .xlsx and .ods are zip archives, .xls is an OLE file.
SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")

#: What may stand between the columns of a table.
SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", " ": "spaces"}


class UserError(Exception):
    """A fault in the user's input: names the patient, file or key, what was found and what was expected.

    Each argument is a line. A line break in what was found, as in a damaged header, becomes a space.
    """

    def __str__(self) -> str:
        return "\n".join(re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", str(line)) for line in self.args)


def reason(error: BaseException) -> str:
    """Return in one line what a library says is wrong.

    ITK says it behind the word ERROR, after where in its code, and before advice. Others begin with it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Exception thrown in SimpleITK")]
    if not lines:
        return type(error).__name__
    told = next((line for line in lines if "ERROR: " in line), lines[0])
    told = re.sub(r"^\w+\W+ERROR: (\w+ ?\(0x\w+\): )?", "", told)
    return f"{told} {lines[-1]}" if told.endswith(":") else told


def itk_name(path: str | Path) -> str:
    """Return the path as ITK takes it. Raises ``UserError`` for a name at which ITK ends the process."""
    name = os.fsencode(path)
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        shown = name.decode(errors="backslashreplace")
        raise UserError(f"{shown}: this name is not in UTF-8, as ITK needs it; rename it") from error


def parameter_map(name: str) -> Path:
    """Return the file of an Elastix parameter map: the package's own ``rigid3d``, or a user's ``my/own.txt``.

    A name without a suffix is one of the package's maps. Raises ``UserError`` when the package has none of
    that name, or when there is no such file.
    """
    folder = DATA / "elastix"
    path = Path(name) if Path(name).suffix else folder / f"{name}.txt"
    if path.is_file():
        return path
    known = ", ".join(sorted(path.stem for path in folder.glob("*.txt")))
    fault = "no such file" if Path(name).suffix else "no parameter map of that name"
    raise UserError(f"{name}: {fault}; expected {known}, or the path of a file with a suffix")


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` by a rename if the body succeeds.

    The temporary name keeps the suffixes (``.nii.gz``), because many writers choose the format by them; in
    lower case, as some know no other. The content is on the disk before the rename, so that a power cut
    leaves the old file or the new one. What killed processes of this machine left in the folder is removed.
    What those of other machines left stays, and so does a file whose process number is in use again. Raises
    ``UserError`` when the system cannot write, as on a full disk or in a write-protected folder, and where
    ``refuse_protected`` does.
    """
    path, temporary = Path(path), None
    refuse_protected(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        prefix = f"{PARTIAL}{MACHINE}-{os.getpid()}-"
        handle, name = tempfile.mkstemp("".join(path.suffixes).lower(), prefix, path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename and temporary and Path(error.filename).parent != temporary.parent:
            raise  # the error is about another file, which the body reads
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def refuse_protected(path: str | Path) -> None:
    """Raise ``UserError`` if there is such a file and nobody may write it; a rename would replace it too.

    Its mode alone counts, as the system lets root write any file.
    """
    with suppress(OSError):
        if not os.stat(path).st_mode & 0o222:
            raise UserError(f"{path}: is write-protected; remove it, or name another file")


def _remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of a folder whose processes, of this machine, have ended."""
    own = f"{PARTIAL}{MACHINE}-"
    for path in folder.glob(f"{own}*"):
        with suppress(OSError, ValueError):
            try:
                os.kill(int(path.name.removeprefix(own).partition("-")[0]), 0)
            except ProcessLookupError:
                path.unlink()


@contextmanager
def naming(where: str | Path, *kinds: type[Exception]) -> Iterator[None]:
    """Raise an error of the system, or one of ``kinds``, as a ``UserError`` of one line.

    The line begins with ``where``, or with the file that the system names if ``where`` does not name it, and
    ends with the ``reason``. A ``UserError`` passes as it is.
    """
    faults: tuple[type[Exception], ...] = (OSError, *kinds)
    try:
        yield
    except UserError:
        raise
    except faults as error:
        file = str(getattr(error, "filename", None) or where)
        begin = where if file in str(where) else file
        raise UserError(f"{begin}: {getattr(error, 'strerror', None) or reason(error)}") from error


def _separator(path: str | Path) -> str:
    return "\t" if Path(path).suffix.lower() == ".tsv" else ","


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write ``frame`` whole to a ``.csv`` or ``.tsv``, without the index. Raises ``UserError``."""
    with write_whole(path) as temporary:
        frame.to_csv(temporary, sep=_separator(path), index=False)


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a ``.csv`` or ``.tsv`` that ``write_table`` wrote. Only an empty cell is a missing value.

    The columns ``patient`` and ``section`` stay text. Raises ``UserError`` for a file that cannot be read.
    """
    how = {"dtype": {"patient": str, "section": str}, "keep_default_na": False, "na_values": [""]}
    try:
        return pd.read_csv(path, sep=_separator(path), **how)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable table ({error})") from error


def read_text(path: str | Path, form: str = "text in UTF-8") -> str:
    """Read a text in UTF-8, with or without a byte order mark, or in UTF-16 with one. Its lines end in \\n.

    Raises ``UserError``, which says to save the file in the ``form``.
    """
    with naming(path):
        content = Path(path).read_bytes()
    if content.startswith(SPREADSHEETS):
        raise UserError(f"{path}: a spreadsheet itself, expected text; save it as {form}")
    try:
        text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"not a text in {error.encoding.upper()} (byte {error.start})"
        raise UserError(f"{path}: {found}; save it as {form}") from error
    if "\0" in text:
        raise UserError(f"{path}: not a text in UTF-8 (it holds zeros); save it as {form}")
    return io.StringIO(text, newline=None).read()


def read_rows(path: str | Path, separator: str) -> list[list[str]]:
    """Read the rows of a table that a user wrote as text, each as its cells; an empty row has none.

    A cell may stand in quotes, with those inside it doubled. Raises ``UserError`` for a file that is no text,
    for columns that are separated otherwise, and for a quote that is not closed.
    """
    expected = SEPARATORS[separator]
    form = f"text in UTF-8, its columns separated by {expected}"
    text = read_text(path, form)
    first = next((line for line in text.split("\n") if line.strip() and not line.startswith("#")), "")
    for other, found in SEPARATORS.items():
        if other in first and separator not in first:
            point = ", with a point in numbers (1.5)" if found == "semicolons" else ""
            raise UserError(
                f"{path}: its columns are separated by {found}, expected {expected}; save it as {form}{point}"
            )
    rows: list[list[str]] = []
    try:
        # With ``strict`` a quote that is never closed is an error, and does not swallow the rows below it.
        rows.extend(csv.reader(io.StringIO(text), delimiter=separator, strict=True))
    except csv.Error as error:
        raise UserError(
            f"{path}, row {len(rows) + 1}: not readable ({error}); a cell that begins with a quote must end"
            ' with one, and quotes inside it are doubled: "a ""quoted"" name"'
        ) from error
    return rows


def read_text_table(path: str | Path) -> pd.DataFrame:
    """Read a ``.csv`` or ``.tsv`` that a user wrote, every cell as text.

    Empty cells behind the last column, and empty rows at the end, are left out. Raises ``UserError`` as
    ``read_rows`` does, for an empty file, for a row that has not as many cells as the header (row 1), and for
    two columns of the same name.
    """
    rows = read_rows(path, _separator(path))
    while rows and not any(cell.strip() for cell in rows[-1]):
        rows.pop()
    if not rows:
        raise UserError(f"{path}: not a readable table (it is empty)")
    header = [name.strip() for name in rows[0]]
    while header and not header[-1]:
        header.pop()
    for number, row in enumerate(rows, 1):
        while len(row) > len(header) and not row[-1].strip():
            row.pop()
        if len(row) != len(header):
            raise UserError(
                f"{path}, row {number}: {len(row)} cells, expected {len(header)} as in the header"
            )
    if len(set(header)) < len(header):
        raise UserError(f"{path}: two columns have the same name; found {', '.join(header)}")
    return pd.DataFrame(rows[1:], columns=header, dtype=str)


def write_text(text: str, path: str | Path) -> None:
    """Write a text whole, as UTF-8. Raises ``UserError``."""
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        line = next(line for line in text.splitlines() if any("\ud800" <= sign <= "\udfff" for sign in line))
        raise UserError(f"{path}: a name in it is not in UTF-8: {ascii(line)}; rename that file") from error
    with write_whole(path) as temporary:
        temporary.write_bytes(content)


def write_json(content: dict, path: str | Path) -> None:
    """Write ``content`` whole as indented JSON. Raises ``UserError``."""
    write_text(json.dumps(content, indent=2) + "\n", path)
