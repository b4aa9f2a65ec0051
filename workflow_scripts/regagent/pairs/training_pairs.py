"""The aligned slice pairs on which agents and regressors train (§3.4)."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regagent.files import UserError, read_table
from regagent.images import Image
from regagent.pairs.slices import read_slices


class Pool(NamedTuple):
    """Aligned slice pairs on a device; NaN pads the points, which are in centred px."""

    mr: Tensor  # (M, H, H) in [0, 1]
    ct: Tensor  # (M, H, H) in [0, 1]
    points: Tensor  # (M, N, 2)
    tissue: Tensor  # (M, H, H) uint8, numbers of phantom.tissues.LABELS, 0 where unknown

    def pick(self, rows: Tensor) -> "Pool":
        """Return the pairs of these numbers."""
        return Pool(*(array[rows] for array in self))


@dataclass(frozen=True)
class Pairs:
    """M aligned slice pairs: images (M, H, H) in [0, 1], points (M, N, 2) in centred px, padded with NaN."""

    mr: Image
    ct: Image
    landmarks: NDArray[np.float64]
    evaluation_points: NDArray[np.float64]
    tissue: NDArray[np.uint8]  # (M, H, H) numbers of phantom.tissues.LABELS, 0 where unknown

    def __len__(self) -> int:
        return len(self.mr)

    @property
    def size(self) -> int:
        """Width and height of the images in px."""
        return self.mr.shape[-1]

    def tensors(self, device: torch.device) -> Pool:
        """Return the pairs with their landmarks on a device, as ``augment_pairs`` takes them."""
        arrays = (self.mr, self.ct, self.landmarks, self.tissue)
        return Pool(*(torch.from_numpy(array).to(device) for array in arrays))


def read_pairs(slices: Iterable[str | Path], split: str | Path, subset: str) -> Pairs:
    """Read the pairs of all patients of a subset, 'train' or 'test'. Raises ``UserError`` if it is empty."""
    members = set(read_table(split).query("set == @subset").patient)
    chosen = [pairs for pairs in map(read_slices, sorted(map(str, slices))) if pairs.patient in members]
    if not chosen:
        raise UserError(f"{split}: no patient of the set {subset!r} among the slices given")

    def stack(arrays: list[NDArray]) -> NDArray:
        points = max(a.shape[1] for a in arrays)
        fill = [
            np.pad(a.astype(float), ((0, 0), (0, points - a.shape[1]), (0, 0)), constant_values=np.nan)
            for a in arrays
        ]
        return np.concatenate(fill)

    return Pairs(
        mr=np.concatenate([p.mr for p in chosen]),
        ct=np.concatenate([p.ct for p in chosen]),
        landmarks=stack([p.landmarks for p in chosen]),
        evaluation_points=stack([p.evaluation_points for p in chosen]),
        tissue=np.concatenate([p.tissue for p in chosen]),
    )
