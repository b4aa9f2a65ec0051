"""Slice pairs cut from simulated heads as they are painted, for trials: no volumes, and nothing to align."""

import numpy as np
from scipy.ndimage import binary_fill_holes

from regagent.pairs.slices import SlicePairs, cut_slices
from regagent.pairs.training_pairs import Pairs, joined
from regagent.phantom.head import build_head
from regagent.phantom.tissues import AIR, LABELS
from regagent.settings import Slices

#: The standard deviation of an MR's noise, as a fraction of the signal of white matter.
NOISE = 0.03


def simulated_pairs(count: int = 1, seed: int = 2018) -> Pairs:
    """Return six aligned pairs of each of ``count`` simulated heads, which take some seconds each."""
    return joined([simulated_head(number, seed) for number in range(count)])


def simulated_head(number: int, seed: int = 2018) -> SlicePairs:
    """Return the pairs of the simulated head of a number and a seed."""
    rng = np.random.default_rng([seed, number])
    canvas = build_head(rng, 1.0, metal=False)
    head = np.stack([binary_fill_holes(layer != LABELS[AIR]) for layer in canvas.tissue])
    mr = np.abs(canvas.mr + NOISE * rng.standard_normal(canvas.mr.shape, dtype=np.float32))
    return cut_slices(f"S{number:03}", mr, canvas.ct, canvas.tissue, head, (1.0, 1.0, 1.0), Slices())
