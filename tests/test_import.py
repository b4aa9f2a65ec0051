"""A patient's volumes are the same voxels in the same place, whatever the format of the files."""

import hashlib
import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from heads import head
from pydicom import dcmread
from scans import write_series

from regagent.command.pair import read_pair
from regagent.files import UserError, read_table
from regagent.patients.importing import import_patient
from regagent.patients.sheet import read_sheet
from regagent.patients.split import split_patients
from regagent.phantom.scanners import simulate_patient
from regagent.settings import Phantom, Split

MODALITIES = ("mr", "ct")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    files = [folder / name for name in ("mr.nii.gz", "ct.nii.gz", "truth.tfm", "tissue.nii.gz")]
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
    import_patient("P001", row.mr, row.ct, *outputs, tmp_path / "voxels.json", sheet)
    hashes = json.loads((tmp_path / "voxels.json").read_text())
    for name, path, original in zip(MODALITIES, outputs, originals, strict=True):
        values = sitk.GetArrayFromImage(original).astype("<f4")
        digest = hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()
        assert hashes[name] == digest  # the same of every format
        image = sitk.ReadImage(str(path))
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(original))
        assert image.GetSpacing() == pytest.approx(original.GetSpacing(), abs=1e-9)
        assert image.GetOrigin() == pytest.approx(original.GetOrigin(), abs=1e-9)
        assert image.GetDirection() == pytest.approx(original.GetDirection(), abs=1e-9)


@pytest.fixture(scope="module")
def scans():
    pair = head(shape=(20, 30, 25), spacing=(8.0, 8.0, 8.0))[:2]
    return dict(zip(MODALITIES, (sitk.Cast(image, sitk.sitkInt16) for image in pair), strict=True))


def another(image):
    """Return the volume with another value in one voxel."""
    image = sitk.Image(image)
    image[10, 10, 10] = int(image[10, 10, 10]) + 1
    return image


def split_two(folder, first, second):
    """Import two patients of a sheet, as NIfTI and as DICOM, and return their split."""
    (folder / "P1").mkdir()
    for name in MODALITIES:
        export(sitk.DICOMOrient(first[name], "RAS"), name, "nii.gz", folder / "P1")
        export(sitk.Cast(sitk.DICOMOrient(second[name], "LPS"), sitk.sitkInt16), name, "DICOM", folder / "P2")
    sheet = folder / "patients.tsv"
    rows = ["patient\tmr\tct\tset", "P1\tP1/mr.nii.gz\tP1/ct.nii.gz\ttrain", "", "P2\tP2/mr\tP2/ct\ttest"]
    sheet.write_text("\n".join(rows))
    voxels = []
    for row in read_sheet(sheet):
        out = folder / "out" / row.patient
        voxels.append(out / "voxels.json")
        outputs = [out / f"{name}.nii.gz" for name in MODALITIES]
        import_patient(row.patient, row.mr, row.ct, *outputs, voxels[-1], sheet)
    split_patients(["P1", "P2"], folder / "split.tsv", Split(), sheet, voxels)
    return read_table(folder / "split.tsv")


@pytest.mark.parametrize("same", MODALITIES)
def test_one_image_in_two_files_of_two_patients(tmp_path, scans, same):
    second = {name: image if name == same else another(image) for name, image in scans.items()}
    message = (
        f"patients.tsv, row 4: patient P2 has the same {same.upper()}, voxel by voxel, as patient P1"
        "; one image under two names may be in both sets, train and test; delete one of the rows"
    )
    with pytest.raises(UserError, match=message):
        split_two(tmp_path, scans, second)
    assert not (tmp_path / "split.tsv").exists()


def test_patients_who_differ_in_a_voxel(tmp_path, scans):
    table = split_two(tmp_path, scans, {name: another(image) for name, image in scans.items()})
    assert table.to_dict("list") == {"patient": ["P1", "P2"], "set": ["train", "test"]}


@pytest.mark.parametrize("other", ["A", "A ", "", "B"])
def test_two_scans_that_state_two_patients_are_told(tmp_path, scans, caplog, other):
    for (name, image), identity in zip(scans.items(), ("A", other), strict=True):
        for file in write_series(image, tmp_path / name, name.upper()).iterdir():
            header = dcmread(file)
            header.PatientID = identity
            header.save_as(file)
    files = [tmp_path / name for name in MODALITIES]
    read_pair(*files)
    outputs = [tmp_path / name for name in ("mr.nii.gz", "ct.nii.gz", "voxels.json")]
    import_patient("P1", *files, *outputs)
    said = f"PatientID is A in {files[0]} and B in {files[1]}; are these of one head?"
    assert caplog.messages == ([said, f"patient P1: {said}"] if other == "B" else [])


@pytest.mark.parametrize("named", ["nii", "nii.gz"])
def test_of_two_files_side_by_side_the_named_one_is_imported(tmp_path, scans, named):
    added = {"nii": 3, "nii.gz": 5}
    arrays = {name: sitk.GetArrayFromImage(image).T for name, image in scans.items()}
    for name, values in arrays.items():
        for suffix, number in added.items():
            image = nibabel.Nifti1Image((values + number).astype(np.int16), np.diag([-8.0, -8.0, 8.0, 1.0]))
            image.to_filename(tmp_path / f"{name}.{suffix}")
    sheet = tmp_path / "patients.tsv"
    sheet.write_text(f"patient\tmr\tct\nP1\tmr.{named}\tct.{named}\n")
    (row,) = read_sheet(sheet)
    outputs = [tmp_path / "out" / f"{name}.nii.gz" for name in MODALITIES]
    import_patient("P1", row.mr, row.ct, *outputs, tmp_path / "voxels.json", sheet)
    for path, values in zip(outputs, arrays.values(), strict=True):
        assert np.array_equal(nibabel.load(path).get_fdata(), values + added[named])


@pytest.mark.parametrize("named", ["hdr", "img"])
def test_a_pair_of_header_and_image_is_refused(tmp_path, scans, named):
    values = sitk.GetArrayFromImage(scans["mr"]).T
    pair = nibabel.Nifti1Pair(values.astype(np.int16), np.diag([-8.0, -8.0, 8.0, 1.0]))
    pair.to_filename(tmp_path / "mr.img")
    sitk.WriteImage(scans["ct"], tmp_path / "ct.nii")
    sheet = tmp_path / "patients.tsv"
    sheet.write_text(f"patient\tmr\tct\nP1\tmr.{named}\tct.nii\n")
    (row,) = read_sheet(sheet)
    message = (
        rf"patients.tsv, row 2: patient P1: .*mr.{named}: a pair of .hdr and .img cannot be checked here"
    )
    with pytest.raises(UserError, match=message):
        outputs = [tmp_path / name for name in ("out.nii", "ct_out.nii", "voxels.json")]
        import_patient("P1", row.mr, row.ct, *outputs, sheet)
