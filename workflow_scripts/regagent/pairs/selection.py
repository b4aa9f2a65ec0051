"""The slice pairs of a pre-registered patient, from the volumes to a file (§4)."""

import logging
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regagent.anatomy import head_mask
from regagent.files import UserError, write_whole
from regagent.pairs.slices import cut_slices
from regagent.phantom.tissues import UNKNOWN
from regagent.settings import Slices
from regagent.volumes.reading import read_volume

logger = logging.getLogger("regagent")


def select_slices(
    patient: str,
    mr: str | Path,
    ct: str | Path,
    output: str | Path,
    settings: Slices,
    tissue: str | Path | None = None,
) -> None:
    """Cut up to ``settings.count`` pairs from a pre-registered patient and write them to ``output``.

    ``tissue`` is a volume of labels on the MR's grid, as ``simulate_patient`` writes it, if there is one.

    Raises ``UserError`` when MR and CT are not on one grid, when no slice shows the head, and when the MR has
    no contrast.
    """
    fixed = sitk.DICOMOrient(read_volume(mr, patient), "LPS")
    moving = sitk.DICOMOrient(read_volume(ct, patient), "LPS")
    if fixed.GetSize() != moving.GetSize() or not np.allclose(
        fixed.GetOrigin(), moving.GetOrigin(), atol=0.1
    ):
        raise UserError(
            f"patient {patient}: the CT {ct} (size {moving.GetSize()}) is not on the grid of the MR {mr}"
            f" (size {fixed.GetSize()}): pre-register it first"
        )
    intensity = sitk.GetArrayFromImage(fixed).astype(np.float32)
    hounsfield = sitk.GetArrayFromImage(moving).astype(np.float32)
    labels = np.full(intensity.shape, UNKNOWN, np.uint8)
    if tissue is not None:
        labels = sitk.GetArrayFromImage(sitk.DICOMOrient(read_volume(tissue, patient), "LPS"))
        labels = labels.astype(np.uint8)
    spacing = fixed.GetSpacing()
    try:
        head = head_mask(intensity, spacing)
    except ValueError as error:
        raise UserError(f"patient {patient}: no head in the slices: {error} ({mr})") from error
    try:
        pairs = cut_slices(patient, intensity, hounsfield, labels, head, spacing, settings)
    except ValueError as error:
        raise UserError(f"patient {patient}: {error} ({mr})") from error
    with write_whole(output) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **vars(pairs))
    logger.info(
        "patient %s: %d slices, %s landmarks a slice",
        patient,
        len(pairs.mr),
        (~np.isnan(pairs.landmarks[..., 0])).sum(1).tolist(),
    )
