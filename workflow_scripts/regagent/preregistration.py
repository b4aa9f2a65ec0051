"""Pre-registration of a patient's CT onto the MR in 3D, which serves as the standard of alignment (§4)."""

import logging
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.elastix import RegistrationFailed, elastix
from regagent.files import UserError, write_json
from regagent.images import normalise, read_volume, to_uint8, write_image, write_png
from regagent.slices import AIR_HU, head_mask, square
from regagent.transforms import write_transform

logger = logging.getLogger("regagent")

SKIN_HU = -300.0
BONE_HU = 300.0

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


def quality(
    mr: sitk.Image,
    ct: sitk.Image,
    aligned: sitk.Image,
    transform: sitk.Transform,
    truth: str | Path | None = None,
) -> dict[str, float]:
    """Return what tells a good registration from a bad one.

    ``overlap``: Dice overlap of the head in MR and aligned CT, within the CT's field of view.
    ``mutual_information`` and ``mutual_information_before``: in nats, with the transform and with the
    identity. With ``truth`` also ``error_mean_mm`` and ``error_max_mm``
    over points in the head, and ``initial_error_mean_mm`` without registration.
    """
    try:
        head = head_mask(sitk.GetArrayFromImage(mr).astype(np.float32), mr.GetSpacing())
    except ValueError:
        head = np.zeros(mr.GetSize()[::-1], bool)
    skin = _filled(sitk.GetArrayFromImage(aligned) > SKIN_HU)
    seen = sitk.GetArrayFromImage(_field_of_view(ct, mr, transform)) > 0
    total = (head & seen).sum() + (skin & seen).sum()
    report = {
        "overlap": float(2 * (head & skin & seen).sum() / total) if total else 0.0,
        "mutual_information": _mutual_information(mr, ct, transform),
        "mutual_information_before": _mutual_information(mr, ct, sitk.Euler3DTransform()),
    }
    if truth:
        known = sitk.ReadTransform(str(truth))
        points = _points(head if head.any() else np.ones_like(head), mr)
        there = np.array([known.TransformPoint(point) for point in points])
        error = _distances(there, [transform.TransformPoint(point) for point in points])
        report["error_mean_mm"] = float(error.mean())
        report["error_max_mm"] = float(error.max())
        report["initial_error_mean_mm"] = float(_distances(there, points).mean())
    return report


def overlay(mr: sitk.Image, aligned: sitk.Image, size: int = 320) -> NDArray[np.uint8]:
    """Return the three middle planes of the MR side by side, the CT's bone edges over them in red (BGR)."""
    mr, aligned = sitk.DICOMOrient(mr, "LPS"), sitk.DICOMOrient(aligned, "LPS")
    intensity = sitk.GetArrayFromImage(mr).astype(np.float32)
    hounsfield = sitk.GetArrayFromImage(aligned).astype(np.float32)
    low, high = np.percentile(intensity, (1, 99.5))
    x, y, z = mr.GetSpacing()
    panels = []
    for axis, spacing in ((0, (x, y)), (1, (x, z)), (2, (y, z))):
        middle = intensity.shape[axis] // 2
        grey, density = (volume.take(middle, axis) for volume in (intensity, hounsfield))
        if axis > 0:
            grey, density = grey[::-1], density[::-1]  # the vertex on top
        panel = cv2.cvtColor(
            to_uint8(normalise(square(grey, spacing, size, float(low)), low, high)), cv2.COLOR_GRAY2BGR
        )
        bone = (square(density, spacing, size, AIR_HU) > BONE_HU).astype(np.uint8)
        contours, _ = cv2.findContours(bone, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(panel, contours, -1, (60, 60, 255), 1, cv2.LINE_AA)
        panels.append(panel)
    return np.hstack(panels)


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected part, filled slice by slice: table and head rest are left out."""
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8))))
    largest = sitk.GetArrayFromImage(parts == 1)
    filled = [sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(s))) for s in largest]
    return np.stack(filled) > 0


def _field_of_view(ct: sitk.Image, mr: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    ones = sitk.Image(ct.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(ct)
    return sitk.Resample(ones, mr, transform, sitk.sitkNearestNeighbor, 0)


def _mutual_information(mr: sitk.Image, ct: sitk.Image, transform: sitk.Transform) -> float:
    """Return the mutual information in nats over every fourth voxel of the MR that lies in the CT."""
    coarse = sitk.Cast(mr, sitk.sitkFloat32)[::4, ::4, ::4]
    outside = -1e6
    moved = sitk.Resample(
        sitk.Cast(ct, sitk.sitkFloat32), coarse, transform, sitk.sitkNearestNeighbor, outside
    )
    density = sitk.GetArrayFromImage(moved)
    inside = density != outside
    if not inside.any():
        return 0.0
    joint, _, _ = np.histogram2d(sitk.GetArrayFromImage(coarse)[inside], density[inside], bins=32)
    joint /= joint.sum()
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / product[joint > 0])).sum())


def _points(head: NDArray[np.bool_], image: sitk.Image, count: int = 2000) -> list[tuple[float, ...]]:
    voxels = np.argwhere(head)
    voxels = voxels[np.linspace(0, len(voxels) - 1, min(count, len(voxels))).astype(int)]
    return [image.TransformIndexToPhysicalPoint([int(k) for k in voxel[::-1]]) for voxel in voxels]


def _distances(points: NDArray, others: list) -> NDArray[np.float64]:
    return np.linalg.norm(points - np.array(others), axis=1)
