"""The example for other libraries' agents: what it trains is better than chance."""

import runpy
from pathlib import Path

import pytest

PPO = Path(__file__).parents[1] / "docs/examples/ppo.py"


def test_ppo_comes_nearer_than_chance():
    pytest.importorskip("stable_baselines3")
    trained, chance = runpy.run_path(str(PPO))["main"](8_000)
    assert trained < chance - 1
