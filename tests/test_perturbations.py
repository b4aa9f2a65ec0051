import numpy as np
import pandas as pd
import pytest
import torch

from regagent.files import UserError, read_table, write_table
from regagent.geometry import invert
from regagent.images import warp
from regagent.pairs import perturbations
from regagent.pairs.perturbations import (
    first_perturbations,
    perturb_slices,
    perturbed_pairs,
    poses_on_the_way,
    sample_perturbations,
    stream_seed,
)
from regagent.pairs.slices import read_cohort
from regagent.settings import Perturbations

SETTINGS = Perturbations(per_slice=16)

#: The first case of the paper's sets: tx, ty, angle, scale, seed.
DRAWN = {"E1": [19.0, 16.0, 21.0, 1.2, 832319776], "E2": [16.0, -27.0, 42.0, 1.2, 1215811201]}


@pytest.mark.parametrize(
    ("name", "shift", "angle"),
    [("E1", 25, 30), ("E2", 30, 45), ("wide", 30, 90)],
)
def test_every_step_of_the_lattice_is_drawn_equally_often(name, shift, angle):
    drawn = sample_perturbations(np.random.default_rng(0).random((60_000, 4)), getattr(SETTINGS, name))
    expected = [
        np.arange(-shift, shift + 1.0),
        np.arange(-shift, shift + 1.0),
        np.arange(-angle, angle + 1.0),
        np.array([0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25]),
    ]
    for column, values in zip(drawn.T, expected, strict=True):
        found, counts = np.unique(column, return_counts=True)
        assert found.tolist() == values.tolist()
        assert np.abs(counts / counts.mean() - 1).max() < 0.2


def test_tensors_give_what_arrays_give():
    uniform = np.random.default_rng(0).random((50, 4))
    tensors = sample_perturbations(torch.from_numpy(uniform), SETTINGS.E1)
    assert np.array_equal(tensors.numpy(), sample_perturbations(uniform, SETTINGS.E1))


def test_seeds_differ_and_fit():
    seeds = {
        stream_seed(7, name, patient, k)
        for name in ("E1", "E2")
        for patient in ("P1", "P2")
        for k in range(9)
    }
    assert len(seeds) == 36
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.fixture
def cohort(tmp_path):
    def write(sets):
        for patient in sets:
            np.savez_compressed(
                tmp_path / f"{patient}.npz",
                patient=np.array(patient),
                mr=np.zeros((3, 8, 8), np.float32),
                ct=np.random.default_rng(0).random((3, 8, 8), np.float32),
                head=np.ones((3, 8, 8), bool),
                tissue=np.zeros((3, 8, 8), np.uint8),
                slice_index=np.arange(3),
                mm_per_px=np.array(1.5),
                landmarks=np.zeros((3, 4, 2), np.float32),
                evaluation_points=np.zeros((3, 4, 2), np.float32),
                landmark_source=np.array(["sift"] * 3),
            )
        split = tmp_path / "split.tsv"
        write_table(pd.DataFrame({"patient": list(sets), "set": list(sets.values())}), split)
        return [tmp_path / f"{patient}.npz" for patient in sets], split

    return write


def cases(cohort, sets, output, name="E1"):
    slices, split = cohort(sets)
    perturb_slices(slices, split, output, SETTINGS, name)
    return read_table(output)


def test_test_patients_only_each_slice_alike(cohort, tmp_path):
    frame = cases(cohort, {"P001": "test", "P002": "train", "P003": "test"}, tmp_path / "E1.csv")
    assert list(frame.columns) == ["case", "patient", "slice", "tx", "ty", "angle", "scale", "seed"]
    assert frame["case"].tolist() == list(range(2 * 3 * 16))
    assert set(frame["patient"]) == {"P001", "P003"}
    assert (frame.groupby(["patient", "slice"]).size() == 16).all()
    assert (frame.groupby(["patient", "slice"])["seed"].nunique() == 1).all()
    row = frame[(frame["patient"] == "P003") & (frame["slice"] == 2)]
    again = sample_perturbations(np.random.default_rng(row["seed"].iloc[0]).random((16, 4)), SETTINGS.E1)
    assert np.array_equal(row[["tx", "ty", "angle", "scale"]].to_numpy(), again)


def test_another_patient_changes_nobody_elses_cases(cohort, tmp_path):
    few = cases(cohort, {"P001": "test", "P003": "test"}, tmp_path / "few.csv")
    many = cases(cohort, {"P001": "test", "P002": "test", "P003": "test"}, tmp_path / "many.csv")
    kept = many[many["patient"] != "P002"].drop(columns="case").reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, few.drop(columns="case"))


def test_the_sets_differ(cohort, tmp_path):
    one = cases(cohort, {"P001": "test", "P002": "train"}, tmp_path / "E1.csv", "E1")
    two = cases(cohort, {"P001": "test", "P002": "train"}, tmp_path / "E2.csv", "E2")
    assert not set(one["seed"]) & set(two["seed"])


def test_the_wide_set_has_a_number_of_cases_of_its_own(cohort, tmp_path):
    frame = cases(cohort, {"P001": "test", "P002": "train"}, tmp_path / "wide.csv", "wide")
    assert len(frame) == 3 * SETTINGS.wide.per_slice != 3 * SETTINGS.per_slice
    assert frame["angle"].abs().max() > SETTINGS.E2.rotation_deg


def test_slow_methods_get_the_first_perturbations_of_each_slice(cohort, tmp_path):
    every = cases(cohort, {"P001": "test", "P002": "train", "P003": "test"}, tmp_path / "E1.csv")
    first_perturbations(tmp_path / "E1.csv", tmp_path / "first.csv", 2)
    first = read_table(tmp_path / "first.csv")
    expected = [rows.head(2) for _, rows in every.groupby(["patient", "slice"], sort=False)]
    assert first.equals(pd.concat(expected, ignore_index=True)) and len(first) < len(every)


def test_the_papers_sets_stay_what_they_were(cohort, tmp_path):
    for name, expected in DRAWN.items():
        frame = cases(cohort, {"P001": "test", "P002": "train"}, tmp_path / f"{name}.csv", name)
        assert frame.loc[0, ["tx", "ty", "angle", "scale", "seed"]].tolist() == expected


def test_the_images_of_cases_are_made_when_they_are_asked_for(cohort, tmp_path, monkeypatch):
    table = cases(cohort, {"P001": "test", "P002": "train"}, tmp_path / "E1.csv")
    slices = read_cohort([tmp_path / "P001.npz"])
    warped = []
    monkeypatch.setattr(perturbations, "warp", lambda image, pose: warped.append(pose) or warp(image, pose))
    fixed, moving = perturbed_pairs(table, slices)
    assert len(fixed) == len(moving) == 48 and not warped
    assert fixed[40:].shape == moving[40:].shape == (8, 8, 8) and len(warped) == 8
    expected = warp(slices["P001"].ct[2], table.iloc[41][["tx", "ty", "angle", "scale"]].to_numpy(float))
    assert np.array_equal(moving[41], expected) and np.array_equal(moving[40:][1], expected)


def test_a_test_patient_without_slices_is_named(cohort, tmp_path):
    slices, split = cohort({"P001": "test", "P002": "train", "P009": "test"})
    with pytest.raises(UserError, match="patient P009"):
        perturb_slices(slices[:2], split, tmp_path / "E1.csv", SETTINGS, "E1")


def test_poses_on_the_way_lie_between_the_start_and_the_truth():
    perturbation = torch.tensor([[20.0, -10.0, 25.0, 0.8]], dtype=torch.float64)
    truth, half = invert(perturbation), torch.full((1, 4), 0.5, dtype=torch.float64)
    chance = torch.tensor([[0.3]], dtype=torch.float64)
    assert poses_on_the_way(perturbation, 0.2, chance, half).tolist() == [[0.0, 0.0, 0.0, 1.0]]
    found = poses_on_the_way(perturbation, 0.4, chance, half)
    assert torch.allclose(found[:, :3], truth[:, :3] / 2) and torch.allclose(found[:, 3], truth[:, 3].sqrt())
