"""Files and messages: tables written whole, job logs, and faults told to people in one line."""

import csv
import json
import logging
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import psutil

logger = logging.getLogger("regagent")


class UserError(Exception):
    """A fault in the input: says which patient, file or key, what was found and what was expected."""


#: Set in the environment of a run with ``deterministic: true``.
DETERMINISTIC = "REGAGENT_DETERMINISTIC"

#: Tells the jobs of a run which process runs it.
RUN_PROCESS = "REGAGENT_RUN_PROCESS"


def end_with(ancestor: int) -> None:
    """End this process at once when the process of that number, one of those above it, has ended.

    What a killed run or training has started would go on without it, and write what the next run writes too.
    Nothing happens where the process is not above this one, as in a job on another machine.
    """
    above = next((process for process in psutil.Process().parents() if process.pid == ancestor), None)

    def watch() -> None:
        above.wait()
        os._exit(1)

    if above:
        threading.Thread(target=watch, daemon=True).start()


def clock() -> float:
    """Return seconds, for the times that tables hold; in a deterministic run they stand still."""
    return 0.0 if os.environ.get(DETERMINISTIC) else time.perf_counter()


@contextmanager
def logged(log: str | Path) -> Iterator[logging.Logger]:
    """Run the body with its messages in the file ``log`` and on standard error.

    A ``UserError`` ends the process with status 1 and its one message, and so does what the system refuses
    (a full disk, a folder that cannot be written); any other exception does the same with the traceback kept
    in the log. The process ends with the run that it is part of.
    """
    end_with(int(os.environ.get(RUN_PROCESS, 0)))
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log, mode="w"))
    except OSError as error:
        sys.exit(f"error: {log}: the log cannot be written: {error.strerror or error}")
    for handler in handlers:
        handler.handleError = lambda record: None  # a disk that is full shall not hide the message on screen
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield logger
    except UserError as error:
        logger.error("error: %s", error)
        sys.exit(1)
    except Exception as error:
        logger.error("error: %s", refusal if (refusal := _refusal(error)) else _unexpected(error, log))
        sys.exit(1)
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            with suppress(OSError):
                handler.close()


def _refusal(error: Exception) -> str:
    """Return which file the system refused and why, '' for an exception of another kind."""
    if not isinstance(error, OSError) or not error.filename or not error.strerror:
        return ""
    return f"{error.filename}: {error.strerror}"


def _unexpected(error: Exception, log: str | Path) -> str:
    """Keep the traceback in the log and return the one line that is told."""
    with suppress(OSError), Path(log).open("a") as stream:
        stream.write(traceback.format_exc())
    return f"{type(error).__name__}: {error} (the traceback is in {log})"


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


def check_writable(folder: str | Path) -> None:
    """End the process with one message if no file can be written in a folder, which is made if need be."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        sys.exit(f"error: {folder}: cannot be written: {error.strerror}")


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
