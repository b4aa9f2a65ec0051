"""The process that the command or a run lives in: how it reads the names of files, and where it prints."""

import os
import sys


def start_in_utf8() -> None:
    """Start this program anew in Python's UTF-8 mode if it reads the names of files in another encoding.

    The file systems of Linux and ITK have names in UTF-8. Python reads them otherwise where the locale says
    so, as one of Latin-1 does, or ``LC_ALL=C`` with ``PYTHONUTF8=0``. What this program starts inherits the
    mode.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        environment = os.environ | {"PYTHONUTF8": "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def print_anything() -> None:
    """Let no ``print`` fail: what the terminal cannot show is escaped, and a pipe is written to in the end.

    So a reader that goes away early, as ``| head -1`` does, does not stop the work. See ``flush_output``.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None where it was closed before the start
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if sys.stdout is not None and not sys.stdout.isatty():
        sys.stdout.reconfigure(line_buffering=False, write_through=False)  # type: ignore[union-attr]


def flush_output() -> str:
    """Write out what was printed. Return why that failed, or '' if it did not, or if nobody reads it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # Otherwise Python tries again when it ends, and prints a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "" if isinstance(error, BrokenPipeError) else f"{error.strerror}"
    return ""
