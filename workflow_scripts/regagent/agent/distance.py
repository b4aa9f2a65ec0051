"""The distance D to the truth as a network predicts it: a distribution over bins."""

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


def expected_distance(logits: Tensor) -> Tensor:
    """Return the predicted D (...): e to the mean of log D over the bins (..., K)."""
    return (torch.softmax(logits, -1) * _log_middles(logits)).sum(-1).exp()
