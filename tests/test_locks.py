"""Two runs at once in one folder: the same one is refused, another one goes on; what a killed run leaves."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from workflow import copy_workflow, snakemake, write_overlay

VOLUME = "results/{run}/volumes/P001/mr.nii.gz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return copy_workflow(tmp_path_factory.mktemp("locks"))


@pytest.fixture
def running(folder):
    """A run that simulates a patient, in its lock."""
    (folder / VOLUME.format(run="first")).unlink(missing_ok=True)
    shutil.rmtree(folder / "results" / "first" / "logs", ignore_errors=True)
    overlay = write_overlay(folder, {"run": "first", "phantom": {"spacing_mr_mm": 1.0}})
    command = [sys.executable, "-m", "snakemake", VOLUME.format(run="first"), "--configfile", str(overlay)]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list((folder / ".snakemake" / "locks").glob("*")):
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
        time.sleep(0.05)
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # with its jobs
    process.wait()
    process.stdout.close()
    for lock in (folder / ".snakemake" / "locks").glob("*"):
        lock.unlink()


def first(folder, *arguments):
    return snakemake(folder, VOLUME.format(run="first"), "--configfile", folder / "overlay.yaml", *arguments)


def wait_for_job(folder, running):
    while not list((folder / "results" / "first" / "logs").rglob("P001.log")):
        assert running.poll() is None
        time.sleep(0.05)


def test_the_same_run_is_refused_and_another_is_not(folder, running):
    os.killpg(running.pid, signal.SIGSTOP)  # it would be done before a slow machine starts the others
    refused = first(folder)
    assert refused.returncode == 1 and "cannot be locked" in refused.stdout, refused.stdout
    other = folder / "other.yaml"
    other.write_text("{run: other, cohort: {patients: 3}}")
    assert running.poll() is None
    done = snakemake(folder, "results/other/split.tsv", "--configfile", other)
    assert done.returncode == 0, done.stdout
    assert (folder / "results" / "other" / "split.tsv").exists()


def test_a_killed_run_takes_its_jobs_along_asks_to_be_unlocked_and_goes_on(folder, running):
    wait_for_job(folder, running)
    jobs = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not psutil.wait_procs(jobs, timeout=30)[1]
    refused = first(folder)
    assert refused.returncode == 1 and "--unlock" in refused.stdout, refused.stdout
    assert first(folder, "--unlock").returncode == 0
    assert first(folder).returncode == 0
    assert (folder / VOLUME.format(run="first")).exists()


def test_a_terminated_run_needs_nothing(folder, running):
    wait_for_job(folder, running)
    running.send_signal(signal.SIGTERM)  # Snakemake waits for its job
    assert running.wait(120) != 0
    assert first(folder).returncode == 0
