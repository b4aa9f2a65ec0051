"""Registration of a user's own MR and CT by a trained agent: images in, one transform in mm out (§3.6).

The agent registers slices. A 2D image is one slice. Of a volume, several slices are registered one by one,
and the median of their poses is the result: one shift and rotation in the plane for the whole volume. A 2D
image counts as a volume of one slice throughout. The scale is kept at 1 or is part of the pose.
"""

import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from regagent.agent.agent_file import TrainedAgent
from regagent.agent.inference import Registrations, Way, register, register_finely
from regagent.agent.networks import choose_device, to_blocks
from regagent.agent.settling import distance_at
from regagent.agent.trust import Judgement, judge
from regagent.anatomy import TISSUE_HU, head_mask
from regagent.conventional.slice_registration import itk_pose
from regagent.elastix import elastix
from regagent.evaluation.registrations import SUCCESS_PX
from regagent.files import UserError
from regagent.geometry import invert, landmark_distance, matrix
from regagent.images import Image, field_of_view
from regagent.pairs.cutting import cut, mr_window, pixel_width_mm
from regagent.pairs.slices import choose_slices
from regagent.patients.modalities import check_modalities
from regagent.patients.preregistration import resample
from regagent.settings import Slices
from regagent.volumes.dicom_files import warn_of_two_patients
from regagent.volumes.reading import read_image

logger = logging.getLogger("regagent")

Array = NDArray[np.float64]

#: At most so many slices of a volume are registered.
MAXIMUM_SLICES = 12

#: A CT slice shows the head if its tissue covers this part of the area of the MR's head. At 0.75, the
#: smallest scale that agents are trained on, it covers 0.56.
TISSUE_FRACTION = 0.5

#: This part of the slices of a volume must be taken for registered, and the poses of half of these must lie
#: within ``SUCCESS_PX`` of their median. They do not in volumes that are tilted against each other, or
#: shifted across the slices by 15 mm.
REGISTERED_FRACTION = 0.5

#: Two scans of one head in mm have the scale 1. Where the agent sees another one, by one and a half of
#: its actions, a spacing is wrong or the slices show other parts of the head.
SCALE_TOLERANCE = 0.075

#: Three quarters of the slices must show one scale within this much. Slices of different heights of the head
#: do not. In twenty training patients, with MR slices as simulated and of 5 mm, it was at most 0.005 where
#: the volumes were aligned, and at least 0.012 where the CT's slice distance was wrong by 15 %, or where it
#: lay 8 mm off across the slices.
SCALE_SPREAD = 0.01

#: Across the slices the agent corrects nothing. If it fails and its start had the centres farther apart than
#: this, another start is worth a try.
FAR_MM = 10.0

#: A local refinement that ends farther from the agent's pose than this is not used.
REFINEMENT_PX = 5.0

#: Which test cases an agent's success rate is about.
TRUSTED_CASES = "that it took for registered"

#: A part of the MR's window that noise in the air hardly reaches.
SEEN_SIGNAL = 0.2
#: A head that fills less of the field of view is smaller in px than those that agents are trained on.
NARROW_HEAD = 0.55

#: The points (25, 2) px on which the distance of two poses is measured: the part that a head fills.
GRID = np.stack(np.meshgrid(*2 * [np.linspace(-50.0, 50.0, 5)]), -1).reshape(-1, 2)


@dataclass(frozen=True)
class Placed:
    """S slices of an MR and of a CT on the agent's grid, and where that grid lies in physical space."""

    numbers: list[int]  # (S,) slice numbers, 0 is the lowest
    fixed: Image  # (S, H, H) in [0, 1], the MR
    moving: Image  # (S, H, H) in [0, 1], the CT
    mm_per_px: float
    centre: Array  # (3,) mm, the centre of the MR
    axes: Array  # (3, 3), its columns are the directions of x, y and z
    start: Array  # (3,) mm, the shift from MR to CT points that the agent starts from
    apart_mm: float  # how far the centre of the CT lies from that of the MR where the agent starts
    dimension: int  # of the user's images, 2 or 3


@dataclass(frozen=True)
class Outcome:
    """The result for a pair: the poses of its slices, the pose of the pair, and whether to trust it."""

    slices: Registrations  # of scale 1 and refined, if that was asked for
    trusted: NDArray[np.bool_]  # (S,) the slices that count: those taken for registered, or all if none is
    threshold: float  # of the values of the slices, if nothing judges them
    judgement: Judgement | None  # of the agent's own poses of the slices, (S,), if a network predicts their D
    pose: Array  # (4,)
    expected: Judgement | None  # of the pair's pose: each number the median over the slices that count
    spread_px: Array  # (S,) distance of each slice's pose from the pair's
    scale_seen: float  # the median of the agent's own poses
    rigid: bool  # whether the poses have the scale 1 all the same
    refusal: str | None  # why this pair is not registered, None if it is


def read_pair(
    fixed: str | Path, moving: str | Path, trust_values: bool = False
) -> tuple[sitk.Image, sitk.Image]:
    """Read an MR and a CT, both 2D or both 3D.

    Raises ``UserError`` for a file that cannot be read, for images of different dimensions, and, without
    ``trust_values``, for images that do not pass ``check_modalities`` and DICOM of another modality.
    """
    if os.path.realpath(fixed) == os.path.realpath(moving):
        raise UserError(f"{fixed}: given as the fixed and as the moving image, expected an MR and a CT")
    mr, ct = (
        read_image(path, None if trust_values else modality)
        for path, modality in ((fixed, "MR"), (moving, "CT"))
    )
    warn_of_two_patients(fixed, moving)
    if mr.GetDimension() != ct.GetDimension():
        raise UserError(
            f"{fixed} is {mr.GetDimension()}D and {moving} is {ct.GetDimension()}D, expected both alike"
        )
    if not trust_values:
        check_modalities(mr, ct, fixed, moving, "", "if it is right nevertheless, give --trust-values")
    return mr, ct


def place(
    mr: sitk.Image,
    ct: sitk.Image,
    settings: Slices,
    start: Literal["coordinates", "centres"] = "coordinates",
    number: int | None = None,
) -> Placed:
    """Bring an MR and a CT to the agent's grid, as ``slices.select_slices`` does in the pipeline.

    The CT starts where its coordinates put it, or with its centre on that of the MR. Of volumes, ``number``
    chooses one axial slice; without it, up to ``MAXIMUM_SLICES`` are chosen, spread over the head. Raises
    ``UserError`` when ``number`` is not a slice of the volume, when the MR has no contrast, and when no slice
    shows the head in both.
    """
    dimension = mr.GetDimension()
    if dimension == 2:
        mr, ct, number = sitk.JoinSeries(mr), sitk.JoinSeries(ct), 0
    mr = sitk.DICOMOrient(sitk.Cast(mr, sitk.sitkFloat32), "LPS")
    if number is not None and not 0 <= number < mr.GetDepth():
        raise UserError(f"slice {number}: the MR has {mr.GetDepth()} axial slices, 0 to {mr.GetDepth() - 1}")
    between = _centre(ct) - _centre(mr)
    shift = between if start == "centres" else np.zeros(3)
    apart = float(np.linalg.norm(between - shift))
    intensity = sitk.GetArrayFromImage(mr)
    try:
        window = mr_window(intensity, settings)
    except ValueError as error:
        raise UserError(str(error)) from error

    # The CT may reach beyond the sides of a narrow MR: both are cut from the square around the MR.
    spacing = mr.GetSpacing()[:2]
    side = field_of_view(intensity.shape[1:], spacing)
    margin = [int((side / step - count) / 2) for step, count in zip(spacing, mr.GetSize(), strict=False)]
    wide = sitk.ConstantPad(mr, [*margin, 0], [*margin, 0], float(window[0]))
    around = sitk.GetArrayFromImage(wide)
    translation = sitk.TranslationTransform(3, shift.tolist())
    density = sitk.GetArrayFromImage(resample(ct, wide, translation)).astype(np.float32)
    tissue = (density > TISSUE_HU).sum((1, 2))
    if number is None:
        numbers = _spread(intensity, mr.GetSpacing(), tissue, settings, apart)
    else:
        numbers = [number]
        if tissue[number] < TISSUE_FRACTION * settings.minimum_head_fraction * density[0].size:
            raise UserError(f"slice {number}: the CT shows no head where the MR lies{_advice(apart)}")

    fixed, moving = cut(around, density, numbers, spacing, window, settings)
    return Placed(
        numbers,
        fixed=fixed,
        moving=moving,
        mm_per_px=pixel_width_mm(intensity.shape[1:], spacing, settings),
        centre=_centre(mr),
        axes=np.reshape(mr.GetDirection(), (3, 3)),
        start=shift,
        apart_mm=apart,
        dimension=dimension,
    )


def _centre(image: sitk.Image) -> Array:
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))


def _advice(apart_mm: float) -> str:
    """Return what to try where the start may be at fault: nothing if the centres lie on each other."""
    if apart_mm < 1:
        return ""
    return (
        f"; by their coordinates the centres of MR and CT lie {apart_mm:.0f} mm apart:"
        " --start centres begins with the centres on each other"
    )


def _spread(
    intensity: NDArray,
    spacing: tuple[float, float, float],
    tissue: NDArray,
    settings: Slices,
    apart_mm: float,
) -> list[int]:
    """Return the numbers of slices that are spread over the part of the head that the CT shows too."""
    settings = settings.model_copy(update={"count": MAXIMUM_SLICES})
    try:
        head = head_mask(intensity, spacing)
        choose_slices(head, head, spacing, settings)  # raises where the MR alone is at fault
    except ValueError as error:
        raise UserError(f"no slices to register: {error}") from error
    shown = tissue >= TISSUE_FRACTION * head.sum((1, 2))
    try:
        return choose_slices(head, np.broadcast_to(shown[:, None, None], head.shape), spacing, settings)
    except ValueError as error:
        raise UserError(f"no slices to register: {error}{_advice(apart_mm)}") from error


def register_pair(
    agent: TrainedAgent, placed: Placed, rigid: bool, parameter_map: str | Path | None = None
) -> Outcome:
    """Register the slices by the agent, finished or with its look-ahead; the pair's pose is their median.

    With ``rigid`` the scale of each pose becomes 1; the slice turns about the centre of the image as before.
    With an Elastix ``parameter_map``, a local registration refines each slice's pose, in which a rigid one
    stays rigid. If it gives up or ends more than ``REFINEMENT_PX`` away, the agent's pose stays. If some
    slices are taken for registered, the median is over these alone.
    """
    device, level, settings = choose_device(), agent.facts.thresholds.lookahead, agent.facts.inference
    network, finisher, images = agent.network.to(device), agent.finisher, (placed.fixed, placed.moving)
    judgement = None
    if finisher is None:
        (found,) = register(network, *images, [Way(level, lookahead=True)], settings)
    else:
        found = register_finely(network, finisher.to(device), *images, level, settings)
        judgement = judge(finisher, -found.value)
    trusted = found.stopped if found.stopped.any() else np.ones_like(found.stopped)
    scales = found.pose[trusted, 3]
    seen = float(np.median(scales))
    scale_spread = float(np.quantile(np.abs(scales - seen), 0.75))
    if rigid:
        # About the centre of the image, because the agent finds the shift apart from the scale: about the
        # centre of the head the error is the same or larger.
        found.pose[:, 3] = 1.0
    if parameter_map is not None:
        refine = partial(itk_pose, elastix(parameter_map, rigid))
        for row, images in enumerate(zip(placed.fixed, placed.moving, strict=True)):
            pose = refine(*images, found.pose[row])
            gone = np.inf if pose is None else landmark_distance(pose, invert(found.pose[row]), GRID)
            if gone > REFINEMENT_PX:
                what = "gave up" if pose is None else f"ended {gone:.1f} px away"
                logger.warning("slice %d: Elastix %s, the agent's pose stays", placed.numbers[row], what)
            else:
                found.pose[row] = pose
    pose, spread = _agreement(found.pose, trusted)
    expected = None
    if finisher is not None:
        still, moved = (torch.from_numpy(slices).to(device) for slices in (placed.fixed, placed.moving))
        distance = distance_at(finisher, to_blocks(still), moved, np.tile(pose, (len(still), 1)))
        rows = judge(finisher, distance[trusted])
        expected = Judgement(*(np.asarray(np.median(row)) for row in rows))
    disagreement = float(np.median(spread[trusted]))
    scale = seen if rigid else 1.0
    refusal = _refusal(agent, found, judgement, expected, disagreement, scale, scale_spread, placed)
    return Outcome(found, trusted, level, judgement, pose, expected, spread, seen, rigid, refusal)


def _agreement(poses: Array, trusted: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the median (4,) of the trusted poses (S, 4), and each pose's distance (S,) from it in px."""
    median = np.median(poses[trusted], axis=0)
    return median, landmark_distance(poses, invert(median), GRID)


def _unlikely(chance: float, agent: TrainedAgent) -> str:
    """Return what is wrong with a chance that is too low; it is not rounded up to what is enough."""
    assert agent.finisher
    return (
        f"the agent sees a chance of {np.floor(100 * chance):.0f}% to lie within {SUCCESS_PX:g} px of the"
        f" truth, expected at least {agent.finisher.least.item():.0%},"
    )


def _wide(placed: Placed) -> str:
    """Return an advice where the head fills little of the MR's slices, '' elsewhere."""
    shown = placed.fixed.max(0) > SEEN_SIGNAL
    filled = max(shown.any(0).mean(), shown.any(1).mean())
    if filled > NARROW_HEAD:
        return ""
    return f"; the head fills {filled:.0%} of the MR's width, less than the agent has learned: crop the MR"


def _refusal(
    agent: TrainedAgent,
    found: Registrations,
    judgement: Judgement | None,
    expected: Judgement | None,
    disagreement: float,
    scale: float,
    scale_spread: float,
    placed: Placed,
) -> str | None:
    """Return why the pair counts as not registered, None if it is registered.

    Half of the slices that count lie ``disagreement`` px or more from their median. ``scale``
    is the one that the agent saw in a pair whose scale is kept at 1. A quarter of the slices differ by
    ``scale_spread`` or more from the median of the scales, which a fixed scale would hide.
    """
    tested = agent.facts.evaluation
    if 2 * tested.stopped_within <= tested.stopped:
        return (
            f"this agent is not to be trusted: of {tested.stopped} of its own test cases"
            f" {TRUSTED_CASES}, {tested.stopped_within} ended within {tested.success_px:g} px of"
            " the truth"
        )
    count, reached = len(found.stopped), int(found.stopped.sum())
    advice = _advice(placed.apart_mm) if placed.apart_mm > FAR_MM else ""
    if reached == 0 or reached < REGISTERED_FRACTION * count:
        where = f"in {count - reached} of {count} slices " if count > 1 else ""
        if judgement:
            chance = np.median(judgement.probability[~found.stopped])
            said = _unlikely(chance, agent)
        else:
            best, level = np.median(found.value[~found.stopped]), agent.facts.thresholds.lookahead
            said = f"the agent's value never reached the threshold {level:.2f}, only {best:.2f}"
        return (
            f"{where}{said} in {found.steps.max()} steps: it found no pose that it judged to be right"
            f"{advice}{_wide(placed)}"
        )
    if abs(scale - 1) > SCALE_TOLERANCE:
        size = "smaller" if scale > 1 else "larger"
        return (
            f"the CT looks {abs(1 / scale - 1):.0%} {size} than the MR, but in mm a head has one size: check"
            " the spacing in both files, and whether both show the same part of the head; --scale free looks"
            f" for a scale too{advice}"
        )
    if scale_spread > SCALE_SPREAD:
        return (
            f"the scales of a quarter of the slices lie {scale_spread:.1%} or more from their median,"
            f" expected at most {SCALE_SPREAD:.0%}: MR and CT show different heights of the head; check"
            " the slice distance in both files, or align volumes that are shifted or tilted in 3D"
            f" first{advice}"
        )
    if disagreement > SUCCESS_PX:
        return (
            f"the slices do not agree on one transform: half of them lie {disagreement:.1f} px or more from"
            f" their median, expected at most {SUCCESS_PX:g} px; volumes that are tilted against each other,"
            f" or shifted across the slices, must be aligned in 3D first{advice}"
        )
    if expected and agent.finisher and expected.probability < agent.finisher.least.item():
        return f"{_unlikely(float(expected.probability), agent)} where the slices' poses have their median"
    return None


def physical_transform(pose: Array, placed: Placed) -> sitk.Transform:
    """Return the pose (4,) as a transform in mm that maps points of the MR to points of the CT.

    ``sitk.Resample(ct, mr, transform)`` resamples the CT onto the grid of the MR. For 2D images the transform
    is a similarity. For volumes it is affine: the pose in the plane of the slices, and no change across them.
    It is rigid if the pose's scale is 1.
    """
    # T moves the CT's content to where the MR shows it; a transform of points goes the other way.
    in_plane = matrix(invert(pose))
    whole = np.eye(3)
    whole[:2, :2] = in_plane[:, :2]
    linear = placed.axes @ whole @ placed.axes.T
    shift = placed.axes @ [*(in_plane[:, 2] * placed.mm_per_px), 0.0] + placed.start
    if placed.dimension == 3:
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(linear.ravel())
        affine.SetCenter(placed.centre)
        affine.SetTranslation(shift)
        return affine
    similarity = sitk.Similarity2DTransform()
    similarity.SetCenter(placed.centre[:2])
    similarity.SetScale(float(invert(pose)[3]))
    similarity.SetAngle(float(np.arctan2(linear[1, 0], linear[0, 0])))
    similarity.SetTranslation(shift[:2])
    return similarity
