"""MetaImage files (.mha, and .mhd with its data file), recognised by their content."""

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regagent.files import UserError
from regagent.volumes.checks import check_spacing, spatial
from regagent.volumes.text_headers import (
    LONGEST_HEADER,
    NUMBERED,
    Grid,
    Stored,
    data_files,
    decoded,
    directions_of_length_one,
    numbers,
    sizes,
    tell_what_is_assumed,
    volume_of,
    whole,
    zeros_on,
)

#: The line that all headers have.
NDIMS = re.compile(rb"^\s*NDims\s*[=:]", re.MULTILINE)

#: The line with which a header ends.
LAST_LINE = rb"^[ \t]*ElementDataFile[ \t]*[=:][^\n]*(\n|\Z)"

#: Types of a voxel. A LONG has 4 bytes in this format.
TYPES = {
    "CHAR": "i1",
    "UCHAR": "u1",
    "SHORT": "i2",
    "USHORT": "u2",
    "INT": "i4",
    "UINT": "u4",
    "LONG": "i4",
    "ULONG": "u4",
    "LONG_LONG": "i8",
    "ULONG_LONG": "u8",
    "FLOAT": "f4",
    "DOUBLE": "f8",
}

#: Units of length, each in mm; "?" is that of a header that does not know.
UNITS_MM = {"mm": 1.0, "um": 0.001, "cm": 10.0, "?": 1.0}

#: Names of one key.
DIRECTION_KEYS = ("TransformMatrix", "Rotation", "Orientation")
FIRST_KEYS = ("Offset", "Position", "Origin")
MSB_KEYS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")


def is_metaimage(path: str | Path) -> bool:
    """Return whether a file's content is that of a MetaImage file."""
    with open(path, "rb") as file:
        return NDIMS.search(file.read(8000)) is not None


def read_metaimage(path: str | Path, where: str) -> sitk.Image:
    """Read a 2D image or 3D volume of one number a voxel. Raises ``UserError`` as ``volume_of`` does."""
    fields, behind, end = _fields(path, where)
    return volume_of(_grid(fields, where), _stored(fields, behind, end, Path(path), where), where)


def read_metaimage_grid(path: str | Path, where: str) -> sitk.Image:
    """Read the grid of an image, its first three axes, as an image of zeros. Raises ``UserError``."""
    return zeros_on(_grid(_fields(path, where)[0], where), where)


def metaimage_data_files(path: str | Path, where: str) -> list[Path]:
    """Return the files that hold the voxels, which is ``path`` itself if they are local.

    Reads the header only. Raises ``UserError`` for one that names none.
    """
    fields, behind, _ = _fields(path, where)
    return _data_files(fields, behind, Path(path), where)


def _fields(path: str | Path, where: str) -> tuple[dict[str, str], bytes, int]:
    """Return the keys of the header, what stands behind it, and how many bytes the header has."""
    with open(path, "rb") as file:
        content = file.read(LONGEST_HEADER)
    last = re.search(LAST_LINE, content, re.MULTILINE)
    if not last or not NDIMS.search(content[: last.end()]):
        raise UserError(f"{where}: not a readable volume (its MetaImage header has no line ElementDataFile)")
    lines = decoded(content[: last.end()]).split("\n")
    if again := re.match(LAST_LINE, content[last.end() :].lstrip()):
        lines.append(decoded(again[0]))
    fields: dict[str, str] = {}
    for line in lines:
        found = re.match(r"\s*([^\s=:]+)\s*[=:](.*)", line)
        if not found or found[1] == "Comment":
            continue
        key, value = found[1], found[2].strip()
        if fields.setdefault(key, value).split() != value.split():
            raise UserError(
                f"{where}: its header states {key} twice, as {fields[key][:60]} and {value[:60]}; remove the"
                " wrong line"
            )
    return fields, content[last.end() :], last.end()


def _stated(fields: dict[str, str], keys: tuple[str, ...], where: str) -> str | None:
    """Return what a header states by one of the names of a key."""
    found = {fields[key] for key in keys if key in fields}
    if len(found) > 1:
        raise UserError(f"{where}: its header states {' and '.join(sorted(found))} by names of {keys[0]}")
    return found.pop() if found else None


def _grid(fields: dict[str, str], where: str) -> Grid:
    """Return the grid in ITK's world, which is MetaImage's too."""
    count = len(size := sizes(fields.get("DimSize", ""), None, "DimSize", where))
    if fields.get("NDims") != f"{count}" or count < 2:
        raise UserError(
            f"{where}: its header states NDims {fields.get('NDims', '')[:60]!r} and DimSize {size}"
        )
    unit = UNITS_MM.get(fields.get("DistanceUnits", "mm"))
    if unit is None:
        raise UserError(
            f"{where}: its header states DistanceUnits {fields['DistanceUnits'][:60]!r}, expected mm"
        )
    spaced = fields.get("ElementSpacing", fields.get("ElementSize"))
    if spaced is None:
        raise UserError(
            f"{where}: its header states no ElementSpacing, so that its size in mm is unknown; add the line"
        )
    turned, placed = _stated(fields, DIRECTION_KEYS, where), _stated(fields, FIRST_KEYS, where)
    tell_what_is_assumed(
        None if turned else f"no {DIRECTION_KEYS[0]}", None if placed else f"no {FIRST_KEYS[0]}", where
    )
    # A row of the text is an axis of the image, as is a column of directions.
    turns = numbers(turned, count**2, DIRECTION_KEYS[0], where) if turned else np.eye(count)
    directions = directions_of_length_one(turns.reshape(count, count).T[:3, :3], where)
    spacing = unit * numbers(spaced, count, "ElementSpacing", where)[:3]
    first = unit * numbers(placed, count, FIRST_KEYS[0], where)[:3] if placed else np.zeros(min(count, 3))
    if not ((spacing > 0) & (spacing < np.inf)).all():
        check_spacing(spacing.tolist(), where)
    (components,) = sizes(fields.get("ElementNumberOfChannels", "1"), 1, "ElementNumberOfChannels", where)
    return Grid(spatial(size), directions * spacing, first, components)


def _stored(fields: dict[str, str], behind: bytes, end: int, path: Path, where: str) -> Stored:
    stated = fields.get("ElementType", "")
    kind = TYPES.get(stated.removeprefix("MET_"))
    if kind is None:
        raise UserError(f"{where}: its header states an unknown type of voxels, {stated[:60]!r}")
    for key, plain in (("Slope", 1), ("Offset", 0)):
        key = f"ElementToIntensityFunction{key}"
        if numbers(fields.get(key, f"{plain}"), 1, key, where)[0] != plain:
            raise UserError(
                f"{where}: its header states {key} {fields[key]}; store the values that are meant"
            )
    dtype = np.dtype(kind).newbyteorder(">" if _is_true(_stated(fields, MSB_KEYS, where)) else "<")
    skip = whole(fields.get("HeaderSize", "0"), "HeaderSize", where)
    if not _is_true(fields.get("BinaryData", "True")):
        encoding = "text"
    else:
        encoding = "gzip" if _is_true(fields.get("CompressedData")) else "raw"
    begin = skip if skip > 0 else end * _is_local(fields)
    return Stored(_data_files(fields, behind, path, where), dtype, encoding, begin, skip=min(skip, 0))


def _data_files(fields: dict[str, str], behind: bytes, path: Path, where: str) -> list[Path]:
    if _is_local(fields):
        return [path]
    stated = fields["ElementDataFile"]
    if numbered := re.fullmatch(rf"(.*{NUMBERED}\S*)(?:\s+(\d+))?", stated):
        # A file for each slice along the last axis, from 1 or the number that is stated.
        first = int(numbered[2] or 1)
        count = sizes(fields.get("DimSize", ""), None, "DimSize", where)[-1]
        stated = f"{numbered[1]} {first} {first + count - 1} 1"
    return data_files(stated, behind, path.parent, where)


def _is_local(fields: dict[str, str]) -> bool:
    return fields["ElementDataFile"].upper() == "LOCAL"


def _is_true(text: str | None) -> bool:
    return (text or "")[:1] in ("T", "t", "1")
