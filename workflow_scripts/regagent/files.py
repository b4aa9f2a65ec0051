"""Files and messages: tables written whole, job logs, and faults told to people in one line."""

import csv
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd

#: What comes with the package beside its code: Elastix's parameter maps, and the look of the figures.
DATA = Path(__file__).parent / "data"
STYLE = DATA / "figures.mplstyle"


class UserError(Exception):
    """A fault in the input: says which patient, file or key, what was found and what was expected."""


def parameter_map(name: str) -> Path:
    """Return the Elastix parameter file of a name: the package's ``rigid3d``, or a reader's ``my/own.txt``.

    Raises ``UserError`` for a name that the package does not have.
    """
    if Path(name).suffix:
        return Path(name)
    path = DATA / "elastix" / f"{name}.txt"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in path.parent.glob("*.txt")))
        raise UserError(f"{name}: no parameter map of that name; expected {known}, or the path of a file")
    return path


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` by a rename if the body succeeds.

    The temporary name keeps the suffixes (``.nii.gz``), which many writers choose the format by. The content
    is on the disk before the rename, so that a power cut leaves the old file or the new one. Raises
    ``UserError`` where the system refuses: a full disk, a folder that cannot be written.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".partial-", suffix="".join(path.suffixes), dir=path.parent)
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
            raise  # another file, that the body reads
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _separator(path: str | Path) -> str:
    return "\t" if Path(path).suffix == ".tsv" else ","


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write ``frame`` whole to a ``.csv`` or ``.tsv``, without the index."""
    with write_whole(path) as temporary:
        frame.to_csv(temporary, sep=_separator(path), index=False)


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a ``.csv`` or ``.tsv`` as ``write_table`` leaves it, where nothing but an empty cell is missing.

    Columns named ``patient`` stay text. Raises ``UserError``.
    """
    how = {"dtype": {"patient": str}, "keep_default_na": False, "na_values": [""]}
    try:
        return pd.read_csv(path, sep=_separator(path), **how)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable table ({error})") from error


def read_text_table(path: str | Path) -> pd.DataFrame:
    """Read a ``.csv`` or ``.tsv`` of a reader's own, every cell as the text that stands there.

    Raises ``UserError`` naming the first row that has not as many cells as the header, which is row 1.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, delimiter=_separator(path)))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a readable table ({error})") from error
    while rows and not rows[-1]:  # empty lines at the end
        rows.pop()
    if not rows:
        raise UserError(f"{path}: not a readable table (it is empty)")
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise UserError(
                f"{path}, row {number}: {len(row)} cells, expected {len(header)} as in the header"
            )
    if len(set(header)) < len(header):
        raise UserError(f"{path}: two columns have the same name; found {', '.join(header)}")
    return pd.DataFrame(rows[1:], columns=header, dtype=str)


def write_json(content: dict, path: str | Path) -> None:
    """Write ``content`` whole, indented."""
    with write_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
