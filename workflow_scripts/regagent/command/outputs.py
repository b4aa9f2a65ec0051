"""The files that the command writes: checks of their names, and writing all of them or none."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from regagent.files import UserError, refuse_protected, write_whole
from regagent.volumes.fingerprint import scan_files

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
PAGE_SUFFIX = ".html"
TABLE_SUFFIXES = (".csv", ".tsv")
JSON_SUFFIXES = (".json",)


class UsageError(UserError):
    """The options do not go together."""


def check_outputs(
    inputs: Sequence[str | Path | None], outputs: Sequence[tuple[str | Path | None, Sequence[str]]]
) -> None:
    """Check that each output can be written; an output is a path, or None, and the suffixes that it may have.

    Raises ``UsageError`` for another suffix, for a folder, for ``~``, and for a file that is an input, one
    of an input's data files, or another output. Raises ``UserError`` where a file cannot be written. Writes
    nothing itself.
    """
    taken = {os.path.realpath(file) for path in inputs if path for file in scan_files(path)}
    for path, suffixes in outputs:
        if path is None:
            continue
        check_home(path)
        if not str(path).lower().endswith(tuple(suffixes)):
            raise UsageError(f"{path}: expected a name that ends in {', '.join(suffixes)}")
        if Path(path).is_dir():
            raise UsageError(f"{path}: a folder, expected the name of a file")
        real = os.path.realpath(path)  # ``Path.resolve`` raises RuntimeError for a link to itself
        if real in taken:
            raise UsageError(
                f"{path}: is named twice, or holds an input's voxels; each output needs a file of its own"
            )
        taken.add(real)
        refuse_protected(path)
        folder = next(above for above in Path(real).parents if above.exists())
        if not folder.is_dir():
            raise UserError(f"{path}: cannot be written: {folder} is a file, expected a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"{path}: cannot be written: no permission to write into {folder}")


def check_home(path: str | Path) -> None:
    """Raise ``UsageError`` for a path in a home folder that no shell has put in, as in ``--out=~/x.csv``."""
    if str(path).startswith("~") and "/" in str(path):
        raise UsageError(
            f"{path}: the shell did not replace ~ by your home folder; put a space before it instead of =, as"
            " in `--out ~/x.csv`, or write the full path"
        )


@contextmanager
def write_together() -> Iterator[Callable[[str | Path], Path]]:
    """Yield a function that returns a temporary path for each output; the body writes to these paths.

    All outputs are put in place when the body has succeeded and all of them are on their disks. Until then
    all are as they were before. Raises ``UserError`` when one cannot be written.
    """
    staged: dict[str | Path, Path] = {}
    with tempfile.TemporaryDirectory() as folder:

        def stage(path: str | Path) -> Path:
            staged[path] = Path(tempfile.mkdtemp(dir=folder), Path(path).name)
            return staged[path]

        yield stage
        with ExitStack() as stack:  # all outputs are on their disks before the first is put in place
            for path, written in staged.items():
                with stack.enter_context(write_whole(path)).open("wb") as file:
                    file.write(written.read_bytes())
                    file.flush()
                    os.fsync(file.fileno())
