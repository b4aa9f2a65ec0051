"""What comes with the software, at work on the volumes of a simulated head that it never saw."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from regagent.command.main import main
from regagent.files import OWN, SPACE
from regagent.phantom.scanners import simulate_patient
from regagent.settings import Phantom
from regagent.volumes.moving import moved_by

#: Points in the head, in mm.
POINTS = [(30.0, -40.0, 20.0), (-35.0, 20.0, 40.0), (0.0, 50.0, 60.0), (10.0, -20.0, 80.0)]


#: How the CT lies: turned and shifted in the plane of the slices, or on its side and far away.
MOTIONS = {
    "near": sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.0, 0.0, np.deg2rad(14), (12.0, -7.0, 0.0)),
    "far": sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.3, np.deg2rad(100), -0.4, (60.0, -30.0, 45.0)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An MR of a head, and its CT, moved by its header by each of the ``MOTIONS``."""
    folder = tmp_path_factory.mktemp("head")
    names = ("mr.nii.gz", "ct.nii.gz", "truth.tfm", "tissue.nii.gz")
    still = Phantom(max_translation_mm=0, max_rotation_deg=0)
    simulate_patient("T001", 4711, *(folder / name for name in names), still)
    ct = sitk.ReadImage(folder / "ct.nii.gz")
    for name, motion in MOTIONS.items():
        sitk.WriteImage(moved_by(ct, motion), folder / f"{name}.nii.gz")
    return folder


def registered(folder, moving, *more):
    words = ("--fixed", folder / "mr.nii.gz", "--moving", moving, "--transform-out", folder / "t.tfm", *more)
    code = main(["register", *map(str, words), "--json", str(folder / "r.json")])
    return code, json.loads((folder / "r.json").read_text())


def error_mm(folder, motion):
    """Return how far off the transform is, on average over points of the head."""
    transform = sitk.ReadTransform(folder / "t.tfm")
    errors = [np.subtract(transform.TransformPoint(p), MOTIONS[motion].TransformPoint(p)) for p in POINTS]
    return np.linalg.norm(errors, axis=1).mean()


def test_it_comes_with_the_software_and_is_small():
    assert OWN.stat().st_size < 6e6 and SPACE.stat().st_size < 6e6


@pytest.mark.parametrize(("motion", "more"), [("near", ["--slice"]), ("near", []), ("far", [])])
def test_it_registers_a_head_and_knows_how_well(folder, motion, more):
    code, found = registered(folder, folder / f"{motion}.nii.gz", *more)
    assert code == 0, found["refusal"]
    error = error_mm(folder, motion)
    assert error < found["success_mm"] and found["success_probability"] > 0.5
    assert error < found["error_high_mm"] + 0.5


def test_elastix_goes_on_from_a_head_that_lies_on_its_side(folder):
    code, _ = registered(folder, folder / "far.nii.gz", "--refine")
    assert code == 0 and error_mm(folder, "far") < 1.0


def test_what_is_no_head_is_refused(folder):
    """A ball of water in a shell, as scanners are tested with."""
    axes = np.meshgrid(*3 * [np.arange(-96.0, 97.0, 3.0)], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    values = np.where(radius < 80, np.where(radius < 74, 0, 120), -1000)
    ball = sitk.GetImageFromArray(values.astype(np.int16))
    ball.SetSpacing([3.0] * 3)
    sitk.WriteImage(ball, folder / "ball.nii.gz")
    code, found = registered(folder, folder / "ball.nii.gz", "--trust-values")
    assert code == 3 and found["refusal"] and not found["registered"]


@pytest.mark.parametrize("kind", ["mirrored", "another"])
def test_volumes_that_do_not_belong_together_are_refused(folder, kind):
    """The CT of another head, or the head's own, left and right exchanged, on its side as well."""
    if kind == "another":
        names = ("mr2.nii.gz", "ct2.nii.gz", "truth2.tfm", "tissue2.nii.gz")
        simulate_patient("T002", 4712, *(folder / name for name in names), Phantom())
        ct = sitk.ReadImage(folder / "ct2.nii.gz")
    else:
        still = sitk.ReadImage(folder / "near.nii.gz")
        ct = sitk.GetImageFromArray(sitk.GetArrayFromImage(still)[:, :, ::-1])
        ct.CopyInformation(still)
    sitk.WriteImage(moved_by(ct, MOTIONS["far"]), folder / f"{kind}.nii.gz")
    code, found = registered(folder, folder / f"{kind}.nii.gz")
    assert code == 3 and found["refusal"] and not found["registered"]


def test_slices_that_do_not_belong_together_are_refused(folder):
    ct = sitk.ReadImage(folder / "near.nii.gz")
    turned = sitk.GetImageFromArray(sitk.GetArrayFromImage(ct)[:, ::-1])  # the face where the neck was
    turned.CopyInformation(ct)
    sitk.WriteImage(turned, folder / "turned.nii.gz")
    code, found = registered(folder, folder / "turned.nii.gz", "--slice")
    assert code == 3 and found["refusal"] and not found["registered"]
