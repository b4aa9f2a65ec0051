"""The slice pairs of a patient: how they are chosen, cut and read (§3.3, §4)."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regagent.anatomy import TISSUE_HU
from regagent.files import UserError
from regagent.images import square, square_labels
from regagent.pairs.cutting import cut, mr_window, pixel_width_mm
from regagent.pairs.landmarks import evaluation_grid, grid_landmarks, sift_landmarks
from regagent.phantom.tissues import UNKNOWN
from regagent.settings import Slices

logger = logging.getLogger("regagent")


#: What a head fills of an axial slice, from that of a small child to one with a neck and wide margins.
HEAD_CM2 = (20.0, 450.0)

#: The CT must show tissue in this part of the head in an MR slice. Sinuses and pharynx are air in both.
SEEN_FRACTION = 0.75


@dataclass(frozen=True)
class SlicePairs:
    """The S slice pairs of a patient. Points are in centred px, padded with NaN to a common number."""

    patient: str
    mr: NDArray[np.float32]  # (S, H, H) in [0, 1], the fixed images
    ct: NDArray[np.float32]  # (S, H, H) in [0, 1], aligned with mr
    head: NDArray[np.bool_]  # (S, H, H)
    tissue: NDArray[np.uint8]  # (S, H, H) numbers of phantom.tissues.LABELS, 0 where unknown
    slice_index: NDArray[np.int64]  # (S,) z in the MR volume
    mm_per_px: float
    landmarks: NDArray[np.float32]  # (S, K, 2)
    evaluation_points: NDArray[np.float32]  # (S, M, 2)
    landmark_source: NDArray[np.str_]  # (S,) 'sift' or 'grid'


def read_slices(path: str | Path) -> SlicePairs:
    """Read the slice pairs of one patient from ``.npz``. Raises ``UserError``."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            fields = {name: archive[name] for name in SlicePairs.__dataclass_fields__}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path}: not a file of slice pairs ({error})") from error
    return SlicePairs(
        **{**fields, "patient": str(fields["patient"]), "mm_per_px": float(fields["mm_per_px"])}
    )


def read_cohort(paths: Iterable[str | Path]) -> dict[str, SlicePairs]:
    """Read the slice pairs of several patients, by the patient's name. Raises ``UserError``."""
    return {pairs.patient: pairs for pairs in map(read_slices, paths)}


def cut_slices(
    patient: str,
    intensity: NDArray,
    hounsfield: NDArray,
    tissue: NDArray[np.uint8],
    head: NDArray[np.bool_],
    spacing: Sequence[float],
    settings: Slices,
) -> SlicePairs:
    """Return up to ``settings.count`` pairs of an MR and a CT (Z, Y, X) that lie on each other.

    ``tissue`` are labels, ``head`` is the mask of the head in the MR, and ``spacing`` (x, y, z) is in mm.
    Raises ``ValueError`` when no slice shows the head, and when the MR has no contrast.
    """
    try:
        chosen = choose_slices(head, hounsfield > TISSUE_HU, spacing, settings)
    except ValueError as error:
        raise ValueError(f"no head in the slices: {error}") from error
    if len(chosen) < settings.count:
        logger.warning(
            "patient %s: only %d of %d slices show enough of the head at least %g mm apart",
            patient, len(chosen), settings.count, settings.minimum_gap_mm,
        )  # fmt: skip
    plane = spacing[0], spacing[1]
    mr, ct = cut(intensity, hounsfield, chosen, plane, mr_window(intensity, settings), settings)
    heads, landmarks, points, sources = [], [], [], []
    for z, ct_slice in zip(chosen, ct, strict=True):
        head_slice = square(head[z].astype(np.float32), plane, settings.size, 0.0) >= 0.5
        found, source = _landmarks(ct_slice, head_slice, settings)
        if source == "grid":
            logger.warning("patient %s, slice %d: too few SIFT landmarks, a grid is used", patient, z)
        heads.append(head_slice)
        landmarks.append(found)
        points.append(evaluation_grid(head_slice, settings.grid_spacing_px, found))
        sources.append(source)
    return SlicePairs(
        patient=patient,
        mr=mr,
        ct=ct,
        head=np.stack(heads),
        tissue=np.stack([square_labels(tissue[z], plane, settings.size, UNKNOWN) for z in chosen]),
        slice_index=np.array(chosen, dtype=np.int64),
        mm_per_px=pixel_width_mm(intensity.shape[1:], plane, settings),
        landmarks=padded(landmarks).astype(np.float32),
        evaluation_points=padded(points).astype(np.float32),
        landmark_source=np.array(sources),
    )


def choose_slices(
    head: NDArray[np.bool_], tissue: NDArray[np.bool_], spacing: Sequence[float], settings: Slices
) -> list[int]:
    """Return up to ``settings.count`` slice numbers, evenly over the slices that show enough of the head.

    ``head`` and ``tissue`` are masks (Z, Y, X) of the MR and the CT, ``spacing`` (x, y, z) is in mm. A slice
    is usable if the head covers ``minimum_head_fraction`` of it and the CT shows tissue in most of that head.
    Beyond the end of the CT it shows none. Two chosen slices are never neighbours and lie at least
    ``minimum_gap_mm`` apart. Raises ``ValueError`` when no slice is usable, and for a head of an implausible
    size.
    """
    covered = head.mean((1, 2))
    large = covered >= settings.minimum_head_fraction
    seen = (head & tissue).sum((1, 2)) >= SEEN_FRACTION * head.sum((1, 2))
    if not large.any():
        raise ValueError(
            f"the head covers at most {covered.max():.0%} of a slice,"
            f" expected {settings.minimum_head_fraction:.0%}"
        )
    areas = head.sum((1, 2)) * spacing[0] * spacing[1] / 100
    area, (low, high) = float(np.median(areas[areas > 0])), HEAD_CM2
    if not low <= area <= high:
        raise ValueError(
            f"the head fills {area:.2g} cm² of an axial slice, expected {low:g} to {high:g};"
            " is the spacing stated in mm?"
        )
    usable = np.flatnonzero(large & seen)
    if len(usable) == 0:
        raise ValueError("the CT shows the head in none of the slices that the MR shows it in")
    gap = max(2, int(np.ceil(settings.minimum_gap_mm / spacing[2] - 1e-6)))
    count = min(settings.count, 1 + (usable[-1] - usable[0]) // gap)
    # The middles of equal parts avoid the first and the last slices, which show the least of the head.
    edges = np.linspace(usable[0], usable[-1] + 1, count + 1)
    targets = (edges[:-1] + edges[1:]) / 2 - 0.5
    if count > 1 and targets[1] - targets[0] < gap:
        targets = np.linspace(usable[0], usable[-1], count)
    chosen: list[int] = []
    for target in targets:
        free = usable if not chosen else usable[usable >= chosen[-1] + gap]
        if len(free):
            chosen.append(int(free[np.argmin(np.abs(free - target))]))
    return chosen


def _landmarks(ct: NDArray, head: NDArray, settings: Slices) -> tuple[NDArray[np.float64], str]:
    found = sift_landmarks(ct, head, settings.landmarks_maximum)
    if len(found) >= settings.landmarks_minimum:
        return found, "sift"
    return grid_landmarks(head, settings.landmarks_minimum, settings.landmarks_maximum), "grid"


def padded(points: Sequence[NDArray]) -> NDArray[np.float64]:
    """Return points (N, D) of different numbers as one array (M, K, D), NaN where there are no more."""
    stacked = np.full((len(points), max(map(len, points)), points[0].shape[-1]), np.nan)
    for row, found in zip(stacked, points, strict=True):
        row[: len(found)] = found
    return stacked
