"""After a change runs what depends on it, and nothing else.

Only the plan is under test. The finished run is made by Snakemake's ``--touch``: empty files in the places of
the outputs, and Snakemake's own records of the parameters that they were made with.
"""

import ast
import os
import shutil

import pytest
from workflow import announced_jobs, copy_workflow, counted_jobs, snakemake

CONFIG = ("--configfile", "config/smoke.yaml")
FACE = {"write_provenance"}
COMPARISONS = {f"draw_{name}" for name in ("capture_range", "error_distribution", "accuracy_time")}
TABLES = {
    *("make_table2", "make_table2_statistics", "make_case_table", "make_claims", "write_results"),
    *("write_summary", "draw_figure4", "draw_worst_cases"),
    *COMPARISONS,
    *FACE,
}
WIDE = {"draw_rotation_range"}
EPISODE = {"walk_episode", "draw_episode", "animate_episode"}
VOLUMES = {
    *("register_volumes", "register_volumes_by_networks", "make_volume_table"),
    *("join_networks", "draw_volume_range", "draw_volume_episode"),
}
TRAININGS = {"train_agent", "train_regressor"}
REGISTRATIONS = {
    *(
        f"register_{name}"
        for name in ("initial", "sift", "elastix", "regressor", "agent", "memoryless", "fine")
    ),
    *(f"register_{name}" for name in ("multistart", "search", "simpleitk")),
    "refine_registrations",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = copy_workflow(tmp_path_factory.mktemp("finished"))
    listing = snakemake(folder, "--summary", *CONFIG).stdout
    for line in listing.splitlines():
        if line.startswith("results/"):
            path = folder / line.split("\t")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    result = snakemake(folder, "--touch", "--forceall", *CONFIG)
    assert result.returncode == 0, result.stdout
    return folder


@pytest.fixture
def run(finished):
    """The finished run, with its sources put back afterwards."""
    yield finished
    for part in ("config", "workflow_scripts"):
        shutil.rmtree(finished / part)
    fresh = copy_workflow(finished / "fresh")
    for part in ("config", "workflow_scripts"):
        shutil.move(fresh / part, finished / part)
    shutil.rmtree(fresh)


def plan(folder):
    result = snakemake(folder, "--dry-run", *CONFIG)
    assert result.returncode == 0, result.stdout
    return result.stdout


def assert_nothing_to_do(output):
    assert "Nothing to be done" in output, output


def library(folder, module):
    return folder / "workflow_scripts" / "regagent" / f"{module}.py"


def change_code(path):
    """Add a statement to every function of a module."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body.append(ast.Pass())
    path.write_text(ast.unparse(tree))


def test_a_comment_in_the_library_reruns_nothing(run):
    for path in (run / "workflow_scripts").rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path.name} has no docstring"
        head = '"""Another docstring."""\n\n# A comment.\n'
        lines = path.read_text().splitlines(keepends=True)
        path.write_text(head + "".join(lines[tree.body[0].end_lineno :]))
    assert_nothing_to_do(plan(run))


def test_the_metrics_rerun_the_evaluation_and_the_tables(run):
    change_code(library(run, "evaluation/measuring"))
    assert set(counted_jobs(plan(run))) == REGISTRATIONS | EPISODE | TABLES | WIDE | {"export_agent"}


def test_a_figure_reruns_itself(run):
    change_code(library(run, "figures/training"))
    assert set(counted_jobs(plan(run))) == {"draw_figure5", "draw_training", "draw_calibration", *FACE}


def test_one_variants_hyperparameter_reruns_its_chain(run):
    path = run / "config" / "smoke.yaml"
    text = path.read_text()
    assert "SL-matrix: {" in text
    path.write_text(text.replace("SL-matrix: {", "SL-matrix: {learning_rate: 0.002, "))
    output = plan(run)
    jobs = counted_jobs(output)
    assert set(jobs) == {
        *("train_agent", "calibrate_threshold", "register_agent", "export_agent"),
        *("draw_training", "draw_calibration", *TABLES),
    }
    assert jobs["train_agent"] == jobs["calibrate_threshold"] == 1
    named = {job for job in announced_jobs(output) if "seed" in job}
    assert len(named) == 5  # the training, its threshold, E1 and E2, the file
    assert all("SL-matrix" in job for job in named)


def test_a_given_threshold_trains_nothing_anew(run):
    path = run / "config" / "smoke.yaml"
    text = path.read_text()
    path.write_text(
        text.replace("SL-matrix: {", "SL-matrix: {thresholds: {greedy: -0.05, lookahead: -0.1}, ")
    )
    jobs = counted_jobs(plan(run))
    assert "train_agent" not in jobs and jobs["calibrate_threshold"] == jobs["export_agent"] == 1
    assert jobs["register_agent"] == 2


def test_one_patients_volume_reruns_the_patient_and_what_learns_from_it(run):
    volume = run / "results" / "smoke" / "volumes" / "P002" / "mr.nii.gz"
    before = volume.stat()
    volume.write_bytes(b"another volume")
    try:
        output = plan(run)
    finally:
        volume.write_bytes(b"")
        os.utime(volume, ns=(before.st_atime_ns, before.st_mtime_ns))
    jobs = counted_jobs(output)
    one_patient = {"preregister_patient": 1, "select_slices": 1, "cut_cube": 1}
    assert {rule: jobs[rule] for rule in one_patient} == one_patient
    assert {job for job in announced_jobs(output) if job.startswith("P0")} == {
        "P002: aligning the CT with the MR in 3D",
        "P002: cutting slice pairs",
        "P002: cutting cubes",
    }
    assert set(jobs) == {
        *one_patient,
        *TRAININGS,
        *REGISTRATIONS,
        *EPISODE,
        *TABLES,
        *WIDE,
        *VOLUMES,
        *("export_agent", "perturb_slices", "first_perturbations", "calibrate_threshold", "calibrate_trust"),
        *("summarise_preregistration", "draw_cohort", "draw_figure5", "draw_training", "draw_calibration"),
        "draw_training_pairs",
    }


SHEET = ("--configfile", "sheet.yaml")
VOXELS = bytes(range(24))
MHD = "NDims = 3\nDimSize = 2 3 4\nElementSpacing = 1 1 1\nElementType = MET_UCHAR\nElementDataFile = {}\n"
NHDR = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 3 4\nencoding: raw\ndata file: {}\n"

#: By patient, the files of the MR, each with its content, and the one of them that is another one later.
SCANS = {
    "same": ({"same.nii.gz": b"same"}, None),
    "file": ({"file.nii.gz": b"file"}, "file.nii.gz"),
    "folder": ({"folder/1.dcm": b"1", "folder/2.dcm": b"2"}, "folder/2.dcm"),
    "raw": ({"raw.mhd": MHD.format("data/v.raw").encode(), "data/v.raw": VOXELS}, "data/v.raw"),
    "list": (
        {"l.mhd": MHD.format("LIST\nl1.raw\nl2.raw").encode(), "l1.raw": VOXELS[:12], "l2.raw": VOXELS[12:]},
        "l2.raw",
    ),
    "series": (
        {"s.mhd": MHD.format("s%d.raw 1 2 1").encode(), "s1.raw": VOXELS[:12], "s2.raw": VOXELS[12:]},
        "s2.raw",
    ),
    "nhdr": ({"n.nhdr": NHDR.format("n.bin").encode(), "n.bin": VOXELS}, "n.bin"),
    "absent": ({"a.mhd": MHD.format("a.raw").encode(), "a.raw": VOXELS}, "a.raw"),
}


def overwrite(path):
    """Overwrite a file in place by as many bytes, and date it to the day before, as ``rsync -a`` may."""
    status = path.stat()
    path.write_bytes(bytes(len(path.read_bytes())))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 86_400_000_000_000))


def test_a_changed_scan_or_transform_of_a_sheet_is_imported_again(tmp_path):
    folder = copy_workflow(tmp_path)
    rows = ["patient\tmr\tct\ttransform"]
    for patient, (files, _) in SCANS.items():
        for name, content in {**files, f"{patient}-ct.nii": b"ct"}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        mr = patient if patient == "folder" else next(iter(files))
        rows.append(f"{patient}\t{mr}\t{patient}-ct.nii\t{'same.tfm' if patient == 'same' else ''}")
    (folder / "same.tfm").write_text("a transform")
    (folder / "patients.tsv").write_text("\n".join(rows))
    (folder / "sheet.yaml").write_text("run: own\ncohort: {source: sheet, sheet: patients.tsv}\n")
    targets = [f"results/own/preregistered/{patient}/transform.tfm" for patient in SCANS]
    outputs = ["volumes/{}/mr.nii.gz", "volumes/{}/ct.nii.gz", "volumes/{}/voxels.json"]
    outputs += [f"preregistered/{{}}/{name}" for name in ("ct.nii.gz", "transform.tfm", "quality.json")]
    for output in [*outputs, "preregistered/{}/overlay.png"]:
        for patient in SCANS:
            path = folder / "results" / "own" / output.format(patient)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    result = snakemake(folder, *targets, "--touch", "--forceall", *SHEET)
    assert result.returncode == 0, result.stdout
    assert_nothing_to_do(snakemake(folder, *targets, "--dry-run", *SHEET).stdout)
    changed = {patient: folder / name for patient, (_, name) in SCANS.items() if name}
    for patient, path in changed.items():
        if patient == "absent":
            path.unlink()
        else:
            overwrite(path)
    overwrite(folder / "same.tfm")
    output = snakemake(folder, *targets, "--dry-run", *SHEET).stdout
    imported = {job.partition(":")[0] for job in announced_jobs(output) if "reading and checking" in job}
    assert imported == set(changed), output
    assert "same: aligning the CT with the MR in 3D" in announced_jobs(output)
