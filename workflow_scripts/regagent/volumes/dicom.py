"""DICOM series: reads the slices in a folder and checks that they are one complete, regular volume."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.files import UserError

MODALITY, DESCRIPTION = "0008|0060", "0008|103e"
POSITION, ORIENTATION = "0020|0032", "0020|0037"

#: Slice distances of a regular series differ by less than this part of their median.
UNEVEN = 0.1
#: Slices that are shifted further against each other come from a tilted gantry. A volume with right angles
#: cannot hold them.
TILT_MM = 1.0


def read_series(folder: str | Path, where: str, modality: str | None = None) -> sitk.Image:
    """Read the one DICOM series of a folder as a volume, in the units of its rescale slope and intercept.

    ``modality`` is the one that its files must state, MR or CT; None takes any. Raises ``UserError``, which
    begins with ``where``: for no series or several, for another modality, and for a slice that is missing,
    doubled, turned or shifted.
    """
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # our own messages name the patient
    reader = sitk.ImageSeriesReader()
    series = {
        name: reader.GetGDCMSeriesFileNames(str(folder), name)
        for name in reader.GetGDCMSeriesIDs(str(folder))
    }
    if not series:
        raise UserError(
            f"{where}: no DICOM series in this folder (folders in it are not searched); expected the files"
            " of one series"
        )
    if len(series) > 1:
        found = "; ".join(f"{_label(files[0])}, {len(files)} files, {name}" for name, files in series.items())
        raise UserError(
            f"{where}: {len(series)} DICOM series in one folder, expected one ({found});"
            " give each a folder of its own"
        )
    (files,) = series.values()
    try:
        headers = [_header(file) for file in files]
        found = headers[0].GetMetaData(MODALITY).strip()
        if modality and found != modality:
            raise UserError(f"{where}: the series is of modality {found}, expected {modality}")
        positions = np.array([_numbers(header, POSITION) for header in headers])
        axes = np.array([_numbers(header, ORIENTATION) for header in headers])
        order = _checked_order(positions, axes, [Path(file).name for file in files], where)
        reader.SetFileNames([files[index] for index in order])
        return reader.Execute()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"{where}: not a readable DICOM series ({reason});"
            " of a file that holds many slices give the file itself, not its folder"
        ) from error


def _header(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return reader


def _label(file: str) -> str:
    header = _header(file)
    tags = [header.GetMetaData(tag).strip() for tag in (MODALITY, DESCRIPTION) if header.HasMetaDataKey(tag)]
    return " ".join(filter(None, tags)) or "series"


def _numbers(header: sitk.ImageFileReader, tag: str) -> list[float]:
    return [float(part) for part in header.GetMetaData(tag).split("\\")]


def _checked_order(positions: NDArray, axes: NDArray, names: list[str], where: str) -> NDArray[np.intp]:
    """Return the order of slices (S,) along their normal; ``positions`` (S, 3) in mm, ``axes`` (S, 6)."""
    if len(names) < 2:
        raise UserError(f"{where}: one slice only ({names[0]}), expected a series of at least 2")
    turned = np.abs(axes - axes[0]).max(1) > 1e-3
    if turned.any():
        raise UserError(f"{where}: slice {names[turned.argmax()]} is turned against {names[0]}")
    normal = np.cross(axes[0, :3], axes[0, 3:])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    usual = float(np.median(steps))
    worst = int(np.abs(steps - usual).argmax())
    between = f"{names[order[worst]]} and {names[order[worst + 1]]}"
    if steps.min() < 1e-3:
        doubled = int(steps.argmin())
        raise UserError(
            f"{where}: {names[order[doubled]]} and {names[order[doubled + 1]]} lie at one place;"
            " does the series hold several volumes?"
        )
    if abs(steps[worst] - usual) > UNEVEN * usual:
        raise UserError(
            f"{where}: slices are missing or unevenly spaced: {between} are {steps[worst]:.2f} mm apart,"
            f" the others {usual:.2f} mm"
        )
    drift = positions - positions[order[0]]
    drift = np.linalg.norm(drift - np.outer(drift @ normal, normal), axis=1)
    if drift.max() > TILT_MM:
        raise UserError(
            f"{where}: slices are shifted against each other by up to {drift.max():.1f} mm (a tilted gantry);"
            " resample the series to right angles first"
        )
    return order
