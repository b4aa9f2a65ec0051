import numpy as np
import pytest
import SimpleITK as sitk
from heads import head

from regagent.files import UserError, read_table
from regagent.patients.importing import import_patient
from regagent.patients.sheet import SheetRow, read_sheet
from regagent.patients.split import split_patients
from regagent.settings import Split

HEADER = "patient\tmr\tct\n"
ROW = "P1\tmr.nii.gz\tct.nii.gz\n"
NAMES = [f"P{number:03d}" for number in range(1, 100)]


def split(tmp_path, names, sheet=None, **keys):
    output = tmp_path / "split.tsv"
    split_patients(names, output, Split(**keys), sheet)
    return read_table(output)


def test_the_papers_split(tmp_path):
    frame = split(tmp_path, NAMES)
    assert sorted(frame["patient"]) == NAMES  # everybody once: nobody is in both sets
    assert (frame["set"] == "train").sum() == 79
    assert (frame["set"] == "test").sum() == 20


def test_initials_that_pandas_takes_for_nothing(tmp_path):
    assert sorted(split(tmp_path, ["NA", "None", "nan", "P1"])["patient"]) == ["NA", "None", "P1", "nan"]


def test_the_seed_decides_and_the_order_does_not(tmp_path):
    one = split(tmp_path, NAMES, seed=1)
    assert one.equals(split(tmp_path, NAMES[::-1], seed=1))
    assert not one.equals(split(tmp_path, NAMES, seed=2))


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_both_sets_have_somebody(tmp_path, fraction):
    assert set(split(tmp_path, NAMES[:2], train_fraction=fraction)["set"]) == {"train", "test"}


def test_too_few_patients(tmp_path):
    with pytest.raises(UserError, match="at least 2"):
        split(tmp_path, ["P001"])
    with pytest.raises(UserError, match="twice"):
        split(tmp_path, ["P001", "P001"])


@pytest.fixture
def sheet(tmp_path):
    for name in ("mr", "ct"):
        (tmp_path / f"{name}.nii.gz").touch()

    def write(text):
        path = tmp_path / "patients.tsv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_good_sheet(sheet, tmp_path):
    path = sheet("patient\tct\tmr\n007\tct.nii.gz\tmr.nii.gz\r\n\nP2\tct.nii.gz\tmr.nii.gz\n")
    files = {name: str(tmp_path / f"{name}.nii.gz") for name in ("mr", "ct")}
    assert read_sheet(path) == [
        SheetRow(row=row, patient=name, **files, transform="", set="")
        for row, name in ((2, "007"), (4, "P2"))
    ]


def test_absolute_paths_and_a_byte_order_mark(sheet, tmp_path):
    path = sheet(f"\ufeffpatient\tmr\tct\nP1\t{tmp_path}/mr.nii.gz\tct.nii.gz\n")
    assert read_sheet(path)[0].mr == str(tmp_path / "mr.nii.gz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("patient\tmr\tct\n", "no patients"),
        ("patient\tmr\nP1\tmr.nii.gz\n", "column 'ct' is missing"),
        ("patient,mr,ct\nP1,mr.nii.gz,ct.nii.gz\n", "tab-separated"),
        ("patient\tmr\tct\nP1\tmr.nii.gz\n", "row 2: 2 columns, expected 3"),
        ("patient\tmr\tct\nP1\tmr.nii.gz\t\n", "row 2: column 'ct' is empty"),
        (f"{HEADER}{ROW}\n{ROW}", "row 4: patient P1 again.*row 2"),
        (f"{HEADER}P1\tmr.nii.gz\tgone.nii.gz\n", "row 2: patient P1: ct file .*gone.nii.gz does not exist"),
        ("patient\tmr\tct\na/b\tmr.nii.gz\tct.nii.gz\n", "row 2: patient 'a/b' cannot name a folder"),
        ("patient\tmr\tct\tset\nP1\tmr.nii.gz\tct.nii.gz\tvalid\n", "row 2: set is 'valid'"),
        ("patient\tmr\tct\nJörg\tmr.nii.gz\tct.nii.gz\n".encode("latin-1"), "not UTF-8"),
    ],
)  # fmt: skip
def test_a_faulty_sheet(sheet, text, message):
    path = sheet(text)
    with pytest.raises(UserError, match=message) as caught:
        read_sheet(path)
    assert str(caught.value).startswith(str(path))


def test_no_sheet(tmp_path):
    with pytest.raises(UserError, match="no such sample sheet"):
        read_sheet(tmp_path / "patients.tsv")


def test_the_sheet_may_fix_the_set(sheet, tmp_path):
    rows = [f"{name}\tmr.nii.gz\tct.nii.gz\t" for name in NAMES[:10]]
    rows[0] += "test"
    rows[1] += "train"
    path = sheet("patient\tmr\tct\tset\n" + "\n".join(rows) + "\n")
    for seed in range(8):
        frame = split(tmp_path, NAMES[:10], path, seed=seed, train_fraction=0.8).set_index("patient")
        assert frame.loc["P001", "set"] == "test"
        assert frame.loc["P002", "set"] == "train"
        assert (frame["set"] == "train").sum() == 8


def test_a_sheet_without_test_patients(sheet, tmp_path):
    path = sheet("patient\tmr\tct\tset\n" + "".join(f"P{k}\tmr.nii.gz\tct.nii.gz\ttrain\n" for k in (1, 2)))
    with pytest.raises(UserError, match="no patient for the test set"):
        split(tmp_path, ["P1", "P2"], path)


@pytest.fixture
def volumes(tmp_path):
    mr, ct, _ = head(shape=(20, 30, 25), spacing=(8.0, 8.0, 8.0))
    sitk.WriteImage(sitk.DICOMOrient(mr, "RAS"), str(tmp_path / "mr.mha"))
    sitk.WriteImage(ct, str(tmp_path / "ct.nrrd"))
    return tmp_path


def bring(folder, mr="mr.mha", ct="ct.nrrd"):
    import_patient("P5", folder / mr, folder / ct, folder / "out/mr.nii.gz", folder / "out/ct.nii.gz")
    return sitk.ReadImage(str(folder / "out/mr.nii.gz")), sitk.ReadImage(str(folder / "out/ct.nii.gz"))


def test_a_patient_is_brought_into_one_orientation(volumes):
    mr, ct = bring(volumes)
    assert np.allclose(mr.GetDirection(), np.eye(3).ravel())
    before = sitk.DICOMOrient(sitk.ReadImage(str(volumes / "mr.mha")), "LPS")
    assert np.allclose(mr.GetOrigin(), before.GetOrigin())
    assert np.array_equal(sitk.GetArrayFromImage(mr), sitk.GetArrayFromImage(before))
    assert sitk.GetArrayFromImage(ct).min() < -900


def test_exchanged_modalities(volumes):
    with pytest.raises(UserError, match="patient P5: .* MR and CT are exchanged"):
        bring(volumes, mr="ct.nrrd", ct="mr.mha")
    with pytest.raises(UserError, match="patient P5: MR and CT are the same file"):
        bring(volumes, mr="ct.nrrd")
    assert not (volumes / "out/ct.nii.gz").exists()
