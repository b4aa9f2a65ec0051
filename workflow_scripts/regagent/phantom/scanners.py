"""The scans of a simulated patient (§4 Dataset): one anatomy in MR and in CT, and the true alignment.

The anatomy is painted once. Each scanner samples it in a rigid pose of its own, with its own slices, noise
and artefacts. The paper's patients cannot be shared. The simulated ones replace them, and their true
alignment is known.
"""

from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, gaussian_filter1d, maximum_filter1d

from regagent.anatomy import AIR_HU, SKIN_HU
from regagent.phantom.canvas import Canvas, Field, Labels, Triple, smooth_noise
from regagent.phantom.head import build_head
from regagent.phantom.tissues import AIR, LABELS
from regagent.phantom.variety import Variety
from regagent.settings import Phantom
from regagent.volumes.transforms import write_transform
from regagent.volumes.writing import write_image

MR_FIELD_OF_VIEW_MM = (240.0, 240.0, 190.0)
CT_FIELD_OF_VIEW_MM = (241.92, 241.92, 198.0)
CT_SPACING_MM = (0.84, 0.84, 3.0)
#: The middle of both fields of view in patient coordinates, for a patient who was not moved.
MIDDLE_MM = (0.0, -10.0, 8.0)
#: The stored MR value of white matter.
MR_WHITE_MATTER = 620.0
#: A voxel above it holds metal; no tooth is as dense.
METAL_HU = 2150.0


def simulate_patient(
    patient: str,
    seed: int,
    output_mr: str | Path,
    output_ct: str | Path,
    output_truth: str | Path,
    output_tissue: str | Path,
    settings: Phantom,
) -> None:
    """Write a patient's MR and CT (NIfTI, int16) and the transform from MR to CT points (.tfm, mm).

    ``output_tissue`` holds the tissue of each of the MR's voxels, a number of ``LABELS`` (NIfTI, uint8).

    The same ``seed`` and ``patient`` (a name) give the same voxels. The spacing of the MR is 1 mm along each
    axis and that of the CT 0.84 × 0.84 × 3 mm, both times ``settings.spacing_mr_mm``. The anatomy is painted
    on the grid of the MR's spacing. Raises ``UserError`` when a file cannot be written.
    """
    root = np.random.SeedSequence([seed, *patient.encode()])
    anatomy, mr_scan, ct_scan, more = (np.random.default_rng(child) for child in root.spawn(4))
    metal, variety = anatomy.random() < settings.metal_fraction, Variety(more, settings)
    canvas = build_head(anatomy, settings.spacing_mr_mm, metal, variety)
    mr_pose, ct_pose = draw_pose(mr_scan, settings), draw_pose(ct_scan, settings)
    mr = scan_mr(canvas, mr_pose, mr_scan, settings, variety.thickness_mm(1.0, settings.mr_slice_mm))
    ct = scan_ct(canvas, ct_pose, ct_scan, settings, variety.thickness_mm(3.0, settings.ct_slice_mm))
    tissue = scan_tissue(canvas, mr_pose, settings)
    for volume, output in ((mr, output_mr), (ct, output_ct), (tissue, output_tissue)):
        write_image(volume, output, compression_level=1)  # the fastest level
    write_transform(truth(mr_pose, ct_pose), output_truth)


def draw_pose(rng: np.random.Generator, settings: Phantom) -> sitk.Euler3DTransform:
    """Draw the pose of a patient in a scanner: the map from scanner points to patient points in mm."""
    axis = rng.standard_normal(3)
    angle = np.deg2rad(settings.max_rotation_deg) * rng.uniform(-1, 1)
    turn = sitk.VersorTransform((axis / np.linalg.norm(axis)).tolist(), float(angle))
    pose = sitk.Euler3DTransform()
    pose.SetCenter(MIDDLE_MM)
    pose.SetMatrix(turn.GetMatrix(), 1e-6)
    pose.SetTranslation((settings.max_translation_mm * rng.uniform(-1, 1, size=3)).tolist())
    return pose


def truth(mr_pose: sitk.Euler3DTransform, ct_pose: sitk.Euler3DTransform) -> sitk.Euler3DTransform:
    """Return the map from MR points to CT points (mm) for a patient's poses in the two scanners."""
    back = ct_pose.GetInverse()
    matrices = [np.array(t.GetMatrix()).reshape(3, 3) for t in (back, mr_pose)]
    transform = sitk.Euler3DTransform()
    transform.SetCenter(MIDDLE_MM)
    transform.SetMatrix((matrices[0] @ matrices[1]).ravel().tolist(), 1e-6)
    shift = np.array(back.TransformPoint(mr_pose.TransformPoint(MIDDLE_MM))) - np.array(MIDDLE_MM)
    transform.SetTranslation(shift.tolist())
    return transform


def sample(
    canvas: Canvas,
    volume: Field | Labels,
    pose: sitk.Transform,
    spacing: Triple,
    field_of_view: Triple,
    outside: float,
    interpolator: int = sitk.sitkLinear,
) -> sitk.Image:
    """Sample a volume (Z, Y, X) of the canvas on a scanner's grid in a pose, linearly by default.

    ``spacing`` and ``field_of_view`` are (x, y, z) in mm. The grid's axes are LPS. Voxels beyond the canvas
    become ``outside``.
    """
    source = sitk.GetImageFromArray(volume)
    source.SetSpacing([canvas.spacing] * 3)
    source.SetOrigin(canvas.lower)
    size = [int(round(f / s)) for f, s in zip(field_of_view, spacing, strict=True)]
    origin = [m - (n - 1) / 2 * s for m, n, s in zip(MIDDLE_MM, size, spacing, strict=True)]
    resampler = sitk.ResampleImageFilter()
    resampler.SetNumberOfThreads(1)
    resampler.SetSize(size)
    resampler.SetOutputSpacing(spacing)
    resampler.SetOutputOrigin(origin)
    resampler.SetTransform(pose)
    resampler.SetInterpolator(interpolator)
    resampler.SetDefaultPixelValue(outside)
    return resampler.Execute(source)


def like(values: NDArray, reference: sitk.Image) -> sitk.Image:
    """Return (Z, Y, X) values as an int16 image on the grid of ``reference``."""
    image = sitk.GetImageFromArray(np.rint(values).astype(np.int16))
    image.CopyInformation(reference)
    return image


def averaged(values: Field, voxels: float) -> Field:
    """Return a volume (Z, Y, X) averaged along z over so many voxels, which need not be whole."""
    if voxels <= 1:
        return values
    reach = int(np.ceil((voxels - 1) / 2))
    weights = np.clip(voxels / 2 + 0.5 - np.abs(np.arange(-reach, reach + 1)), 0, 1)
    return convolve1d(values, weights / weights.sum(), axis=0, mode="nearest")


def scan_mr(
    canvas: Canvas, pose: sitk.Transform, rng: np.random.Generator, settings: Phantom, slice_mm: float = 1.0
) -> sitk.Image:
    """Return the T1-weighted MR in a pose, slices ``slice_mm`` thick, with coil shading and Rician noise."""
    spacing = (settings.spacing_mr_mm,) * 3
    image = sample(canvas, canvas.mr, pose, spacing, MR_FIELD_OF_VIEW_MM, 0.0)
    signal = averaged(sitk.GetArrayFromImage(image), slice_mm / settings.spacing_mr_mm)
    shading = smooth_noise(rng, MR_FIELD_OF_VIEW_MM[::-1], signal.shape, 110.0)
    signal *= np.maximum(1 + np.float32(settings.bias_field) * shading, np.float32(0.25))
    sigma = np.float32(settings.mr_noise)
    real = signal + sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    return like(MR_WHITE_MATTER * np.hypot(real, imaginary), image)


def scan_tissue(canvas: Canvas, pose: sitk.Transform, settings: Phantom) -> sitk.Image:
    """Return the tissue of each voxel of the MR in a pose, as numbers of ``LABELS``."""
    spacing, outside = (settings.spacing_mr_mm,) * 3, LABELS[AIR]
    grid = spacing, MR_FIELD_OF_VIEW_MM, outside, sitk.sitkNearestNeighbor
    return sample(canvas, canvas.tissue, pose, *grid)


def scan_ct(
    canvas: Canvas, pose: sitk.Transform, rng: np.random.Generator, settings: Phantom, slice_mm: float = 3.0
) -> sitk.Image:
    """Return the CT in HU in a pose, averaged over each slice, with head-rest, noise and metal streaks.

    Slices lie 3 mm apart and are ``slice_mm`` thick, so thicker ones overlap.
    """
    thin = tuple(s * settings.spacing_mr_mm for s in (*CT_SPACING_MM[:2], CT_SPACING_MM[2] / 3))
    image = sample(canvas, canvas.ct, pose, thin, CT_FIELD_OF_VIEW_MM, AIR_HU)
    fine = sitk.GetArrayFromImage(image)
    if slice_mm > 3 * thin[2]:
        values = averaged(fine, slice_mm / thin[2])[1::3]
    else:
        values = (fine[0::3] + fine[1::3] + fine[2::3]) / np.float32(3)
    reference = image[:, :, 1::3]
    add_head_rest(values, thin[0], rng)
    noise = rng.standard_normal(values.shape, dtype=np.float32)
    for z, layer in enumerate(noise):
        values[z] += settings.ct_noise_hu * np.float32(1.9) * cv2.GaussianBlur(layer, (5, 5), 0.6)
        if values[z].max() > METAL_HU:
            values[z] += streaks(values[z], rng)
    return like(np.clip(values, AIR_HU, 3071), reference)


def add_head_rest(values: Field, pixel: float, rng: np.random.Generator) -> None:
    """Put a head-rest under head and neck: foam between two bowed shells of plastic that follow the nape.

    ``values`` (Z, Y, X) in HU are changed in place; ``pixel`` is the in-plane spacing in mm.
    """
    height, width = values.shape[1:]
    x = (np.arange(width) - width / 2) * pixel
    radius, tilt, gap = rng.uniform(95, 130), rng.uniform(-6, 6), rng.uniform(1.0, 3.0)
    bowl = np.sqrt(np.maximum(radius**2 - (x - tilt) ** 2, 0)) - radius
    head = values[:, :, np.abs(x) < 60] > SKIN_HU
    back = np.where(head.any(1), (height - head[:, ::-1].argmax(1)) * pixel, 0.0) - bowl[np.abs(x) < 60]
    touch = maximum_filter1d(back.max(1), 5)
    level = np.maximum(gaussian_filter1d(touch, 4.0), touch) + gap
    rows = np.arange(height, dtype=np.float32)[:, None] * np.float32(pixel)
    thickness, reach = np.float32(22), np.abs(x) < 100
    for layer, top in zip(values, level, strict=True):
        depth = rows - (bowl + top)[None].astype(np.float32)
        rest = AIR_HU + 60 * np.clip(np.minimum(depth, thickness - depth) / pixel, 0, 1) * reach
        for face, strength in ((1.0, 1000.0), (thickness - 1.0, 950.0)):
            rest += strength * np.clip(1.5 - np.abs(depth - face) / pixel, 0, 1) * reach
        np.maximum(layer, rest, out=layer)


def streaks(layer: Field, rng: np.random.Generator) -> Field:
    """Return the bright and dark streaks (Y, X) in HU that metal causes in one CT slice (Y, X)."""
    count, _, _, centres = cv2.connectedComponentsWithStats((layer > METAL_HU).astype(np.uint8))
    rows, columns = np.mgrid[: layer.shape[0], : layer.shape[1]].astype(np.float32)
    rays = np.zeros_like(layer)
    for cx, cy in centres[1 : min(count, 6)]:
        x, y = columns - np.float32(cx), rows - np.float32(cy)
        fade = np.float32(1) / (1 + np.hypot(x, y) / 45)
        for _ in range(12):
            angle = rng.uniform(0, np.pi)
            across = x * np.float32(np.sin(angle)) - y * np.float32(np.cos(angle))
            strength, width = rng.normal(0, 300), rng.uniform(1.5, 4.0)
            rays += np.float32(strength) * fade * np.exp(-((across / np.float32(width)) ** 2))
    return np.where(layer > -900, rays, 0.4 * rays)
