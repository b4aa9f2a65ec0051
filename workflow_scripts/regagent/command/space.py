"""Two volumes of a head that lie any way: networks register them in space, Elastix may go on from there."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regagent.agent.cube_registration import ready_networks, register_volumes, verdict
from regagent.agent.trust import Judgement
from regagent.command.telling import plain_error, told_error
from regagent.elastix import RegistrationFailed, elastix
from regagent.evaluation.volume_table import FOUND_MM
from regagent.files import UserError
from regagent.pairs.cubes import NoHead, middle_of
from regagent.pairs.rigid import CORNERS, displacement, from_itk, motion, to_itk
from regagent.volumes.moving import go_on

logger = logging.getLogger("regagent")


@dataclass(frozen=True)
class InSpace:
    """The result for two volumes: the rigid map from MR to CT points in mm, and whether to trust it.

    Where a volume shows no head, there is no map.
    """

    transform: sitk.VersorRigid3DTransform | None
    judgement: Judgement | None  # of it, its errors in mm
    refined_mm: float | None  # how far Elastix went on from where the networks had led
    refusal: str | None  # why this pair is not registered, None if it is


def register_in_space(
    mr: sitk.Image, ct: sitk.Image, model: str | Path, parameter_map: str | Path | None = None
) -> InSpace:
    """Register two volumes by the networks in a model file, wherever they lie.

    With an Elastix ``parameter_map``, a local registration refines the result. If it gives up, or ends where
    an accepted pair would be refused, the networks' result stays. Raises ``UserError`` for images that are no
    volumes.
    """
    if mr.GetDimension() != 3:
        raise UserError(f"{model} registers volumes, and these are 2D images")
    trained = ready_networks(model)
    try:
        found = register_volumes(mr, ct, trained)
    except NoHead as error:
        return InSpace(None, None, None, f"a volume shows no head: {error}")
    way, said, gone = found.transform, found.verdict, None
    if parameter_map is not None:
        try:
            whole, further = go_on(elastix(parameter_map), mr, ct, to_itk(from_itk(way), np.zeros(3)))
            then = verdict(mr, ct, whole, trained)
            away = float(displacement(from_itk(further), middle_of(mr) + CORNERS))
            if then.refusal and not said.refusal:
                logger.warning("Elastix ended %.1f mm away, where the pair would be refused; dropped", away)
            else:
                way, said, gone = whole, then, away
        except RegistrationFailed as error:
            logger.warning("Elastix gave up, the networks' transform stays: %s", error)
    refusal = said.refusal
    if refusal and parameter_map is None:
        refusal += "; --refine goes on from there by Elastix, and judges where that ends"
    return InSpace(to_itk(from_itk(way), np.zeros(3)), said.judgement, gone, refusal)


def told_in_space(outcome: InSpace) -> str:
    """Return in words how the CT lies to the MR, and the error that is to be expected."""
    if outcome.transform is None or outcome.judgement is None:
        return ""
    moved = motion(from_itk(outcome.transform))
    lines = [f"The CT's head is turned by {np.linalg.norm(moved[3:]):.1f}° against the MR's."]
    if not outcome.refusal:
        lines.append(told_error(outcome.judgement, f"{FOUND_MM:g}", "volumes"))
    if outcome.refined_mm is not None:
        lines.append(f"Elastix went on by {outcome.refined_mm:.1f} mm.")
    return "\n".join(lines)


def facts_in_space(outcome: InSpace) -> dict:
    """Return the result in plain values (see docs/registering.md)."""
    matrix = None
    if outcome.transform is not None:
        whole = np.eye(4)
        whole[:3, :3] = np.reshape(outcome.transform.GetMatrix(), (3, 3))
        whole[:3, 3] = outcome.transform.TransformPoint((0.0, 0.0, 0.0))
        matrix = whole.tolist()
    return {
        "registered": not outcome.refusal,
        "refusal": outcome.refusal,
        "matrix": matrix,
        **plain_error(outcome.judgement, not outcome.refusal),
        "success_mm": FOUND_MM,
        "refined_mm": outcome.refined_mm,
    }
