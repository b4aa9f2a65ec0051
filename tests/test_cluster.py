"""The profile for SLURM: every rule has its time, and small jobs share a submission. It needs no SLURM."""

import re

import yaml
from workflow import ROOT, copy_workflow, counted_jobs, snakemake

FOLDER = "config/profiles/slurm"
PROFILE = yaml.safe_load((ROOT / FOLDER / "config.yaml").read_text())
RULES = {
    name
    for path in (ROOT / "rules").glob("*.smk")
    for name in re.findall(r"^ *rule (\w+):", path.read_text(), flags=re.MULTILINE)
}


def test_every_rule_has_its_time_and_its_memory():
    assert PROFILE["set-resources"].keys() == RULES
    assert all(resources["runtime"] > 0 for resources in PROFILE["set-resources"].values())
    text = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    assert len(re.findall(r"mem_mb=\d+", text)) == len(RULES)


def test_a_gpu_is_asked_for_by_trainings_alone():
    asking = {rule for rule, resources in PROFILE["set-resources"].items() if resources.get("gpu")}
    assert asking == {"train_agent", "train_regressor"} and not asking & PROFILE["groups"].keys()


def test_the_groups_are_of_rules():
    assert PROFILE["groups"].keys() <= RULES
    assert PROFILE["group-components"].keys() <= set(PROFILE["groups"].values())


def test_the_papers_run_is_some_hundred_submissions(tmp_path):
    """docs/running.md tells their number, and how to count them."""
    told = re.search(
        r"the paper's (\d+) jobs are (\d+)\s+submissions", (ROOT / "docs/running.md").read_text()
    )
    result = snakemake(
        copy_workflow(tmp_path),
        "--dry-run",
        *("--workflow-profile", FOLDER),
        *("--configfile", "config/paper.yaml"),
    )
    assert result.returncode == 0, result.stdout
    jobs = sum(counted_jobs(result.stdout).values())
    assert told and [jobs, len(re.findall(r"^\[", result.stdout, flags=re.MULTILINE))] == [
        *map(int, told.groups())
    ]
