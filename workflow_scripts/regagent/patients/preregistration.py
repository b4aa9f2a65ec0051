"""Pre-registration of a patient's CT to the MR in 3D: the alignment that counts as the truth (§4)."""

import logging
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regagent.anatomy import AIR_HU
from regagent.elastix import RegistrationFailed, elastix
from regagent.files import UserError, write_json
from regagent.patients.quality import better_places, overlay, quality
from regagent.patients.sheet import naming_row
from regagent.settings import Preregistration
from regagent.volumes.moving import go_on
from regagent.volumes.reading import read_volume
from regagent.volumes.transforms import read_transform, write_transform
from regagent.volumes.writing import write_image, write_png

logger = logging.getLogger("regagent")

#: Below this Dice overlap of the two heads somebody should look at the alignment. Simulated patients reach
#: 0.98, and a head upside down 0.89.
DOUBTFUL_OVERLAP = 0.92

#: An alignment is doubtful too if another place of the CT has more mutual information by this part. Around
#: those of simulated patients it is less by a tenth and more.
DOUBTFUL_GAIN = 0.02

#: Two scans of one head differ in size by no more than this part.
SCALE_TOLERANCE = 0.05

#: What else to check where an alignment by one of these methods failed.
ADVICE = {
    "transform": ", and which way the transform maps",
    "elastix": "; where they lie far from each other, `preregistration: {method: agent}` finds them",
}

#: A thick slice is cut into this many parts, so that linear interpolation blends slices only at their edges.
PARTS = 8


def preregister_patient(
    patient: str,
    mr: str | Path,
    ct: str | Path,
    parameter_map: str | Path,
    output_ct: str | Path,
    output_transform: str | Path,
    output_quality: str | Path,
    output_overlay: str | Path,
    settings: Preregistration,
    transform: str | Path | None = None,
    start: str | Path | None = None,
    truth: str | Path | None = None,
    sheet: str | Path | None = None,
) -> None:
    """Align the CT (moving) with the MR (fixed) on its grid; write the transform and its quality too.

    ``transform``, ``start`` and ``truth`` are ITK transform files that map MR points to CT points in mm, so
    that ``sitk.Resample(ct, mr, transform)`` aligns the two. A given ``transform`` is taken as it is; without
    one ``settings.method`` decides: 3D Elastix, from a ``start`` if there is one, the scanners' coordinates,
    or ``truth``. With ``truth`` the error is measured. ``output_ct`` holds int16 HU, -1000 outside the CT.
    ``output_quality`` is a JSON file (see ``quality``) and ``output_overlay`` a PNG file (see ``overlay``).

    Raises ``UserError``, with the patient's row in ``sheet``: for a transform that cannot be read, mirrors,
    scales or shears, when Elastix finds no alignment, and when the aligned heads overlap by less than
    ``settings.minimum_overlap`` (Dice).
    """
    fixed, moving = read_volume(mr, patient), read_volume(ct, patient)
    with naming_row(sheet, patient):
        method = "transform" if transform else settings.method
        if transform:
            found = read_transform(transform, patient=patient, dimension=3)
        elif method == "none":
            found = sitk.Euler3DTransform()
        elif method == "truth":
            found = read_transform(str(truth), dimension=3)
        else:
            try:
                align = elastix(parameter_map)
                if start:
                    found, _ = go_on(align, fixed, moving, read_transform(str(start), dimension=3))
                else:
                    found = align(fixed, moving)
            except RegistrationFailed as error:
                raise UserError(
                    f"patient {patient}: Elastix could not register {ct} to {mr} ({error});"
                    " check that both show the head of one patient"
                ) from error
        _check_size(found, fixed, f"patient {patient}: the transform ({method})")
        if method == "truth":
            found = _tilted(found, fixed, settings.tilt_deg)
        aligned = resample(in_plane(moving, settings.thick_slice_mm), fixed, found)
        measured = quality(fixed, moving, aligned, found, truth)
        if measured["overlap"] < settings.minimum_overlap:
            raise UserError(
                f"patient {patient}: the alignment failed ({method}): the heads in {mr} and {ct} overlap by"
                f" {measured['overlap']:.2f} (Dice), expected at least {settings.minimum_overlap:g};"
                f" check that both show the head of one patient{ADVICE.get(method, '')}"
            )
    write_image(aligned, output_ct)
    write_transform(found, output_transform)
    write_png(overlay(fixed, aligned), output_overlay)
    write_json({"patient": patient, "method": method, **measured}, output_quality)
    if measured["overlap"] < DOUBTFUL_OVERLAP:
        logger.warning(
            "patient %s: the heads overlap by only %.2f (Dice): look at %s before trusting it%s",
            patient, measured["overlap"], output_overlay, ADVICE.get(method, ""),
        )  # fmt: skip
    gains = better_places(fixed, moving, found) if method != "truth" else {}
    best = max(gains, key=lambda place: gains[place], default="")
    if best and gains[best] > DOUBTFUL_GAIN:
        logger.warning(
            "patient %s: MR and CT share %.0f %% more information with the CT %s than aligned (%s):"
            " look at %s before trusting it%s",
            patient, 100 * gains[best], best, method, output_overlay,
            "; the transform must map MR to CT points in mm in ITK's LPS" if transform else "",
        )  # fmt: skip
    against_truth = f", error {measured['error_mean_mm']:.2f} mm" if truth else ""
    logger.info(
        "patient %s: aligned (%s), overlap of the heads %.3f%s",
        patient, method, measured["overlap"], against_truth,
    )  # fmt: skip


def _tilted(truth: sitk.Transform, mr: sitk.Image, tilt_deg: float) -> sitk.Transform:
    """Return the map from MR to CT points after a random tilt about an axis in the slices, and a shift.

    Points move across the slices alone. A rotation would shift a slice 60 mm from the middle by 3 mm in its
    plane for 3 degrees, where the truth is to stay the identity. The truth's own numbers are the seed: each
    patient of each cohort has another tilt.
    """
    if not tilt_deg:
        return truth
    rng = np.random.default_rng([*np.array(truth.GetParameters()).tobytes()])
    axis, angle, shift = rng.uniform(0, 2 * np.pi), *(tilt_deg * rng.uniform(-1, 1, size=2))
    tilt = sitk.AffineTransform(3)
    tilt.SetCenter(mr.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in mr.GetSize()]))
    across = np.tan(np.deg2rad(angle)) * np.array([-np.sin(axis), np.cos(axis)])
    tilt.SetMatrix([1, 0, 0, 0, 1, 0, *across.tolist(), 1])
    tilt.SetTranslation([0.0, 0.0, float(shift)])
    return sitk.CompositeTransform([truth, tilt])


def _check_size(transform: sitk.Transform, mr: sitk.Image, what: str) -> None:
    """Check that a transform does not mirror, scale or shear; ``what`` begins the ``UserError``."""
    centre = np.array(mr.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in mr.GetSize()]))
    ends = centre + 50.0 * np.vstack([np.eye(3), -np.eye(3)])  # over 100 mm, which averages a deformation
    there = np.array([transform.TransformPoint(end) for end in ends.tolist()])
    linear = (there[:3] - there[3:]) / 100.0
    if np.linalg.det(linear) < 0:
        raise UserError(f"{what} exchanges left and right, expected none that mirrors")
    scales = np.linalg.svd(linear, compute_uv=False)
    scale = max(scales, key=lambda value: abs(value - 1))
    if abs(scale - 1) > SCALE_TOLERANCE:
        one = " in one direction" if np.ptp(scales) > 0.01 else ""
        raise UserError(
            f"{what} scales by {scale:.2f}{one}, expected two scans of one size;"
            " is the spacing of both in mm?"
        )


def resample(ct: sitk.Image, mr: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """Return the CT in HU (int16) on the MR's grid, -1000 outside; ``transform`` maps MR to CT points."""
    aligned = sitk.Resample(sitk.Cast(ct, sitk.sitkFloat32), mr, transform, sitk.sitkLinear, AIR_HU)
    return sitk.Cast(sitk.Round(sitk.Clamp(aligned, lowerBound=-32768, upperBound=32767)), sitk.sitkInt16)


def in_plane(ct: sitk.Image, thick_slice_mm: float) -> sitk.Image:
    """Return the CT with thick slices cut into thin copies, so that interpolation hardly mixes two slices.

    Half-way between two slices of 5 mm linear interpolation would show the edges of both, an image that no
    scanner makes. Along an axis whose spacing is ``thick_slice_mm`` or more each slice is repeated ``PARTS``
    times, and a point gets the values of its nearest slice.
    """
    return sitk.Expand(
        ct, [PARTS if step >= thick_slice_mm else 1 for step in ct.GetSpacing()], sitk.sitkNearestNeighbor
    )
