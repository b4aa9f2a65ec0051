"""A patient's volumes are the same voxels in the same place, whatever the format of the files."""

import numpy as np
import pytest
import SimpleITK as sitk
from scans import write_series

from regagent.patients.importing import import_patient
from regagent.patients.sheet import read_sheet
from regagent.phantom.scanners import simulate_patient
from regagent.settings import Phantom

MODALITIES = ("mr", "ct")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    files = [folder / name for name in ("mr.nii.gz", "ct.nii.gz", "truth.tfm")]
    simulate_patient("P001", 2018, *files, Phantom(spacing_mr_mm=3.0))
    return folder


def export(image, modality, kind, folder):
    """Write a volume in a format, and give its path as a sheet has it."""
    if kind == "DICOM":
        return write_series(image, folder / modality, modality.upper())
    path = folder / f"{modality}.{kind}"
    sitk.WriteImage(image, str(path), useCompression=kind != "nrrd")
    return path


@pytest.mark.parametrize("kind", ["nii", "mha", "nrrd", "DICOM"])
def test_every_format_gives_the_simulated_patient(simulated, tmp_path, kind):
    folder = tmp_path / 'it\'s "one" of our patients'
    folder.mkdir()
    originals = [sitk.ReadImage(str(simulated / f"{name}.nii.gz")) for name in MODALITIES]
    paths = [
        export(sitk.DICOMOrient(image, "LPS" if kind == "DICOM" else "RAS"), name, kind, folder)
        for image, name in zip(originals, MODALITIES, strict=True)
    ]
    sheet = folder / "patients.tsv"
    sheet.write_text("patient\tmr\tct\n" + "\t".join(["P001", *(path.name for path in paths)]) + "\n")
    (row,) = read_sheet(sheet)
    outputs = [tmp_path / f"{name}.nii.gz" for name in MODALITIES]
    import_patient("P001", row.mr, row.ct, *outputs, sheet)
    for path, original in zip(outputs, originals, strict=True):
        image = sitk.ReadImage(str(path))
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(original))
        assert image.GetSpacing() == pytest.approx(original.GetSpacing(), abs=1e-9)
        assert image.GetOrigin() == pytest.approx(original.GetOrigin(), abs=1e-9)
        assert image.GetDirection() == pytest.approx(original.GetDirection(), abs=1e-9)
