"""Copies of the workflow in folders of their own, and Snakemake run on them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PARTS = ("rules", "config", "profiles", "envs", "workflow_scripts")


def copy_workflow(folder: Path) -> Path:
    """Copy what the pipeline runs on, without results, and return the folder."""
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


def snakemake(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run Snakemake in ``folder``; standard output and error come back together as ``stdout``."""
    environment = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def write_overlay(folder: Path, settings: dict) -> Path:
    """Write a configuration that lies over config.yaml."""
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def counted_jobs(output: str) -> dict[str, int]:
    """Return the number of jobs of each rule that a dry run announces, without ``all``."""
    table = re.search(r"^Job stats:\n.*?^total +\d+$", output, flags=re.DOTALL | re.MULTILINE)
    assert table, output
    rows = re.findall(r"^(\w+) +(\d+)$", table[0], flags=re.MULTILINE)
    return {rule: int(count) for rule, count in rows if rule not in ("all", "total")}


def announced_jobs(output: str) -> set[str]:
    """Return the messages of the jobs that a dry run announces."""
    return set(re.findall(r"^Job \d+: (.+)$", output, flags=re.MULTILINE))
