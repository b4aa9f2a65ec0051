"""The import of a user's MR and CT: read, checked and written in one orientation."""

from pathlib import Path

import SimpleITK as sitk

from regagent.files import UserError
from regagent.patients.modalities import check_modalities
from regagent.patients.sheet import naming_row
from regagent.volumes.reading import read_volume
from regagent.volumes.writing import write_image

ADVICE = "if it is right nevertheless, set cohort.trust_values to true"


def import_patient(
    patient: str,
    mr: str | Path,
    ct: str | Path,
    output_mr: str | Path,
    output_ct: str | Path,
    sheet: str | Path | None = None,
    trust_values: bool = False,
) -> None:
    """Read a patient's MR and CT, check them and write them in LPS orientation without resampling.

    Each is a file (NIfTI, MetaImage, NRRD or another format of ITK) or the folder of a DICOM series. Raises
    ``UserError``, with the patient's row in ``sheet``: for an unreadable or implausible volume, for one file
    as MR and CT, and, without ``trust_values``, for volumes that do not pass ``check_modalities``.
    """
    with naming_row(sheet, patient):
        if Path(mr).resolve() == Path(ct).resolve():
            raise UserError(f"patient {patient}: MR and CT are the same file {mr}")
        fixed, moving = (read_volume(path, patient, modality) for path, modality in ((mr, "MR"), (ct, "CT")))
        if not trust_values:
            check_modalities(fixed, moving, mr, ct, f"patient {patient}: ", ADVICE)
    for volume, output in ((fixed, output_mr), (moving, output_ct)):
        write_image(sitk.DICOMOrient(volume, "LPS"), output)
