"""Pre-registration of a patient's CT onto the MR in 3D, which serves as the standard of alignment (§4)."""

import logging
from pathlib import Path

import SimpleITK as sitk

from regagent.anatomy import AIR_HU
from regagent.files import UserError, write_json
from regagent.patients.elastix import RegistrationFailed, elastix
from regagent.patients.quality import overlay, quality
from regagent.transforms import write_transform
from regagent.volumes import read_volume, write_image, write_png

logger = logging.getLogger("regagent")


#: Below this Dice overlap of the two heads a registration has failed, whatever its metric says; simulated
#: patients reach 0.98, a head upside down 0.89, so below the second one somebody should look.
MINIMUM_OVERLAP = 0.75
DOUBTFUL_OVERLAP = 0.92


def preregister(
    patient: str,
    mr: str | Path,
    ct: str | Path,
    parameter_map: str | Path,
    output_ct: str | Path,
    output_transform: str | Path,
    output_quality: str | Path,
    output_overlay: str | Path,
    truth: str | Path | None = None,
    method: str = "elastix",
) -> None:
    """Register the CT (moving) to the MR (fixed) and write the CT on the MR's grid.

    ``output_ct`` holds int16 HU, -1000 outside the CT. ``output_transform`` and ``truth`` are ITK transforms
    that map MR points to CT points in mm. ``method`` 'none' takes the scanners' coordinates as they are.
    ``output_quality`` is a JSON file: see ``quality``. Raises ``UserError`` when the registration fails.
    """
    fixed, moving = read_volume(mr, patient), read_volume(ct, patient)
    if method == "none":
        transform: sitk.Transform = sitk.Euler3DTransform()
    else:
        register = elastix(parameter_map)
        try:
            transform = register(fixed, moving)
        except RegistrationFailed as error:
            raise UserError(
                f"patient {patient}: Elastix could not register {ct} to {mr} ({error});"
                " check that both show the head of one patient"
            ) from error
    aligned = resample(moving, fixed, transform)
    report = {"patient": patient, "method": method} | quality(fixed, moving, aligned, transform, truth)
    if report["overlap"] < MINIMUM_OVERLAP:
        raise UserError(
            f"patient {patient}: registration failed: the heads in {mr} and {ct} overlap by"
            f" {report['overlap']:.2f} (Dice) after it, expected at least {MINIMUM_OVERLAP};"
            " check that both show the head of one patient, or supply a CT that lies nearer to the MR"
        )
    write_image(aligned, output_ct)
    write_transform(transform, output_transform)
    write_png(overlay(fixed, aligned), output_overlay)
    write_json(report, output_quality)
    if report["overlap"] < DOUBTFUL_OVERLAP:
        logger.warning(
            "patient %s: the heads overlap by only %.2f (Dice): look at %s before trusting it",
            patient, report["overlap"], output_overlay,
        )  # fmt: skip
    error = f", error {report['error_mean_mm']:.2f} mm" if truth else ""
    logger.info("patient %s: overlap of the heads %.3f%s", patient, report["overlap"], error)


def resample(ct: sitk.Image, mr: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """Return the CT in HU (int16) on the MR's grid, -1000 outside; ``transform`` maps MR to CT points."""
    aligned = sitk.Resample(sitk.Cast(ct, sitk.sitkFloat32), mr, transform, sitk.sitkLinear, AIR_HU)
    return sitk.Cast(sitk.Round(sitk.Clamp(aligned, lowerBound=-32768, upperBound=32767)), sitk.sitkInt16)
