"""Kills the smoke run at thirty random moments: `make faults`, some twenty minutes.

Snakemake or one of its jobs gets SIGTERM or SIGKILL, or all of them SIGKILL at once as in a power cut; then
the run is started again, unlocked first where Snakemake asks for that. After every kill each file that is
there must be, byte for byte, the file of a run that nobody disturbed, and so must all files be in the end.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import yaml
from workflow import ROOT, copy_workflow

from regagent.files import PARTIAL

KILLS = 30
SEED = 6
#: The longest time that a run is left alone, in seconds.
LONGEST_PEACE = 25.0
START = "--- started ---\n"
#: Written by Snakemake or by the clock: the folder ``state`` holds checkpoints, growing records and curves.
NEVER_THE_SAME = ("logs", "benchmarks", "state", "provenance.json", "provenance.rst")

SETTINGS = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text()) | {"deterministic": True}
for name, variant in SETTINGS["variants"].items():
    variant |= {"checkpoint_seconds": 0.5}
    if name != "pure-SL":
        variant["steps"] *= 8


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start Snakemake as the leader of a process group; what it says is added to run.log."""
    (folder / "overlay.yaml").write_text(yaml.safe_dump(SETTINGS))
    command = [sys.executable, "-m", "snakemake", "--configfile", "overlay.yaml", *arguments]
    with (folder / "run.log").open("a") as log:
        log.write(START)
        log.flush()
        return subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def jobs(run: subprocess.Popen) -> list[psutil.Process]:
    """Return the processes of the run that run a rule's script."""
    try:
        children = psutil.Process(run.pid).children(recursive=True)
        return [child for child in children if ".snakemake/scripts/" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def kill(run: subprocess.Popen, rng: random.Random) -> str:
    """Kill something of the run and return what. Unless it was only a job, wait until Snakemake has ended."""
    victims = jobs(run)
    kinds = ["Snakemake, SIGTERM", "Snakemake, SIGKILL", "everything, SIGKILL"]
    kind = rng.choice(kinds + (["a job, SIGTERM", "a job, SIGKILL"] if victims else []))
    number = signal.SIGTERM if kind.endswith("TERM") else signal.SIGKILL
    if kind.startswith("a job"):
        with suppress(psutil.NoSuchProcess):
            rng.choice(victims).send_signal(number)
        return kind
    if kind.startswith("everything"):
        for process in psutil.Process(run.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    run.send_signal(number)
    run.wait(timeout=300)
    left = psutil.wait_procs(victims, timeout=60)[1]
    assert not left, f"{kind}: its jobs went on: {left}"
    return kind


def outputs(folder: Path) -> dict[str, bytes]:
    """Return the contents of a run's files by their names, without those that are never the same."""
    results = folder / "results" / SETTINGS["run"]
    found = {}
    for path in results.rglob("*"):
        name = path.relative_to(results)
        if name.parts[0] not in NEVER_THE_SAME and not name.name.startswith((PARTIAL, ".snakemake")):
            with suppress(FileNotFoundError, IsADirectoryError):  # a job that goes on may remove it now
                found[str(name)] = path.read_bytes()
    return found


def assert_none_differs(folder: Path, expected: dict[str, bytes], after: str) -> None:
    """Raise ``AssertionError`` naming the files of a run that are not the undisturbed run's."""
    found = outputs(folder)
    different = sorted(name for name, content in found.items() if expected.get(name) != content)
    assert not different, f"after {after}: {len(different)} of {len(found)} files differ: {different[:5]}"


def disturb(folder: Path, expected: dict[str, bytes], kills: int, rng: random.Random) -> Counter:
    """Start the run until it ends well, killing it up to ``kills`` times; return what was killed, counted."""
    killed: Counter = Counter()
    run = start(folder)
    while True:
        try:
            status = run.wait(rng.uniform(2.0, LONGEST_PEACE) if killed.total() < kills else 1800)
        except subprocess.TimeoutExpired:
            kind = kill(run, rng)
            killed[kind] += 1
            assert_none_differs(folder, expected, kind)
            print(f"kill {killed.total()}: {kind}; {len(outputs(folder))} files so far", flush=True)
            if run.poll() is None:
                continue  # the other jobs go on without the one that was killed
        else:
            if status == 0:
                return killed
            if "--unlock" in (folder / "run.log").read_text().rpartition(START)[2]:
                assert start(folder, "--unlock").wait(120) == 0
        run = start(folder)


def main() -> None:
    """Disturb runs until enough kills were survived, and compare each with one that was left alone."""
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as place:
        calm = copy_workflow(Path(place, "calm"))
        started = time.monotonic()
        assert start(calm).wait(1800) == 0, (calm / "run.log").read_text()[-2000:]
        expected = outputs(calm)
        print(f"left alone: {len(expected)} files in {time.monotonic() - started:.0f} s", flush=True)
        killed: Counter = Counter()
        resumed = rounds = 0
        while killed.total() < KILLS:
            folder = copy_workflow(Path(place, f"disturbed{rounds}"))
            killed += disturb(folder, expected, KILLS - killed.total(), rng)
            assert outputs(folder) == expected
            assert start(folder, "--dry-run").wait(120) == 0
            log = (folder / "run.log").read_text()
            assert "Nothing to be done" in log.rpartition(START)[2]
            resumed += log.count("goes on from step")
            rounds += 1
    print(f"{killed.total()} kills of {KILLS} survived in {rounds} runs: {dict(killed)}")
    print(f"trainings that went on from a checkpoint: {resumed}")
    assert resumed, "no kill met a training that had a checkpoint"
    assert killed["a job, SIGTERM"] and killed["a job, SIGKILL"], "no job was killed by itself"


if __name__ == "__main__":
    main()
