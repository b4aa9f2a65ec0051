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

from regagent.files import UserError, reason

logger = logging.getLogger("regagent")


#: Set in the environment of a run with ``deterministic: true``.
DETERMINISTIC = "REGAGENT_DETERMINISTIC"


#: Set in the environment of jobs that write to their logs alone, as the run itself has the screen.
LOGS_ONLY = "REGAGENT_LOGS_ONLY"


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


class _Formatter(logging.Formatter):
    """The message alone; a warning says that it is one, as errors do by themselves."""

    def format(self, record: logging.LogRecord) -> str:
        return ("warning: " if record.levelno == logging.WARNING else "") + super().format(record)


def _handlers(log: str | Path) -> list[logging.Handler]:
    """Return what takes messages: the file ``log``, and the screen unless ``LOGS_ONLY``.

    If the disk is full and the log cannot be written, the message on the screen still appears. Raises
    ``OSError`` if the log cannot be opened.
    """
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    Path(log).write_text("")
    # It appends, as ``told`` does.
    file = logging.FileHandler(log, encoding="utf-8", errors="backslashreplace")
    screen = logging.StreamHandler(sys.stderr)
    handlers: list[logging.Handler] = [screen, file]
    for handler in handlers:
        handler.handleError = lambda record: None  # type: ignore[method-assign]
        handler.setFormatter(_Formatter())
    if os.environ.get(LOGS_ONLY):
        screen.setStream(os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace"))
        file.handleError = screen.emit  # type: ignore[method-assign]
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), 2)
        handlers.remove(screen)
    return handlers


@contextmanager
def logged(log: str | Path) -> Iterator[logging.Logger]:
    """Run the body with its messages in the file ``log`` and on standard error.

    With ``LOGS_ONLY`` all that goes to standard error, from C too, goes to the log instead, and only what
    cannot be logged appears on the screen. An exception ends the process with status 1 and the one message of
    ``told``. The process ends when the run that it is part of ends.
    """
    end_with(int(os.environ.get(RUN_PROCESS, 0)))
    try:
        handlers = _handlers(log)
    except OSError as error:
        sys.exit(f"error: {log}: the log cannot be written: {error.strerror or error}")
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield logger
    except Exception as error:
        logger.error("error: %s", told(error, log))
        sys.exit(1)
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            with suppress(OSError):
                handler.close()


def told(error: Exception, log: str | Path | None = None) -> str:
    """Return in one line what went wrong.

    A ``UserError`` says it, and so does an error of the system about a file (a full disk, a write-protected
    folder). Of any other exception the line also says where its traceback is: at the end of the ``log``, or
    in a new file among the temporary ones.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    line = f"{type(error).__name__}: {reason(error)}"
    try:
        if log is None:
            handle, log = tempfile.mkstemp(prefix="regagent-", suffix=".log")
            os.close(handle)
        with Path(log).open("a", encoding="utf-8", errors="backslashreplace") as stream:
            traceback.print_exception(error, file=stream)
    except OSError:
        return line
    return f"{line} (the traceback is in {log})"


def check_writable(folder: str | Path) -> None:
    """Make a folder if there is none; end the process with one message if no file can be written in it."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        sys.exit(f"error: {folder}: cannot be written: {error.strerror}")
