"""What MetaImage and NRRD share: a header in text, with the voxels behind it or in files beside it.

ITK is not asked. Without a word it takes what it can unpack of damaged voxels, raw files that are longer than
the header states, and 1 mm where no spacing is stated.
"""

import bz2
import logging
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.files import UserError
from regagent.volumes.checks import check_components, check_spacing, on_grid, right_angled, zeros

logger = logging.getLogger("regagent")

Array = NDArray[np.float64]

#: Bytes of a file within which its header ends.
LONGEST_HEADER = 1_000_000

#: Letters of a reason that are told, as it may quote voxels.
LONGEST_REASON = 90

#: The place of a number in a pattern of names.
NUMBERED = "%(?:0[0-9]{1,2}|[0-9])?[diu]"

#: Data files that a pattern may name. A damaged number would name more than the memory holds.
MOST_FILES = 100_000

#: A direction whose length differs from 1 by more is no rounded one.
UNIT_LENGTH_TOLERANCE = 0.01


def _unzipped(content: bytes) -> bytes:
    """Unpack streams of gzip or zlib, one behind the other, each with its checksum; zeros may follow."""
    parts = []
    while content.strip(b"\0"):
        stream = zlib.decompressobj(32 + zlib.MAX_WBITS)  # 32: either of the two
        parts.append(stream.decompress(content))
        if not stream.eof:
            raise zlib.error("it ends too early")
        content = stream.unused_data
    return b"".join(parts)


#: By the name of an encoding, what makes the bytes of voxels of what is stored.
UNPACK: Mapping[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "gzip": _unzipped,
    "bzip2": bz2.decompress,
    "hex": lambda content: bytes.fromhex(content.decode("ascii")),
}


@dataclass(frozen=True)
class Stored:
    """Where the voxels are stored: one behind the other in ``files``, and how.

    ``encoding`` is one of ``UNPACK``, or "text". Of each file the first ``begin`` bytes and the next
    ``lines`` lines are left out, and of what is then unpacked the first ``skip`` bytes; with ``skip`` -1 all
    but the last bytes.
    """

    files: Sequence[Path]
    dtype: np.dtype
    encoding: str = "raw"
    begin: int = 0
    lines: int = 0
    skip: int = 0


@dataclass(frozen=True)
class Grid:
    """The grid that a header states, x first: size (N,), steps (D, D) in columns and first voxel (D,) in mm.

    D is 2 or 3. If N is larger, the axes behind the third have no place in space.
    """

    size: tuple[int, ...]
    steps: Array
    first: Array
    components: int = 1


def volume_of(grid: Grid, stored: Stored, where: str) -> sitk.Image:
    """Return the 2D image or 3D volume of one number a voxel, its voxels read.

    Raises ``UserError``, which begins with ``where``: for voxels of several numbers or in more dimensions,
    for an implausible spacing, sheared axes, and data that are absent, damaged, or not exactly as many as the
    header states.
    """
    dimension = len(grid.size)
    check_components(grid.components, dimension, where)
    if dimension > 3:
        raise UserError(f"{where}: {dimension}D image, expected a 3D volume")
    place = _place(grid, where)
    return on_grid(sitk.GetImageFromArray(_voxels(grid, stored, where)), *place)


def zeros_on(grid: Grid, where: str) -> sitk.Image:
    """Return an image of zeros on a grid, of which up to three axes count. Raises ``UserError``."""
    return on_grid(zeros(grid.size[:3], where), *_place(grid, where))


def _place(grid: Grid, where: str) -> tuple[Array, Array, Array]:
    """Return the spacing (D,) and the first voxel (D,) in mm, and the directions (D, D)."""
    if not np.isfinite(grid.first).all():
        raise UserError(f"{where}: its header places the first voxel at {grid.first.tolist()} mm")
    spacing = np.linalg.norm(grid.steps, axis=0)
    if not (np.isfinite(spacing).all() and spacing.all()):
        check_spacing(spacing.tolist(), where)
    check_spacing(spacing[: 2 if grid.size[2:] == (1,) else 3].tolist(), where)
    return spacing, grid.first, right_angled(grid.steps, grid.size[:3], where)


def _voxels(grid: Grid, stored: Stored, where: str) -> NDArray:
    """Return the voxels, the last axis first."""
    each, left = divmod(math.prod(grid.size) * stored.dtype.itemsize, len(stored.files))
    if left:
        raise UserError(f"{where}: size {grid.size} in {len(stored.files)} data files, which cannot share it")
    content = b"".join(_bytes_of(path, stored, each, where) for path in stored.files)
    voxels = np.frombuffer(content, stored.dtype).reshape(grid.size[::-1])
    return voxels.astype(stored.dtype.newbyteorder("="), copy=False)


def _content(path: Path, stored: Stored, where: str) -> bytes:
    if not path.is_file():
        raise UserError(
            f"{where}: its data file {path} is absent; it must lie beside the header as named there"
        )
    with path.open("rb") as file:
        file.seek(stored.begin)
        content = file.read()
    for _ in range(stored.lines):
        content = content.partition(b"\n")[2]
    return content


def _bytes_of(path: Path, stored: Stored, expected: int, where: str) -> bytes:
    content = _content(path, stored, where)
    text = stored.encoding == "text"
    try:
        content = _from_text(content, stored.dtype) if text else UNPACK[stored.encoding](content)
    except (zlib.error, OSError, ValueError) as error:
        told = f"{error}"[:LONGEST_REASON]
        raise UserError(
            f"{where}: {path.name} is damaged or cut off ({told}); copy or export it again"
        ) from error
    skip = max(len(content) - expected, 0) if stored.skip < 0 else stored.skip
    found = max(len(content) - skip, 0)
    if found < expected:
        raise UserError(
            f"{where}: {path.name} is cut off: {found} bytes of voxels, expected {expected}; copy or"
            " export it again"
        )
    if found > expected:
        raise UserError(
            f"{where}: {path.name} has {found} bytes of voxels, expected {expected}; are the size and"
            " type in the header right, and must a foreign header be skipped (HeaderSize, byte skip)?"
        )
    return content[skip:]


def _from_text(content: bytes, dtype: np.dtype) -> bytes:
    """Return the bytes of numbers in text. Raises ``ValueError`` for another number than the type holds."""
    words = content.split()
    if dtype.kind == "f":
        return np.array([float(word) for word in words], dtype).tobytes()
    limits = np.iinfo(dtype)
    numbers = [int(word) for word in words]
    if not all(limits.min <= number <= limits.max for number in numbers):
        raise ValueError(f"a number that {dtype.name} does not hold")
    return np.array(numbers, dtype).tobytes()


def data_files(stated: str, behind: bytes, folder: Path, where: str) -> list[Path]:
    """Return the files that a header states: one name, a pattern such as ``s%03d.raw 0 39 1``, or ``LIST``.

    The step of a pattern may be below zero: ``s%03d.raw 39 0 -1``. The names of ``LIST``, or ``LIST 2D``,
    stand in the lines ``behind`` it. A name counts from ``folder``.
    """
    limits_of = r"\s+(-?\d{1,9})\s+(-?\d{1,9})(?:\s+(-?\d{1,9}))?(?:\s+\d+)?"
    pattern = re.fullmatch(f"(.*{NUMBERED}.*?){limits_of}", stated)
    if re.fullmatch(r"LIST(\s*\d+D?)?", stated):
        names = decoded(behind).split("\n")
        names = [line.strip() for line in names if line.strip()]
    elif pattern:
        name, *limits = pattern.groups(default="1")
        first, last, step = map(int, limits)
        (found,) = re.findall(NUMBERED, name)[:1]
        counted = range(first, last + (1 if step > 0 else -1), step) if step else ()
        if len(counted) > MOST_FILES:
            raise UserError(
                f"{where}: its header names {len(counted)} data files, expected {MOST_FILES} at most"
            )
        names = [name.replace(found, found % number) for number in counted]
    else:
        names = [stated]
    if not all(names) or not names:
        raise UserError(f"{where}: its header names no data file")
    return [folder / name for name in names]


def decoded(content: bytes) -> str:
    """Return a header's text, from which ``os.fsencode`` makes the bytes of a name again."""
    return content.decode("utf-8", "surrogateescape")


def numbers(text: str, count: int | None, key: str, where: str) -> Array:
    """Return the numbers (count,) that a header states for a key. Raises ``UserError``."""
    try:
        found = np.array([float(word) for word in text.split()])
    except ValueError:
        found = np.empty(0)
    if not len(found) or count not in (None, len(found)):
        wanted = f"{count} numbers" if count else "numbers"
        raise UserError(f"{where}: its header states {key} {text[:60]!r}, expected {wanted}")
    return found


def sizes(text: str, count: int | None, key: str, where: str) -> tuple[int, ...]:
    """Return the number of voxels along each axis that a header states. Raises ``UserError``."""
    found = numbers(text, count, key, where)
    if not all(1 <= size < 2**31 and size == int(size) for size in found):
        raise UserError(f"{where}: its header states {key} {text[:60]!r}, expected voxels along each axis")
    return tuple(map(int, found))


def whole(text: str, key: str, where: str) -> int:
    """Return a number of bytes or lines that a header states, or -1. Raises ``UserError``."""
    if not re.fullmatch(r"-1|\d{1,15}", text):
        raise UserError(f"{where}: its header states {key} {text[:60]!r}, expected a number, or -1")
    return int(text)


def directions_of_length_one(directions: Array, where: str) -> Array:
    """Return directions (D, D), in columns, with what they were rounded undone. Raises ``UserError``."""
    lengths = np.linalg.norm(directions, axis=0)
    if not (np.abs(lengths - 1) < UNIT_LENGTH_TOLERANCE).all():
        raise UserError(f"{where}: its header's directions have lengths {lengths.tolist()}, expected 1")
    return directions / lengths


def tell_what_is_assumed(axes: str | None, first: str | None, where: str) -> None:
    """Log in one line that a header states no axes, no first voxel, or neither: the keys that lack."""
    if axes:
        logger.warning(
            "%s: its header does not say where its axes point (%s): taken as to the patient's left, back and"
            " head; left and right may be exchanged%s",
            where, axes, "; its first voxel is taken to lie at 0 mm" if first else "",
        )  # fmt: skip
    elif first:
        logger.warning(
            "%s: its header does not say where its first voxel lies (%s): taken as 0 mm", where, first
        )
