"""NRRD files (.nrrd, and .nhdr with its data file), recognised by their content."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.files import UserError
from regagent.volumes.checks import check_spacing, spatial
from regagent.volumes.text_headers import (
    LONGEST_HEADER,
    Array,
    Grid,
    Stored,
    data_files,
    decoded,
    numbers,
    sizes,
    tell_what_is_assumed,
    volume_of,
    whole,
    zeros_on,
)

#: What a file begins with, before its version.
MARK = b"NRRD00"

#: Types of a voxel, each with all its names.
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64")
    + ("int64_t",),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}

ENCODINGS = {"gz": "gzip", "bz2": "bzip2", "txt": "text", "ascii": "text"}

#: What takes a place in a space to ITK's world, x to the left, y to the back (LPS).
TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
}
SPACES = {"lps": "left-posterior-superior", "ras": "right-anterior-superior", "las": "left-anterior-superior"}
SPACES |= {f"{short}t": f"{space}-time" for short, space in SPACES.items()}

UNITS_MM = {
    "": 1.0,
    "mm": 1.0,
    "millimeter": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "um": 0.001,
    "µm": 0.001,
    "μm": 0.001,
}

#: All fields of the format, as ``_fields`` names them.
FIELDS = {
    "content", "number", "type", "blocksize", "dimension", "space", "spacedimension", "sizes", "spacings",
    "thicknesses", "axismins", "axismaxs", "centers", "centerings", "labels", "units", "kinds", "min", "max",
    "oldmin", "oldmax", "datafile", "endian", "encoding", "lineskip", "byteskip", "sampleunits", "spaceunits",
    "spaceorigin", "spacedirections", "measurementframe",
}  # fmt: skip

#: Kinds of an axis along which voxels lie; along another lie the numbers of a voxel.
SPATIAL_KINDS = ("domain", "space", "time", "???", "none")


def is_nrrd(path: str | Path) -> bool:
    """Return whether a file's content is that of an NRRD file."""
    with open(path, "rb") as file:
        return file.read(len(MARK)) == MARK


def read_nrrd(path: str | Path, where: str) -> sitk.Image:
    """Read a 2D image or 3D volume of one number a voxel. Raises ``UserError`` as ``volume_of`` does."""
    fields, behind, end = _fields(path, where)
    return volume_of(_grid(fields, where), _stored(fields, behind, end, Path(path), where), where)


def read_nrrd_grid(path: str | Path, where: str) -> sitk.Image:
    """Read the grid of an image, its first three axes, as an image of zeros. Raises ``UserError``."""
    return zeros_on(_grid(_fields(path, where)[0], where), where)


def nrrd_data_files(path: str | Path, where: str) -> list[Path]:
    """Return the files that hold the voxels, which is ``path`` itself if they stand behind the header.

    Reads the header only. Raises ``UserError`` for one that cannot be read.
    """
    fields, behind, _ = _fields(path, where)
    return _data_files(fields, behind, Path(path), where)


def _fields(path: str | Path, where: str) -> tuple[dict[str, str], bytes, int]:
    """Return the fields of the header, the text behind "data file: LIST", and how many bytes the header has.

    The names of fields are in lower case and without spaces: "spacedirections".
    """
    with open(path, "rb") as file:
        content = file.read(LONGEST_HEADER)
    blank = re.search(rb"\r?\n\r?\n", content)
    if not blank and len(content) == LONGEST_HEADER:
        raise UserError(
            f"{where}: its header does not end within {LONGEST_HEADER} bytes, expected a blank line behind it"
        )
    end = blank.end() if blank else len(content)
    listed = re.search(rb"^data ?file:[ \t]*LIST[^\n]*\n", content[:end], re.MULTILINE | re.IGNORECASE)
    header = content[: listed.end() if listed else end]
    fields: dict[str, str] = {}
    for line in decoded(header).split("\n")[1:]:
        if not line.strip() or line.startswith("#") or re.match(r"((?!: ).)*:=", line):
            continue  # a blank line, a comment, or a key of the file's owner
        name, _, value = line.partition(":")
        key = name.strip().lower().replace(" ", "")
        if key not in FIELDS:
            raise UserError(
                f"{where}: its header has a line {line.strip()[:60]!r}, which is no field of NRRD; correct"
                " its name, or remove it"
            )
        if key in fields:
            raise UserError(f"{where}: its header states {name!r} twice")
        fields[key] = value.strip()
    return fields, content[listed.end() : end] if listed else b"", end


def _grid(fields: dict[str, str], where: str) -> Grid:
    """Return the grid in ITK's world."""
    if any(_given(fields, key, 1, where).any() for key in ("oldmin", "oldmax")):
        raise UserError(
            f"{where}: its values are coarse steps from old min to old max, which ITK leaves out; store the"
            " values that are meant"
        )
    size = sizes(fields.get("sizes", ""), None, "sizes", where)
    if fields.get("dimension") != f"{len(size)}":
        raise UserError(
            f"{where}: its header states dimension {fields.get('dimension', '')[:60]!r} and sizes {size}"
        )
    kinds = fields.get("kinds", "").lower().split() or ["???"] * len(size)
    vectors = _vectors(fields.get("spacedirections", ""), "space directions", where)
    if len(kinds) != len(size) or (vectors and len(vectors) != len(size)):
        raise UserError(f"{where}: its header's kinds or space directions are not of {len(size)} axes")
    if vectors:
        inside = [axis for axis, vector in enumerate(vectors) if vector is not None]
    else:
        inside = [axis for axis, kind in enumerate(kinds) if kind in SPATIAL_KINDS]
    for axis in inside:
        if kinds[axis] not in SPATIAL_KINDS or (kinds[axis] == "time" and axis in inside[:3]):
            raise UserError(
                f"{where}: its header states kinds {fields['kinds'][:60]!r}, but places axis {axis + 1} in"
                " space; expected domain or space there"
            )
    components = math.prod(count for axis, count in enumerate(size) if axis not in inside)
    kept = spatial([size[axis] for axis in inside])
    if len(kept) < 2:
        raise UserError(f"{where}: size {kept}, expected at least 2 axes in space")
    if vectors:
        steps, first = _placed([vector for vector in vectors if vector is not None][:3], fields, where)
        _check_states_no_more(fields, inside, len(size), where)
    else:
        steps, first = _spaced(len(size), inside[:3], fields, where)
    if steps.shape == (3, 2):  # an image in a world of three axes: a volume of one slice, 1 mm thick
        normal = np.cross(*steps.T)
        steps = np.column_stack([steps, normal / max(np.linalg.norm(normal), 1e-12)])
        kept = (*kept, 1)
    return Grid(kept, steps, first, components)


def _placed(vectors: list[Array], fields: dict[str, str], where: str) -> tuple[Array, Array]:
    """Return the steps (W, D) and the first voxel (W,) in mm in ITK's world, which has W axes."""
    stated = fields.get("space", "").lower()
    space = SPACES.get(stated, stated)
    axes = len(vectors[0])
    expected = 3 + space.endswith("-time") if space.removesuffix("-time") in TO_LPS else axes
    if expected != axes or fields.get("spacedimension", f"{axes}") != f"{axes}":
        raise UserError(f"{where}: its header states vectors of {axes} numbers, but a space of other axes")
    space = space.removesuffix("-time")
    unit = _unit(fields, "spaceunits", range(axes)[:3], axes, where)
    steps = np.column_stack(vectors)
    if steps[3:].any():
        raise UserError(f"{where}: its header's space directions lead through space and time at once")
    steps = steps[:3]
    origin = [
        place for place in _vectors(fields.get("spaceorigin", ""), "space origin", where) if place is not None
    ]
    if origin and (len(origin) != 1 or len(origin[0]) != axes):
        raise UserError(f"{where}: its header's space directions and origin do not fit one another")
    first = origin[0][:3] if origin else np.zeros(len(steps))
    if steps.shape not in ((2, 2), (3, 2), (3, 3)):
        raise UserError(f"{where}: its header's space directions and origin do not fit one another")
    known = space in TO_LPS or steps.shape == (2, 2)
    lacks = f"space {stated}" if stated else "no space"
    tell_what_is_assumed(None if known else lacks, None if origin else "no space origin", where)
    to_lps = unit * np.array(TO_LPS.get(space, (1, 1, 1)))[: len(steps)]
    return steps * to_lps[:, None], first * to_lps


def _spaced(count: int, inside: list[int], fields: dict[str, str], where: str) -> tuple[Array, Array]:
    """Return the steps (D, D) and the first voxel (D,) in mm, where a header has spacings only.

    ``axis mins`` state where the first voxels begin, or where their middles lie if they are centred on nodes.
    """
    if "spacings" not in fields:
        raise UserError(
            f"{where}: its header states no space directions or spacings, so that its size in mm is unknown"
        )
    for key, name in (
        ("space", "space"), ("spaceorigin", "space origin"), ("spaceunits", "space units"),
    ):  # fmt: skip
        if fields.get(key, "").strip(' "'):
            raise UserError(
                f"{where}: its header states {name} {fields[key][:60]!r}, but spacings instead of space"
                " directions, so that its place in that space is unknown; state space directions"
            )
    unit = _unit(fields, "units", inside, count, where)
    spacings = unit * numbers(fields["spacings"], count, "spacings", where)[inside]
    check_spacing(spacings.tolist(), where)
    steps, placed = np.diag(spacings), _given(fields, "axismins", count, where)[inside].all()
    tell_what_is_assumed("no space directions", None if placed else "no space origin or axis mins", where)
    if not placed:
        return steps, np.zeros(len(spacings))
    mins = unit * numbers(fields["axismins"], count, "axis mins", where)[inside]
    centred = fields.get("centerings", fields.get("centers", "")).lower().split() or ["cell"] * count
    if len(centred) != count:
        raise UserError(f"{where}: its header's centerings are not of {count} axes")
    return steps, mins + spacings * [0.0 if centred[axis] == "node" else 0.5 for axis in inside]


def _vectors(text: str, key: str, where: str) -> list[Array | None]:
    """Return the vectors of a field, all of one length; None for "none"."""
    found = re.findall(r"none|\(([^()]*)\)|(\S+)", text)
    if any(wrong for _, wrong in found):
        raise UserError(f"{where}: its header states {key} {text[:60]!r}, expected vectors as (1,0,0)")
    vectors = [numbers(inner.replace(",", " "), None, key, where) if inner else None for inner, _ in found]
    if len({len(vector) for vector in vectors if vector is not None}) > 1:
        raise UserError(f"{where}: its header states {key} {text[:60]!r}, expected vectors of one length")
    return vectors


def _check_states_no_more(fields: dict[str, str], inside: list[int], count: int, where: str) -> None:
    """Check that nothing else is stated of axes that have a direction. Raises ``UserError``."""
    found = [
        (key, fields[key])
        for key in ("spacings", "axismins", "axismaxs")
        if _given(fields, key, count, where)[inside].any()
    ]
    if any(_units(fields.get("units", ""), count, where)[axis] for axis in inside):
        found.append(("units", fields["units"]))
    for key, value in found:
        raise UserError(
            f"{where}: its header states {key.replace('axis', 'axis ')} {value[:60]!r} of axes that have"
            " space directions; remove what does not hold (the unit of directions is that of space units)"
        )


def _given(fields: dict[str, str], key: str, count: int, where: str) -> NDArray[np.bool_]:
    """Return which of the numbers (count,) of a field are stated; NaN is none."""
    text = fields.get(key)
    return ~np.isnan(numbers(text, count, key, where)) if text else np.zeros(count, bool)


def _units(text: str, count: int, where: str) -> list[str]:
    """Return the units (count,) of a field, with or without quotes; "" is one that is not stated."""
    units = [(quoted or bare).strip() for quoted, bare in re.findall(r'"([^"]*)"|([^\s"]+)', text)]
    if units and len(units) != count:
        raise UserError(f"{where}: its header states units {text[:60]}, expected {count} of them")
    return units or [""] * count


def _unit(fields: dict[str, str], key: str, axes: Sequence[int], count: int, where: str) -> float:
    """Return the length in mm of the unit of axes, of which a field states the units (count,)."""
    text = fields.get(key, "")
    units = [_units(text, count, where)[axis] for axis in axes]
    if not set(units) <= set(UNITS_MM) or len(lengths := {UNITS_MM[unit] for unit in units}) != 1:
        raise UserError(f"{where}: its header states units {text[:60]}, expected mm")
    return lengths.pop()


def _stored(fields: dict[str, str], behind: bytes, end: int, path: Path, where: str) -> Stored:
    stated = fields.get("type", "")
    kind = next((kind for kind, names in TYPES.items() if stated.lower() in names), None)
    if kind is None:
        raise UserError(f"{where}: its header states an unknown type of voxels, {stated[:60]!r}")
    dtype, order = np.dtype(kind), fields.get("endian", "").lower()
    encoding = fields.get("encoding", "").lower()
    encoding = ENCODINGS.get(encoding, encoding)
    if encoding not in ("raw", "gzip", "bzip2", "hex", "text"):
        raise UserError(f"{where}: its header states encoding {encoding[:60]!r}, expected raw or gzip")
    if order not in ("little", "big") and dtype.itemsize > 1 and encoding != "text":
        raise UserError(f"{where}: its header states endian {order[:60]!r}, expected little or big")
    dtype = dtype.newbyteorder(">" if order == "big" else "<")
    lines = whole(fields.get("lineskip", "0"), "line skip", where)
    skip = whole(fields.get("byteskip", "0"), "byte skip", where)
    begin = 0 if fields.get("datafile") else end
    return Stored(_data_files(fields, behind, path, where), dtype, encoding, begin, lines, skip)


def _data_files(fields: dict[str, str], behind: bytes, path: Path, where: str) -> list[Path]:
    detached = fields.get("datafile")
    return data_files(detached, behind, path.parent, where) if detached else [path]
