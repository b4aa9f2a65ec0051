"""Jobs of a run: their log, their clock, their end when the run ends, and errors told in one line."""

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

import psutil

from regagent.files import UserError

logger = logging.getLogger("regagent")


#: Set in the environment of a run with ``deterministic: true``.
DETERMINISTIC = "REGAGENT_DETERMINISTIC"


#: Set in the environment of a run's jobs: the number of the process that runs them.
RUN_PROCESS = "REGAGENT_RUN_PROCESS"


def end_with(ancestor: int) -> None:
    """End this process at once when its ancestor process of that number has ended.

    Otherwise the processes of a killed run or training would continue, and write the same files as the next
    run. Nothing happens if the number is not an ancestor's, as in a job on another machine.
    """
    above = next((process for process in psutil.Process().parents() if process.pid == ancestor), None)

    def watch(process: psutil.Process) -> None:
        process.wait()
        os._exit(1)

    if above:
        threading.Thread(target=watch, args=(above,), daemon=True).start()


def clock() -> float:
    """Return the time in seconds by which durations are measured; it is always 0 in a deterministic run."""
    return 0.0 if os.environ.get(DETERMINISTIC) else time.perf_counter()


@contextmanager
def logged(log: str | Path) -> Iterator[logging.Logger]:
    """Run the body with its messages in the file ``log`` and on standard error.

    A ``UserError`` ends the process with status 1 and its one message. An error of the system about a file
    (a full disk, a write-protected folder) does the same. Any other exception does so too, and its traceback
    is kept in the log. The process ends when the run that it is part of ends.
    """
    end_with(int(os.environ.get(RUN_PROCESS, 0)))
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        Path(log).write_text("")
        handlers.append(logging.FileHandler(log))  # appends, as ``_unexpected`` does
    except OSError as error:
        sys.exit(f"error: {log}: the log cannot be written: {error.strerror or error}")
    for handler in handlers:
        # If the disk is full and the log cannot be written, the message on the screen still appears.
        handler.handleError = lambda record: None  # type: ignore[method-assign]
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
    """Return which file the system could not read or write and why, or '' for any other exception."""
    if not isinstance(error, OSError) or not error.filename or not error.strerror:
        return ""
    return f"{error.filename}: {error.strerror}"


def _unexpected(error: Exception, log: str | Path) -> str:
    """Append the traceback to the log and return a message of one line."""
    with suppress(OSError), Path(log).open("a") as stream:
        stream.write(traceback.format_exc())
    return f"{type(error).__name__}: {' '.join(str(error).split())} (the traceback is in {log})"


def check_writable(folder: str | Path) -> None:
    """Make a folder if there is none; end the process with one message if no file can be written in it."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        sys.exit(f"error: {folder}: cannot be written: {error.strerror}")
