"""The pixels of DICOM files: decoded by GDCM one file at a time, checked, scaled, and rid of padding."""

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
from regagent.volumes.dicom_headers import Slice, named, one_line

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


def voxels_of(
    headers: dict[Path, "Dataset"], slices: list[Slice], order: NDArray[np.intp], where: str
) -> NDArray:
    """Return the voxels (S, R, C) of slices in their order, each with its own slope and intercept.

    Whole numbers are int16, or int32 where one does not fit. Others are float32, or float64 where that would
    lose digits. What pads the image with values that nobody measured is filled by ``_fill_padding``. Raises
    ``UserError``, which begins with ``where``, for pixels that are damaged or not grey.
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
