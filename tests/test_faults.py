"""Every fault of a sheet and of its files ends in one message; it stops its patient and nobody else."""

import struct

import numpy as np
import pytest
import SimpleITK as sitk
from heads import head
from scans import write_series
from workflow import copy_workflow, counted_jobs, snakemake, write_overlay

from regagent.files import UserError
from regagent.patients.importing import import_patient
from regagent.patients.preregistration import preregister_patient
from regagent.patients.sheet import read_sheet
from regagent.settings import Preregistration

PATIENTS = ("broken", "headless", "sound")
#: The sound patient's folder: none of this may mean anything to anybody on the way.
ODD = """it's a "sound" patient; $HOME & so on"""


def only_the_middle(image, outside):
    """Leave of a head a piece of 40 mm: enough to align, too small to be a head."""
    values = sitk.GetArrayFromImage(image)
    left = np.zeros(values.shape, bool)
    middle = [
        slice(int(n / 2 - 20 / step), int(n / 2 + 20 / step))
        for n, step in zip(values.shape, image.GetSpacing()[::-1], strict=True)
    ]
    left[tuple(middle)] = True
    result = sitk.GetImageFromArray(np.where(left, values, np.float32(outside)))
    result.CopyInformation(image)
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Snakemake's attempt to cut the slices of a sheet's three patients: the folder and its output."""
    folder = copy_workflow(tmp_path_factory.mktemp("faults"))
    mr, ct, _ = head()
    mr, ct = sitk.Cast(mr, sitk.sitkFloat32), sitk.Cast(ct, sitk.sitkFloat32)
    for patient in PATIENTS:
        (folder / patient).mkdir()
        sitk.WriteImage(ct, folder / patient / "ct.nii.gz")
        sitk.WriteImage(mr, folder / patient / "mr.nii.gz")
    broken = sitk.Image(mr)
    broken[30, 30, 20] = float("nan")
    sitk.WriteImage(broken, folder / "broken" / "mr.nii.gz")
    sitk.WriteImage(only_the_middle(mr, outside=0), folder / "headless" / "mr.nii.gz")
    piece = only_the_middle(ct, outside=-1000)
    piece[40:50, 45:55, 31:39] = 900.0  # a piece of bone
    sitk.WriteImage(piece, folder / "headless" / "ct.nii.gz")
    sitk.WriteTransform(sitk.Euler3DTransform(), folder / "sound" / "known.tfm")
    write_series(ct, folder / "sound" / "the CT", "CT")
    (folder / "sound").rename(folder / ODD)
    rows = [f"{patient}\t{patient}/mr.nii.gz\t{patient}/ct.nii.gz\t" for patient in PATIENTS[:2]]
    rows.append(f"sound\t{ODD}/mr.nii.gz\t{ODD}/the CT\t{ODD}/known.tfm")
    (folder / "patients.tsv").write_text("\n".join(["patient\tmr\tct\ttransform", *rows]) + "\n")
    settings = {
        "run": "faults",
        "cohort": {"source": "sheet", "sheet": "patients.tsv"},
        "preregistration": {"method": "none"},
        "slices": {"count": 3},
    }
    targets = [f"results/faults/slices/{patient}.npz" for patient in PATIENTS]
    return folder, snakemake(folder, *targets, "--configfile", write_overlay(folder, settings))


def messages(result):
    return [line for line in result.stdout.splitlines() if line.startswith("error: ")]


def test_the_run_fails(run):
    assert run[1].returncode != 0
    assert "Traceback" not in run[1].stdout


def test_each_fault_is_one_message_that_names_patient_and_file(run):
    said = messages(run[1])
    assert len(said) == 2, run[1].stdout
    assert [
        line for line in said if "row 2: patient broken" in line and "mr.nii.gz" in line and "NaN" in line
    ]
    assert [line for line in said if "patient headless" in line and "no head in the slices" in line]


def test_the_other_patients_files_stay(run):
    results = run[0] / "results" / "faults"
    assert (results / "slices" / "sound.npz").exists()
    assert not (results / "slices" / "broken.npz").exists()
    assert not (results / "slices" / "headless.npz").exists()


def test_the_fault_stands_in_the_jobs_log(run):
    log = run[0] / "results" / "faults" / "logs" / "import_patient" / "broken.log"
    assert log.read_text().strip() in messages(run[1])


def test_odd_paths_a_folder_and_a_transform_are_taken(run):
    quality = (run[0] / "results/faults/preregistered/sound/quality.json").read_text()
    assert '"method": "transform"' in quality


def test_the_split_waits_for_the_imports_alone(run):
    """The plan of a sheet with capitals, quotes and tabs at the end, in UTF-16 with Windows line ends."""
    rows = [
        "Patient\tMR\tCT\t\t",
        *(f'{name}\t"{name}/mr.nii.gz"\t{name}/ct.nii.gz' for name in PATIENTS[:2]),
    ]
    (run[0] / "other.tsv").write_bytes("\r\n".join(rows).encode("utf-16"))
    settings = {"run": "other", "cohort": {"source": "sheet", "sheet": "other.tsv"}}
    overlay = write_overlay(run[0], settings)
    result = snakemake(run[0], "results/other/split.tsv", "--dry-run", "--configfile", overlay)
    assert counted_jobs(result.stdout) == {"import_patient": 2, "split_patients": 1}


@pytest.fixture(scope="module")
def pair():
    return [sitk.Cast(image, sitk.sitkInt16) for image in head((20, 30, 25), (8.0, 8.0, 8.0))[:2]]


class Patient:
    """A sheet with one patient in a folder, to be broken."""

    def __init__(self, folder, mr, ct):
        self.folder, self.mr, self.ct = folder, mr, ct
        self.columns = {"patient": "P1", "mr": self.write(mr, "mr.nii.gz"), "ct": self.write(ct, "ct.nii.gz")}

    def write(self, image, name):
        sitk.WriteImage(image, str(self.folder / name))
        return name

    def series(self, image, name, modality, series=1, tilt_mm=0.0):
        """Write ten slices as DICOM."""
        write_series(image[:, :, 5:15], self.folder / name, modality, series, tilt_mm)
        return name

    def changed(self, name, offset, layout, value):
        """Change a number in an uncompressed NIfTI header."""
        path = self.folder / self.write(self.mr, name)
        content = bytearray(path.read_bytes())
        struct.pack_into(layout, content, offset, value)
        path.write_bytes(content)
        return name

    def text(self, content, name):
        (self.folder / name).write_text(content)
        return name

    def sheet(self):
        path = self.folder / "patients.tsv"
        path.write_text("\n".join("\t".join(cells) for cells in (self.columns, self.columns.values())) + "\n")
        return path

    def run(self):
        """Do what the pipeline does with this patient until the slices are cut."""
        sheet = self.sheet()
        (row,) = read_sheet(sheet)
        out = {name: self.folder / "out" / f"{name}.nii.gz" for name in ("mr", "ct")}
        import_patient(row.patient, row.mr, row.ct, *out.values(), self.folder / "out" / "voxels.json", sheet)
        results = [self.folder / "out" / name for name in ("aligned.nii.gz", "t.tfm", "q.json", "o.png")]
        preregister_patient(
            row.patient, *out.values(), "", *results, Preregistration(method="none"),
            transform=row.transform or None, sheet=sheet,
        )  # fmt: skip


def with_values(image, values):
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result


def cut_off(patient):
    path = patient.folder / "ct.nii.gz"
    path.write_bytes(path.read_bytes()[:-500])


def not_finite(patient):
    values = sitk.GetArrayFromImage(patient.mr).astype(np.float32)
    values[3, 3, 3] = np.nan
    patient.write(with_values(patient.mr, values), "mr.nii.gz")


def spread(patient):
    image = sitk.Image(patient.mr)
    image.SetSpacing((8.0, 8.0, 80.0))
    patient.write(image, "mr.nii.gz")


def lose_slice(patient):
    patient.columns["ct"] = patient.series(patient.ct, "scan", "CT")
    (patient.folder / "scan" / "1-004.dcm").unlink()


def wide_series(patient):
    image = sitk.Image(patient.mr)
    image.SetSpacing((8.0, 8.0, 80.0))
    return patient.series(image, "scan", "MR")


def double_slice(patient):
    patient.columns["ct"] = patient.series(patient.ct, "scan", "CT")
    content = (patient.folder / "scan" / "1-004.dcm").read_bytes()
    (patient.folder / "scan" / "copy.dcm").write_bytes(content)


def two_series(patient):
    for number in (1, 2):
        patient.columns["ct"] = patient.series(patient.ct, "scan", "CT", number)


def folder(*files):
    def make(patient):
        (patient.folder / "scan").mkdir()
        for name in files:
            patient.text("hello", f"scan/{name}")
        patient.columns["ct"] = "scan"

    return make


def no_intercept(patient):
    patient.write(patient.ct + 1024, "ct.nii.gz")


def no_bone(patient):
    patient.write(sitk.Clamp(patient.ct, upperBound=80), "ct.nii.gz")


def complex_of(image):
    real = sitk.Cast(image, sitk.sitkFloat32)
    return sitk.RealAndImaginaryToComplex(real, real)


def unreadable(patient):
    (patient.folder / "mr.nii.gz").unlink()
    (patient.folder / "mr.nii.gz").symlink_to(
        "/proc/self/mem"
    )  # its first bytes cannot be read, as of a bad disk


def exchange(patient):
    patient.columns |= {"mr": "ct.nii.gz", "ct": "mr.nii.gz"}


def far_off(patient):
    shift = sitk.TranslationTransform(3, (150.0, 0.0, 0.0))
    sitk.WriteTransform(shift, str(patient.folder / "far.tfm"))
    patient.columns["transform"] = "far.tfm"


def flat(patient):
    sitk.WriteTransform(sitk.Euler2DTransform(), str(patient.folder / "flat.tfm"))
    patient.columns["transform"] = "flat.tfm"


def give(column, make):
    return lambda patient: patient.columns.update({column: make(patient)})


# What is done to the patient, and what is said then.
FAULTS = {
    "a truncated gzip": (cut_off, "ct.nii.gz: .*(cut off|not a readable volume)"),
    "a text as gzip": (give("mr", lambda p: p.text("hello", "a.nii.gz")), "a.nii.gz: not a readable volume"),
    "an unknown format": (give("mr", lambda p: p.text("hello", "a.xyz")), "a.xyz: not a readable volume"),
    "a 2D file": (give("mr", lambda p: p.write(p.mr[:, :, 9], "a.nrrd")), "a.nrrd: 2D image, expected a 3D"),
    "a 4D file": (give("mr", lambda p: p.write(sitk.JoinSeries([p.mr] * 2), "a.nrrd")), "a.nrrd: 4D image"),
    "complex pixels": (give("mr", lambda p: p.write(complex_of(p.mr), "a.mha")), "a.mha: 2 values a voxel"),
    "RGB pixels": (
        give("mr", lambda p: p.write(sitk.Compose([p.mr] * 3), "a.mha")),
        "a.mha: 3 values a voxel",
    ),
    "a single slice": (give("mr", lambda p: p.write(p.mr[:, :, :1], "a.mha")), "a.mha: size .* at least 2"),
    "all zeros": (give("mr", lambda p: p.write(p.mr * 0, "a.mha")), "a.mha: empty, every voxel is 0"),
    "a constant": (give("ct", lambda p: p.write(p.ct * 0 - 9, "a.mha")), "a.mha: empty, every voxel is -9"),
    "NaN": (not_finite, "mr.nii.gz: holds NaN"),
    "huge spacing": (spread, "mr.nii.gz: spacing .*80.* mm, expected 0.05 to 20"),
    "zero spacing": (give("mr", lambda p: p.changed("a.nii", 84, "<f", 0.0)), "a.nii: spacing .* mm, expec"),
    "a missing DICOM slice": (lose_slice, "scan: slices are missing .* 1-003.dcm and 1-005.dcm are 6.00 mm"),
    "a doubled DICOM slice": (double_slice, "scan: .*1-004.dcm.* lie at one place"),
    "a tilted gantry": (
        give("ct", lambda p: p.series(p.ct, "scan", "CT", 1, 0.9)),
        "scan: slices are shifted",
    ),
    "two series": (two_series, "scan: 2 DICOM series .*CT 1, 10 files.*CT 2, 10 files"),
    "an MR's series as CT": (give("ct", lambda p: p.series(p.mr, "scan", "MR")), "scan: .* modality MR"),
    "one DICOM slice": (give("mr", lambda p: p.series(p.mr[:, :, :6], "scan", "MR")), "scan: one slice only"),
    "a wide-spaced series": (give("mr", wide_series), "scan: spacing .*80.* mm, expected 0.05 to 20"),
    "a series of one value": (
        give("ct", lambda p: p.series(p.ct * 0 - 9, "scan", "CT")),
        "scan: empty, every voxel is -9",
    ),
    "an empty folder": (folder(), "scan: no DICOM series in this folder"),
    "a folder without DICOM": (folder("a.txt"), "scan: no DICOM series in this folder"),
    "one file as both": (lambda p: p.columns.update(mr="ct.nii.gz"), "MR and CT are the same file .*ct.nii"),
    "one image as both": (give("mr", lambda p: p.write(p.ct, "a.nrrd")), "hold the same image: .*a.nrrd"),
    "MR and CT exchanged": (
        exchange,
        "ct.nii.gz looks like a CT, .*mr.nii.gz does not: .* exchanged",
    ),
    "a CT as the MR": (
        give("mr", lambda p: p.write(p.ct + 1, "a.nrrd")),
        "a.nrrd looks like a CT, expec",
    ),
    "a CT without its intercept": (no_intercept, "ct.nii.gz: its values go from -.* air below -500"),
    "a CT without bone": (no_bone, "ct.nii.gz: its values go from .* to 80, expected .* bone"),
    "a file that cannot be read": (unreadable, "mr.nii.gz: Input/output error"),
    "a missing file": (lambda p: p.columns.update(mr="gone.mha"), "mr file .*gone.mha does not exist"),
    "a path with braces": (
        give("mr", lambda p: p.write(p.mr, "{a}.mha")),
        "{a}.mha has { or } .* rename the file",
    ),
    "a missing transform": (lambda p: p.columns.update(transform="gone.tfm"), "gone.tfm does not exist"),
    "a 2D transform": (flat, "transform .*flat.tfm: maps points in 2D, expected 3D"),
    "no transform": (
        give("transform", lambda p: p.text("hello", "a.tfm")),
        "a.tfm: not a transform that ITK reads",
    ),
    "a transform to elsewhere": (far_off, r"failed \(transform\): the heads .* overlap by 0\."),
    "a set of its own": (lambda p: p.columns.update(set="valid"), "set is 'valid', expected train, test"),
    "a name with a slash": (lambda p: p.columns.update(patient="a/b"), "patient 'a/b' cannot name a folder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_patient_is_named_by_row_and_file(tmp_path, pair, fault):
    patient = Patient(tmp_path, *pair)
    break_it, message = FAULTS[fault]
    break_it(patient)
    with pytest.raises(UserError, match=message) as caught:
        patient.run()
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'patients.tsv'}, row 2: ") and "\n" not in said
    assert not (tmp_path / "out" / "aligned.nii.gz").exists()


def test_a_sound_patient_has_no_fault(tmp_path, pair):
    Patient(tmp_path, *pair).run()
    assert (tmp_path / "out" / "aligned.nii.gz").exists()


SHEETS = {
    "empty": ("", "the sheet is empty"),
    "only a header": ("patient\tmr\tct\n", "no patients, only a header"),
    "without a column": ("patient\tmr\nP1\tmr.nii.gz\n", "column 'ct' is missing"),
    "with commas": ("patient,mr,ct\nP1,mr.nii.gz,ct.nii.gz\n", "separated by commas, expected tabs"),
    "with a column that nobody knows": (
        "patient\tmr\tct\ttranform\nP1\tmr.nii.gz\tct.nii.gz\t\n",
        "column 'tranform' is not known; expected .*transform",
    ),
    "with a column twice": (
        "patient\tmr\tct\tmr\nP1\tmr.nii.gz\tct.nii.gz\tmr.nii.gz\n",
        "column 'mr' stands there twice",
    ),
    "with a patient twice": (
        "patient\tmr\tct\n" + "P1\tmr.nii.gz\tct.nii.gz\n" * 2,
        "row 3: patient P1 again, first named in row 2",
    ),
    "in Latin-1": ("patient\tmr\tct\nJörg\tmr.nii.gz\tct.nii.gz\n".encode("latin-1"), "not a text in UTF-8"),
    "in UTF-16 without its mark": (
        "patient\tmr\tct\nP1\tmr.nii.gz\tct.nii.gz\n".encode("utf-16-le"),
        "not a text in UTF-8",
    ),
}


@pytest.mark.parametrize("sheet", SHEETS)
def test_a_faulty_sheet_is_named(tmp_path, sheet):
    for name in ("mr", "ct"):
        (tmp_path / f"{name}.nii.gz").touch()
    content, message = SHEETS[sheet]
    path = tmp_path / "patients.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        read_sheet(path)
    assert str(caught.value).startswith(str(path))
