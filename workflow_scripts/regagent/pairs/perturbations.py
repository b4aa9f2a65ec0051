"""Perturbations of the moving images, drawn from the lattices of §4."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from regagent.files import UserError, read_table, write_table
from regagent.geometry import Array, invert
from regagent.images import Image, warp
from regagent.pairs.slices import SlicePairs, read_cohort
from regagent.settings import PerturbationRange, Perturbations, WideRange


def sample_perturbations(uniform: Array, settings: PerturbationRange) -> Array:
    """Return poses (..., 4), each parameter uniform on the steps of its range, both ends included.

    ``uniform`` (..., 4) are numbers drawn from [0, 1): a NumPy array or a torch tensor, as is the result.
    """
    xp = torch if torch.is_tensor(uniform) else np
    shift, angle = settings.translation_px, settings.rotation_deg
    columns = [
        _lattice(uniform[..., 0], -shift, shift, settings.translation_step_px),
        _lattice(uniform[..., 1], -shift, shift, settings.translation_step_px),
        _lattice(uniform[..., 2], -angle, angle, settings.rotation_step_deg),
        _lattice(uniform[..., 3], *settings.scale, settings.scale_step),
    ]
    # Rounding removes tails such as that of 0.8500000000000001.
    return xp.round(xp.stack(columns, -1), decimals=9)


def poses_on_the_way(perturbation: Tensor, share: float, chance: Tensor, part: Tensor) -> Tensor:
    """Return poses (B, 4): the identity, or in a ``share`` of the cases one on the way to the truth.

    Each parameter of such a pose is a random part of its true value. ``chance`` (B, 1) and ``part`` (B, 4)
    are drawn uniformly from [0, 1).
    """
    part = part * (chance < share)  # nothing of the truth is the identity
    truth = invert(perturbation)
    return torch.cat([part[:, :3] * truth[:, :3], truth[:, 3:] ** part[:, 3:]], 1)


def _lattice(uniform: Array, low: float, high: float, step: float) -> Array:
    count = int(np.floor((high - low) / step + 1e-9)) + 1
    return low + step * (uniform * count // 1)


def stream_seed(seed: int, *key: str | int) -> int:
    """Return a seed in 0..2³¹-1 that depends on ``seed`` and ``key`` alone, whatever else is drawn."""
    text = "/".join(map(str, (seed, *key)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def perturb_slices(
    slices: Iterable[str | Path],
    split: str | Path,
    output: str | Path,
    settings: Perturbations,
    set_name: str,
) -> None:
    """Write the cases of the set ``E1``, ``E2`` or ``wide``: ``per_slice`` perturbations of each test slice.

    Every slice has a random stream of its own, so that its poses do not depend on the other patients and
    slices. Raises ``UserError`` when a test patient has no slices.
    """
    ranges = {"E1": settings.E1, "E2": settings.E2, "wide": settings.wide}[set_name]
    per_slice = ranges.per_slice if isinstance(ranges, WideRange) else settings.per_slice
    sets = read_table(split).set_index("patient")["set"]
    test = sorted(sets.index[sets == "test"])
    cohort = read_cohort(slices)
    missing = [patient for patient in test if patient not in cohort]
    if missing:
        raise UserError(f"patient {missing[0]}: in the test set of {split}, but without slice pairs")
    rows: list[tuple] = []
    for patient in test:
        for number in range(len(cohort[patient].mr)):
            seed = stream_seed(settings.seed, set_name, patient, number)
            rng = np.random.default_rng(seed)
            for pose in sample_perturbations(rng.random((per_slice, 4)), ranges):
                rows.append((len(rows), patient, number, *pose, seed))
    columns = ["case", "patient", "slice", "tx", "ty", "angle", "scale", "seed"]
    write_table(pd.DataFrame(rows, columns=columns), output)


def first_perturbations(perturbations: str | Path, output: str | Path, per_slice: int) -> None:
    """Write the first ``per_slice`` cases of each slice of a table of perturbations."""
    write_table(read_table(perturbations).groupby(["patient", "slice"]).head(per_slice), output)


class Images(Sequence[Image]):
    """The images (N, H, H) of N cases, each made only when it is indexed: all of them would fill the memory.

    An index gives one image (H, H), a slice an array (n, H, H).
    """

    def __init__(self, cases: Sequence, make: Callable[..., Image]):
        self.cases, self.make = cases, make

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, which: int | slice) -> Image:  # type: ignore[override]  # an array is no Sequence
        if isinstance(which, slice):
            return np.stack([self.make(*case) for case in self.cases[which]])
        return self.make(*self.cases[which])


def perturbed_pairs(cases: pd.DataFrame, cohort: Mapping[str, SlicePairs]) -> tuple[Images, Images]:
    """Return the fixed and the perturbed moving images of the cases of a perturbation table."""
    rows = list(cases[["patient", "slice", "tx", "ty", "angle", "scale"]].itertuples(index=False))
    fixed = Images(rows, lambda patient, number, *_: cohort[patient].mr[number])
    moving = Images(rows, lambda patient, number, *pose: warp(cohort[patient].ct[number], pose))
    return fixed, moving
