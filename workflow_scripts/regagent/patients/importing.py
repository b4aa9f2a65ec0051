"""The import of a user's MR and CT: read, checked and written in one orientation."""

import hashlib
import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regagent.files import UserError, naming, write_json
from regagent.patients.modalities import check_modalities
from regagent.patients.sheet import naming_row
from regagent.volumes.dicom_files import warn_of_two_patients
from regagent.volumes.reading import read_volume
from regagent.volumes.writing import write_image

ADVICE = "if it is right nevertheless, set cohort.trust_values to true"


def import_patient(
    patient: str,
    mr: str | Path,
    ct: str | Path,
    output_mr: str | Path,
    output_ct: str | Path,
    output_voxels: str | Path,
    sheet: str | Path | None = None,
    trust_values: bool = False,
) -> None:
    """Read a patient's MR and CT, check them and write them in LPS orientation without resampling.

    Each is a file (NIfTI, MetaImage, NRRD or DICOM) or the folder of a DICOM series. A small
    file ``output_voxels`` gets the ``voxel_hash`` of both, for ``split_patients``. Raises ``UserError``, with
    the patient's row in ``sheet``: for an unreadable or implausible volume, for one file as MR and CT, and,
    without ``trust_values``, for volumes that do not pass ``check_modalities`` and DICOM of another modality.
    """
    with naming_row(sheet, patient):
        if os.path.realpath(mr) == os.path.realpath(ct):
            raise UserError(f"patient {patient}: MR and CT are the same file {mr}")
        with naming(mr):
            fixed = read_volume(mr, patient, None if trust_values else "MR")
        with naming(ct):
            moving = read_volume(ct, patient, None if trust_values else "CT")
        warn_of_two_patients(mr, ct, f"patient {patient}: ")
        if not trust_values:
            check_modalities(fixed, moving, mr, ct, f"patient {patient}: ", ADVICE)
    fixed = sitk.DICOMOrient(fixed, "LPS")  # one by one, as each is as large as what was read
    moving = sitk.DICOMOrient(moving, "LPS")
    for volume, output in ((fixed, output_mr), (moving, output_ct)):
        write_image(volume, output)
    write_json({"patient": patient, "mr": voxel_hash(fixed), "ct": voxel_hash(moving)}, output_voxels)


def voxel_hash(volume: sitk.Image) -> str:
    """Return a SHA-256 of a volume's size and voxels, which is the same for whatever type they have."""
    values = sitk.GetArrayViewFromImage(volume)
    digest = hashlib.sha256(str(values.shape).encode())
    for part in values:
        digest.update(np.add(part, 0, dtype="<f4"))  # of -0 it makes 0
    return digest.hexdigest()
