"""DICOM: the files of a series, or the frames of one file, read as slices that must make one regular volume.

pydicom reads the headers, GDCM decodes nothing but the pixels. Without a word GDCM would take the frames of a
file in their stored order, 1 mm apart and all scaled as the first, and 1 mm for a spacing that is not stated.
"""

import logging
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.files import UserError
from regagent.process import quiet_itk
from regagent.volumes.checks import (
    MISPLACED_MM,
    PLAUSIBLE_SPACING_MM,
    ROUNDED_MM,
    check_spacing,
    on_grid,
    right_angled,
)
from regagent.volumes.dicom_files import read_headers
from regagent.volumes.dicom_headers import Slice, few, named, one_line, slices_of, warn_of_several_kinds

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

logger = logging.getLogger("regagent")

#: What GDCM needs to decode the pixels of a file.
PIXELS = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip

#: What a codestream of JPEG 2000 begins with. The byte at SSIZ is 128 or more where its values are signed.
JPEG_2000, SSIZ = b"\xff\x4f\xff\x51", 42

#: The HU of air in a scanner that lets it fall lowest. What lies below pads the image.
LOWEST_HU = -1024

#: Spacings that differ by less than this part, and cosines by less than this, are the same one, rounded.
ROUNDING = 1e-3
#: Two slices lie at one place if they are less than this apart.
SAME_MM = 1e-3
#: Positions are rounded, so distances may differ by this part of their median; a missing slice doubles one.
UNEVEN = 0.25
#: A distance that is stated is told where that of the positions differs from it by more than this part.
OTHER_DISTANCE = 0.1
#: Frames of a segmentation are missing where two lie this many times as far apart as is stated.
FRAMES_MISSING = 1.5


def read_dicom(path: str | Path, where: str, modality: str | None = None) -> sitk.Image:
    """Read a file, or the one series of a folder, as a 3D volume in the units of its slopes and intercepts.

    A file of one slice gives a volume of one slice, as thick as is stated, or else 1 mm. ``modality`` is the
    one that each file must state, MR or CT; None takes any. Raises ``UserError``, which begins with
    ``where``: for no series or several, for another modality, for pixels that are damaged or not grey, for
    several segments of a segmentation, and for a slice whose place is not stated, or that is missing,
    doubled, turned, shifted, or of another size or spacing.
    """
    headers = read_headers(path, where)
    with one_line(where):
        if modality:
            _check_modality(headers, modality, where)
        fractions = [
            header.get("MaximumFractionalValue", "not stated")
            for header in headers.values()
            if header.get("SegmentationType") == "FRACTIONAL"
        ]
    slices = slices_of(headers, where)
    order = _checked_order(slices, Path(path).is_dir(), where)
    if any(one.mapped for one in slices):
        logger.warning(
            "%s: it states a scale in RealWorldValueMappingSequence only, without RescaleSlope and"
            " RescaleIntercept: values are read as they are stored",
            where,
        )
    if fractions:
        logger.warning(
            "%s: a fractional segmentation: its values are parts of MaximumFractionalValue (%s), not labels",
            where, fractions[0],
        )  # fmt: skip
    image = sitk.GetImageFromArray(_voxels(headers, slices, order, where))
    return _placed(image, [slices[index] for index in order], where)


def read_dicom_grid(path: str | Path, where: str) -> sitk.Image:
    """Read the grid on which ``read_dicom`` would read the voxels, as an image of zeros.

    Reads headers only. Raises ``UserError`` as ``read_dicom`` does, but for pixels.
    """
    slices = slices_of(read_headers(path, where), where)
    order = _checked_order(slices, Path(path).is_dir(), where)
    image = sitk.Image([*slices[0].size, len(slices)], sitk.sitkUInt8)
    return _placed(image, [slices[index] for index in order], where)


def _check_modality(headers: dict[Path, "Dataset"], modality: str, where: str) -> None:
    """Check that each file is of the modality. Raises ``UserError``, which names a file where others are."""
    stated = {file: header.get("Modality") for file, header in headers.items()}
    wrong = [file for file, found in stated.items() if found != modality]
    if wrong:
        which = where if len(wrong) == len(headers) else named(where, wrong[0])
        found = f"is of modality {stated[wrong[0]]}" if stated[wrong[0]] else "states no modality"
        raise UserError(f"{which}: {found}, expected {modality} (trust_values takes any)")


def _checked_order(slices: list[Slice], series: bool, where: str) -> NDArray[np.intp]:
    """Return the order of slices (S,) along their normal, checked to be those of one regular volume."""
    segments = sorted({one.segment for one in slices if one.segment is not None})
    if len(segments) > 1:
        raise UserError(
            f"{where}: a segmentation of {len(segments)} segments"
            f" ({few([str(number) for number in segments])}), which would become one label; export each"
            " segment as a file of its own, or convert it to a label map in NIfTI"
        )
    if len(slices) == 1 and not series:
        return np.array([0])
    if len(slices) == 1:
        raise UserError(
            f"{where}: one slice only ({slices[0].name}), expected a series of at least 2; of a 2D image give"
            " the file, not its folder"
        )
    _check_alike(slices, where)
    order = _order_along_normal(slices, where)
    warn_of_several_kinds(slices, where)
    return order


def _check_alike(slices: list[Slice], where: str) -> None:
    """Check that slices state their places, and have one size, one spacing and one direction."""
    first = slices[0]
    for one in slices:
        if np.isnan(one.position).any() or np.isnan(one.axes).any():
            raise UserError(
                f"{where}: {one.name} does not state its ImagePositionPatient and ImageOrientationPatient,"
                " so that its place is unknown; export it again"
            )
        if one.size != first.size or not np.allclose(one.spacing, first.spacing, rtol=ROUNDING, atol=0):
            raise UserError(
                f"{where}: {one.name} has {_pixels(one)}, but {first.name} has {_pixels(first)}; keep the"
                " slices of one kind only"
            )
        if np.abs(one.axes - first.axes).max() > ROUNDING:
            raise UserError(
                f"{where}: {one.name} is turned against {first.name} (a localizer among the slices?); keep"
                " the slices of one direction only"
            )


def _order_along_normal(slices: list[Slice], where: str) -> NDArray[np.intp]:
    """Return the order of slices (S,) along their normal, checked to be evenly spaced and not shifted."""
    names = [one.name for one in slices]
    positions, normal = np.array([one.position for one in slices]), _normal(slices[0].axes)
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    usual = float(np.median(steps))
    if steps.min() < SAME_MM:
        doubled = int(steps.argmin())
        raise UserError(
            f"{where}: {names[order[doubled]]} and {names[order[doubled + 1]]} lie at one place; are these"
            " several volumes, as of several echoes or times? Give one of them alone"
        )
    _check_no_frame_left_out([slices[index] for index in order], steps, where)
    worst = int(np.abs(steps - usual).argmax())
    if abs(steps[worst] - usual) > UNEVEN * usual:
        raise UserError(
            f"{where}: slices are missing or unevenly spaced: {names[order[worst]]} and"
            f" {names[order[worst + 1]]} are {steps[worst]:.2f} mm apart, the others {usual:.2f} mm"
        )
    uneven = np.abs(heights[order] - np.linspace(heights.min(), heights.max(), len(order)))
    if uneven.max() > MISPLACED_MM:
        raise UserError(
            f"{where}: slices are unevenly spaced: {names[order[uneven.argmax()]]} lies {uneven.max():.1f} mm"
            " from where equal distances would put it; resample them to equal distances first"
        )
    if uneven.max() > ROUNDED_MM:
        logger.warning(
            "%s: %s lies %.2f mm from where equal distances of the slices put it (rounded positions?)",
            where, names[order[uneven.argmax()]], uneven.max(),
        )  # fmt: skip
    _check_not_shifted([slices[index] for index in order], where)
    _warn_of_another_distance(slices, float(steps.mean()), where)
    return order


def _check_no_frame_left_out(slices: list[Slice], steps: NDArray[np.float64], where: str) -> None:
    """Check that a segmentation of ordered slices has its empty frames; ``steps`` (S - 1,) mm lie between.

    Programs leave such frames out, even all but two, so that equal distances do not show it.
    """
    first, widest = slices[0], int(steps.argmax())
    if first.kind.get("Modality") != "SEG":
        return
    keyword, stated = "SpacingBetweenSlices", first.distance
    if np.isnan(stated):
        keyword, stated = "SliceThickness", first.thickness
    if steps[widest] > FRAMES_MISSING * stated > 0:
        raise UserError(
            f"{where}: frames of the segmentation are missing: {slices[widest].name} and"
            f" {slices[widest + 1].name} are {steps[widest]:.2f} mm apart, but {keyword} is {stated:g} mm;"
            " write all frames, empty ones too (highdicom's omit_empty_frames=False), or convert it to NIfTI"
        )


def _warn_of_another_distance(slices: list[Slice], distance: float, where: str) -> None:
    """Log where slices state another distance than that of their positions, in mm, which is taken."""
    differing = [
        one.distance for one in slices if abs(distance - one.distance) > OTHER_DISTANCE * one.distance
    ]
    if differing:
        logger.warning(
            "%s: its slices are %.2f mm apart by their positions, but SpacingBetweenSlices is %g mm; %s",
            where, distance, differing[0],
            "are some missing?" if distance > differing[0] else "are they of one volume?",
        )  # fmt: skip


def _check_not_shifted(slices: list[Slice], where: str) -> None:
    """Check that no corner of a slice lies beside its place above those of the first slice."""
    first = _corners(slices[0])
    normal = _normal(slices[0].axes)
    shifts = []
    for one in slices:
        height = (one.position - slices[0].position) @ normal
        shifts.append(np.linalg.norm(_corners(one) - first - height * normal, axis=1).max())
    worst = int(np.argmax(shifts))
    if shifts[worst] > MISPLACED_MM:
        raise UserError(
            f"{where}: slices are shifted against each other by up to {shifts[worst]:.1f} mm (a tilted"
            " gantry?); resample them to right angles first"
        )
    if shifts[worst] > ROUNDED_MM:
        logger.warning(
            "%s: slices are shifted against each other by up to %.2f mm, %s the most (a tilted gantry?):"
            " taken as one above the other",
            where, shifts[worst], slices[worst].name,
        )  # fmt: skip


def _corners(one: Slice) -> NDArray[np.float64]:
    """Return the places (4, 3) of the outermost pixels of a slice, in mm."""
    along, down = (np.array(one.size)[:, None] - 1) * one.spacing[:, None] * one.axes
    return one.position + np.array([0 * along, along, down, along + down])


def _pixels(one: Slice) -> str:
    (columns, rows), (x, y) = one.size, one.spacing
    return f"{columns} x {rows} pixels of {x:g} x {y:g} mm"


def _normal(axes: NDArray[np.float64]) -> NDArray[np.float64]:
    normal = np.cross(*axes)
    return normal / np.linalg.norm(normal)


def _voxels(
    headers: dict[Path, "Dataset"], slices: list[Slice], order: NDArray[np.intp], where: str
) -> NDArray:
    """Return the voxels (S, R, C) of slices in their order, each with its own slope and intercept.

    Whole numbers are int16, or int32 where one does not fit. Others are float32, or float64 where that would
    lose digits. What pads the image with values that nobody measured is filled by ``_fill_padding``.
    """
    with one_line(where):
        short = all(int(header.BitsAllocated) <= 16 for header in headers.values())
    whole = short and all(
        number.is_integer() and abs(number) < 2**15 for one in slices for number in (one.slope, one.intercept)
    )
    (columns, rows), limits = slices[0].size, np.iinfo(np.int16)
    kind = np.int16 if whole else np.float32 if short else np.float64
    voxels = np.empty((len(slices), rows, columns), kind)
    padded = np.zeros(voxels.shape, bool)
    remaining, beyond = zip(slices, np.argsort(order), strict=True), 0
    for file, header in headers.items():
        stored, more = _stored(file, header, where)  # the array below is a view of it
        beyond += more
        for values in sitk.GetArrayViewFromImage(stored).reshape(-1, rows, columns):
            one, place = next(remaining)
            scaled = values * one.slope + one.intercept
            if voxels.dtype == np.int16 and (scaled.min() < limits.min or scaled.max() > limits.max):
                voxels = voxels.astype(np.int32)
            voxels[place] = scaled
            padded[place] = _is_padding(values, header, named(where, file))
    if beyond:
        logger.warning(
            "%s: %d pixels have bits above BitsStored, which are no part of a value and are left out; if they"
            " are, as where a program replaced the pixels of a file, write BitsStored as BitsAllocated",
            where, beyond,
        )  # fmt: skip
    _fill_padding(voxels, padded, where)
    return voxels


def _fill_padding(voxels: NDArray, padded: NDArray[np.bool_], where: str) -> None:
    """Give padding (S, R, C) the lowest of the other values where nobody can have measured its own.

    That is padding above all that is not padding, as 65535, or below both that and ``LOWEST_HU``, as -2000.
    Other padding stays as it is: it may be the background of an MR or of labels. The log tells what changes.
    """
    if padded.all() or not padded.any():
        return
    low, high = voxels[~padded].min(), voxels[~padded].max()
    foreign = padded & ((voxels > high) | (voxels < min(low, LOWEST_HU)))
    if not foreign.any():
        return
    found, lowest = voxels[foreign], voxels[~foreign].min()
    values = f"{found.min():g}" if found.min() == found.max() else f"{found.min():g} to {found.max():g}"
    logger.warning(
        "%s: %d voxels only pad the image (PixelPaddingValue): they become %g, the lowest of the others,"
        " instead of %s",
        where, len(found), lowest, values,
    )  # fmt: skip
    voxels[foreign] = lowest


def _is_padding(values: NDArray, header: "Dataset", where: str) -> NDArray[np.bool_]:
    """Return where stored values (R, C) only pad the image. Those of a CT may be a wrapped -2000."""
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        found = header.get(keyword)
        if found not in (None, "", []):
            if not isinstance(found, int):
                raise UserError(f"{where}: {keyword} is {found}, expected one whole number")
            ends.append(found)
        elif not ends:
            return np.zeros(values.shape, bool)
    if header.BitsAllocated == 16:  # some files state it with another sign than their pixels have
        lowest = -(2**15) if header.get("PixelRepresentation") else 0
        ends = [(end - lowest) % 2**16 + lowest for end in ends]
    return (values >= min(ends)) & (values <= max(ends))


def _check_sound(copy: "Dataset", frames: int, expected: int, compressed: bool, where: str) -> None:
    """Check that the bits of a pixel and the pixels stored are those that a header states.

    ``expected`` is the bytes of pixels that are not compressed. Raises ``UserError``.
    """
    from pydicom.encaps import generate_fragments

    allocated, stored = int(copy.BitsAllocated), int(copy.BitsStored)
    highest = int(copy.get("HighBit", stored - 1))
    if highest != stored - 1 or stored > allocated:
        raise UserError(
            f"{where}: BitsStored {stored} of {allocated} and HighBit {highest}, expected HighBit"
            f" {stored - 1}; export it again"
        )
    if compressed:
        begins = (b"\xff\xd8", JPEG_2000)  # the first of an image of JPEG and JPEG-LS
        found = sum(part.startswith(begins) for part in generate_fragments(copy.PixelData))
        if found > frames:
            raise UserError(f"{where}: {found} frames of pixels, expected {frames}; export it again")
        return
    found = len(copy.PixelData)
    if found < expected:  # GDCM would fill up with what its memory holds
        raise UserError(
            f"{where}: cut off: {found} bytes of pixels, expected {expected}; copy or export it again"
        )
    if found > expected + expected % 2:
        raise UserError(
            f"{where}: {found} bytes of pixels, expected {expected} of the Rows, Columns, frames and"
            " BitsAllocated that it states; export it again"
        )


def _count_beyond(whole: "Dataset", big_endian: bool) -> int:
    """Return how many pixels of 16 bits have bits above BitsStored that are no sign and no overlay."""
    stored = int(whole.BitsStored)
    overlays = [whole.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2)]
    if whole.BitsAllocated != 16 or any(overlay and overlay.value for overlay in overlays):
        return 0
    words = np.frombuffer(whole.PixelData, ">u2" if big_endian else "<u2").astype(np.int32)
    high = words >> stored
    foreign = high != 0
    if whole.get("PixelRepresentation"):
        foreign &= (words >> (stored - 1)) != 2 ** (17 - stored) - 1  # all of them ones, as is the sign
    return int(foreign.sum())


def _unpack(copy: "Dataset", count: int) -> None:
    """Make a byte of each of the bits of a mask; GDCM reads them as 0 and 255, and the last of them as 0."""
    packed = np.frombuffer(copy.PixelData, np.uint8)
    values = np.unpackbits(packed, count=count, bitorder="little").tobytes()
    copy.add_new("PixelData", "OB", values + b"\0" * (count % 2))
    copy.BitsAllocated = copy.BitsStored = 8
    copy.HighBit = 7


def _is_signed(copy: "Dataset") -> bool:
    """Return whether a codestream of JPEG 2000 states signed values; those of other kinds state no sign."""
    from pydicom.encaps import generate_fragments

    parts = generate_fragments(copy.PixelData)
    return any(part.startswith(JPEG_2000) and part[SSIZ] >= 128 for part in parts)


def _stored(file: Path, header: "Dataset", where: str) -> tuple[sitk.Image, int]:
    """Return the stored values of the pixels of a file's F frames, and how many have bits above BitsStored.

    GDCM decodes them from a copy that holds nothing else, so that it scales nothing itself.
    """
    from pydicom import Dataset, dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import (
        ExplicitVRBigEndian,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        RLELossless,
    )

    where = named(where, file)
    kind = header.get("PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise UserError(f"{where}: its pixels are {kind}, expected grey values")
    with quiet_itk(), one_line(where), tempfile.TemporaryDirectory() as folder:
        whole, copy = dcmread(file, force=True), Dataset()
        if _syntax(whole) == RLELossless:  # of which GDCM fails to read small images, and reads damaged ones
            whole.decompress()
        for keyword in PIXELS:
            if keyword in whole:
                copy[keyword] = whole[keyword]
        if "PixelData" not in copy:
            raise UserError(f"{where}: its pixels are not stored as whole numbers (PixelData)")
        copy.PhotometricInterpretation = "MONOCHROME2"  # the values of the other GDCM would turn upside down
        copy.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
        copy.SOPInstanceUID = "1"
        copy.file_meta = FileMetaDataset()
        copy.file_meta.TransferSyntaxUID = syntax = _syntax(whole)
        shape = (int(header.get("NumberOfFrames") or 1), int(header.Rows), int(header.Columns))
        expected = math.ceil(math.prod(shape) * int(copy.BitsAllocated) / 8)
        if syntax == ExplicitVRBigEndian and copy.BitsAllocated not in (8, 16):
            # Some programs swap the bytes of each 16 bits, as the standard's OW has it, others of each pixel.
            raise UserError(
                f"{where}: pixels of {copy.BitsAllocated} bits in {syntax.name}, whose order of bytes is not"
                " clear; convert it to Explicit VR Little Endian (as by dcmtk's `dcmconv +te`)"
            )
        _check_sound(copy, shape[0], expected, syntax.is_compressed, where)
        beyond = 0 if syntax.is_compressed else _count_beyond(whole, syntax == ExplicitVRBigEndian)
        if copy.BitsAllocated == 1:
            if syntax.is_compressed:
                raise UserError(f"{where}: compressed bits ({syntax.name}), expected plain ones; convert it")
            _unpack(copy, math.prod(shape))
        path = Path(folder) / "pixels.dcm"
        copy.save_as(path, enforce_file_format=True)
        # An unsigned codestream of a signed header is left: files store signed values in it bit by bit.
        unclear = syntax.is_compressed and not copy.get("PixelRepresentation") and _is_signed(copy)
        del whole, copy.PixelData  # which hold the pixels once more
        try:
            image = sitk.ReadImage(str(path))
            if image.GetNumberOfPixels() != math.prod(shape):
                raise RuntimeError(f"size {image.GetSize()}, expected {shape[::-1]}")
        except RuntimeError as error:
            raise UserError(
                f"{where}: its pixels ({syntax.name}) cannot be decoded; copy or convert it again"
            ) from error
        if unclear and sitk.GetArrayViewFromImage(image).max() >= 2 ** (int(copy.BitsStored) - 1):
            raise UserError(
                f"{where}: PixelRepresentation is 0, but its JPEG 2000 pixels have a sign, so that values"
                " below zero would be misread; export it again"
            )
        return image, beyond


def _syntax(whole: "Dataset") -> "UID":
    """Return how a file's pixels are coded, also of one that does not say it."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = whole.original_encoding
    plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return whole.file_meta.get("TransferSyntaxUID", plain)


def _placed(image: sitk.Image, slices: list[Slice], where: str) -> sitk.Image:
    """Return the image with the spacing, origin and directions of its ordered slices."""
    first = slices[0]
    low, high = PLAUSIBLE_SPACING_MM
    distance = first.thickness if low <= first.thickness <= high else 1.0
    position, axes = first.position, first.axes
    if len(slices) > 1:
        distance = float((slices[-1].position - position) @ _normal(first.axes)) / (len(slices) - 1)
    elif np.isnan(position).any() or np.isnan(axes).any():
        logger.warning(
            "%s: its header does not say where it lies: its first pixel is taken as the origin, its rows as"
            " to the patient's left, its columns as to the back",
            where,
        )
        position, axes = np.zeros(3), np.eye(3)[:2]
    spacing = (*first.spacing.tolist(), distance)
    check_spacing(spacing, where)
    steps = np.column_stack([*axes, _normal(axes)]) * spacing
    return on_grid(image, spacing, position, right_angled(steps, image.GetSize(), where))
