"""The smoke run on a real SLURM: `make cluster_check`, as root on Debian, ten to twenty minutes.

It installs Debian's ``slurm-wlm`` and ``munge`` if there is no SLURM, starts a cluster of this one machine,
and stops it in the end. A run with ``config/profiles/slurm`` is held against one without a cluster: SLURM
cancels a training, the process of another one is killed, then Snakemake itself; the run is started again, and
in the end every file must be the same, byte for byte.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import pandas as pd
import psutil
import yaml
from kill_check import SETTINGS, START, assert_none_differs, outputs, start
from workflow import copy_workflow

CONF = Path("/etc/slurm/slurm.conf")  # elsewhere srun does not find it
PROFILE = Path("config", "profiles", "slurm", "config.yaml")
#: What a cluster of this one machine needs beside the profile: it has no GPU, keeps no accounts and is quick.
HERE = {"cores": 2, "slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 3}
#: Fewer rows than the smoke run has: to SLURM a job is like another.
METHODS = "Initial Elastix pure-SL CNN-LME RL-LME RL-LME-MC"
SETTINGS |= {"methods": METHODS.split(), "slow_methods": [], "wide_methods": [], "volumes": {}}
LONGEST = 900.0


def run(*command: str) -> str:
    """Run a command, and return what it prints. Raises ``CalledProcessError`` if it fails."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def wait_until(done: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until ``done`` returns something. Raises ``AssertionError`` naming ``what`` if it takes longer."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"waited for {seconds:.0f} s: {what}"
        time.sleep(0.2)


def answers(*command: str, words: str = "") -> bool:
    """Return whether a command succeeds and prints these words."""
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.returncode == 0 and words in done.stdout


@contextmanager
def daemon(*command: str) -> Iterator[None]:
    """Run a program in the background while the body runs."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def slurm(place: Path) -> Iterator[None]:
    """Run a cluster of this one machine while the body runs."""
    if os.geteuid():
        sys.exit("error: a cluster can be started by root alone")
    if CONF.exists():
        sys.exit(f"error: {CONF}: this machine has a SLURM of its own")
    if not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-qq", "--no-install-recommends", "slurm-wlm", "munge")
    node = re.sub(r"CPUs=\d+ .*", f"CPUs={min(2, os.cpu_count() or 1)}", run("slurmd", "-C").splitlines()[0])
    memory = psutil.virtual_memory().total // 2**20 * 9 // 10
    settings = {
        "ClusterName": "check",
        "SlurmctldHost": os.uname().nodename.partition(".")[0],
        "SlurmUser": "root",
        "StateSaveLocation": place / "state",
        "SlurmdSpoolDir": place / "spool",
        "SlurmctldPidFile": place / "slurmctld.pid",
        "SlurmdPidFile": place / "slurmd.pid",
        "SlurmctldLogFile": place / "slurmctld.log",
        "SlurmdLogFile": place / "slurmd.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "MinJobAge": 3600,  # squeue shall know of ended jobs
        "ReturnToService": 2,
        "SchedulerParameters": "batch_sched_delay=1,sched_interval=2",
    }
    lines = [f"{key}={value}" for key, value in settings.items()]
    lines += [f"{node} RealMemory={memory}", "PartitionName=all Nodes=ALL Default=YES", ""]
    with ExitStack() as stack:
        if not answers("sh", "-c", "munge -n | unmunge"):
            run("install", "-d", "-o", "munge", "-g", "munge", "/run/munge")
            stack.enter_context(daemon("runuser", "-u", "munge", "--", "munged", "--foreground"))
            wait_until(lambda: answers("sh", "-c", "munge -n | unmunge"), "munged to answer")
        stack.callback(CONF.unlink)
        CONF.write_text("\n".join(lines))
        stack.enter_context(daemon("slurmctld", "-D", "-c"))
        stack.enter_context(daemon("slurmd", "-D"))
        wait_until(lambda: answers("sinfo", "-ho", "%T", words="idle"), "SLURM's node to be idle")
        try:
            yield
        finally:
            run("scancel", "--user", "root")
            wait_until(lambda: not run("squeue", "-h"), "SLURM's jobs to end")


def running(rule: str) -> list[str]:
    """Return the numbers of SLURM's jobs of a rule that run now."""
    lines = [line.split("|") for line in run("squeue", "-ht", "RUNNING", "-o", "%i|%k").splitlines()]
    return [number for number, comment in lines if comment.startswith(f"rule_{rule}")]


def scripts(job: str) -> list[psutil.Process]:
    """Return the processes of a job of SLURM that run a rule's script."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        environment, command = process.info["environ"] or {}, process.info["cmdline"] or []
        if environment.get("SLURM_JOB_ID") == job and any(".snakemake/scripts/" in part for part in command):
            found.append(process)
    return found


def overheads(folder: Path, log: str) -> list[float]:
    """Return for each training what SLURM's job took beside the training's own seconds."""
    benchmarks = folder / "results" / SETTINGS["run"] / "benchmarks"
    found = []
    for variant, seed, number in re.findall(r"rule_train_agent/(\S+)_(\d+)/(\d+)\.log", log):
        facts = dict(re.findall(r"(\w+)=(\S+)", run("scontrol", "--oneliner", "show", "job", number)))
        if facts["JobState"] == "COMPLETED":
            hours, minutes, seconds = map(int, facts["RunTime"].split(":"))
            own = pd.read_csv(benchmarks / "train_agent" / f"{variant}-seed{seed}.tsv", sep="\t")["s"][0]
            found.append(hours * 3600 + minutes * 60 + seconds - own)
    return found


def profile_here(folder: Path) -> None:
    """Give the profile of a copy of the workflow what a cluster of this one machine needs."""
    profile = yaml.safe_load((folder / PROFILE).read_text()) | HERE
    for resources in profile["set-resources"].values():
        resources.pop("gpu", None)
    (folder / PROFILE).write_text(yaml.safe_dump(profile))


class Run:
    """A run with the profile of the cluster, in a copy of the workflow."""

    def __init__(self, folder: Path):
        self.folder = copy_workflow(folder)
        profile_here(folder)
        self.arguments = ("--workflow-profile", str(PROFILE.parent))
        self.process = start(folder, *self.arguments)

    def said(self) -> str:
        """Return what Snakemake said so far, on the screen and in its logs."""
        logs = sorted((self.folder / ".snakemake" / "log").glob("*.log"))
        return "".join(path.read_text() for path in (self.folder / "run.log", *logs))

    def trainings(self) -> list[str]:
        """Return the jobs of SLURM that train an agent and have a process, once there is a checkpoint."""
        assert self.process.poll() is None, self.said()[-3000:]
        states = (self.folder / "results" / SETTINGS["run"] / "state").glob("*/*/state.pt")
        return [job for job in running("train_agent") if scripts(job)] if any(states) else []

    def see_the_end_of(self, job: str) -> None:
        """Wait until Snakemake takes note that a job of SLURM has failed; its log must be there."""
        wait_until(lambda: f"'{job}' failed" in self.said(), f"Snakemake to see the end of job {job}")
        assert list((self.folder / ".snakemake" / "slurm_logs").rglob(f"{job}.log")), f"no log of job {job}"

    def end(self) -> None:
        """Kill Snakemake, and cancel the jobs that it leaves, as docs/running.md says."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        left = run("squeue", "-ht", "RUNNING", "-o", "%i").split()
        run("scancel", "--user", "root")
        wait_until(lambda: not run("squeue", "-h"), "the cancelled jobs to end")
        print(f"Snakemake killed; jobs {' '.join(left)} went on, and were cancelled", flush=True)

    def resume(self) -> None:
        """Start it again, and wait for its end."""
        assert start(self.folder, *self.arguments).wait(60) != 0 and "--unlock" in self.said()
        assert start(self.folder, *self.arguments, "--unlock").wait(60) == 0
        assert start(self.folder, *self.arguments).wait(LONGEST) == 0, self.said()[-3000:]


def main() -> None:
    """Run the pipeline on a cluster, disturb it, and compare it with a run that was left alone."""
    with tempfile.TemporaryDirectory() as place, slurm(Path(place)):
        calm = copy_workflow(Path(place, "calm"))
        began = time.monotonic()
        assert start(calm).wait(LONGEST) == 0, (calm / "run.log").read_text()[-2000:]
        expected = outputs(calm)
        print(f"without a cluster: {len(expected)} files in {time.monotonic() - began:.0f} s", flush=True)

        began = time.monotonic()
        cluster = Run(Path(place, "cluster"))
        wait_until(cluster.trainings, "a training that has a checkpoint", LONGEST)
        cancelled = cluster.trainings()[0]
        run("scancel", cancelled)
        print(f"job {cancelled}, a training: cancelled", flush=True)
        wait_until(lambda: set(cluster.trainings()) - {cancelled}, "another training", LONGEST)
        killed = next(job for job in cluster.trainings() if job != cancelled)
        scripts(killed)[0].kill()
        print(f"job {killed}, a training: its process killed", flush=True)
        for job in (cancelled, killed):
            cluster.see_the_end_of(job)
        wait_until(lambda: "Trying to restart job" in cluster.said(), "Snakemake to submit one once more")
        wait_until(cluster.trainings, "the next training", LONGEST)
        cluster.end()
        assert_none_differs(cluster.folder, expected, "Snakemake's end")
        cluster.resume()
        print(f"on the cluster: {time.monotonic() - began:.0f} s", flush=True)

        assert outputs(cluster.folder) == expected
        assert start(cluster.folder, "--dry-run").wait(120) == 0
        assert "Nothing to be done" in (cluster.folder / "run.log").read_text().rpartition(START)[2]
        logs = cluster.folder / "results" / SETTINGS["run"] / "logs" / "train_agent"
        resumed = sum("goes on from step" in path.read_text() for path in logs.iterdir())
        assert resumed, "no training went on from its checkpoint"
        submitted = len(set(re.findall(r"submitted with SLURM jobid (\d+)", cluster.said())))
        print(f"{len(expected)} files are the same; {submitted} jobs submitted, {resumed} trainings resumed")
        seconds = median(overheads(cluster.folder, cluster.said()))
        print(f"beside its own seconds a job of SLURM takes {seconds:.0f} s")


if __name__ == "__main__":
    main()
