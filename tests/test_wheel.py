"""The wheel: what it holds, and that its command works where no checkout is."""

import os
import shutil
import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import yaml
from agents import export
from markers import grid, make_pair
from workflow import ROOT, copy_workflow

from regagent import __version__

SOURCE = ROOT / "workflow_scripts"
CENTRE = (12.0, -20.0)
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


def run(*words, cwd, **environment):
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: a build leaves folders beside its sources."""
    folder = copy_workflow(tmp_path_factory.mktemp("copy"))
    shutil.copytree(ROOT / "tests", folder / "tests")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.rmtree(folder / "workflow_scripts" / "regagent.egg-info", ignore_errors=True)
    run(*PIP, "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheels", cwd=folder)
    (wheel,) = (folder / "wheels").iterdir()
    return wheel


def test_the_wheel_holds_the_library_and_nothing_else(wheel):
    facts = f"regagent-{__version__}.dist-info/"
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.startswith(facts)}
        metadata = message_from_bytes(archive.read(facts + "METADATA"))
        assert facts + "licenses/LICENSE" in archive.namelist()
    library = {path for path in (SOURCE / "regagent").rglob("*") if path.is_file()}
    expected = {str(path.relative_to(SOURCE)) for path in library if "__pycache__" not in path.parts}
    assert held == expected
    data = {"data/figures.mplstyle", "data/elastix/refine2d.txt", "data/elastix/rigid3d.txt", "py.typed"}
    assert {f"regagent/{name}" for name in data} <= held
    assert (metadata["Name"], metadata["Version"]) == ("regagent", __version__)
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__


def test_the_installed_command_works_far_from_any_checkout(wheel, tmp_path):
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    run(*PIP, "install", "--no-deps", "--no-index", "--target", installed, wheel, cwd=empty)
    alone = {"cwd": empty, "PYTHONPATH": str(installed)}
    place = run(sys.executable, "-c", "import regagent; print(regagent.__file__)", **alone)
    assert Path(place.strip()) == installed / "regagent" / "__init__.py"

    def regagent(*words):
        return run(installed / "bin" / "regagent", *words, **alone)

    assert regagent("--version") == f"regagent {__version__}\n"
    truth = sitk.Similarity2DTransform()
    truth.SetCenter(CENTRE)
    truth.SetTranslation((2.0, -1.5))
    grids = (grid((160, 160), (1.2, 1.2), np.eye(2), CENTRE) for _ in range(2))
    for name, image in zip(("mr", "ct"), make_pair(*grids, truth, np.eye(2), CENTRE), strict=True):
        sitk.WriteImage(image, empty / f"{name}.mha")
    agent = export(tmp_path)  # which stops at once
    said = regagent(
        *("register", "--fixed", "mr.mha", "--moving", "ct.mha", "--model", agent),
        *("--transform-out", "t.tfm", "--warped-out", "w.mha", "--report", "o.png", "--refine"),
    )
    assert "Success estimate of a slice" in said
    assert (empty / "o.png").read_bytes().startswith(b"\x89PNG")
    found = sitk.ReadTransform(empty / "t.tfm")

    (empty / "p.csv").write_text("x,y\n30,-20\n-10.5,40\n")
    regagent("apply", "--transform", "t.tfm", "--points", "p.csv", "--out", "q.csv")
    for row, point in zip(pd.read_csv(empty / "q.csv").to_numpy(), ((30, -20), (-10.5, 40)), strict=True):
        assert row == pytest.approx(found.TransformPoint(point))
        assert row == pytest.approx(truth.TransformPoint(point), abs=1.0)  # Elastix found it, not the agent
    regagent(
        *("apply", "--transform", "t.tfm", "--image", "ct.mha", "--reference", "mr.mha", "--out", "v.mha"),
    )
    laid, warped = (sitk.GetArrayFromImage(sitk.ReadImage(empty / name)) for name in ("v.mha", "w.mha"))
    assert np.array_equal(laid, warped)
