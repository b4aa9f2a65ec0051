"""Where every place of an image has to go, and the transform that fits all of them best.

A network that takes the whole image at once has to learn each place of a head anew. One that tells by the
same weights at every place how far it is off, and how sure that is along each axis, learns from a pair
hundreds of times, and is right on heads of other shapes. The rest of the way is the transform that fits
these displacements in the sense of weighted least squares. A guess of the whole image takes part in it,
and decides where no place knows.

Lengths are in the units of the network: px, or a part of a voxel. d is the dimension, S the number of
places, P the number of a transform's parameters, all of them in these units: shifts, and what turns and
scales at the ``lever``.
"""

from itertools import combinations_with_replacement

import torch
from torch import Tensor

#: The logarithm of a precision's root lies between minus and plus this.
LARGEST_LOG = 3.0
#: What is predicted at a place before anything is learned: an error of so many units.
FIRST_ERROR = 4.5
#: Neighbouring places err alike: all of an image count as so many.
INDEPENDENT = 16
#: The numbers that ``fit`` returns of a fit's doubts.
DOUBTS = 3


def outputs_of(dimension: int) -> int:
    """Return how many numbers a network predicts at a place: a shift, and a triangle of its precision."""
    return dimension + dimension * (dimension + 1) // 2


def first_outputs(dimension: int) -> Tensor:
    """Return the numbers (K,) of a place that knows nothing."""
    values = torch.zeros(outputs_of(dimension))
    for number, (i, j) in enumerate(_entries(dimension)):
        if i == j:
            values[dimension + number] = -torch.tensor(FIRST_ERROR).log()
    return values


def fit(places: Tensor, guess: Tensor, log_sureness: Tensor, motions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the transforms (B, P) that fit the places' predictions and a guess, and their doubts (B, 3).

    ``places`` (B, K, S) are the network's numbers, ``guess`` (B, P) is that of the whole image and as sure
    as ``log_sureness`` (B, P) says, and ``motions`` (S, d, P) tell how each parameter moves a place. The
    doubts are logarithms: of the expected error, of how badly the places agree with the fit, and of how far
    it lies from the guess.
    """
    dimension = motions.shape[1]
    rows = _whitened(places, motions[None].expand(len(places), -1, -1, -1)).flatten(1, 2)
    shifts = _whitened(places, places[:, :dimension].mT[..., None]).flatten(1, 2)
    sureness = torch.exp(8 * torch.tanh(log_sureness / 8))
    part = INDEPENDENT / len(motions)
    normal = part * rows.mT @ rows + torch.diag_embed(sureness + 1e-6)
    right = part * rows.mT @ shifts + (sureness * guess)[..., None]
    unit = torch.eye(guess.shape[1]).to(right).expand(len(right), -1, -1)
    solved = torch.linalg.solve(normal, torch.cat([right, unit], -1))
    fitted, variance = solved[..., 0], solved[..., 1:].diagonal(dim1=-2, dim2=-1)
    misfit = (rows @ fitted[..., None] - shifts).square().mean((1, 2))
    away = (fitted - guess).square().sum(-1)
    doubts = [variance.sum(-1).clamp(min=1e-8), misfit + 1e-3, away + 1e-2]
    return fitted, 0.5 * torch.stack(doubts, -1).log()


def displacement_loss(places: Tensor, true: Tensor) -> Tensor:
    """Return the mean over the places (B,) of the negative log-likelihood of true displacements (B, S, d)."""
    dimension = true.shape[-1]
    error = _whitened(places, (true - places[:, :dimension].mT)[..., None])[..., 0]
    logs = [
        _log_root(places[:, dimension + number])
        for number, (i, j) in enumerate(_entries(dimension))
        if i == j
    ]
    return ((1 + error.square().sum(-1)).sqrt() - torch.stack(logs).sum(0)).mean(-1)


def _entries(dimension: int) -> list[tuple[int, int]]:
    """Return the entries (row, column) of an upper triangle, row by row."""
    return list(combinations_with_replacement(range(dimension), 2))


def _log_root(outputs: Tensor) -> Tensor:
    return LARGEST_LOG * torch.tanh(outputs / LARGEST_LOG)


def _whitened(places: Tensor, vectors: Tensor) -> Tensor:
    """Return vectors (B, S, d, P) times the roots of the precisions: upper triangles."""
    dimension = vectors.shape[2]
    rows: list[Tensor | float] = [0.0] * dimension
    for number, (i, j) in enumerate(_entries(dimension)):
        entry = places[:, dimension + number]
        entry = _log_root(entry).exp() if i == j else entry
        rows[i] = rows[i] + entry[..., None] * vectors[:, :, j]
    return torch.stack(rows, 2)  # type: ignore[arg-type] # every row has its diagonal
