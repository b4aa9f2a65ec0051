from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from regagent.baselines import (
    itk_pose,
    refine_registrations,
    register_initial,
    register_sift,
    sift_pose,
)
from regagent.elastix import RegistrationFailed, elastix
from regagent.files import UserError, read_table, write_table
from regagent.geometry import compose, invert, landmark_distance
from regagent.images import warp
from regagent.metrics import POSE
from regagent.settings import Baselines

SIZE = 168
MAP = Path(__file__).parents[1] / "config/elastix/similarity2d.txt"
REFINEMENT = MAP.with_name("refine2d.txt")
POINTS = np.stack(np.meshgrid(np.arange(-48, 49, 12.0), np.arange(-48, 49, 12.0)), -1).reshape(-1, 2)


def face(seed=0):
    """Return a labelled drawing (SIZE, SIZE): a head with parts of random place and tissue."""
    rng = np.random.default_rng(seed)
    tissue = np.zeros((SIZE, SIZE), np.uint8)
    cv2.ellipse(tissue, (84, 84), (52, 66), 0, 0, 360, 1, -1)
    cv2.ellipse(tissue, (84, 84), (46, 60), 0, 0, 360, 2, -1)
    for _ in range(40):
        centre = rng.uniform([50, 38], [118, 130]).astype(int).tolist()
        axes = rng.uniform(2, 9, 2).astype(int).tolist()
        cv2.ellipse(tissue, centre, axes, float(rng.uniform(0, 180)), 0, 360, int(rng.integers(3, 8)), -1)
    return tissue


def shown(tissue, values, seed=1):
    image = cv2.GaussianBlur(np.array(values, np.float32)[tissue], (0, 0), 0.8)
    return np.clip(image + np.random.default_rng(seed).normal(0, 0.01, image.shape), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def mr():
    return shown(face(), [0, 0.9, 0.5, 0.1, 0.8, 0.3, 0.6, 0.2])


@pytest.fixture(scope="module")
def ct():
    return shown(face(), [0, 0.2, 0.3, 0.95, 0.35, 0.7, 0.1, 0.6], seed=2)


@pytest.fixture(scope="module")
def register():
    return elastix(MAP)


@pytest.mark.parametrize("perturbation", [[12.0, -9.0, 20.0, 1.1], [-20.0, 3.0, -28.0, 0.8]])
def test_sift_finds_the_pose_within_a_modality(mr, perturbation):
    pose = sift_pose(mr, warp(mr, perturbation), 0.8, 4)
    assert landmark_distance(pose, perturbation, POINTS) < 0.5
    assert np.allclose(pose, invert(perturbation), atol=0.6)


def test_sift_without_anything_to_match(mr):
    assert sift_pose(mr, np.zeros_like(mr), 0.8, 4) is None
    assert sift_pose(np.zeros_like(mr), mr, 0.8, 4) is None


@pytest.mark.parametrize("perturbation", [[6.0, -4.0, 8.0, 1.05], [-3.0, 7.0, -6.0, 0.9]])
def test_elastix_maps_the_moving_image_onto_the_fixed_one(register, mr, ct, perturbation):
    moving = warp(ct, perturbation)
    pose = itk_pose(register, mr, moving)
    assert landmark_distance(pose, perturbation, POINTS) < 0.5
    assert np.allclose(pose, invert(perturbation), atol=0.6)
    # the pose, not its inverse, restores the aligned image
    assert np.abs(warp(moving, pose) - ct).mean() < 0.3 * np.abs(warp(moving, invert(pose)) - ct).mean()
    assert np.array_equal(pose, itk_pose(register, mr, moving))


def test_elastix_goes_on_from_a_start(mr, ct):
    perturbation, refine = np.array([30.0, -25.0, 60.0, 0.8]), elastix(REFINEMENT)
    moving = warp(ct, perturbation)
    start = compose([1.0, -1.5, 3.0, 1.05], invert(perturbation))
    assert landmark_distance(start, perturbation, POINTS) > 2
    assert landmark_distance(itk_pose(refine, mr, moving, start), perturbation, POINTS) < 0.3


def test_elastix_that_gives_up_is_a_failure(mr):
    def gives_up(fixed, moving):
        raise RegistrationFailed("no samples")

    assert itk_pose(gives_up, mr, mr) is None


def test_elastix_says_why_it_gave_up(register):
    fixed, moving = (sitk.GetImageFromArray(face(seed).astype(np.float32)) for seed in (0, 1))
    moving.SetOrigin((900.0, 900.0))
    with pytest.raises(RegistrationFailed, match="Too many samples map outside"):
        register(fixed, moving)


def test_a_faulty_parameter_map(register, tmp_path):
    path = tmp_path / "map.txt"
    with pytest.raises(UserError, match="map.txt"):
        elastix(path)
    path.write_text('(Transform "BSplineTransform")\n')
    with pytest.raises(UserError, match="map.txt: Transform is BSplineTransform"):
        elastix(path)


@pytest.fixture
def cases(tmp_path, mr):
    blank = np.zeros_like(mr)
    np.savez_compressed(
        tmp_path / "P001.npz",
        patient=np.array("P001"),
        mr=np.stack([mr, mr]),
        ct=np.stack([mr, blank]),
        head=np.ones((2, SIZE, SIZE), bool),
        slice_index=np.arange(2),
        mm_per_px=np.array(1.5),
        landmarks=np.zeros((2, 4, 2), np.float32),
        evaluation_points=np.stack([POINTS, POINTS]).astype(np.float32),
        landmark_source=np.array(["sift", "sift"]),
    )
    frame = pd.DataFrame(
        [[0, "P001", 0, 12.0, -9.0, 20.0, 1.1, 1], [1, "P001", 1, 5.0, 0.0, 0.0, 1.0, 2]],
        columns=["case", "patient", "slice", "tx", "ty", "angle", "scale", "seed"],
    )
    write_table(frame, tmp_path / "E1.csv")
    return tmp_path


def test_failures_stay_where_they_were_and_say_so(cases):
    output = cases / "out.csv"
    register_sift(cases / "E1.csv", [cases / "P001.npz"], output, Baselines())
    table = read_table(output)
    assert table["status"].tolist() == ["registered", "failed"]
    assert table["tre_px"][0] < 0.5
    assert table.loc[1, ["tx", "ty", "angle", "scale"]].tolist() == [0, 0, 0, 1]
    assert table["tre_px"][1] == pytest.approx(5.0)
    assert (table["seconds"] > 0).all()


def test_a_refinement_ends_nearer_and_keeps_steps_and_status(cases):
    columns = {"steps": [40, 500], "status": ["registered", "step_limit"], "seconds": 1.0}
    starts = read_table(cases / "E1.csv").assign(**columns)
    starts.loc[0, POSE] = compose([1.0, 1.0, -2.0, 0.97], invert([12.0, -9.0, 20.0, 1.1]))
    starts.loc[1, POSE] = [-4.0, 0.0, 0.0, 1.0]  # nothing is to be seen there: the start stays
    write_table(starts[::-1], cases / "starts.csv")
    output = cases / "refined.csv"
    inputs = cases / "E1.csv", [cases / "P001.npz"], cases / "starts.csv"
    refine_registrations(*inputs, output, REFINEMENT)
    table = read_table(output)
    assert table["tre_px"][0] < 0.3 and table["tre_px"][1] == pytest.approx(1.0)
    assert table["status"].tolist() == ["registered", "step_limit"] and table["steps"].tolist() == [40, 500]
    assert (table["seconds"] > 1).all()


def test_no_registration(cases):
    output = cases / "out.csv"
    register_initial(cases / "E1.csv", [cases / "P001.npz"], output)
    table = read_table(output)
    assert (table["status"] == "registered").all()
    assert np.allclose(table["tre_px"], table["initial_px"])
    assert np.allclose(table["tre_mm"], 1.5 * table["tre_px"])
