"""Returns and advantages against examples computed by hand."""

import pytest
import torch
from agents import RANGES, make_pairs, reinforcement
from hypothesis import given
from hypothesis import strategies as st

from regagent import losses
from regagent.environment import Episodes
from regagent.networks import AgentNetwork
from regagent.returns import advantages, rescale, unscale
from regagent.rollout import Actor

REWARDS = torch.tensor([[1.0], [2.0], [3.0]])
VALUES = torch.tensor([[0.5], [1.0], [1.5], [4.0]])


def ended(*steps):
    marks = torch.zeros(3, 1)
    for step in steps:
        marks[step] = 1.0
    return marks


def test_n_step_returns_bootstrap_from_the_last_value():
    # R2 = 3 + 0.5·4 = 5, R1 = 2 + 0.5·5 = 4.5, R0 = 1 + 0.5·4.5 = 3.25
    returns = advantages(REWARDS, VALUES, ended(), 0.5) + VALUES[:-1]
    assert returns[:, 0].tolist() == pytest.approx([3.25, 4.5, 5.0])


def test_a_terminated_episode_has_no_future():
    # R1 = 2 alone, R0 = 1 + 0.5·2 = 2
    returns = advantages(REWARDS, VALUES, ended(1), 0.5) + VALUES[:-1]
    assert returns[:, 0].tolist() == pytest.approx([2.0, 2.0, 5.0])


def test_a_truncated_episode_is_worth_the_value_where_it_was_cut():
    # The value there, 6, joins the reward: R1 = 2 + 0.5·6 = 5, R0 = 1 + 0.5·5 = 3.5
    rewards = REWARDS + 0.5 * torch.tensor([[0.0], [6.0], [0.0]])
    returns = advantages(rewards, VALUES, ended(1), 0.5) + VALUES[:-1]
    assert returns[:, 0].tolist() == pytest.approx([3.5, 5.0, 5.0])


def test_trace_decay_mixes_the_one_step_errors():
    # errors: 3 + 0.5·4 - 1.5 = 3.5; 2 + 0.5·1.5 - 1 = 1.75; 1 + 0.5·1 - 0.5 = 1
    # advantages: 3.5; 1.75 + 0.25·3.5 = 2.625; 1 + 0.25·2.625 = 1.65625
    found = advantages(REWARDS, VALUES, ended(), 0.5, 0.5)
    assert found[:, 0].tolist() == pytest.approx([1.65625, 2.625, 3.5])


@given(st.floats(-5000, 10))
def test_rescaling_is_invertible_and_grows(x):
    value = torch.tensor(x, dtype=torch.float64)
    assert unscale(rescale(value)).item() == pytest.approx(x, abs=1e-6)
    assert rescale(value + 0.5) > rescale(value)


@pytest.mark.parametrize("shown", [True, False])
def test_the_value_learns_what_a_terminal_state_is_worth(shown):
    """Every state here is terminal after one step; with a weight these states are looked at."""
    torch.manual_seed(0)
    settings = reinforcement(terminal_distance=1e6, terminal_value_weight=0.5 * shown)
    episodes = Episodes(make_pairs(), RANGES, settings, 3, torch.Generator().manual_seed(1))
    network = AgentNetwork("CNN-LSTM", values=2)
    actor = Actor(network, episodes)
    rollout = actor.collect(2, actor.sample)
    assert rollout.terminated.all()
    assert rollout.terminal_values.shape == (6 if shown else 0, 2)
    if shown:
        assert rollout.terminal_values.requires_grad
        goal, target = rescale(torch.tensor(10.0)), rollout.values[..., -1]
        expected = (target - goal).square().mean() + 0.5 * (
            rollout.terminal_values[:, -1] - goal
        ).square().mean()
        loss = losses._paper_advantages(rollout, settings, 0.9, 10.0)[1]
        assert loss.item() == pytest.approx(0.5 * expected.item(), rel=1e-5)
