"""One registration step by step: it goes the way of ``register``, and its pictures show all of it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from agents import make_pairs
from PIL import Image
from test_figures import STYLE, write_phantom

from regagent.agent.checkpoints import save_model
from regagent.agent.example_episode import LOOKED_AHEAD, START, walk_case, walk_episode
from regagent.agent.inference import Way, register
from regagent.agent.networks import AgentNetwork
from regagent.figures.episode import FRAMES_A_SECOND, LAST_FRAME_SECONDS, animate_episode, draw_episode
from regagent.files import UserError
from regagent.geometry import IDENTITY, POSE, landmark_distance
from regagent.pairs.slices import read_slices
from regagent.settings import Inference

SMALL = Inference(maximum_steps=5, simulations=3, depth=2, batch=4)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AgentNetwork("CNN-LSTM", values=2, rescaled=True).eval()


@pytest.mark.parametrize("threshold", [-1e9, 1e9])
def test_it_goes_the_way_of_a_registration(network, threshold):
    pairs = make_pairs(1)
    (found,) = register(network, pairs.mr, pairs.ct, [Way(threshold, lookahead=True)], SMALL, seed=3)
    table = walk_case(network, pairs.mr[0], pairs.ct[0], threshold, SMALL, seed=3)
    first, last = table.iloc[0], table.iloc[-1]
    assert first["reached_by"] == START and (first[POSE] == IDENTITY).all()
    assert np.allclose(last[POSE].astype(float), found.pose[0])
    assert last["step"] == found.steps[0]
    assert last["reached_by"] == LOOKED_AHEAD
    assert table["value"].max() == pytest.approx(found.value[0], abs=1e-4)


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    """The files of an episode of an untrained network that never stops."""
    folder = tmp_path_factory.mktemp("episode")
    slices = folder / "slices" / "P001.npz"
    write_phantom(slices, np.random.default_rng(1))
    shifts = [2.0, 9.0, 30.0]
    cases = pd.DataFrame(
        {"case": [0, 1, 2], "patient": "P001", "slice": 1, "tx": shifts, "ty": 0.0, "angle": 0.0}
    )
    cases.assign(scale=1.0, seed=1).to_csv(folder / "E2.csv", index=False)
    save_model(network, folder / "model.pt")
    (folder / "threshold.json").write_text(json.dumps({"greedy": 1e9, "lookahead": 1e9}))
    walk_episode(
        folder / "E2.csv", [slices], folder / "model.pt", folder / "threshold.json", folder / "episode.csv",
        SMALL, 1,
    )  # fmt: skip
    return folder, slices


def test_the_case_is_the_one_of_the_median_initial_error(files):
    folder, slices = files
    table = pd.read_csv(folder / "episode.csv")
    assert set(table["case"]) == {1} and table["tre_px"].iloc[0] == pytest.approx(9.0)
    points = read_slices(slices).evaluation_points[1]
    expected = landmark_distance(table[POSE].to_numpy(), [9.0, 0.0, 0.0, 1.0], points)
    assert np.allclose(table["tre_px"], expected) and (table["threshold"] == 1e9).all()


def test_the_strip_and_the_animation_show_it(files, tmp_path):
    folder, slices = files
    arguments = folder / "episode.csv", [slices], folder / "E2.csv", STYLE
    draw_episode(*arguments, [tmp_path / "strip.png", tmp_path / "strip.pdf"])
    assert np.asarray(Image.open(tmp_path / "strip.png").convert("L")).std() > 20
    animate_episode(*arguments, tmp_path / "episode.gif", tmp_path / "episode.html")
    with Image.open(tmp_path / "episode.gif") as animation:
        seconds = 0.0
        for frame in range(animation.n_frames):
            animation.seek(frame)
            seconds += animation.info["duration"] / 1000
    rows = len(pd.read_csv(folder / "episode.csv"))
    assert animation.n_frames >= rows - 1
    assert seconds == pytest.approx(rows / FRAMES_A_SECOND + LAST_FRAME_SECONDS, rel=0.1)
    assert 'src="data:image/gif;base64,' in (tmp_path / "episode.html").read_text()


def test_a_patient_without_slices_is_named(files):
    folder, _ = files
    with pytest.raises(UserError, match="patient P001: no slices given"):
        draw_episode(folder / "episode.csv", [], folder / "E2.csv", STYLE, [])
