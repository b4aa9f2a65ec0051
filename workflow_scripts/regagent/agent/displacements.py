"""Where every place of an image has to go, and the transform that fits all of them best.

A network that takes the whole image at once has to learn each place of a head anew. One that tells by the
same weights at every place how far it is off, and how sure that is along each axis, learns from a pair
hundreds of times. The rest of the way is the transform that fits these displacements in the sense of
weighted least squares. A guess of the whole image takes part in it, and decides where no place knows.

Lengths are in the units of the network: px, or a part of a voxel. d is the dimension, S the number of
places, P the number of a transform's parameters, all of them in these units: shifts, and what turns and
scales at a lever (``LEVER_PX``, ``LEVER_MM``).
"""

from itertools import combinations_with_replacement

import torch
from torch import Tensor

#: The logarithms of a precision's root at a place, and of a guess's precision, are at most so large.
LARGEST_LOG, LARGEST_LOG_OF_GUESS = 3.0, 8.0
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
    shifts, roots = _parted(places, motions.shape[1])
    precision = _precision(roots)
    part, flat = INDEPENDENT / len(motions), (len(places), *2 * [motions.shape[2]])
    sureness = torch.exp(LARGEST_LOG_OF_GUESS * torch.tanh(log_sureness / LARGEST_LOG_OF_GUESS))
    along = motions.unbind(1)  # (S, P) for each axis
    normal = torch.diag_embed(sureness + 1e-6)
    right = sureness * guess
    for (i, j), weight in precision.items():
        both = along[i][:, :, None] * along[j][:, None]
        if i != j:
            both = both + both.mT
            right = right + part * (weight * shifts[..., i]) @ along[j]
        normal = normal + part * (weight @ both.flatten(1)).view(flat)
        right = right + part * (weight * shifts[..., j]) @ along[i]
    unit = torch.eye(guess.shape[1]).to(right).expand(len(right), -1, -1)
    solved = torch.linalg.solve(normal, torch.cat([right[..., None], unit], -1))
    fitted, variance = solved[..., 0], solved[..., 1:].diagonal(dim1=-2, dim2=-1)
    misfits = [fitted @ one.mT - shifts[..., axis] for axis, one in enumerate(along)]
    misfit = _squared(roots, misfits).mean(-1) / len(along)
    away = (fitted - guess).square().sum(-1)
    doubts = [variance.sum(-1).clamp(min=1e-8), misfit + 1e-3, away + 1e-2]
    return fitted, 0.5 * torch.stack(doubts, -1).log()


def displacement_loss(places: Tensor, true: Tensor) -> Tensor:
    """Return the mean over the places (B,) of the negative log-likelihood of true displacements (B, S, d)."""
    shifts, roots = _parted(places, true.shape[-1])
    error = _squared(roots, list((true - shifts).unbind(-1)))
    logs = sum(roots[i, i].log() for i in range(true.shape[-1]))
    return ((1 + error).sqrt() - logs).mean(-1)


#: The entries (B, S) of upper triangles, the roots of the places' precisions, by row and column.
Roots = dict[tuple[int, int], Tensor]


def _entries(dimension: int) -> list[tuple[int, int]]:
    """Return the entries (row, column) of an upper triangle, row by row."""
    return list(combinations_with_replacement(range(dimension), 2))


def _parted(places: Tensor, dimension: int) -> tuple[Tensor, Roots]:
    """Return the shifts (B, S, d) that a network's numbers (B, K, S) are, and how sure they are."""
    shifts, triangle = places.split([dimension, places.shape[1] - dimension], 1)
    roots = dict(zip(_entries(dimension), triangle.unbind(1), strict=True))
    for i in range(dimension):
        roots[i, i] = torch.exp(LARGEST_LOG * torch.tanh(roots[i, i] / LARGEST_LOG))
    return shifts.mT, roots


def _precision(roots: Roots) -> Roots:
    """Return the upper triangles of the precisions WᵀW whose roots W are."""
    return {(i, j): torch.stack([roots[k, i] * roots[k, j] for k in range(i + 1)]).sum(0) for i, j in roots}


def _squared(roots: Roots, vectors: list[Tensor]) -> Tensor:
    """Return the squared lengths (B, S) of vectors, their columns (B, S), times the roots W."""
    rows: list[list[Tensor]] = [[] for _ in vectors]
    for (i, j), entry in roots.items():
        rows[i].append(entry * vectors[j])
    return torch.stack([torch.stack(row).sum(0).square() for row in rows]).sum(0)
