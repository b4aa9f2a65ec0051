"""Alignment of a sample sheet's patient in 3D: by a given transform, by Elastix, or as the scans lie (§4)."""

import logging
from pathlib import Path

import SimpleITK as sitk

from regagent.files import UserError, write_json
from regagent.patients.elastix import RegistrationFailed, elastix
from regagent.patients.preregistration import DOUBTFUL_OVERLAP, resample
from regagent.patients.quality import overlay, quality
from regagent.patients.sheet import naming_row
from regagent.transforms import read_transform, write_transform
from regagent.volumes import read_volume, write_image, write_png

logger = logging.getLogger("regagent")

#: Parts that a thick slice is cut into before the linear interpolation, which then blends only their edges.
PARTS = 8


def align_patient(
    patient: str,
    mr: str | Path,
    ct: str | Path,
    parameter_map: str | Path,
    output_ct: str | Path,
    output_transform: str | Path,
    output_quality: str | Path,
    output_overlay: str | Path,
    method: str = "elastix",
    transform: str | Path | None = None,
    minimum_overlap: float = 0.75,
    thick_slice_mm: float = 4.0,
    sheet: str | Path | None = None,
) -> None:
    """Lay the CT (moving) on the MR's grid (fixed), with the outputs of ``preregistration.preregister``.

    ``transform`` is an ITK transform file that maps MR points to CT points, so that
    ``sitk.Resample(ct, mr, transform)`` aligns them; without one ``method`` decides, 'elastix' or 'none'.
    A CT whose slices lie ``thick_slice_mm`` apart or more is resampled in the plane of its slices only.
    Raises ``UserError``, with the patient's row in ``sheet``, for a transform that cannot be read, when
    Elastix gives up, and when the heads then overlap by less than ``minimum_overlap`` (Dice).
    """
    fixed, moving = read_volume(mr, patient), read_volume(ct, patient)
    with naming_row(sheet, patient):
        if transform is not None:
            method, found = "transform", read_transform(transform, patient=patient, dimension=3)
        elif method == "none":
            found = sitk.Euler3DTransform()
        else:
            try:
                found = elastix(parameter_map)(fixed, moving)
            except RegistrationFailed as error:
                raise UserError(
                    f"patient {patient}: Elastix could not register {ct} to {mr} ({error});"
                    " check that both show the head of one patient"
                ) from error
        aligned = resample(in_plane(moving, thick_slice_mm), fixed, found)
        report = {"patient": patient, "method": method} | quality(fixed, moving, aligned, found)
        if report["overlap"] < minimum_overlap:
            raise UserError(
                f"patient {patient}: the alignment failed ({method}): the heads in {mr} and {ct} overlap by"
                f" {report['overlap']:.2f} (Dice), expected at least {minimum_overlap:g}; check that both"
                " show the head of one patient, and which way the transform maps if the sheet gives one"
            )
    write_image(aligned, output_ct)
    write_transform(found, output_transform)
    write_png(overlay(fixed, aligned), output_overlay)
    write_json(report, output_quality)
    if report["overlap"] < DOUBTFUL_OVERLAP:
        logger.warning(
            "patient %s: the heads overlap by only %.2f (Dice): look at %s before trusting it",
            patient, report["overlap"], output_overlay,
        )  # fmt: skip
    logger.info("patient %s: aligned (%s), overlap of the heads %.3f", patient, method, report["overlap"])


def in_plane(ct: sitk.Image, thick_slice_mm: float) -> sitk.Image:
    """Return the CT so that linear interpolation keeps to one slice wherever the slices are thick.

    Half-way between two slices of 5 mm linear interpolation shows the edges of both, an image that no scanner
    makes. Each such slice is cut into equal thinner ones, and the nearest slice is what a point sees.
    """
    return sitk.Expand(
        ct, [PARTS if step >= thick_slice_mm else 1 for step in ct.GetSpacing()], sitk.sitkNearestNeighbor
    )
