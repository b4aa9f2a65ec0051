"""A patient's broken volume stops that patient with one message; the others' files stay."""

import numpy as np
import pytest
import SimpleITK as sitk
from heads import head
from workflow import copy_workflow, snakemake, write_overlay

PATIENTS = ("broken", "headless", "sound")


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
    sitk.WriteImage(only_the_middle(ct, outside=-1000), folder / "headless" / "ct.nii.gz")
    rows = [f"{patient}\t{patient}/mr.nii.gz\t{patient}/ct.nii.gz" for patient in PATIENTS]
    (folder / "patients.tsv").write_text("\n".join(["patient\tmr\tct", *rows]) + "\n")
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
    assert [line for line in said if "patient broken" in line and "mr.nii.gz" in line and "NaN" in line]
    assert [line for line in said if "patient headless" in line and "no head in the slices" in line]


def test_the_other_patients_files_stay(run):
    results = run[0] / "results" / "faults"
    assert (results / "slices" / "sound.npz").exists()
    assert not (results / "slices" / "broken.npz").exists()
    assert not (results / "slices" / "headless.npz").exists()


def test_the_fault_stands_in_the_jobs_log(run):
    log = run[0] / "results" / "faults" / "logs" / "import_patient" / "broken.log"
    assert log.read_text().strip() in messages(run[1])
