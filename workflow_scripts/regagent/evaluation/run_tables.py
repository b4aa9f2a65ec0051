"""Readers of the tables of a run's registrations and trainings; paths name method, seed and set (§4)."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from regagent.evaluation.registrations import STATUS
from regagent.files import UserError, read_table
from regagent.geometry import POSE

REGISTRATION = re.compile(r"registrations/(?P<method>[^/]+)/seed(?P<seed>\d+)/(?P<set>[^/]+)\.csv$")
MODEL = re.compile(r"models/(?P<variant>[^/]+)/seed(?P<seed>\d+)/[^/]+\.csv$")
REGISTRATION_COLUMNS = (
    *("case", "patient", "slice", *POSE),
    *("initial_px", "tre_px", "tre_mm", "steps", "seconds", "status"),
)


def _named(pattern: re.Pattern[str], path: str | Path) -> dict[str, str]:
    """Return the groups of the pattern that a path ends like. Raises ``UserError`` when it does not."""
    match = pattern.search(Path(path).as_posix())
    if match is None:
        raise UserError(f"{path}: expected a path that ends like {pattern.pattern}")
    return match.groupdict()


def _read(path: str | Path, columns: Iterable[str]) -> pd.DataFrame:
    """Read a table. Raises ``UserError`` when it lacks one of ``columns`` or has no rows."""
    frame = read_table(path)
    missing = [column for column in columns if column not in frame]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; found {', '.join(frame.columns)}")
    if frame.empty:
        raise UserError(f"{path}: no rows, expected at least one")
    return frame


def _check_cases(found: Mapping[tuple[int, ...], str | Path]) -> None:
    """Check the lists of cases of a set's tables: all, and perhaps the part of them for slow methods."""
    every, *parts = sorted(found, key=len, reverse=True)
    for part in parts:
        if len(parts) > 1 or len(set(every)) < len(every) or not set(part) < set(every):
            raise UserError(
                f"{found[part]}: {len(part)} cases, expected the {len(every)} cases of {found[every]}"
            )


def read_registrations(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Return the rows of all registrations/{method}/seed{n}/{set}.csv with method, seed and set added.

    Slow methods may have registered a part of the cases, all of them the same. Raises ``UserError`` naming
    the file when two methods or seeds have otherwise not registered the same cases of a set, when a column is
    missing, an error (px, mm) is not finite, or a status is not one of ``STATUS``.
    """
    frames = []
    cases: dict[str, dict[tuple[int, ...], str | Path]] = {}
    for path in paths:
        name = _named(REGISTRATION, path)
        frame = _read(path, REGISTRATION_COLUMNS)
        if not np.isfinite(frame[["initial_px", "tre_px", "tre_mm"]].to_numpy(dtype=float)).all():
            raise UserError(f"{path}: holds an error that is not finite, expected px and mm for every case")
        unknown = sorted(set(frame["status"]) - set(STATUS))
        if unknown:
            raise UserError(f"{path}: status {', '.join(map(str, unknown))}, expected {', '.join(STATUS)}")
        cases.setdefault(name["set"], {}).setdefault(tuple(sorted(frame["case"])), path)
        frames.append(frame.assign(method=name["method"], seed=int(name["seed"]), set=name["set"]))
    if not frames:
        raise UserError("no registrations given, expected at least one table")
    for found in cases.values():
        _check_cases(found)
    return pd.concat(frames, ignore_index=True)


def read_models(
    paths: Iterable[str | Path], columns: Iterable[str] = ()
) -> dict[str, dict[int, pd.DataFrame]]:
    """Return the tables of models/{variant}/seed{n}/*.csv as {variant: {seed: table}}, in the given order.

    Raises ``UserError`` naming the file when one of ``columns`` is missing or the table is empty.
    """
    tables: dict[str, dict[int, pd.DataFrame]] = {}
    for path in paths:
        name = _named(MODEL, path)
        tables.setdefault(name["variant"], {})[int(name["seed"])] = _read(path, columns)
    return tables
