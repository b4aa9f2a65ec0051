"""Registration of two volumes in space by networks: one finds the head from anywhere, others finish it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from regagent.agent.checkpoints import load_model
from regagent.agent.cube_regressor import look, look_closely, settle
from regagent.agent.networks import CubeNetwork, choose_device
from regagent.evaluation.volume_registrations import Method
from regagent.pairs.cube_augmentation import shrunk
from regagent.pairs.cubes import ct_cube, ct_middle, middle_of, mr_cube
from regagent.pairs.rigid import invert, to_itk
from regagent.settings import Volumes


@dataclass(frozen=True)
class Found:
    """What registering two volumes gave."""

    transform: sitk.Transform  # from MR to CT points in mm
    distance_mm: float  # D as the last network predicts it
    path: list[sitk.Transform]  # the start that led there, where the truth was seen in each look, the end


def register_volumes(
    mr: sitk.Image, ct: sitk.Image, networks: Sequence[CubeNetwork], settings: Volumes
) -> Found:
    """Register two volumes, wherever they lie. Raises ``NoHead`` where one of them shows none."""
    cubes = settings.cubes
    fixed_middle, moving_middle = middle_of(mr), ct_middle(ct)
    device = networks[0].least.device
    fixed, moving = (
        torch.from_numpy(cube).to(device)
        for cube in (mr_cube(mr, fixed_middle, cubes), ct_cube(ct, moving_middle, cubes))
    )
    pose, distance, path = np.zeros((0, 7)), np.zeros(0), np.zeros((0, 0, 7))
    for network in networks:
        factor = cubes.size // network.size
        still, moved = (shrunk(cube[None], factor) for cube in (fixed, moving))
        width = cubes.spacing_mm * factor
        if not len(pose):
            pose, distance, path = settle(network, still[0], moved[0], settings.looks, settings.kept, width)
            continue
        still, moved = (cube.expand(len(pose), -1, -1, -1) for cube in (still, moved))
        pose, _, seen = look_closely(network, still, moved, pose, settings.looks, width)
        _, distance = look(network, still, moved, pose, width)
        path = np.concatenate([path, seen], 1)
    best = int(distance.argmin())
    ways = [to_transform(one, fixed_middle, moving_middle) for one in (*path[best], pose[best])]
    return Found(ways[-1], float(distance[best]), ways)


def by_networks(models: Sequence[str | Path], settings: Volumes) -> Method:
    """Return the method of the networks in these model files, in their order."""
    networks = ready_networks(models)

    def method(number: int, mr: sitk.Image, ct: sitk.Image) -> tuple[sitk.Transform, float, float]:
        found = register_volumes(mr, ct, networks, settings)
        return found.transform, found.distance_mm, 0.0

    return method


def ready_networks(models: Sequence[str | Path]) -> list[CubeNetwork]:
    """Return the networks in these model files on the device; on a CPU they use one thread."""
    torch.set_num_threads(1)
    return [load_model(path, "cubes")[0].to(choose_device()) for path in models]


def to_transform(pose: NDArray, fixed_middle: NDArray, moving_middle: NDArray) -> sitk.Transform:
    """Return the map from MR to CT points of a pose (7,), which moves the CT's content about its middle to
    where the MR shows it about its own."""
    # x in the MR is T(q) about the MR's middle, for q about the CT's.
    back = to_itk(invert(pose), fixed_middle)
    shift = np.array(back.GetTranslation()) + moving_middle - fixed_middle
    back.SetTranslation(shift.tolist())
    return back
