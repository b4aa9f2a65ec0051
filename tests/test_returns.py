"""Returns and advantages against examples computed by hand."""

import pytest
import torch
from agents import RANGES, make_pairs, reinforcement, supervised
from hypothesis import given
from hypothesis import strategies as st

from regagent.agent import losses
from regagent.agent.environment import Episodes
from regagent.agent.networks import AgentNetwork
from regagent.agent.returns import advantages, rescale, unscale
from regagent.agent.rollout import Actor, Rollout

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


def test_trace_decay_mixes_the_one_step_errors():
    # errors: 3 + 0.5·4 - 1.5 = 3.5; 2 + 0.5·1.5 - 1 = 1.75; 1 + 0.5·1 - 0.5 = 1
    # advantages: 3.5; 1.75 + 0.25·3.5 = 2.625; 1 + 0.25·2.625 = 1.65625
    found = advantages(REWARDS, VALUES, ended(), 0.5, 0.5)
    assert found[:, 0].tolist() == pytest.approx([1.65625, 2.625, 3.5])


def rollout(cut, **keys):
    """Return three steps, D going 4, 3, 2, 1, with an episode's end after the second; both values alike."""
    marks = ended(1).bool()
    given = {
        "logits": torch.zeros(3, 1, 8),
        "values": VALUES[:-1, :, None].repeat(1, 1, 2),
        "actions": torch.tensor([[2], [0], [7]]),
        "before": torch.tensor([[4.0], [3.0], [2.0]]),
        "candidates": torch.tensor([[3.0], [2.0], [1.0]])[..., None].repeat(1, 1, 8),
        "after": torch.tensor([[3.0], [2.0], [1.0]]),
        "terminated": marks & (not cut),
        "truncated": marks & cut,
        "truncation_values": 6.0 * (marks & cut)[..., None].repeat(1, 1, 2),
        "final_values": VALUES[-1, :, None].repeat(1, 2),
        "terminal_values": torch.zeros(0, 2),
        "terminal": torch.zeros(0, dtype=torch.bool),
    }
    given |= keys
    return Rollout(**{"best": given["candidates"].argmin(-1)} | given)


@pytest.mark.parametrize(
    ("cut", "returns"),
    [
        # R2 = -1 + 0.5·4 = 1; cut: R1 = -2 + 0.5·6 = 1; R0 = -3 + 0.5·1 = -2.5
        (True, [-2.5, 1.0, 1.0]),
        # at the terminal: R1 = 10; R0 = -3 + 0.5·10 = 2
        (False, [2.0, 10.0, 1.0]),
    ],
)
def test_a_truncated_episode_is_worth_the_value_where_it_was_cut(cut, returns):
    settings = reinforcement(rescale_values=False, terminal_value_weight=0.0)
    advantage, loss = losses._paper_advantages(rollout(cut), settings, 0.5, 10.0)
    errors = torch.tensor(returns) - VALUES[:-1, 0]
    assert advantage[:, 0].tolist() == pytest.approx(errors.tolist())
    assert loss.item() == pytest.approx(0.5 * errors.square().mean().item())


def test_the_shaped_reward_is_cut_alike():
    # D falls by 1 a step: R2 = 1 + 0.5·4 = 3; cut: R1 = 1 + 0.5·6 = 4; R0 = 1 + 0.5·4 = 3
    settings = reinforcement(discount=0.5, trace_decay=1.0, reward_scale=1.0, terminal_distance=0.5)
    steps = rollout(True)
    reward = losses._potential_rewards(steps, settings)[..., 0]
    assert (reward == 1).all()
    advantage, _ = losses._potential_advantages(steps, reward, settings)
    assert (advantage + VALUES[:-1])[:, 0].tolist() == pytest.approx([3.0, 4.0, 3.0])


@pytest.mark.parametrize(
    ("reward", "all_actions"), [("paper", True), ("potential", True), ("potential", False)]
)
def test_the_policys_gradient_is_that_of_equation_1(reward, all_actions):
    """For a uniform policy: (π - e_a) A / T, less π (r - mean r) / T where every action's r is known."""
    logits = torch.zeros(3, 1, 8, requires_grad=True)
    candidates = torch.arange(24.0).reshape(3, 1, 8) + 1
    steps = rollout(True, logits=logits, candidates=candidates)
    settings = reinforcement(
        reward=reward, discount=0.5, trace_decay=1.0, reward_scale=1.0, entropy_weight=0.0,
        all_actions=all_actions, normalise_advantages=False, rescale_values=False, stopping_weight=0.0,
    )  # fmt: skip
    losses.reinforcement_loss(steps, settings).backward()
    policy = torch.full((3, 1, 8), 1 / 8)
    known = torch.zeros_like(policy)
    advantage = losses._paper_advantages(steps, settings, 0.5, 10.0)[0]
    chosen = torch.nn.functional.one_hot(steps.actions, 8)
    if reward == "potential":
        rewards = steps.before[..., None] - candidates
        taken = (rewards * chosen).sum(-1)
        advantage = losses._potential_advantages(steps, taken, settings)[0]
        if all_actions:
            known, advantage = rewards, advantage - taken
    expected = (policy - chosen) * advantage[..., None] - policy * (known - known.mean(-1, keepdim=True))
    assert torch.allclose(logits.grad, expected / 3, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "loss", "reward"),
    [
        (reinforcement, losses.reinforcement_loss, {"reward": "paper"}),
        (reinforcement, losses.reinforcement_loss, {"reward": "potential"}),
        (supervised, losses.supervised_loss, {}),
    ],
)
def test_the_sum_is_the_mean_times_the_steps(make, loss, reward):
    steps = rollout(True, logits=torch.randn(3, 1, 8, generator=torch.Generator().manual_seed(0)))
    mean, total = (loss(steps, make(reduction=kind, **reward)).item() for kind in ("mean", "sum"))
    assert total == pytest.approx(3 * mean) and abs(mean) > 0.01


def test_the_supervised_sum_is_that_of_section_3_5():
    steps = rollout(
        True,
        candidates=-torch.eye(8)[torch.tensor([[1], [4], [6]])],
        logits=torch.eye(8)[torch.tensor([[1], [0], [6]])],
    )
    settings = supervised(reduction="sum", stopping_weight=0.0)
    expected = -torch.log_softmax(steps.logits, -1)[range(3), 0, [1, 4, 6]].sum()
    assert losses.supervised_loss(steps, settings).item() == pytest.approx(expected.item())


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
