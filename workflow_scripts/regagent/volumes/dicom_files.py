"""The files of a DICOM image: one file, or those of the one series of a folder; what is left out is told."""

import logging
from collections import Counter, defaultdict
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from regagent.files import UserError
from regagent.volumes.dicom_headers import begins_as_dicom, few, header_of, is_dicom, named, one_line

if TYPE_CHECKING:
    from pydicom import Dataset

logger = logging.getLogger("regagent")

#: In a folder of more files than this nobody looks for the other files of a slice's series.
MANY_FILES = 2000


def read_headers(path: str | Path, where: str) -> dict[Path, "Dataset"]:
    """Return the files of an image, each with its header: one file, or those of the one series of a folder.

    DICOM files without an image are left out, and so are other files, of which the log tells, as it does
    where one file is a slice of a series. Raises ``UserError``, which begins with ``where``: for no series or
    several, for files that are damaged, for links to nothing, and for a concatenation that lacks parts.
    """
    if not Path(path).is_dir():
        header = header_of(Path(path), where)
        if not _shows(header, where):
            raise UserError(f"{where}: a DICOM file without an image; give the folder of a series")
        _check_all_parts([header], where)
        _warn_of_its_series(Path(path), header, where)
        return {Path(path): header}
    hidden: list[Path] = []
    inside: list[Path] = []
    for file in sorted(Path(path).iterdir()):
        (hidden if file.name.startswith(".") else inside).append(file)
    if dead := [file for file in inside if not file.exists()]:
        raise UserError(
            f"{named(where, dead[0])}: a link to what is not there (such links in this folder: {len(dead)});"
            " fetch what they link to (as by 'datalad get' or 'git annex get'), or remove them"
        )
    series: dict[str, dict[Path, Dataset]] = defaultdict(dict)
    others = []
    for file in inside:
        if not file.is_file():
            continue
        if begins_as_dicom(file):
            header = header_of(file, where)
            if _shows(header, named(where, file)):
                with one_line(named(where, file)):
                    uid = str(header.get("SeriesInstanceUID"))
                series[uid][file] = header
        elif file.suffix.lower() == ".dcm":
            raise UserError(
                f"{named(where, file)}: no DICOM file, in spite of its name; copy or export it again"
            )
        else:
            others.append(file.name)
    if not series:
        folders = few([file.name for file in inside if file.is_dir()])
        raise UserError(
            f"{where}: no DICOM series in this folder (folders in it are not searched); expected the files"
            f" of one series{f'; give one of its folders: {folders}' if folders else ''}"
        )
    if len(series) > 1:
        found = [
            f"{_label(next(iter(files.values())))}, {len(files)} files, {uid}"
            for uid, files in series.items()
        ]
        raise UserError(
            f"{where}: {len(series)} DICOM series in one folder, expected one ({few(found, '; ')});"
            " give each a folder of its own"
        )
    files = next(iter(series.values()))
    with one_line(where):
        _check_of_one_patient(list(files.values()), where)
    _check_all_parts(list(files.values()), where)
    if others:
        logger.warning(
            "%s: files in it that are not DICOM are left out: %d (%s); is one of them a damaged slice?",
            where, len(others), few(others),
        )  # fmt: skip
    if unseen := [file.name for file in hidden if file.is_file() and is_dicom(file)]:
        logger.warning(
            "%s: hidden DICOM files in it are left out: %d (%s); are they slices of an unfinished copy?",
            where, len(unseen), few(unseen),
        )  # fmt: skip
    if below := [file.name for file in inside if file.is_dir() and _holds_dicom(file)]:
        logger.warning(
            "%s: folders in it are not searched, and hold DICOM too: %s; do slices of the series lie there?",
            where, few(below),
        )  # fmt: skip
    return files


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


def _check_of_one_patient(headers: list["Dataset"], where: str) -> None:
    """Check that the files of a series are of one patient in one position. Raises ``UserError``."""
    patients = {str(header.get("PatientID") or "").strip() for header in headers}
    if len(patients) == 1:
        patients = _stated(headers, "PatientName")
    if len(patients) > 1:
        raise UserError(f"{where}: its slices are of several patients ({few(sorted(patients))})")
    if len(places := _stated(headers, "FrameOfReferenceUID")) > 1:
        raise UserError(
            f"{where}: its slices have several FrameOfReferenceUIDs ({few(sorted(places))}), so that"
            " the patient may have moved between them; keep the slices of one only"
        )


def _stated(headers: list["Dataset"], keyword: str) -> set[str]:
    """Return the different values of a keyword in those headers that state it."""
    return {str(header.get(keyword) or "").strip(" ^") for header in headers} - {""}


def _check_all_parts(headers: list["Dataset"], where: str) -> None:
    """Check that each concatenation has as many parts as its files state. Raises ``UserError``."""
    with one_line(where):
        parts = Counter(
            (header.get("ConcatenationUID"), int(header.get("InConcatenationTotalNumber") or 1))
            for header in headers
        )
    for (_, total), found in parts.items():
        if found < total:
            raise UserError(
                f"{where}: {found} of the {total} parts of a volume (InConcatenationTotalNumber); put all"
                " parts into one folder, and give that"
            )


def _holds_dicom(folder: Path) -> bool:
    try:
        return any(file.is_file() and is_dicom(file) for file in folder.iterdir())
    except OSError:
        return False


def _warn_of_its_series(path: Path, header: "Dataset", where: str) -> None:
    """Log where a file of one slice lies beside others of its series, all of which may be meant."""
    with one_line(where):
        uid = header.get("SeriesInstanceUID")
        if not uid or int(header.get("NumberOfFrames") or 1) > 1:
            return
    beside = []
    with suppress(OSError):  # a folder may be one that nobody may list
        beside = list(islice(path.parent.iterdir(), MANY_FILES + 1))
    if len(beside) > MANY_FILES:
        return
    count = sum(_series(file) == uid for file in beside if not file.name.startswith("."))
    if count > 1:
        logger.warning(
            "%s: one of %d files of its series in its folder, and read alone; to read all give the folder",
            where, count,
        )  # fmt: skip


def _series(file: Path) -> str | None:
    """Return the SeriesInstanceUID of a file, or None if it states none that can be read."""
    with suppress(OSError, UserError), one_line(file.name):
        if file.is_file() and begins_as_dicom(file):
            return header_of(file, file.name, ["SeriesInstanceUID"]).get("SeriesInstanceUID")
    return None


def warn_of_two_patients(mr: str | Path, ct: str | Path, where: str = "") -> None:
    """Log where both are DICOM and state two PatientIDs: of other heads, or of two archives' names of one."""
    stated = [_patient_id(path) for path in (mr, ct)]
    if all(stated) and stated[0] != stated[1]:
        logger.warning(
            "%sPatientID is %s in %s and %s in %s; are these of one head?",
            where, stated[0], mr, stated[1], ct,
        )  # fmt: skip


def _patient_id(path: str | Path) -> str:
    """Return the PatientID that a DICOM file, or the first one of a folder, states; '' where none does."""
    inside = sorted(Path(path).iterdir()) if Path(path).is_dir() else [Path(path)]
    file = next((file for file in inside if file.is_file() and begins_as_dicom(file)), None)
    return str(header_of(file, f"{path}", ["PatientID"]).get("PatientID") or "").strip() if file else ""
