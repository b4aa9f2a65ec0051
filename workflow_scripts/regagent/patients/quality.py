"""The quality of an alignment in 3D: overlap of the heads, mutual information, error, and a picture (§4)."""

from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.anatomy import AIR_HU, BONE_HU, SKIN_HU, head_mask, largest_part
from regagent.images import normalise, square, to_uint8
from regagent.mutual_information import mutual_information
from regagent.volumes.transforms import read_transform

#: Stands for the value of a CT where it has no voxel.
OUTSIDE = -1e6

#: Where an alignment is compared with its surroundings: along these directions in LPS, so many mm away.
SIDES = {
    "left": (1, 0, 0), "right": (-1, 0, 0), "back": (0, 1, 0), "front": (0, -1, 0), "up": (0, 0, 1),
    "down": (0, 0, -1),
}  # fmt: skip
SHIFTS_MM = (4, 8)


def quality(
    mr: sitk.Image,
    ct: sitk.Image,
    aligned: sitk.Image,
    transform: sitk.Transform,
    truth: str | Path | None = None,
) -> dict[str, float]:
    """Return measures of a registration's quality; ``transform`` maps MR points to CT points in mm.

    ``overlap``: Dice overlap of the heads in MR and aligned CT, within the CT's field of view.
    ``mutual_information`` and ``mutual_information_before``: in nats, with the transform and with the
    identity. With ``truth``, the file of the true transform, also ``error_mean_mm`` and ``error_max_mm`` over
    points in the head, and ``initial_error_mean_mm`` without registration. Raises ``UserError`` for a
    ``truth`` that cannot be read.
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
        known = read_transform(truth, dimension=3)
        points = _points(head if head.any() else np.ones_like(head), mr)
        there = np.array([known.TransformPoint(point) for point in points])
        error = _distances(there, [transform.TransformPoint(point) for point in points])
        report["error_mean_mm"] = float(error.mean())
        report["error_max_mm"] = float(error.max())
        report["initial_error_mean_mm"] = float(_distances(there, points).mean())
    return report


def overlay(mr: sitk.Image, aligned: sitk.Image, size: int = 320) -> NDArray[np.uint8]:
    """Return the MR's middle planes (size, 3 size, 3) side by side, the CT's bone edges in red (BGR)."""
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
    """Return the largest connected part, filled slice by slice. It does not contain table and head-rest."""
    largest = sitk.GetArrayFromImage(largest_part(sitk.GetImageFromArray(mask.astype(np.uint8))))
    filled = [sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(s))) for s in largest]
    return np.stack(filled) > 0


def _field_of_view(ct: sitk.Image, mr: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    ones = sitk.Image(ct.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(ct)
    return sitk.Resample(ones, mr, transform, sitk.sitkNearestNeighbor, 0)


def better_places(mr: sitk.Image, ct: sitk.Image, transform: sitk.Transform) -> dict[str, float]:
    """Return by how much (0.02 is 2 %) the mutual information is greater with the CT in other places.

    The places are those 4 and 8 mm from the aligned one along each axis, and that of the scanners'
    coordinates. Each is compared over the voxels that lie in the CT in both places; one that leaves less than
    half of them is not in the result.
    """
    coarse, moving = sitk.Cast(mr, sitk.sitkFloat32)[::4, ::4, ::4], sitk.Cast(ct, sitk.sitkFloat32)
    intensity, aligned = sitk.GetArrayFromImage(coarse), _density(coarse, moving, transform)
    places: dict[str, sitk.Transform] = {"as the scanners' coordinates place it": sitk.Euler3DTransform()}
    for side, direction in SIDES.items():
        for step in SHIFTS_MM:
            back = sitk.TranslationTransform(3, [-step * part for part in direction])
            places[f"{step} mm further {side}"] = sitk.CompositeTransform([transform, back])
    gains = {}
    for name, place in places.items():
        density = _density(coarse, moving, place)
        common = (aligned != OUTSIDE) & (density != OUTSIDE)
        if common.sum() <= (aligned != OUTSIDE).sum() / 2:
            continue
        here = _information(intensity[common], aligned[common])
        if here > 0:
            gains[name] = _information(intensity[common], density[common]) / here - 1
    return gains


def _mutual_information(mr: sitk.Image, ct: sitk.Image, transform: sitk.Transform) -> float:
    """Return the mutual information in nats over every fourth voxel of the MR that lies in the CT."""
    coarse = sitk.Cast(mr, sitk.sitkFloat32)[::4, ::4, ::4]
    density = _density(coarse, sitk.Cast(ct, sitk.sitkFloat32), transform)
    inside = density != OUTSIDE
    return _information(sitk.GetArrayFromImage(coarse)[inside], density[inside]) if inside.any() else 0.0


def _density(coarse: sitk.Image, ct: sitk.Image, transform: sitk.Transform) -> NDArray:
    """Return the CT's values on the grid of ``coarse``, ``OUTSIDE`` where the CT has none."""
    return sitk.GetArrayFromImage(sitk.Resample(ct, coarse, transform, sitk.sitkNearestNeighbor, OUTSIDE))


def _information(intensity: NDArray, density: NDArray) -> float:
    joint, _, _ = np.histogram2d(intensity, density, bins=32)
    return float(mutual_information(joint / joint.sum()))


def _points(head: NDArray[np.bool_], image: sitk.Image, count: int = 2000) -> list[tuple[float, ...]]:
    voxels = np.argwhere(head)
    voxels = voxels[np.linspace(0, len(voxels) - 1, min(count, len(voxels))).astype(int)]
    return [image.TransformIndexToPhysicalPoint([int(k) for k in voxel[::-1]]) for voxel in voxels]


def _distances(points: NDArray, others: list) -> NDArray[np.float64]:
    return np.linalg.norm(points - np.array(others), axis=1)
