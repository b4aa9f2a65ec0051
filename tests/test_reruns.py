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
EPISODE = {"walk_episode", "draw_episode", "animate_episode"}
TRAININGS = {"train_agent", "train_regressor"}
REGISTRATIONS = {
    *(f"register_{name}" for name in ("initial", "sift", "elastix", "regressor", "agent")),
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
    change_code(library(run, "evaluation/registrations"))
    assert set(counted_jobs(plan(run))) == REGISTRATIONS | EPISODE | TABLES | {"export_agent"}


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
    assert len(named) == 7  # the training, its threshold, with and without look-ahead on E1 and E2, the file
    assert all("SL-matrix" in job for job in named)


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
    one_patient = {"preregister_patient": 1, "select_slices": 1}
    assert {rule: jobs[rule] for rule in one_patient} == one_patient
    assert {job for job in announced_jobs(output) if job.startswith("P0")} == {
        "P002: aligning the CT with the MR in 3D",
        "P002: cutting slice pairs",
    }
    assert set(jobs) == {
        *one_patient,
        *TRAININGS,
        *REGISTRATIONS,
        *EPISODE,
        *TABLES,
        *("export_agent", "perturb_slices", "calibrate_threshold", "summarise_preregistration"),
        *("draw_cohort", "draw_figure5", "draw_training", "draw_calibration"),
    }
