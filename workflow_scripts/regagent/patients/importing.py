"""The import of a user's MR and CT: read, checked and written in one orientation."""

import hashlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regagent.anatomy import SKULL_HU, TISSUE_HU
from regagent.files import UserError, naming, write_json
from regagent.patients.sheet import naming_row
from regagent.volumes.reading import read_volume
from regagent.volumes.writing import write_image


def import_patient(
    patient: str,
    mr: str | Path,
    ct: str | Path,
    output_mr: str | Path,
    output_ct: str | Path,
    sheet: str | Path | None = None,
    output_voxels: str | Path | None = None,
) -> None:
    """Read a patient's MR and CT, check them and write them in LPS orientation without resampling.

    Each is a file (NIfTI, MetaImage, NRRD or another format of ITK) or the folder of a DICOM series. A small
    file ``output_voxels`` gets the ``voxel_hash`` of both, for ``split_patients``. Raises ``UserError``, with
    the patient's row in ``sheet``: for an unreadable or implausible volume, for the same image as MR and CT,
    for a CT that is not in Hounsfield units and for an MR that seems to be.
    """
    with naming_row(sheet, patient):
        if Path(mr).resolve() == Path(ct).resolve():
            raise UserError(f"patient {patient}: MR and CT are the same file {mr}")
        with naming(mr):
            fixed = read_volume(mr, patient, "MR")
        with naming(ct):
            moving = read_volume(ct, patient, "CT")
        _check_modalities(fixed, moving, f"patient {patient}", mr, ct)
    fixed, moving = (sitk.DICOMOrient(volume, "LPS") for volume in (fixed, moving))
    for volume, output in ((fixed, output_mr), (moving, output_ct)):
        write_image(volume, output)
    if output_voxels:
        write_json({"patient": patient, "mr": voxel_hash(fixed), "ct": voxel_hash(moving)}, output_voxels)


def voxel_hash(volume: sitk.Image) -> str:
    """Return a SHA-256 of a volume's size and voxels, which is the same for whatever type they have."""
    values = np.add(sitk.GetArrayViewFromImage(volume), 0, dtype="<f4")  # of -0 it makes 0
    digest = hashlib.sha256(str(values.shape).encode())
    digest.update(values)
    return digest.hexdigest()


def _check_modalities(
    fixed: sitk.Image, moving: sitk.Image, where: str, mr: str | Path, ct: str | Path
) -> None:
    signal, hounsfield = sitk.GetArrayViewFromImage(fixed), sitk.GetArrayViewFromImage(moving)
    if np.array_equal(signal, hounsfield):
        raise UserError(f"{where}: MR and CT hold the same image: {mr} and {ct}")
    mr_lowest, lowest, highest = float(signal.min()), float(hounsfield.min()), float(hounsfield.max())
    if mr_lowest < TISSUE_HU < lowest:
        raise UserError(
            f"{where}: MR and CT are exchanged: {mr} falls to {mr_lowest:g} as Hounsfield units do,"
            f" {ct} no lower than {lowest:g}"
        )
    if mr_lowest < TISSUE_HU:
        raise UserError(
            f"{where}: {mr} falls to {mr_lowest:g}: it looks like a CT, expected an MR;"
            " if it is one, set its background to 0"
        )
    if lowest > TISSUE_HU:
        raise UserError(
            f"{where}: {ct}: the lowest value is {lowest:g}, expected Hounsfield units with air"
            f" below {TISSUE_HU:g}; is it a CT, and was its rescale intercept lost?"
        )
    if highest < SKULL_HU:
        raise UserError(
            f"{where}: {ct}: the highest value is {highest:g}, expected Hounsfield units with bone"
            f" above {SKULL_HU:g}"
        )
