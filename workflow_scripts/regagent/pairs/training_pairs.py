"""The aligned slice pairs on which agents and regressors train (§3.4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regagent.files import UserError, read_table
from regagent.images import Image
from regagent.pairs.slices import SlicePairs, padded, read_slices


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
    return joined(chosen)


def joined(patients: Sequence[SlicePairs]) -> Pairs:
    """Return the pairs of several patients one after another."""
    return Pairs(
        mr=np.concatenate([p.mr for p in patients]),
        ct=np.concatenate([p.ct for p in patients]),
        landmarks=padded([points for p in patients for points in p.landmarks]),
        evaluation_points=padded([points for p in patients for points in p.evaluation_points]),
        tissue=np.concatenate([p.tissue for p in patients]),
    )


@dataclass(frozen=True)
class CubePairs:
    """M aligned pairs of cubes, in [0, 1], with points in the head in mm about their centres."""

    mr: NDArray[np.float32]  # (M, N, N, N), the axes Z, Y, X
    ct: NDArray[np.float32]  # (M, N, N, N)
    tissue: NDArray[np.uint8]  # (M, N, N, N) numbers of phantom.tissues.LABELS, 0 where unknown
    landmarks: NDArray[np.float64]  # (M, K, 3), padded with NaN
    spacing_mm: float

    def __len__(self) -> int:
        return len(self.mr)

    def tensors(self, device: torch.device) -> Pool:
        """Return the pairs on a device."""
        arrays = (self.mr, self.ct, self.landmarks, self.tissue)
        return Pool(*(torch.from_numpy(array).to(device) for array in arrays))


def read_cubes(cubes: Iterable[str | Path], split: str | Path, subset: str) -> CubePairs:
    """Read the cubes of all patients of a subset, 'train' or 'test'. Raises ``UserError``."""
    members, found = set(read_table(split).query("set == @subset").patient), []
    for path in sorted(map(str, cubes)):
        try:
            with np.load(path, allow_pickle=False) as archive:
                fields = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path}: not a file of cubes ({error})") from error
        if str(fields["patient"]) in members:
            found.append(fields)
    if not found:
        raise UserError(f"{split}: no patient of the set {subset!r} among the cubes given")
    mr, ct, tissue = (np.stack([one[name] for one in found]) for name in ("mr", "ct", "tissue"))
    points = padded([one["points"] for one in found])
    return CubePairs(mr, ct, tissue, points, float(found[0]["spacing_mm"]))
