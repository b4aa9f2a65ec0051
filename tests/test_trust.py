"""What a predicted distance is worth: probabilities and expected errors, found on pairs with known truth."""

import numpy as np
import pytest
import torch
from agents import PLAIN, RANGES, make_pairs

from regagent.agent import regression, trust
from regagent.agent.checkpoints import load_model
from regagent.agent.judged import TRUST_KNOTS
from regagent.agent.networks import ResidualNetwork
from regagent.agent.trust import Judgement, calibrate_trust, fit, judge, least_probability
from regagent.files import read_table
from regagent.settings import Calibration, Inference, ResidualRegressor


def judged(distance, error, like, asked):
    network = ResidualNetwork(width=1)
    network.trust.copy_(torch.from_numpy(fit(distance, error, like)))
    return judge(network, np.asarray(asked, float))


def test_until_it_is_found_a_distance_is_taken_at_its_word():
    found = judge(ResidualNetwork(width=1), TRUST_KNOTS)
    assert np.allclose(found.expected, TRUST_KNOTS) and np.allclose(found.low, found.high)
    assert (found.probability == (TRUST_KNOTS <= 2)).all()


def test_probabilities_and_errors_are_those_of_the_cases():
    rng = np.random.default_rng(0)
    distance = np.exp(rng.uniform(np.log(0.2), np.log(20), 20_000))
    like = rng.random(20_000) < np.where(distance < 3, 0.9, 0.3)  # one in ten has no truth
    error = 2 * distance * rng.uniform(0.5, 1.5, 20_000)  # and D is half of what it should be
    found = judged(distance, error, like, [0.4, 0.8, 1.0, 8.0])
    assert found.expected == pytest.approx([0.8, 1.6, 2.0, 16.0], rel=0.1)
    assert found.probability == pytest.approx([0.9, 0.9 * 0.75, 0.9 * 0.5, 0.0], abs=0.05)
    assert found.low == pytest.approx(0.55 * found.expected, rel=0.1)
    assert found.high == pytest.approx(1.45 * found.expected, rel=0.1)


def test_it_is_monotone_and_never_certain():
    rng = np.random.default_rng(1)
    distance, error = rng.uniform(0.2, 5, 50), rng.uniform(0, 4, 50)
    everywhere = judged(distance, error, np.ones(50, bool), np.geomspace(0.01, 500, 80))
    assert (np.diff(everywhere.probability) <= 1e-6).all() and (np.diff(everywhere.expected) >= -1e-6).all()
    assert everywhere.probability.min() >= 0.02 - 1e-6 and everywhere.probability.max() <= 0.98 + 1e-6
    assert all(np.isfinite(values).all() for values in everywhere)
    with pytest.raises(ValueError, match="no pair belongs together"):
        fit(distance, error, np.zeros(50, bool))
    nothing_right = judged(distance, error + 9, np.arange(50) % 2 == 0, [0.3])
    assert nothing_right.probability == pytest.approx(0.02) and nothing_right.expected > 9


def test_a_half_is_enough_unless_it_refuses_too_many_of_the_right_ones():
    sure = np.concatenate([np.full(96, 0.9), np.full(4, 0.2)])
    assert least_probability(sure, 0.05) == 0.5 and least_probability(sure, 0.03) == 0.2
    unsure = np.linspace(0.1, 0.7, 61)
    least = least_probability(unsure, 0.05)
    assert least == pytest.approx(0.13) and (unsure < least).mean() <= 0.05
    assert least_probability(np.ones(1), 0.05) == 0.5 and least_probability(np.zeros(9), 0.05) == 0.05


def test_a_network_keeps_what_its_distances_are_worth(monkeypatch, tmp_path):
    pairs = make_pairs(4)
    for module in (regression, trust):
        monkeypatch.setattr(module, "read_pairs", lambda slices, split, subset: pairs)
    settings = ResidualRegressor(learner="residual", steps=2, batch=4, looks=1, width=1, **PLAIN)
    files = [tmp_path / name for name in ("model.pt", "training.csv", "trusted.pt", "cases.csv")]
    regression.train_regressor([], "", RANGES, settings, 1, "a", tmp_path / "state", "1", *files[:2])

    def settle(network, fixed, moving, approach, inference):
        """Predict well, but 0.5 px too little; nothing tells that images do not belong together."""
        count = len(moving)
        return np.tile([0.0, 0, 0, 1], (count, 1)), np.full(count, 0.5), np.zeros(count)

    monkeypatch.setattr(trust, "settle", settle)
    calibration = Calibration(trust_cases=50)
    calibrate_trust([], "", files[0], calibration, Inference(batch=16), files[2], files[3])
    cases = read_table(files[3])
    assert len(cases) == 50 and 8 < cases.like.sum() < 42 and (cases.distance_px == 0.5).all()
    assert (cases.tre_px.isna() == ~cases.like).all()
    (network, facts), (before, _) = (load_model(files[i], "residual") for i in (2, 0))
    assert facts["settings"]["steps"] == 2
    assert torch.equal(network.rest.weight, before.rest.weight) and not torch.equal(
        network.trust, before.trust
    )
    found = judge(network, np.array([0.5]))
    right = cases.like & (cases.tre_px <= 2)
    assert found.probability == pytest.approx(np.clip(right.mean(), 1 / 50, 1), abs=1e-3)
    assert found.expected == pytest.approx(cases.tre_px[cases.like].mean(), rel=1e-3)
    least = np.clip(np.floor(100 * right.mean()) / 100, 0.05, 0.5) if right.any() else 0.5
    assert network.least == pytest.approx(least)
    again = tmp_path / "again.csv"
    calibrate_trust([], "", files[0], calibration, Inference(batch=7), files[2], again)
    assert again.read_bytes() == files[3].read_bytes()


def test_a_judgement_has_the_order_in_which_it_is_kept():
    assert Judgement._fields == ("probability", "expected", "low", "high")
