"""DICOM: the files of a series, or the frames of one file, read as slices that must make one regular volume.

pydicom reads the headers, GDCM decodes nothing but the pixels. Without a word GDCM would take the frames of a
file in their stored order, 1 mm apart and all scaled as the first, and 1 mm for a spacing that is not stated.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.files import UserError
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
from regagent.volumes.dicom_pixels import voxels_of

if TYPE_CHECKING:
    from pydicom import Dataset

logger = logging.getLogger("regagent")

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
    image = sitk.GetImageFromArray(voxels_of(headers, slices, order, where))
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
