"""Whether an MR and a CT are what they are named: judged by the distribution of their values."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.anatomy import AIR_HU, SKULL_HU, TISSUE_HU
from regagent.files import UserError

logger = logging.getLogger("regagent")

#: Fewer voxels than this part of an image are outliers: undershoot of an interpolation, metal. A CT of a head
#: has at least this part of air and of bone.
OUTLIERS = 0.001

#: From one slice of a CT to the next the part of tissue changes less than this. In simulated heads it is
#: at most 0.04 at 3 mm, and as much more as slices are thicker.
TISSUE_JUMP = 0.2

#: At most this part of the outermost voxels of a CT is exactly 0 HU: those in a neck that is cut off.
FILLED_SIDES = 0.02

#: Air in a CT lies within so many HU of ``AIR_HU``: at least this part of what lies below ``TISSUE_HU``. What
#: is beyond the scanner's circle may be lower, and the head's own cavities are higher.
AIR_WIDTH_HU, AIR_FRACTION = 150.0, 0.1

#: Half of a head's voxels in a CT, those of fat, water, muscle and brain, lie within so many HU of water.
SOFT_TISSUE_HU = 150.0


def check_modalities(
    mr: sitk.Image, ct: sitk.Image, mr_path: str | Path, ct_path: str | Path, where: str, advice: str
) -> None:
    """Check that the images of two files, 2D or 3D, are an MR, and a CT of a head in Hounsfield units.

    Raises ``UserError``, which begins with ``where``: where both are the same image, where the MR looks like
    a CT, and where the CT shows no air, no bone, or a head whose soft tissue is not that of Hounsfield units.
    It ends with ``advice`` unless both are the same: what to do if the check is wrong. The log tells of a
    slice of the CT whose values do not go with those of the slice before, and of sides that are 0.
    """
    signal, hounsfield = sitk.GetArrayViewFromImage(mr), sitk.GetArrayViewFromImage(ct)
    if np.array_equal(signal, hounsfield):
        raise UserError(f"{where}MR and CT hold the same image: {mr_path} and {ct_path}")
    if _looks_like_a_ct(signal):
        also = "" if _looks_like_a_ct(hounsfield) else f", and {ct_path} does not: MR and CT are exchanged"
        raise UserError(
            f"{where}{mr_path} looks like a CT, expected an MR (air of about {AIR_HU:g} around it, most of"
            f" the rest within {SOFT_TISSUE_HU:g} of 0){also}; {advice}"
        )
    air, tissue = hounsfield[hounsfield < TISSUE_HU], hounsfield[hounsfield > TISSUE_HU]
    scanned = air[air > air.min()] if len(air) else air  # the lowest value may fill what was not scanned
    at_air, few = np.abs(scanned - AIR_HU) < AIR_WIDTH_HU, len(scanned) < OUTLIERS * hounsfield.size
    middle = np.median(tissue) if len(tissue) else np.nan
    for there, what in (
        (len(air) >= OUTLIERS * hounsfield.size, f"air below {TISSUE_HU:g}"),
        ((hounsfield > SKULL_HU).mean() >= OUTLIERS, f"bone above {SKULL_HU:g}"),
        (few or at_air.mean() >= AIR_FRACTION, f"air at about {AIR_HU:g}"),
        (
            abs(middle) < SOFT_TISSUE_HU,
            f"most tissue within {SOFT_TISSUE_HU:g} of 0 (its median is {middle:g})",
        ),
    ):
        if not there:
            raise UserError(
                f"{where}{ct_path}: its values go from {hounsfield.min():g} to {hounsfield.max():g}, expected"
                f" Hounsfield units with {what}; is it a CT, and were its rescale slope and intercept applied"
                f" once? {advice}"
            )
    _tell_of_zeros(hounsfield, f"{where}{ct_path}")
    if hounsfield.ndim == 3:
        _tell_of_jumps(hounsfield, f"{where}{ct_path}")


def _tell_of_zeros(hounsfield: NDArray, where: str) -> None:
    """Log where the sides of a CT are 0, as programs fill them that resample it: in a CT 0 is water."""
    part = (_sides(hounsfield, range(hounsfield.ndim)) == 0).mean()
    if part > FILLED_SIDES:
        logger.warning(
            "%s: %.0f %% of its outermost voxels are exactly 0, which is water; if it was resampled, fill"
            " what lies beyond it with %g",
            where, 100 * part, AIR_HU,
        )  # fmt: skip


def _tell_of_jumps(hounsfield: NDArray, where: str) -> None:
    """Log the first slice of a volume (S, R, C) that holds far more or less tissue than the one before it."""
    parts = np.array([(one > TISSUE_HU).mean() if np.ptp(one) else np.nan for one in hounsfield])
    jumps = np.flatnonzero(np.abs(np.diff(parts)) > TISSUE_JUMP)  # none to or from a constant slice
    if len(jumps):
        logger.warning(
            "%s: %.0f %% of slice %d and %.0f %% of slice %d are above %g HU; were slope and intercept"
            " applied to all slices?",
            where, 100 * parts[jumps[0]], jumps[0], 100 * parts[jumps[0] + 1], jumps[0] + 1, TISSUE_HU,
        )  # fmt: skip


def _sides(values: NDArray, axes: Iterable[int]) -> NDArray:
    """Return the first and the last voxels (N,) of an image along each of some axes."""
    return np.concatenate([np.take(values, (0, -1), axis).ravel() for axis in axes])


def _looks_like_a_ct(values: NDArray) -> bool:
    """Return whether an image has air in Hounsfield units at its sides, and mostly soft tissue in it.

    An MR may fall as low: by undershoot in a few voxels, in inversion recovery with its sign, or by an offset
    of -1024. Its sides are 0 then, or its tissues are spread over more values.
    """
    tissue = values[values > TISSUE_HU]
    return bool(
        np.median(_sides(values, (-1, -2))) < TISSUE_HU
        and (np.abs(tissue) < SOFT_TISSUE_HU).sum() > len(tissue) / 2
    )
