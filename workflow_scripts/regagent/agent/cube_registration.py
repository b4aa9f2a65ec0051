"""Registration of two volumes in space by networks: one finds the head from anywhere, others finish it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from regagent.agent.checkpoints import load_model
from regagent.agent.cube_regressor import settle
from regagent.agent.distance import NEAREST
from regagent.agent.matching import Matcher
from regagent.agent.networks import CubeNetwork, SpaceNetworks, choose_device
from regagent.agent.trust import Judgement, accepted, judge
from regagent.evaluation.registrations import SUCCESS_PX
from regagent.evaluation.volume_registrations import Judge, Method, Result
from regagent.evaluation.volume_table import FOUND_MM
from regagent.files import UserError
from regagent.pairs.cubes import NoHead, ct_cube, ct_middle, middle_of, mr_cube
from regagent.pairs.rigid import CORNERS, compose, displacement, from_itk, invert, to_itk
from regagent.patients.sheet import naming_row
from regagent.settings import Volumes
from regagent.volumes.reading import read_volume
from regagent.volumes.transforms import write_transform

logger = logging.getLogger("regagent")

#: What is found on slices in px is found on volumes in so many mm: a success is within ``FOUND_MM``.
UNIT_MM = FOUND_MM / SUCCESS_PX


#: Disagreements are kept in this unit in place of px: at the truth it is less than one or two of them.
DISAGREEMENT = 0.1


@dataclass(frozen=True)
class TrainedNetworks:
    """Networks that are ready to register volumes, and how they see them."""

    networks: SpaceNetworks
    volumes: Volumes


class Pair(NamedTuple):
    """Two volumes as the networks see them: cubes (N, N, N) about the middles (3,) in mm of their heads."""

    fixed: Tensor
    moving: Tensor
    fixed_middle: NDArray[np.float64]
    moving_middle: NDArray[np.float64]

    @classmethod
    def of(cls, mr: sitk.Image, ct: sitk.Image, trained: TrainedNetworks) -> "Pair":
        """Return an MR and a CT as a pair. Raises ``NoHead`` where one of them shows none."""
        cubes, middles = trained.volumes.cubes, (middle_of(mr), ct_middle(ct))
        fixed, moving = mr_cube(mr, middles[0], cubes), ct_cube(ct, middles[1], cubes)
        device = trained.networks.least.device
        return cls(torch.from_numpy(fixed).to(device), torch.from_numpy(moving).to(device), *middles)

    def to_transform(self, pose: NDArray) -> sitk.Transform:
        """Return the map from MR to CT points of a pose (7,), which moves the CT's content about its middle
        to where the MR shows it about its own."""
        # x in the MR is T(q) about the MR's middle, for q about the CT's.
        back = to_itk(invert(pose), self.fixed_middle)
        shift = np.array(back.GetTranslation()) + self.moving_middle - self.fixed_middle
        back.SetTranslation(shift.tolist())
        return back

    def to_pose(self, transform: sitk.Transform) -> NDArray[np.float64]:
        """Return the pose (7,) of a rigid map from MR to CT points: ``to_transform``'s inverse."""
        shift = np.array(transform.TransformPoint(self.fixed_middle.tolist())) - self.moving_middle
        return invert(np.concatenate([shift, from_itk(transform)[3:]]))

    def matcher(self, trained: TrainedNetworks) -> Matcher:
        """Return the network of matching at this pair."""
        return Matcher(trained.networks.matching, self.fixed, self.moving, trained.volumes.matching_planes)


class Verdict(NamedTuple):
    """What the network of matching says of a registration in space."""

    disagreement: float  # see ``Matcher``
    judgement: Judgement  # of this one pair, its errors in mm; a success is within FOUND_MM
    refusal: str | None  # why this is no registration, None if it is

    @property
    def expected_mm(self) -> float:
        """The expected error in mm."""
        return float(self.judgement.expected)


@dataclass(frozen=True)
class Found:
    """What registering two volumes gave."""

    transform: sitk.Transform  # from MR to CT points in mm
    verdict: Verdict
    path: list[sitk.Transform]  # the start that led there, where the truth was seen in each look, the end


def register_volumes(mr: sitk.Image, ct: sitk.Image, trained: TrainedNetworks) -> Found:
    """Register two volumes, wherever they lie. Raises ``NoHead`` where one of them shows none.

    The end of the lowest D in cubes counts, finished by matching. Where that refuses it, the end counts, of
    those that lie elsewhere, too, at which the volumes agree most.
    """
    pair, networks, settings = Pair.of(mr, ct, trained), trained.networks, trained.volumes
    pose, _, path = settle(
        in_order(networks), pair.fixed, pair.moving, settings.looks, settings.further_looks, settings.kept
    )
    matcher = pair.matcher(trained)

    def finished(number: int) -> Found:
        ways = [*path[number], *matcher.follow(pose[number], settings.matching_looks)]
        maps = [pair.to_transform(one) for one in ways]
        return Found(maps[-1], _verdict(matcher.disagreement(ways[-1]), networks), maps)

    best = finished(0)
    if best.verdict.refusal:
        away = displacement(compose(pose, invert(pose[:1])), CORNERS)
        others = [finished(number) for number in np.flatnonzero(away > FOUND_MM).tolist()]
        best = min([best, *others], key=lambda found: found.verdict.disagreement)
    return best


def verdict(mr: sitk.Image, ct: sitk.Image, transform: sitk.Transform, trained: TrainedNetworks) -> Verdict:
    """Judge a rigid map from MR to CT points in mm, whoever found it. Raises as ``register_volumes``."""
    pair = Pair.of(mr, ct, trained)
    return _verdict(pair.matcher(trained).disagreement(pair.to_pose(transform)), trained.networks)


def _verdict(disagreement: float, networks: SpaceNetworks) -> Verdict:
    units = np.array([max(disagreement / DISAGREEMENT, NEAREST)])
    (chance,), *lengths = judge(networks, units)
    refusal = None
    if not accepted(networks, units)[0]:
        refusal = (
            f"the networks see a chance of {np.floor(100 * chance):.0f}% to lie within {FOUND_MM:g} mm of the"
            f" truth, expected at least {networks.least.item():.0%}"
        )
    return Verdict(disagreement, Judgement(chance, *(UNIT_MM * length[0] for length in lengths)), refusal)


def by_networks(model: str | Path) -> Method:
    """Return the method of the networks in a model file."""
    trained = ready_networks(model)

    def method(number: int, mr: sitk.Image, ct: sitk.Image) -> Result:
        found = register_volumes(mr, ct, trained)
        return Result(found.transform, found.verdict.expected_mm, 0.0, not found.verdict.refusal)

    return method


def judged_by(model: str | Path) -> Judge:
    """Return what tells the expected error in mm of any registration, and whether it is accepted."""
    trained = ready_networks(model)

    def judge(mr: sitk.Image, ct: sitk.Image, transform: sitk.Transform) -> tuple[float, bool]:
        said = verdict(mr, ct, transform, trained)
        return said.expected_mm, not said.refusal

    return judge


def place_patient(
    patient: str,
    mr: str | Path,
    ct: str | Path,
    model: str | Path,
    output: str | Path,
    sheet: str | Path | None = None,
) -> None:
    """Write where the networks in a model file see a patient's CT, as a map of MR to CT points (.tfm).

    Raises ``UserError``, with the patient's row in ``sheet``, where they refuse the pair.
    """
    still, moved = read_volume(mr, patient), read_volume(ct, patient)
    with naming_row(sheet, patient):
        try:
            found = register_volumes(still, moved, ready_networks(model))
            refusal = found.verdict.refusal
        except NoHead as error:
            refusal = str(error)
        if refusal:
            raise UserError(
                f"patient {patient}: the networks do not find the head of {mr} in {ct} ({refusal}); check"
                " that both show the head of one patient, or give the sheet a transform"
            )
    write_transform(found.transform, output)
    logger.info("patient %s: %.1f mm from the truth are expected", patient, found.verdict.judgement.expected)


def ready_networks(model: str | Path) -> TrainedNetworks:
    """Return the networks in a model file on the device; on a CPU they use one thread."""
    torch.set_num_threads(1)
    networks, facts = load_model(model, "space")
    return TrainedNetworks(networks.to(choose_device()), Volumes(**facts["volumes"]))


def in_order(networks: SpaceNetworks) -> list[CubeNetwork]:
    """Return the networks one after the other."""
    return [network for network in networks.networks if isinstance(network, CubeNetwork)]
