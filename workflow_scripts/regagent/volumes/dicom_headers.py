"""What DICOM headers state: the place, size and scale of each slice, and what acquisition it is of."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    "ImagePositionPatient": ("PlanePositionSequence",),
    "ImageOrientationPatient": ("PlaneOrientationSequence",),
    "PixelSpacing": ("PixelMeasuresSequence",),
    "SliceThickness": ("PixelMeasuresSequence",),
    "SpacingBetweenSlices": ("PixelMeasuresSequence",),
    "TemporalPositionIndex": ("FrameContentSequence",),
    "ReferencedSegmentNumber": ("SegmentIdentificationSequence",),
    "RescaleSlope": ("PixelValueTransformationSequence",),
    "RescaleIntercept": ("PixelValueTransformationSequence",),
    "FrameType": ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence"),
    "EffectiveEchoTime": ("MREchoSequence",),
    "DiffusionBValue": ("MRDiffusionSequence",),
    "KVP": ("CTXRayDetailsSequence",),
    "ConvolutionKernel": ("CTReconstructionSequence",),
}

#: What tells the slices of one acquisition from those of another: as text, as numbers, as counts.
KINDS = (
    *("Modality", "SOPClassUID", "ImageType", "FrameType", "RescaleType"),
    *("ConvolutionKernel", "ContrastBolusAgent"),
)
NUMBERS = (
    *("EchoTime", "EffectiveEchoTime", "InversionTime", "FlipAngle", "DiffusionBValue"),
    *("KVP", "SliceThickness"),
)
COUNTS = ("TemporalPositionIdentifier", "TemporalPositionIndex")

#: Of the values of these the first two do not count, as they differ in sound series.
LATE_VALUES = ("ImageType", "FrameType")

#: Numbers of an acquisition that differ by less than this part are the same one, rounded.
SAME_NUMBER = 0.01

REAL_WORLD = "RealWorldValueMappingSequence"

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
    distance: float  # mm to the next slice, as SpacingBetweenSlices states it; NaN if not stated
    segment: int | None  # the number of the one that a frame of a segmentation shows
    slope: float  # from stored values to those of the image
    intercept: float
    mapped: bool  # whether a scale stands in RealWorldValueMappingSequence only
    kind: dict[str, Any]  # those of KINDS, NUMBERS and COUNTS that are stated


def is_dicom(path: str | Path) -> bool:
    """Return whether a path is read as DICOM: a folder, or a file of such content, whatever its name is."""
    try:
        return Path(path).is_dir() or begins_as_dicom(path)
    except OSError:
        return False


def begins_as_dicom(path: str | Path) -> bool:
    """Return whether a file has the content of DICOM. Raises ``OSError``."""
    with open(path, "rb") as file:
        start = file.read(132)
    # A file without preamble begins with one of the first elements of group 2 or 8.
    bare = start[:2] in (b"\x02\x00", b"\x08\x00") and start[2:3] < b"\x20" and start[3:4] == b"\x00"
    return start[128:] == b"DICM" or bare


def few(names: list[str], between: str = ", ") -> str:
    """Return at most five names in a row, and how many more there are."""
    shown = between.join(names[:5])
    return f"{shown}{between}and {len(names) - 5} more" if len(names) > 5 else shown


def header_of(file: Path, where: str, keywords: list[str] | None = None) -> "Dataset":
    """Read the header of a file, or the values of some keywords only. Raises ``UserError``."""
    from pydicom import dcmread  # the import takes 0.4 s, too long where nothing is DICOM

    with one_line(named(where, file)):
        return dcmread(file, stop_before_pixels=True, force=True, specific_tags=keywords)


def named(where: str, file: Path) -> str:
    """Return what an error about a file begins with; ``where`` names the file or its folder."""
    return where if str(Path(where)).endswith(str(file)) else f"{where}/{file.name}"


@contextmanager
def one_line(where: str) -> Iterator[None]:
    """Tell an error of pydicom or GDCM in one line that begins with ``where``, and no warning of pydicom."""
    spoken = logging.getLogger("pydicom")  # whose lines name no file
    before, spoken.disabled = spoken.disabled, True
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
    finally:
        spoken.disabled = before


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
    wanted = {_number([header], "ImagesInAcquisition") for header in headers.values()}
    count = wanted.pop() if len(wanted) == 1 else None
    if count is not None and count > len(slices) > 1:
        logger.warning(
            "%s: ImagesInAcquisition is %d, but %d slices are here; are some missing?",
            where, count, len(slices),
        )  # fmt: skip
    return _all_scaled(slices, where)


def warn_of_several_kinds(slices: list[Slice], where: str) -> None:
    """Log where slices are not of one acquisition, as where two echoes have lost half of their slices."""
    told = []
    for keyword in (*KINDS, *NUMBERS, *COUNTS):
        counts: dict[Any, int] = {}
        last: Any = None
        for value in sorted(one.kind[keyword] for one in slices if keyword in one.kind):
            if last is None or not _same(last, value):
                last = value
            counts[last] = counts.get(last, 0) + 1
        if len(counts) > 1:
            found = [f"{_shown(value)} in {count}" for value, count in counts.items()]
            told.append(f"{keyword} ({few(found)})")
    if told:
        logger.warning("%s: its slices differ in %s; are they of one volume?", where, " and ".join(told))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def _same(one: Any, other: Any) -> bool:
    return one == other or (isinstance(one, float) and math.isclose(one, other, rel_tol=SAME_NUMBER))


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
    if header.get("ModalityLUTSequence"):
        raise UserError(
            f"{where}: its values are stored through a table (ModalityLUTSequence), which is not read here;"
            " convert it to NIfTI, or export it with RescaleSlope and RescaleIntercept"
        )
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

    def places(keyword: str) -> list[Any]:
        """Return where a value may stand, the place that counts most first."""
        names = GROUPS.get(keyword, ())
        groups = [group for place in (frame, shared) for name in names for group in place.get(name) or []]
        return [*groups, header]

    def stated(keyword: str, count: int, otherwise: float) -> NDArray[np.float64]:
        """Return the numbers (``count``,) of the first place that states them."""
        for place in places(keyword):
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
    intercept = stated("RescaleIntercept", 1, np.nan).item()
    maps = [item for place in (frame, shared, header) for item in place.get(REAL_WORLD) or []]
    kind = {keyword: _text(places(keyword), keyword) for keyword in KINDS}
    kind |= {keyword: _number(places(keyword), keyword) for keyword in NUMBERS}
    kind |= {keyword: _count(places(keyword), keyword) for keyword in COUNTS}
    return Slice(
        name,
        size=(int(header.Columns), int(header.Rows)),
        spacing=spacing[::-1],
        position=stated("ImagePositionPatient", 3, np.nan),
        axes=axes / np.linalg.norm(axes, axis=1, keepdims=True),
        thickness=stated("SliceThickness", 1, np.nan).item(),
        distance=_distance(places("SpacingBetweenSlices"), header),
        segment=_count(places("ReferencedSegmentNumber"), "ReferencedSegmentNumber"),
        slope=slope,
        intercept=intercept,
        mapped=np.isnan(slope) and np.isnan(intercept) and any(_scales(item) for item in maps),
        kind={keyword: value for keyword, value in kind.items() if value is not None},
    )


def _scales(item: "Dataset") -> bool:
    """Return whether an item of RealWorldValueMappingSequence makes other values of those stored."""
    return item.get("RealWorldValueSlope") != 1 or bool(item.get("RealWorldValueIntercept"))


def _distance(places: list[Any], header: "Dataset") -> float:
    """Return the distance of slices that is stated, in mm, or NaN."""
    found = abs(_number(places, "SpacingBetweenSlices") or math.nan)  # falling positions may have one below 0
    program = str(getattr(header, "file_meta", {}).get("ImplementationVersionName") or "")
    if found == 1 and program.startswith("GDCM"):  # SimpleITK has it write 1 into every slice of a series
        return math.nan
    return found


def _text(places: list[Any], keyword: str) -> Any:
    """Return what the first place that states a keyword says, as text, or None."""
    for place in places:
        with suppress(Exception):  # what pydicom raises where it cannot read a value that nobody needs
            found = place.get(keyword)
            values = [found] if isinstance(found, str) else list(found or [])
            values = values[2:] if keyword in LATE_VALUES else values
            if text := "/".join(str(getattr(value, "name", value)).strip() for value in values):
                return text
    return None


def _number(places: list[Any], keyword: str) -> Any:
    """Return the number in the first place that states one under a keyword, or None."""
    for place in places:
        with suppress(Exception):  # what pydicom raises where it cannot read a value that nobody needs
            if math.isfinite(number := float(place.get(keyword))):
                return number
    return None


def _count(places: list[Any], keyword: str) -> int | None:
    """Return the number of ``_number`` as a whole one, or None."""
    number = _number(places, keyword)
    return None if number is None else int(number)
