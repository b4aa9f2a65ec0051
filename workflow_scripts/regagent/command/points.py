"""Points in a table or in the markups of 3D Slicer, mapped in LPS and written back in their own system."""

import csv
import io
import json
import logging
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regagent.files import UserError, naming, read_text, read_text_table, write_table, write_text

logger = logging.getLogger("regagent")

Array = NDArray[np.float64]

#: Maps points (N, K) in mm in LPS.
PointMap = Callable[[Array], Array]

#: The columns that hold coordinates, and what x and y are multiplied by to be in LPS.
COLUMNS = {"xyz": 1.0, "lps": 1.0, "ras": -1.0}

#: The names of Slicer for coordinate systems. Before version 4.11 they were numbers.
SYSTEMS = {"LPS": 1.0, "1": 1.0, "RAS": -1.0, "0": -1.0}

#: The names of mm in a column.
MM = ("mm", "millimeter", "millimeters", "millimetre", "millimetres")

#: What a column states of its row's coordinates, by its name in lower case without ``_``, ``-`` and spaces.
#: Any other column may be about anything: in it only RAS counts (beside r, a, s: LPS).
STATED = (
    dict.fromkeys(("space", "coordspace", "coordinatespace", "coordsys", "coordsystem"), "system")
    | dict.fromkeys(("coordinatesystem", "coordframe", "coordinateframe", "referenceframe"), "system")
    | dict.fromkeys(("unit", "units", "coordunit", "coordunits", "coordinateunit", "coordinateunits"), "unit")
)

#: A number as programs write it. Python's own reading takes 1_0 for 10.
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

#: The columns of a .fcsv that does not name them.
FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"

#: The first of two nameless cells behind those columns, which newer versions of Slicer write: placed or not.
PLACED, NOT_PLACED = "2", ("0", "1", "3")

#: Markups that are nothing but their points. Planes and boxes have sizes and directions too.
POINT_TYPES = ("Fiducial", "Line", "Angle", "Curve", "ClosedCurve")


def own_suffix(path: str | Path) -> str | None:
    """Return the suffix that a file of markups can be written with again, None for a table."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in (".fcsv", ".json") else None


def map_points(points: str | Path, mapping: PointMap, dimension: int, output: str | Path) -> None:
    """Map the points of a file and write them, as a table or, with the file's own suffix, as such a file.

    A table has columns x, y and, for 3D (``dimension``), z, or l, p, s, or r, a, s, in mm; beside x and y,
    columns r and a are no coordinates. A file of Slicer's
    markups (.fcsv, .mrk.json) states whether it is in LPS or RAS. It is written back in that system, and all
    else in it stays; a table made of it is in LPS. Raises ``UserError`` naming the file, and the row of a
    coordinate that is not a finite number.
    """
    suffix = own_suffix(points)
    if suffix is None:
        write_table(_map_table(points, mapping, dimension), output)
        return
    table, text = (_map_fcsv if suffix == ".fcsv" else _map_markups)(points, mapping)
    if own_suffix(output):
        write_text(text, output)
    else:
        write_table(table, output)


def _map_table(path: str | Path, mapping: PointMap, dimension: int) -> pd.DataFrame:
    table = read_text_table(path)
    names = [name.lower() for name in table.columns]
    systems = [letters for letters in COLUMNS if set(letters[:dimension]) <= set(names)]
    if not systems:
        expected = list("xyz"[:dimension])
        missing = next(axis for axis in expected if axis not in names)
        raise UserError(
            f"{path}: column {missing!r} is missing; found {', '.join(table.columns)}, expected"
            f" {', '.join(expected)} in mm (LPS) for a {dimension}D transform"
        )
    letters = systems[0][:dimension]
    axes = [name for name in table.columns if name.lower() in list(letters)]
    others = [other for other in systems[1:] if letters[0] != "x" or set(other) <= set(names)]
    if others or len(axes) > dimension:
        raise UserError(f"{path}: several columns for one coordinate; found {', '.join(table.columns)}")
    _check_stated(table, letters, COLUMNS[systems[0]], path)
    axes.sort(key=lambda name: letters.index(name.lower()))
    values = table[axes].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    # Slicer exports points that are not placed yet, too.
    placed = np.ones(len(table), bool)
    for name in table.columns:
        if name.lower() == "defined":
            placed = (table[name].str.strip() != "0").to_numpy()
    faulty = np.flatnonzero(placed & ~np.isfinite(values).all(1))
    if len(faulty):
        found = ", ".join(cell.strip() or "nothing" for cell in table.loc[faulty[0], axes])
        raise UserError(f"{path}, row {faulty[0] + 2}: coordinates {found}, expected numbers in mm")
    cells = table[axes].to_numpy(dtype=object)
    cells[placed] = _turned(mapping(_turned(values[placed], COLUMNS[systems[0]])), COLUMNS[systems[0]])
    return table.assign(**dict(zip(axes, cells.T, strict=True)))


def _check_stated(table: pd.DataFrame, letters: str, sign: float, path: str | Path) -> None:
    """Check that no cell states another coordinate system than that of the columns' names, or another unit.

    An empty cell, and ``n/a`` of BIDS, states nothing.
    """
    own, number, other = ("lps", "1", "ras") if sign > 0 else ("ras", "0", "lps")
    accepted = {"unit": ("", "n/a", *MM), "system": ("", "n/a", own, number)}
    for name in table.columns:
        stated = STATED.get(re.sub("[_ -]", "", name.lower()), "")
        found = table[name].str.strip().str.lower().str.removesuffix("+")
        wrong = np.flatnonzero(~found.isin(accepted[stated]) if stated else found == other)
        if len(wrong):
            expected = "mm; convert the points"
            if stated != "unit":
                expected = (
                    f"{own.upper()} as {', '.join(letters)} are read; convert the points to LPS or RAS"
                    " and name their columns l, p, s or r, a, s"
                )
            raise UserError(
                f"{path}, row {wrong[0] + 2}: column {name!r} states {table[name][wrong[0]].strip()},"
                f" expected {expected}, or rename this column if it is about something else"
            )


def _turned(values: Array, sign: float) -> Array:
    """Return points (N, K) with x and y multiplied by ``sign``, from RAS to LPS or back."""
    return values * np.array([sign, sign, 1.0])[: values.shape[1]] + 0.0  # so that no -0.0 comes out


def _sign(system: object, path: str | Path) -> float:
    if str(system).upper() not in SYSTEMS:
        raise UserError(
            f"{path}: its coordinate system is {system or 'not stated'}, expected LPS or RAS; save it again"
            " by a newer version of 3D Slicer"
        )
    return SYSTEMS[str(system).upper()]


def _map_fcsv(path: str | Path, mapping: PointMap) -> tuple[pd.DataFrame, str]:
    """Return the table of the mapped points in LPS, and the whole text with them in its own system.

    A point that is not placed yet stays as it is, and is not in the table.
    """
    lines = read_text(path).split("\n")
    keys = [line.lstrip("#").partition("=") for line in lines if line.startswith("#")]
    named = [(key.strip().lower(), value.strip()) for key, found, value in keys if found]
    stated = dict(named)
    if len({value for key, value in named if key == "coordinatesystem"}) > 1:
        raise UserError(f"{path}: states two coordinate systems, expected LPS or RAS")
    if len({value.replace(" ", "") for key, value in named if key == "columns"}) > 1:
        raise UserError(
            f"{path}: names its columns twice, differently; keep the line '# columns = ' that fits"
        )
    sign = _sign(stated.get("coordinatesystem"), path)
    columns = [name.strip() for name in stated.get("columns", FCSV_COLUMNS).split(",")]
    if not {"x", "y", "z"} <= set(columns):
        raise UserError(f"{path}: its columns are {', '.join(columns)}, expected x, y and z among them")
    places = [columns.index(axis) for axis in "xyz"]
    numbers = [number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    rows = []
    for number in numbers:
        with naming(f"{path}, line {number + 1}", csv.Error):
            rows.append(next(csv.reader([lines[number]])))
    placed, values = {}, []
    for number, cells in zip(numbers, rows, strict=True):
        where, more = f"{path}, line {number + 1}", [cell.strip() for cell in cells[len(columns) :]]
        if more and not (len(more) == 2 and more[0] in (PLACED, *NOT_PLACED) and more[1].isdecimal()):
            raise UserError(f"{where}: {len(cells)} cells, expected {len(columns)} (decimal commas?)")
        if more and more[0] in NOT_PLACED:
            continue
        placed[number] = cells
        found = [cells[place].strip() if place < len(cells) else "" for place in places]
        values.append(_position(found, where))
    mapped = mapping(_turned(np.array(values, dtype=float).reshape(-1, 3), sign))
    for (number, cells), point in zip(placed.items(), _turned(mapped, sign).tolist(), strict=True):
        for place, coordinate in zip(places, point, strict=True):
            cells[place] = repr(coordinate)
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(cells)
        lines[number] = line.getvalue()
    width = len(columns)
    table = pd.DataFrame(
        [(cells + width * [""])[:width] for cells in placed.values()], columns=columns, dtype=str
    )
    return table.assign(**dict(zip("xyz", mapped.T, strict=True))), "\n".join(lines)


def _map_markups(path: str | Path, mapping: PointMap) -> tuple[pd.DataFrame, str]:
    """Return the table of the mapped points in LPS, and the whole JSON with them in its own system.

    A point whose position is not defined yet stays as it is, and is not in the table.
    """
    try:
        content = json.loads(read_text(path))
        listed = [(markup, list(markup.get("controlPoints") or [])) for markup in content["markups"]]
        measured = any(markup.get("measurements") for markup, _ in listed)
        rows = [_map_markup(markup, points, path, mapping) for markup, points in listed]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not the markups of 3D Slicer (a JSON file with 'markups')") from error
    if measured:
        logger.warning("%s: its measurements, as lengths and angles, stay those of before", path)
    table = pd.DataFrame(sum(rows, []), columns=["label", "x", "y", "z", "description"])
    return table, json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def _map_markup(markup: dict, points: list[dict], path: str | Path, mapping: PointMap) -> list[tuple]:
    """Map the points of one of the markups in their place, and return their rows of the table, in LPS."""
    kind, unit = markup["type"], markup.get("coordinateUnits", "mm")
    if kind not in POINT_TYPES:
        raise UserError(f"{path}: holds a {kind}, expected points only ({', '.join(POINT_TYPES)})")
    # Newer versions of Slicer write the unit's code, the scheme of codes and the unit's name.
    if (unit if isinstance(unit, str) else unit[0]) != "mm":
        raise UserError(f"{path}: its unit is {unit}, expected mm")
    sign = _sign(markup.get("coordinateSystem", "LPS"), path)  # Slicer's schema has this default
    defined = [
        point
        for point in points
        if point.get("position") is not None and point.get("positionStatus") not in ("undefined", "missing")
    ]
    found = [_position(point["position"], f"{path}, point {point.get('label', '')!r}") for point in defined]
    mapped = mapping(_turned(np.array(found, dtype=float).reshape(-1, 3), sign))
    for point, position in zip(defined, _turned(mapped, sign).tolist(), strict=True):
        point["position"] = position
    return [
        (point.get("label", ""), *position, point.get("description", ""))
        for point, position in zip(defined, mapped.tolist(), strict=True)
    ]


def _position(found: list, where: str) -> list[float]:
    """Return three finite numbers. Raises ``UserError``, which begins with ``where``."""
    position = [float(coordinate) for coordinate in found if _is_number(coordinate)]
    if not len(position) == len(found) == 3 or not all(map(math.isfinite, position)):
        shown = ", ".join(str(coordinate) or "nothing" for coordinate in found)
        raise UserError(f"{where}: coordinates {shown}, expected three numbers in mm")
    return position


def _is_number(coordinate: object) -> bool:
    if isinstance(coordinate, str):
        return NUMBER.fullmatch(coordinate.strip()) is not None
    return isinstance(coordinate, int | float) and not isinstance(coordinate, bool)
