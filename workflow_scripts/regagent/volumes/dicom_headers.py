"""What DICOM headers state: which files make a series, and the place, size and scale of each slice."""

import logging
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regagent.files import UserError, reason

if TYPE_CHECKING:
    from pydicom import Dataset

logger = logging.getLogger("regagent")

#: Where each value of a frame stands in its functional groups. That of a single slice stands in the header.
GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}

#: Lengths and products of directions may be off by this much, as their cosines are rounded.
SKEW = 0.01


@dataclass(frozen=True)
class Slice:
    """What a header states of a slice: of one file of a series, or of one frame of a file."""

    name: str
    size: tuple[int, int]  # columns, rows
    spacing: NDArray[np.float64]  # (2,) mm from column to column and from row to row
    position: NDArray[np.float64]  # (3,) mm, of the first pixel; NaN if not stated
    axes: NDArray[np.float64]  # (2, 3) directions of the rows and of the columns; NaN if not stated
    thickness: float  # mm; NaN if not stated
    slope: float  # from stored values to those of the image
    intercept: float


def is_dicom(path: str | Path) -> bool:
    """Return whether a path is read as DICOM: a folder, or a file of such content, whatever its name is."""
    try:
        return Path(path).is_dir() or _begins_as_dicom(path)
    except OSError:
        return False


def _begins_as_dicom(path: str | Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(132)
    # A file without preamble begins with one of the first elements of group 2 or 8.
    bare = start[:2] in (b"\x02\x00", b"\x08\x00") and start[2:3] < b"\x20" and start[3:4] == b"\x00"
    return start[128:] == b"DICM" or bare


def read_headers(path: str | Path, where: str) -> dict[Path, "Dataset"]:
    """Return the files of an image, each with its header: one file, or those of the one series of a folder.

    DICOM files without an image are left out, and so are other files, of which the log tells. Raises
    ``UserError``, which begins with ``where``: for no series or several, and for files that are damaged.
    """
    if not Path(path).is_dir():
        header = _header(Path(path), where)
        if not _shows(header, where):
            raise UserError(f"{where}: a DICOM file without an image; give the folder of a series")
        return {Path(path): header}
    series: dict[str, dict[Path, Dataset]] = defaultdict(dict)
    inside, others = sorted(Path(path).iterdir()), []
    for file in inside:
        if not file.is_file() or file.name.startswith("."):
            continue
        if _begins_as_dicom(file):
            header = _header(file, where)
            if _shows(header, named(where, file)):
                series[str(header.get("SeriesInstanceUID"))][file] = header
        elif file.suffix.lower() == ".dcm":
            raise UserError(
                f"{named(where, file)}: no DICOM file, in spite of its name; copy or export it again"
            )
        else:
            others.append(file.name)
    if not series:
        folders = ", ".join(file.name for file in inside if file.is_dir())
        raise UserError(
            f"{where}: no DICOM series in this folder (folders in it are not searched); expected the files"
            f" of one series{f'; give one of its folders: {folders}' if folders else ''}"
        )
    if len(series) > 1:
        found = "; ".join(
            f"{_label(next(iter(files.values())))}, {len(files)} files, {uid}"
            for uid, files in series.items()
        )
        raise UserError(
            f"{where}: {len(series)} DICOM series in one folder, expected one ({found});"
            " give each a folder of its own"
        )
    files = next(iter(series.values()))
    _check_of_one_patient(list(files.values()), where)
    if others:
        logger.warning(
            "%s: files in it that are not DICOM are left out: %d (%s); is one of them a damaged slice?",
            where, len(others), ", ".join(others[:3]) + (", ..." if len(others) > 3 else ""),
        )  # fmt: skip
    return files


def _check_of_one_patient(headers: list["Dataset"], where: str) -> None:
    """Check that the files of a series are of one patient in one position. Raises ``UserError``."""
    patients = {str(header.get("PatientID") or "").strip() for header in headers}
    if len(patients) == 1:
        patients = _stated(headers, "PatientName")
    if len(patients) > 1:
        raise UserError(f"{where}: its slices are of several patients ({', '.join(sorted(patients))})")
    if len(places := _stated(headers, "FrameOfReferenceUID")) > 1:
        raise UserError(
            f"{where}: its slices have several FrameOfReferenceUIDs ({', '.join(sorted(places))}), so that"
            " the patient may have moved between them; keep the slices of one only"
        )


def warn_of_two_patients(mr: str | Path, ct: str | Path, where: str = "") -> None:
    """Log where both are DICOM and state two PatientIDs: of other heads, or of two archives' names of one."""
    stated = [_patient_id(path) for path in (mr, ct)]
    if all(stated) and stated[0] != stated[1]:
        logger.warning(
            "%sPatientID is %s in %s and %s in %s; are these of one head?",
            where,
            stated[0],
            mr,
            stated[1],
            ct,
        )


def _patient_id(path: str | Path) -> str:
    """Return the PatientID that a DICOM file, or the first one of a folder, states; '' where none does."""
    inside = sorted(Path(path).iterdir()) if Path(path).is_dir() else [Path(path)]
    file = next((file for file in inside if file.is_file() and _begins_as_dicom(file)), None)
    return str(_header(file, f"{path}").get("PatientID") or "").strip() if file else ""


def _stated(headers: list["Dataset"], keyword: str) -> set[str]:
    """Return the different values of a keyword in those headers that state it."""
    return {str(header.get(keyword) or "").strip(" ^") for header in headers} - {""}


def _header(file: Path, where: str) -> "Dataset":
    from pydicom import dcmread  # the import takes 0.4 s, too long where nothing is DICOM

    with one_line(named(where, file)):
        return dcmread(file, stop_before_pixels=True, force=True)


def _shows(header: "Dataset", where: str) -> bool:
    """Return whether a file holds an image. Raises ``UserError`` if it is cut off before it says so."""
    from pydicom.uid import UID

    with one_line(where):
        kind = UID(header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID") or "").name
    if "Rows" not in header and (not kind or "Image Storage" in kind):
        raise UserError(f"{where}: its header is damaged or cut off; copy or export it again")
    return "Rows" in header


def _label(header: "Dataset") -> str:
    stated = [str(header.get(keyword) or "").strip() for keyword in ("Modality", "SeriesDescription")]
    return " ".join(filter(None, stated)) or "series"


def named(where: str, file: Path) -> str:
    """Return what an error about a file begins with; ``where`` names the file or its folder."""
    return where if str(Path(where)).endswith(str(file)) else f"{where}/{file.name}"


@contextmanager
def one_line(where: str) -> Iterator[None]:
    """Tell an error of pydicom or GDCM in one line that begins with ``where``, and no warning of pydicom."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except Exception as error:  # a damaged file makes pydicom raise errors of every kind
        raise UserError(
            f"{where}: not a readable DICOM file ({reason(error)}); copy or export it again"
        ) from error


def slices_of(headers: dict[Path, "Dataset"], where: str) -> list[Slice]:
    """Return what headers state of the slices of all files, frame by frame as they are stored.

    Raises ``UserError``, which begins with ``where``: for a spacing that is not stated, for frames whose
    positions are not stated, for values that are no numbers or no directions at right angles, and for a
    scale that some slices state and others do not.
    """
    slices = []
    for file, header in headers.items():
        with one_line(named(where, file)):
            frames = _frames(header, named(where, file))
            names = [file.name]
            if len(frames) > 1:
                of = f" of {file.name}" if len(headers) > 1 else ""
                names = [f"frame {number}{of}" for number in range(1, len(frames) + 1)]
            slices += [_slice(*of_frame, header, where) for of_frame in zip(names, frames, strict=True)]
    return _all_scaled(slices, where)


def _all_scaled(slices: list[Slice], where: str) -> list[Slice]:
    """Return slices with slope 1 and intercept 0 where none is stated, if others state nothing else."""
    for key, keyword, plain in (("slope", "RescaleSlope", 1.0), ("intercept", "RescaleIntercept", 0.0)):
        values = [getattr(one, key) for one in slices]
        lacking = [one.name for one, value in zip(slices, values, strict=True) if np.isnan(value)]
        others = [value for value in values if not np.isnan(value) and value != plain]
        if lacking and others:
            raise UserError(
                f"{where}: {lacking[0]} states no {keyword}, but others state {others[0]:g}; export it again"
            )
    return [
        replace(
            one,
            slope=1.0 if np.isnan(one.slope) else one.slope,
            intercept=0.0 if np.isnan(one.intercept) else one.intercept,
        )
        for one in slices
    ]


def _frames(header: "Dataset", where: str) -> list[Any]:
    """Return the functional groups of each frame; those of a single slice may be empty."""
    if "MOSAIC" in (header.get("ImageType") or []):
        raise UserError(f"{where}: a mosaic, many slices in one image; convert it to NIfTI first")
    if "DoseGridScaling" in header:
        raise UserError(f"{where}: a radiation dose, which is not read here; convert it to NIfTI first")
    if header.get("AnatomicalOrientationType") == "QUADRUPED":
        raise UserError(
            f"{where}: AnatomicalOrientationType is QUADRUPED, whose axes are not a human's; expected BIPED"
        )
    count = int(header.get("NumberOfFrames") or 1)
    frames = list(header.get("PerFrameFunctionalGroupsSequence") or [{}] * count)
    if len(frames) != count:
        raise UserError(f"{where}: holds {count} frames, but describes {len(frames)}; export it again")
    if count > 1 and not all("PlanePositionSequence" in frame for frame in frames):
        raise UserError(
            f"{where}: holds {count} frames, but states no position of each frame; export it as a series of"
            " single slices"
        )
    return frames


def _slice(name: str, frame: Any, header: "Dataset", where: str) -> Slice:
    """Return a slice from its frame's functional groups, those of all frames, and the header."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]

    def stated(keyword: str, count: int, otherwise: float) -> NDArray[np.float64]:
        """Return the numbers (``count``,) of the first place that states them."""
        groups = [group for place in (frame, shared) for group in place.get(GROUPS[keyword]) or []]
        for place in (*groups, header):
            found = place.get(keyword)
            if found not in (None, "", []):
                numbers = np.array(found, float).reshape(-1)
                if len(numbers) != count or not np.isfinite(numbers).all():
                    raise UserError(f"{where}: {keyword} of {name} is {found}, expected {count} numbers")
                return numbers
        return np.full(count, otherwise)

    spacing = stated("PixelSpacing", 2, np.nan)
    if np.isnan(spacing).any():
        raise UserError(
            f"{where}: {name} states no PixelSpacing, so that its size in mm is unknown; export it again"
        )
    axes = stated("ImageOrientationPatient", 6, np.nan).reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > SKEW:
        raise UserError(
            f"{where}: ImageOrientationPatient of {name} is {axes.ravel().tolist()}, expected two directions"
            " at right angles"
        )
    slope = stated("RescaleSlope", 1, np.nan).item()
    if slope == 0:
        raise UserError(f"{where}: RescaleSlope of {name} is 0, which leaves no image; export it again")
    return Slice(
        name,
        size=(int(header.Columns), int(header.Rows)),
        spacing=spacing[::-1],
        position=stated("ImagePositionPatient", 3, np.nan),
        axes=axes / np.linalg.norm(axes, axis=1, keepdims=True),
        thickness=stated("SliceThickness", 1, np.nan).item(),
        slope=slope,
        intercept=stated("RescaleIntercept", 1, np.nan).item(),
    )
