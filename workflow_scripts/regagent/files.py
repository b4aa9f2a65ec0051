"""Files: written whole or not at all, tables read, and the error that a faulty input raises."""

import csv
import fcntl
import io
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd

#: The package's files that are no code: Elastix's parameter maps, and Matplotlib's style of the figures.
DATA = Path(__file__).parent / "data"
STYLE = DATA / "figures.mplstyle"

#: What the name of a file begins with until it is whole.
PARTIAL = ".regagent-partial-"


class UserError(Exception):
    """A fault in the user's input: names the patient, file or key, what was found and what was expected."""


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
    leaves the old file or the new one. What a killed process left in the folder is removed. Raises
    ``UserError`` when the system cannot write, as on a full disk or in a write-protected folder.
    """
    path, temporary, handle = Path(path), None, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        handle, temporary = _make_locked("".join(path.suffixes).lower(), path.parent)
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
        if handle is not None:
            os.close(handle)


def _make_locked(suffix: str, folder: Path) -> tuple[int, Path]:
    """Make an unfinished file; return its descriptor, which holds its lock, and its path."""
    while True:
        handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=suffix, dir=folder)
        with suppress(OSError):  # where the file system has no locks, leftovers stay
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # another process took it for a leftover before it was locked


def _remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of a folder whose processes have ended: nobody holds their lock."""
    for path in folder.glob(f"{PARTIAL}*"):
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@contextmanager
def naming(what: str | Path) -> Iterator[None]:
    """Raise an error of the system as a ``UserError`` that names its file, or ``what`` if it names none."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or what}: {error.strerror or error}") from error


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


def read_text(path: str | Path) -> str:
    """Read a text in UTF-8, with or without a byte order mark. Raises ``UserError``."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text in UTF-8 (byte {error.start}); save it as UTF-8") from error


def read_text_table(path: str | Path) -> pd.DataFrame:
    """Read a ``.csv`` or ``.tsv`` that a user wrote, every cell as text.

    Empty cells behind the last column, and empty rows at the end, are left out. Raises ``UserError`` for a
    file that cannot be read or is empty, for columns that are separated otherwise, for a row that has not as
    many cells as the header (row 1), and for two columns of the same name.
    """
    separator = _separator(path)
    try:
        rows = list(csv.reader(io.StringIO(read_text(path), newline=""), delimiter=separator))
    except csv.Error as error:
        raise UserError(f"{path}: not a readable table ({error})") from error
    while rows and not any(cell.strip() for cell in rows[-1]):
        rows.pop()
    if not rows:
        raise UserError(f"{path}: not a readable table (it is empty)")
    header = [name.strip() for name in rows[0]]
    while header and not header[-1]:
        header.pop()
    others = {",": "commas", ";": "semicolons", "\t": "tabs"}
    expected = others.pop(separator)
    for other, found in others.items():
        if len(header) == 1 and other in header[0]:
            raise UserError(
                f"{path}: its columns are separated by {found}, expected {expected}, and numbers with a"
                " decimal point (1.5)"
            )
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
