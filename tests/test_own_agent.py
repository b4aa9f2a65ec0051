"""The agent that comes with the software, at work on the volumes of a simulated head that it never saw."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from regagent.agent.agent_file import OWN
from regagent.command.main import main
from regagent.phantom.scanners import simulate_patient
from regagent.settings import Phantom

#: Points in the head, in mm.
POINTS = [(30.0, -40.0, 20.0), (-35.0, 20.0, 40.0), (0.0, 50.0, 60.0), (10.0, -20.0, 80.0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An MR and the CT of one head, which its header turns by 14° and shifts in the plane."""
    folder = tmp_path_factory.mktemp("head")
    names = ("mr.nii.gz", "ct.nii.gz", "truth.tfm", "tissue.nii.gz")
    still = Phantom(max_translation_mm=0, max_rotation_deg=0)
    simulate_patient("T001", 4711, *(folder / name for name in names), still)
    moved = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.0, 0.0, np.deg2rad(14), (12.0, -7.0, 0.0))
    sitk.WriteTransform(moved, folder / "moved.tfm")
    ct = sitk.ReadImage(folder / "ct.nii.gz")
    ct.SetOrigin(moved.TransformPoint(ct.GetOrigin()))
    turn = np.reshape(moved.GetMatrix(), (3, 3)) @ np.reshape(ct.GetDirection(), (3, 3))
    ct.SetDirection(turn.ravel())
    sitk.WriteImage(ct, folder / "ct.nii.gz")
    return folder


def registered(folder, moving):
    words = ("--fixed", folder / "mr.nii.gz", "--moving", moving, "--transform-out", folder / "t.tfm")
    code = main(["register", *map(str, words), "--json", str(folder / "r.json")])
    return code, json.loads((folder / "r.json").read_text())


def test_it_comes_with_the_software_and_is_small():
    assert OWN.stat().st_size < 6e6


def test_it_registers_a_head_and_knows_how_well(folder):
    code, found = registered(folder, folder / "ct.nii.gz")
    assert code == 0, found["refusal"]
    transform, truth = (sitk.ReadTransform(folder / f"{name}.tfm") for name in ("t", "moved"))
    errors = [np.subtract(transform.TransformPoint(p), truth.TransformPoint(p)) for p in POINTS]
    error = np.linalg.norm(errors, axis=1).mean()
    assert error < found["success_mm"] and found["success_probability"] > 0.5
    assert error < found["error_high_mm"] + 0.5


def test_it_refuses_what_does_not_belong_together(folder):
    ct = sitk.ReadImage(folder / "ct.nii.gz")
    turned = sitk.GetImageFromArray(sitk.GetArrayFromImage(ct)[:, ::-1])  # the face where the neck was
    turned.CopyInformation(ct)
    sitk.WriteImage(turned, folder / "turned.nii.gz")
    code, found = registered(folder, folder / "turned.nii.gz")
    assert code == 3 and found["refusal"] and not found["registered"]
