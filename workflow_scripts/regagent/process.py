"""The process that the command or a run lives in: how it reads names of files, and what it prints where."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar


def start_in_utf8() -> None:
    """Start this program anew in Python's UTF-8 mode if it reads the names of files in another encoding.

    The file systems of Linux and ITK have names in UTF-8. Python reads them otherwise where the locale says
    so, as one of Latin-1 does, or ``LC_ALL=C`` with ``PYTHONUTF8=0``. What this program starts inherits the
    mode.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        environment = os.environ | {"PYTHONUTF8": "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


class _Output(io.FileIO):
    """The standard output. What cannot be written is dropped; ``lost`` says why, unless nobody reads it."""

    lost: ClassVar[str] = ""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                _Output.lost = f"{error.strerror}"
            return memoryview(content).nbytes


def print_anything() -> None:
    """Let no ``print`` fail: what the terminal cannot show is escaped, what cannot be written is dropped.

    So a reader that goes away early, as ``| head -1`` does, does not stop the work. See ``flush_output``.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None where it was closed before the start
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if isinstance(out := sys.stdout, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(out.fileno(), "w", closefd=False)),
            encoding=out.encoding,
            errors=out.errors,
            line_buffering=out.line_buffering,
            write_through=out.write_through,
        )


def flush_output() -> str:
    """Write out what was printed. Return why some was dropped; '' if none was, or if nobody reads it."""
    if sys.stdout is not None:
        sys.stdout.flush()
    return _Output.lost


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Let ITK print no warnings while the body runs: our own messages name the patient or the file."""
    import SimpleITK as sitk  # its import takes too long for ``--help``

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop what the body prints to the standard error, also from C, as HDF5 does for a damaged file."""
    kept = None
    with suppress(OSError):  # it was closed before the start
        kept = os.dup(2)
    if kept is None:
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
