"""What a network predicts of the way to the truth: its length D, and the rest of the way itself.

D is predicted as a distribution over bins. The rest is the pose that would follow on the present one, in px,
px, degrees and steps of scale.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: The middles of the bins in px (or in the units of the distance 'matrix'), evenly spaced in their logarithm.
NEAREST, FARTHEST, BINS = 0.1, 60.0, 24


def _log_middles(like: Tensor) -> Tensor:
    return torch.linspace(math.log(NEAREST), math.log(FARTHEST), BINS, dtype=like.dtype, device=like.device)


def distance_loss(logits: Tensor, distance: Tensor) -> Tensor:
    """Return the cross-entropy (...) of predicted bins (..., K) against the true D (...).

    A D between the middles of two bins belongs to both, in parts: so the mean of log D is exact.
    """
    middles = _log_middles(logits)
    place = (distance.clamp(NEAREST, FARTHEST).log() - middles[0]) / (middles[1] - middles[0])
    parts = (1.0 - (place[..., None] - torch.arange(BINS, device=logits.device)).abs()).clamp(min=0.0)
    return -(parts * F.log_softmax(logits, -1)).sum(-1)


#: A step of scale that moves the edge of a head by about one px.
SCALE_STEP = 0.02

#: Errors of the rest count in proportion to D plus this much: near the truth, tenths of a px count.
REST_OFFSET = 0.5


def rest_loss(predicted: Tensor, pose: Tensor, distance: Tensor) -> Tensor:
    """Return the error (...) of predicted rests (..., 4) against poses (..., 4) at distances D (...)."""
    target = torch.cat([pose[..., :3], (pose[..., 3:] - 1.0) / SCALE_STEP], -1).to(predicted.dtype)
    error = (predicted - target) / (distance[..., None] + REST_OFFSET)
    return F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none").mean(-1)


def rest_pose(predicted: Tensor) -> Tensor:
    """Return predicted rests (..., 4) as poses."""
    return torch.cat([predicted[..., :3], 1.0 + predicted[..., 3:] * SCALE_STEP], -1)


#: What turns and scales is counted in px so far from the middle, where it is part of a least-squares fit.
LEVER_PX = 60.0


def similarity_moves(where: Tensor) -> Tensor:
    """Return how x, y, p, q of ``linear_rest`` move places (S, 2) in px: (S, 2, 4)."""
    x, y = where.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    along_x = torch.stack([one, zero, x / LEVER_PX, -y / LEVER_PX], -1)
    along_y = torch.stack([zero, one, y / LEVER_PX, x / LEVER_PX], -1)
    return torch.stack([along_x, along_y], 1)


def linear_rest(fitted: Tensor) -> Tensor:
    """Return as rests (..., 4) the maps z ↦ (1 + (p + iq) / lever) z + x + iy given by x, y, p, q in px."""
    across, along = 1 + fitted[..., 2] / LEVER_PX, fitted[..., 3] / LEVER_PX
    scale = (across**2 + along**2 + 1e-6).sqrt()
    turn = torch.rad2deg(torch.atan2(along, across))
    return torch.cat([fitted[..., :2], torch.stack([turn, (scale - 1) / SCALE_STEP], -1)], -1)


def expected_distance(logits: Tensor) -> Tensor:
    """Return the predicted D (...): e to the mean of log D over the bins (..., K)."""
    return (torch.softmax(logits, -1) * _log_middles(logits)).sum(-1).exp()
