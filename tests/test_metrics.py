import numpy as np
import pandas as pd
import pytest

from regagent.evaluation.measuring import registration_table
from regagent.evaluation.registrations import summarise
from regagent.geometry import invert
from regagent.pairs.slices import SlicePairs

POINTS = np.array([[[0.0, 0.0], [30.0, 0.0], [np.nan, np.nan]], [[0.0, 40.0], [-10.0, 5.0], [3.0, 3.0]]])
PAIRS = SlicePairs(
    patient="P001",
    mr=np.zeros((2, 8, 8), np.float32),
    ct=np.zeros((2, 8, 8), np.float32),
    head=np.ones((2, 8, 8), bool),
    tissue=np.zeros((2, 8, 8), np.uint8),
    slice_index=np.arange(2),
    mm_per_px=1.5,
    landmarks=np.full((2, 1, 2), 99.0, np.float32),
    evaluation_points=POINTS.astype(np.float32),
    landmark_source=np.array(["sift", "sift"]),
)
CASES = pd.DataFrame(
    {
        "case": [0, 1, 2],
        "patient": "P001",
        "slice": [0, 1, 0],
        "tx": [3.0, -12.0, 0.0],
        "ty": [4.0, 9.0, 0.0],
        "angle": [0.0, 25.0, 0.0],
        "scale": [1.0, 1.2, 1.1],
        "seed": 5,
    }
)


def test_the_errors_of_known_poses():
    truth = invert(CASES[["tx", "ty", "angle", "scale"]].to_numpy())
    poses = np.stack([[0.0, 0.0, 0.0, 1.0], truth[1], truth[2] + [0.0, 2.0, 0.0, 0.0]])
    table = registration_table(CASES, poses, {"P001": PAIRS}, [4, 5, 6], 0.5, "registered")
    assert table["initial_px"][[0, 2]].tolist() == pytest.approx([5.0, 1.5])
    assert table["tre_px"].tolist() == pytest.approx([5.0, 0.0, 2.0], abs=1e-6)
    assert table["tre_mm"].tolist() == pytest.approx([7.5, 0.0, 3.0], abs=1e-6)
    assert table["steps"].tolist() == [4, 5, 6]
    assert list(table.columns) == [
        *("case", "patient", "slice", "tx", "ty", "angle", "scale"),
        *("initial_px", "tre_px", "tre_mm", "steps", "seconds", "status"),
    ]


@pytest.mark.parametrize(("pose", "status"), [(np.nan, "registered"), (1.0, "fine")])
def test_what_is_no_registration(pose, status):
    with pytest.raises(ValueError):
        registration_table(CASES, np.full((3, 4), pose), {"P001": PAIRS}, 0, 0.0, status)


def test_the_summary_against_hand_computed_numbers():
    frame = pd.DataFrame({"tre_px": [1.0, 2.0, 3.0, 4.0, 10.0], "status": ["registered"] * 4 + ["failed"]})
    summary = summarise(frame)
    assert summary["mean"] == pytest.approx(4.0)
    assert summary["std"] == pytest.approx(np.sqrt((9 + 4 + 1 + 0 + 36) / 5))
    assert summary["p50"] == pytest.approx(3.0)
    assert summary["p90"] == pytest.approx(7.6)
    assert (summary["failures"], summary["n"]) == (1, 5)
    with pytest.raises(ValueError):
        summarise(frame[:0])
