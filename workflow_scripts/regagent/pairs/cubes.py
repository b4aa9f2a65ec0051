"""Cubes: a patient's head in MR and CT as networks of space see it, on one coarse grid, and points in it.

A cube is axis-parallel in LPS, whatever the axes of its volume, and lies about the middle of what the volume
shows. Its voxels are the volume's, smoothed as far as a coarser grid needs.
"""

import logging
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.anatomy import AIR_HU, SKIN_HU, head_mask, largest_part
from regagent.files import UserError, write_whole
from regagent.images import normalise
from regagent.phantom.tissues import AIR, LABELS, UNKNOWN
from regagent.settings import Cubes
from regagent.volumes.reading import read_volume

logger = logging.getLogger("regagent")

#: A volume is shrunk to voxels of about so many mm before the middle of its head is sought.
COARSE_MM = 6.0
#: A head-rest is sought in voxels of about so many mm. It is thinner than 5 of them, and a head shows within
#: 3 of what is thicker.
REST_MM, REST_VOXELS, NEAR_VOXELS = 3.0, 2, 3


class NoHead(ValueError):
    """A volume shows no head; the message says what it shows instead."""


def middle_of(image: sitk.Image, above: float | None = None) -> NDArray[np.float64]:
    """Return the middle (3,) in mm of what a volume shows, of its largest part brighter than ``above``.

    Without ``above``, Otsu's threshold counts. Raises ``NoHead`` where nothing is brighter.
    """
    small = shrunk_to(image, COARSE_MM)
    bright = sitk.OtsuThreshold(small, 0, 1) if above is None else small > above
    largest = np.argwhere(sitk.GetArrayFromImage(largest_part(bright)))
    if not len(largest):
        raise NoHead("nothing in it stands out from its background")
    centre = largest.mean(0)[::-1]
    return np.array(small.TransformContinuousIndexToPhysicalPoint(centre.tolist()))


def shrunk_to(image: sitk.Image, width_mm: float) -> sitk.Image:
    """Return a volume whose voxels are means over blocks of about so many mm, in float32."""
    factors = [max(1, round(width_mm / step)) for step in image.GetSpacing()]
    return sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), factors)


def cube_of(
    image: sitk.Image,
    centre: NDArray,
    outside: float,
    settings: Cubes,
    transform: sitk.Transform | None = None,
    labels: bool = False,
) -> NDArray:
    """Return the (N, N, N) values of a volume on the cube about a centre (3,) in mm, ``outside`` beyond it.

    ``transform`` maps the cube's points to the volume's. Volumes of ``labels`` are not smoothed.
    """
    grid = sitk.Image([settings.size] * 3, sitk.sitkFloat32)
    grid.SetSpacing([settings.spacing_mm] * 3)
    half = (settings.size - 1) / 2 * settings.spacing_mm
    grid.SetOrigin([float(c - half) for c in centre])
    moved = transform or sitk.Transform()
    if labels:
        found = sitk.Resample(image, grid, moved, sitk.sitkNearestNeighbor, outside)
        return sitk.GetArrayFromImage(found)
    return sitk.GetArrayFromImage(
        sitk.Resample(smoothed(image, settings.spacing_mm), grid, moved, sitk.sitkLinear, outside)
    )


def smoothed(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Return a volume smoothed along the axes whose voxels are smaller than ``spacing_mm``, in float32."""
    image = sitk.Cast(image, sitk.sitkFloat32)
    for axis, step in enumerate(image.GetSpacing()):
        # The blur that makes a voxel as wide as the grid's.
        sigma = float(np.sqrt(max(spacing_mm**2 - step**2, 0) / 12))
        if sigma > 0:
            image = sitk.RecursiveGaussian(image, sigma, direction=axis)
    return image


def mr_cube(image: sitk.Image, centre: NDArray, settings: Cubes) -> NDArray[np.float32]:
    """Return the cube of an MR in [0, 1]. Raises ``NoHead`` if it has no contrast."""
    low, high = np.percentile(sitk.GetArrayViewFromImage(image), settings.mr_percentiles)
    if not high > low:
        raise NoHead(f"the MR's percentiles {settings.mr_percentiles} are both {low:g}: no contrast")
    return normalise(cube_of(image, centre, float(low), settings), low, high)


def ct_cube(
    image: sitk.Image, centre: NDArray, settings: Cubes, transform: sitk.Transform | None = None
) -> NDArray[np.float32]:
    """Return the cube of a CT in [0, 1], without its head-rest.

    ``transform`` maps the cube's points to the CT's.
    """
    values = cube_of(image, centre, AIR_HU, settings, transform)
    values[cube_of(ct_body(image), centre, 0.0, settings, transform) < 0.5] = AIR_HU
    return normalise(values, *settings.ct_window_hu)


def ct_body(image: sitk.Image) -> sitk.Image:
    """Return where in a CT a body is, 0 or 1 in coarse voxels: its largest thick part, and what is near."""
    solid = shrunk_to(image, REST_MM) > SKIN_HU
    thick = sitk.BinaryMorphologicalOpening(solid, [REST_VOXELS] * 3)
    return sitk.BinaryDilate(largest_part(thick), [NEAR_VOXELS] * 3)


def head_points(mr: sitk.Image, centre: NDArray, settings: Cubes) -> NDArray[np.float64]:
    """Return points (K, 3) in mm about a centre (3,), on a regular grid in the head of an MR, on which errors
    are measured. Raises ``ValueError`` for an MR that shows no head.
    """
    oriented = sitk.DICOMOrient(mr, "LPS")
    head = sitk.GetImageFromArray(
        head_mask(sitk.GetArrayFromImage(oriented).astype(np.float32), oriented.GetSpacing()).astype(np.uint8)
    )
    head.CopyInformation(oriented)
    reach = settings.size * settings.spacing_mm / 2
    ticks = np.arange(-reach, reach + 1e-6, settings.grid_spacing_mm)
    points = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), -1).reshape(-1, 3)
    index = [head.TransformPhysicalPointToIndex((point + centre).tolist()) for point in points]
    size = np.array(head.GetSize())
    inside = np.array([(0 <= i < size[0]) and (0 <= j < size[1]) and (0 <= k < size[2]) for i, j, k in index])
    values = sitk.GetArrayViewFromImage(head)
    shown = [bool(values[k, j, i]) for (i, j, k), there in zip(index, inside, strict=True) if there]
    return points[inside][np.array(shown, bool)]


def cut_cube(
    patient: str,
    mr: str | Path,
    ct: str | Path,
    transform: str | Path,
    output: str | Path,
    settings: Cubes,
    tissue: str | Path | None = None,
) -> None:
    """Write a patient's pair of cubes, aligned by the ``transform`` from MR to CT points (.tfm), as ``.npz``.

    ``tissue`` is a volume of labels on the MR's grid, if there is one. Raises ``UserError`` where the MR
    shows no head, or the cube none of the CT.
    """
    fixed, moving = read_volume(mr, patient), read_volume(ct, patient)
    known = sitk.ReadTransform(str(transform))
    try:
        centre = middle_of(fixed)
        still = mr_cube(fixed, centre, settings)
        points = head_points(fixed, centre, settings)
    except ValueError as error:
        raise UserError(f"patient {patient}: {error} ({mr})") from error
    moved = ct_cube(moving, centre, settings, known)
    if not moved.any():
        raise UserError(f"patient {patient}: the CT {ct} does not reach the head in the MR {mr}")
    labels = np.full(still.shape, UNKNOWN, np.uint8)
    if tissue is not None:
        labels = cube_of(read_volume(tissue, patient), centre, LABELS[AIR], settings, labels=True)
    with write_whole(output) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            patient=np.array(patient),
            mr=still,
            ct=moved,
            tissue=labels.astype(np.uint8),
            points=points,
            centre=centre,
            spacing_mm=np.array(settings.spacing_mm),
        )
    logger.info("patient %s: a cube of %d³ voxels, %d points in the head", patient, len(still), len(points))


def ct_middle(image: sitk.Image) -> NDArray[np.float64]:
    """Return the middle (3,) in mm of the body in a CT. Raises ``NoHead`` where there is none."""
    return middle_of(image, SKIN_HU)
