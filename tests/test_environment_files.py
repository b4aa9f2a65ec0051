"""The lock file, the conda environment and pyproject.toml name the same packages at the same versions."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution

import yaml
from packaging.requirements import Requirement
from workflow import ROOT


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines):
    return {normalised(name): version for name, version in (line.split("==") for line in lines)}


LOCK = pins(
    line
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
)
CONDA = pins(yaml.safe_load((ROOT / "envs/regagent.yaml").read_text())["dependencies"][-1]["pip"])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = {normalised(Requirement(line).name) for line in PROJECT["dependencies"]}
TOOLS = {
    normalised(Requirement(line).name)
    for group in PROJECT["optional-dependencies"].values()
    for line in group
}


def required(name):
    """Return the packages that an installed package needs here."""
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        return set()
    found = map(Requirement, lines)
    return {
        normalised(line.name) for line in found if line.marker is None or line.marker.evaluate({"extra": ""})
    }


def test_conda_has_the_pins_of_the_lock():
    assert CONDA.items() <= LOCK.items()


def test_what_the_project_names_is_pinned():
    assert CONDA.keys() >= RUNTIME
    assert LOCK.keys() >= RUNTIME | TOOLS


def test_the_pins_are_complete():
    for pinned in (LOCK, CONDA):
        for name in pinned:
            assert required(name) <= pinned.keys(), f"{name} needs more than is pinned"


def test_the_lock_has_nothing_more_than_is_needed():
    needed = RUNTIME | TOOLS
    while more := {other for name in needed for other in required(name)} - needed:
        needed |= more
    assert LOCK.keys() == needed


def test_the_lock_names_versions_only():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line
