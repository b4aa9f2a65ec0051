"""Registration by a network that looks: from where an agent has led, or by itself, and from other starts.

While the D that it predicts stays high, it looks from other starts; the lowest D wins.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regagent.agent import residual, slice_matching
from regagent.agent.checkpoints import Finisher
from regagent.agent.matching_network import SliceMatchingNetwork
from regagent.agent.networks import to_blocks
from regagent.geometry import IDENTITY
from regagent.images import Image
from regagent.pairs.perturbations import Images
from regagent.settings import Inference

Array = NDArray[np.float64]

#: Leads from a start, a pose (4,), to the poses (n, 4) of the cases of these numbers (n,), in steps (n,). It
#: gets the images of all cases, as ``look_closely`` does.
Approach = Callable[[NDArray, Array, Tensor, Tensor], tuple[Array, NDArray]]


def look_closely(
    network: Finisher, fixed: Tensor, moving: Tensor, pose: Array, looks: int
) -> tuple[Array, Array]:
    """Return where so many looks see the truth from poses (B, 4), and the lowest D (B,) predicted in px.

    ``fixed`` (B, H/4, H/4, 16) are in blocks, ``moving`` are (B, H, H).
    """
    if isinstance(network, SliceMatchingNetwork):
        return slice_matching.look_closely(network, fixed, moving, pose, looks)
    return residual.look_closely(network, fixed, moving, pose, looks)


def distance_at(network: Finisher, fixed: Tensor, moving: Tensor, pose: Array) -> Array:
    """Return the D (B,) in px that is predicted at the poses (B, 4). Images are those of ``look_closely``."""
    if isinstance(network, SliceMatchingNetwork):
        return slice_matching.distance_at(network, fixed, moving, pose)
    return residual.distance_at(network, fixed, moving, pose)


def settle(
    network: Finisher, fixed: Tensor, moving: Tensor, approach: Approach, settings: Inference
) -> tuple[Array, Array, NDArray]:
    """Return poses (N, 4), predicted D (N,) in px and steps (N,) of pairs, approached and looked at closely.

    Where the lowest D on the way stays above ``lost_px``, the next of the turned starts is tried, until one
    leads near. A start is not tried where an earlier one did: a head that is turned by a half looks nearly as
    right. The D returned is that at the poses, the steps are those of all starts. Images are those of
    ``look_closely``.
    """
    cases = np.arange(len(moving))
    pose, steps = np.tile(IDENTITY, (len(cases), 1)), np.zeros_like(cases)
    distance = np.full(len(cases), np.inf)
    for angle in (0.0, *settings.restarts_deg):
        lost = cases[distance > settings.lost_px]
        if not len(lost):
            break
        rows = torch.as_tensor(lost, device=moving.device)
        start, count = approach(lost, np.array([0.0, 0.0, angle, 1.0]), fixed, moving)
        seen, nearest = look_closely(network, fixed[rows], moving[rows], start, settings.looks)
        nearer = nearest < distance[lost]
        chosen = lost[nearer]
        pose[chosen], distance[chosen] = seen[nearer], nearest[nearer]
        steps[lost] += count + settings.looks
    if isinstance(network, SliceMatchingNetwork):
        return pose, distance, steps
    return pose, distance_at(network, fixed, moving, pose), steps


def stay(cases: NDArray, start: Array, fixed: Tensor, moving: Tensor) -> tuple[Array, NDArray]:
    """Lead nowhere: the approach of a network that looks without an agent."""
    return np.tile(start, (len(cases), 1)), np.zeros(len(cases), int)


def register_alone(
    network: Finisher, fixed: Image | Images, moving: Image | Images, settings: Inference
) -> tuple[Array, Array, NDArray]:
    """Register the moving images (N, H, H) to the fixed ones without an agent; return as ``settle`` does."""
    device, parts = network.least.device, []
    for first in range(0, len(fixed), settings.batch):
        batch = slice(first, first + settings.batch)
        still, moved = (torch.from_numpy(images[batch]).to(device) for images in (fixed, moving))
        parts.append(settle(network, to_blocks(still), moved, stay, settings))
    pose, distance, steps = (np.concatenate(column) for column in zip(*parts, strict=True))
    return pose, distance, steps
