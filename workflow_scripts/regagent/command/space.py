"""Two volumes of a head that lie any way: networks register them in space, Elastix may go on from there."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regagent.agent.cube_registration import Found, ready_networks, register_volumes
from regagent.command.telling import plain_error, told_error
from regagent.elastix import RegistrationFailed, elastix
from regagent.evaluation.volume_table import FOUND_MM
from regagent.files import UserError
from regagent.pairs.cubes import NoHead, middle_of
from regagent.pairs.rigid import displacement, from_itk, motion, to_itk
from regagent.volumes.moving import go_on

logger = logging.getLogger("regagent")

#: A refined transform that moves points of the head farther than this from the networks' is dropped.
REFINEMENT_MM = 12.0
#: Points about the middle of a head, in mm, at which two transforms are compared.
POINTS = 60.0 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])


@dataclass(frozen=True)
class InSpace:
    """The result for two volumes: the rigid map from MR to CT points in mm, and whether to trust it.

    Where a volume shows no head, there is no map.
    """

    transform: sitk.VersorRigid3DTransform | None
    found: Found | None  # what the networks found
    refined_mm: float | None  # how far Elastix went on from there
    refusal: str | None  # why this pair is not registered, None if it is


def register_in_space(
    mr: sitk.Image, ct: sitk.Image, model: str | Path, parameter_map: str | Path | None = None
) -> InSpace:
    """Register two volumes by the networks in a model file, wherever they lie.

    With an Elastix ``parameter_map``, a local registration refines the result. If it gives up or ends more
    than ``REFINEMENT_MM`` away, the networks' result stays. Raises ``UserError`` for images that are no
    volumes.
    """
    if mr.GetDimension() != 3:
        raise UserError(f"{model} registers volumes, and these are 2D images")
    try:
        found = register_volumes(mr, ct, *ready_networks(model))
        middle = middle_of(mr)
    except NoHead as error:
        return InSpace(None, None, None, f"a volume shows no head: {error}")
    transform = to_itk(from_itk(found.transform), np.zeros(3))
    gone = None
    if parameter_map is not None and not found.refusal:
        transform, gone = _refined(mr, ct, transform, middle + POINTS, parameter_map)
    return InSpace(transform, found, gone, found.refusal)


def _refined(
    mr: sitk.Image,
    ct: sitk.Image,
    start: sitk.VersorRigid3DTransform,
    points: np.ndarray,
    parameter_map: str | Path,
) -> tuple[sitk.VersorRigid3DTransform, float | None]:
    """Return the transform at which Elastix ends from a start, and how far it went, or the start and None."""
    try:
        whole, further = go_on(elastix(parameter_map), mr, ct, start)
    except RegistrationFailed as error:
        logger.warning("Elastix gave up, the networks' transform stays: %s", error)
        return start, None
    refined = to_itk(from_itk(whole), np.zeros(3))
    gone = float(displacement(from_itk(further), points))
    if gone > REFINEMENT_MM:
        logger.warning("Elastix ended %.1f mm away, the networks' transform stays", gone)
        return start, None
    return refined, gone


def told_in_space(outcome: InSpace) -> str:
    """Return in words how the CT lies to the MR, and the error that is to be expected."""
    if outcome.transform is None or outcome.found is None:
        return ""
    moved = motion(from_itk(outcome.transform))
    lines = [f"The CT's head is turned by {np.linalg.norm(moved[3:]):.1f}° against the MR's."]
    if not outcome.refusal:
        lines.append(told_error(outcome.found.judgement, f"{FOUND_MM:g}", "volumes"))
    if outcome.refined_mm is not None:
        lines.append(f"Elastix went on by {outcome.refined_mm:.1f} mm; this error is that before it.")
    return "\n".join(lines)


def facts_in_space(outcome: InSpace) -> dict:
    """Return the result in plain values (see docs/registering.md)."""
    matrix = None
    if outcome.transform is not None:
        whole = np.eye(4)
        whole[:3, :3] = np.reshape(outcome.transform.GetMatrix(), (3, 3))
        whole[:3, 3] = outcome.transform.TransformPoint((0.0, 0.0, 0.0))
        matrix = whole.tolist()
    judgement = outcome.found.judgement if outcome.found else None
    return {
        "registered": not outcome.refusal,
        "refusal": outcome.refusal,
        "matrix": matrix,
        **plain_error(judgement, not outcome.refusal),
        "success_mm": FOUND_MM,
        "refined_mm": outcome.refined_mm,
    }
