"""Public data sets as cohorts: makes the sample sheet of an unpacked data set (docs/data.md)."""

import csv
import io
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from regagent.files import UserError, naming, write_text
from regagent.patients.layouts import LAYOUTS
from regagent.patients.sheet import absence, read_sheet

logger = logging.getLogger("regagent")

#: The directions in LPS of the letters by which RIRE says where an axis points to.
DIRECTIONS: dict[str, tuple[int, ...]] = {
    "L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1),
}  # fmt: skip

#: The keys of a RIRE header that are read.
USED_KEYS = ("columns", "rows", "slices", "pixel size", "slice thickness", "patient orientation")


def write_sheet(kind: str, folder: str | Path, output: str | Path) -> None:
    """Write the sample sheet of a data set's patients in ``folder``; ``kind`` is a key of ``LAYOUTS``.

    A patient without an MR or a CT is left out, and the log says so. RIRE's volumes get MetaImage headers in
    a folder beside the sheet (``rire_headers/`` beside ``rire.tsv``), which may not lie in ``folder``. Raises
    ``UserError`` when ``folder`` has no patients of that data set, for a wrong place or name of ``output``,
    for an ``output`` that exists, and for what the system cannot read or write.
    """
    # ``Path.resolve`` raises RuntimeError for a link to itself.
    folder, output = Path(os.path.realpath(folder)), Path(os.path.realpath(output))
    with naming(folder):
        records = _make_records(kind, folder, output)
    rows = io.StringIO()
    writer = csv.DictWriter(rows, list(records[0]), dialect="excel-tab", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_text(rows.getvalue(), output)
    read_sheet(output)
    logger.info("%s: %d patients", output, len(records))


def _make_records(kind: str, folder: Path, output: Path) -> list[dict[str, str]]:
    """Write the headers of RIRE, and return the rows of the sheet ``output``, by columns."""
    pattern, files = LAYOUTS[kind]
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if output.suffix != ".tsv":
        raise UserError(f"{output}: a sample sheet is tab-separated, expected a name that ends in .tsv")
    if output.exists():
        raise UserError(f"{output}: exists already; remove it, or name another file")
    headers = output.with_name(f"{output.stem}_headers")
    if kind == "rire" and folder in headers.parents:
        raise UserError(f"{output}: lies in {folder}, where nothing is to be written; choose another place")
    records = []
    # ``glob`` would take a folder that cannot be listed for an empty one.
    for place in sorted(path for path in folder.iterdir() if path.match(pattern) and path.is_dir()):
        try:
            str(place).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{place}: its path is not UTF-8 text; rename the folder") from error
        paths = {modality: place / name.format(patient=place.name) for modality, name in files.items()}
        absent = [f"{path} {fault}" for path in paths.values() if (fault := absence(path))]
        if absent:
            logger.warning("patient %s is left out: %s", place.name, absent[0])
            continue
        if kind == "rire":
            paths = {
                modality: write_rire_header(path, headers / place.name / f"{modality}.mhd")
                for modality, path in paths.items()
            }
        records.append({"patient": place.name, **{modality: str(path) for modality, path in paths.items()}})
    if not records:
        expected = " and ".join(f"{pattern}/{name.format(patient=pattern)}" for name in files.values())
        raise UserError(f"{folder}: no patients of {kind} in it, expected {expected}")
    return records


def write_rire_header(header: str | Path, output: str | Path) -> Path:
    """Write a MetaImage header (.mhd) of the ``image.bin`` beside a RIRE ``header.ascii``; return its path.

    The voxels stay big-endian int16 as they are stored, and the first one lies at 0 mm. Raises ``UserError``
    when the header cannot be read or lacks a key, when ``image.bin`` has not the size that the header gives,
    and when the axes do not point to three sides of the head.
    """
    header, output = Path(header), Path(output)
    with naming(header):
        text = header.read_text(encoding="latin-1")
    keys = _keys(text, header)
    size = [_count(keys, name, header) for name in ("columns", "rows", "slices")]
    spacing = [*_numbers(keys, "pixel size", 2, header), *_numbers(keys, "slice thickness", 1, header)]
    image = Path(os.path.realpath(header.with_name("image.bin")))
    if not image.exists():
        raise UserError(f"{image}: no such file; unpack it first if it ends in .Z or .gz")
    expected = 2 * size[0] * size[1] * size[2]
    if image.stat().st_size != expected:
        raise UserError(
            f"{image}: holds {image.stat().st_size} bytes, expected {expected} for"
            f" {' x '.join(map(str, size))} voxels of 16 bits"
        )
    if "%" in str(image):
        raise UserError(
            f"{image}: ITK cannot follow a path with a % from a MetaImage header; rename the folder"
        )
    axes = _axes(keys.get("patient orientation", ""), header)
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "ElementByteOrderMSB": True,
        "CompressedData": False,
        "TransformMatrix": _joined(value for axis in axes for value in axis),
        "Offset": "0 0 0",
        "ElementSpacing": _joined(spacing),
        "DimSize": _joined(size),
        "ElementType": "MET_SHORT",
        "ElementDataFile": image,
    }
    write_text("".join(f"{name} = {value}\n" for name, value in fields.items()), output)
    return output


def _axes(orientation: str, header: Path) -> list[tuple[int, ...]]:
    """Return the directions of columns, rows and slices in LPS; two letters get a right-handed third."""
    letters = re.findall("[LRPAHF]", orientation.upper())
    if not letters:
        logger.warning("%s: no patient orientation, taken as left, posterior, head", header)
        letters = list("LPH")
    axes = [DIRECTIONS[letter] for letter in letters]
    if len(axes) == 2:
        axes.append(tuple(int(value) for value in np.cross(axes[0], axes[1])))
    if len(axes) != 3 or abs(np.linalg.det(axes)) != 1:
        raise UserError(
            f"{header}: patient orientation is {orientation!r}, expected three of L or R, P or A, H or F"
        )
    return axes


def _keys(text: str, header: Path) -> dict[str, str]:
    """Return the values of a header by their names in lower case; one that is used has one value."""
    keys: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":="))
        first = keys.setdefault(name.lower(), value)
        if first != value and name.lower() in USED_KEYS:
            raise UserError(f"{header}: {name.lower()} is both {first!r} and {value!r}, expected one value")
    return keys


def _numbers(keys: dict[str, str], name: str, count: int, header: Path) -> list[float]:
    if name not in keys:
        raise UserError(f"{header}: no {name!r}, expected a header of RIRE")
    try:
        found = [float(part) for part in keys[name].split(":")]
    except ValueError:
        found = []
    if len(found) != count or "_" in keys[name]:  # Python takes 1_0 for 10
        expected = ("a number", "two numbers")[count - 1]
        raise UserError(f"{header}: {name} is {keys[name]!r}, expected {expected}")
    return found


def _count(keys: dict[str, str], name: str, header: Path) -> int:
    (found,) = _numbers(keys, name, 1, header)
    if not found.is_integer():
        raise UserError(f"{header}: {name} is {keys[name]!r}, expected a whole number")
    return int(found)


def _joined(values: Iterable[object]) -> str:
    return " ".join(map(str, values))
