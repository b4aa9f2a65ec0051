"""What the agents minimise: the actor-critic loss (Eqs. 1, 2) and the supervised loss (§3.5)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from regagent.agent.returns import advantages, rescale, unscale
from regagent.agent.rewards import paper_reward, potential_reward
from regagent.agent.rollout import Rollout
from regagent.settings import Agent, ReinforcementAgent, SupervisedAgent


def _identity(x: Tensor) -> Tensor:
    return x


def _values(rollout: Rollout, column: int) -> Tensor:
    """Return values (T+1, B) of one column without graph, the last row being the bootstrap."""
    return torch.cat([rollout.values.detach(), rollout.final_values[None]])[..., column]


def _paper_advantages(
    rollout: Rollout, settings: Agent, discount: float, terminal_reward: float | None
) -> tuple[Tensor, Tensor]:
    """Return R - V (T, B) and the value's loss, for the paper's reward -D with n-step returns R.

    V is the value to stop by, the network's last. The loss is the mean of ½(R - V)². The states at which
    episodes terminated add to it, with ``terminal_value_weight``: they are worth the terminal reward, or 0
    where there is none. With ``rescale_values`` the network holds V rescaled, and the loss is taken on that
    scale.
    """
    into, out_of = (rescale, unscale) if settings.rescale_values else (_identity, _identity)
    if terminal_reward is None:
        reward = -rollout.after
    else:
        reward = paper_reward(rollout.after, rollout.terminated, terminal_reward)
    reward = reward + discount * rollout.truncated * out_of(rollout.truncation_values[..., -1])
    values = out_of(_values(rollout, -1))
    advantage = advantages(reward, values, rollout.ended, discount)
    error = rollout.values[..., -1] - into(values[:-1] + advantage)
    goal = into(torch.tensor(terminal_reward or 0.0, device=error.device))
    at_goal = (rollout.terminal_values[..., -1] - goal).square() * rollout.terminal
    at_goal = at_goal.sum() / rollout.terminal.sum().clamp(min=1)
    return advantage, 0.5 * (error.square().mean() + settings.terminal_value_weight * at_goal)


def _potential_rewards(rollout: Rollout, settings: ReinforcementAgent) -> Tensor:
    """Return the shaped reward (T, B, A) of each action that could have been taken."""
    return settings.reward_scale * potential_reward(
        rollout.before[..., None],
        rollout.candidates,
        rollout.candidates < settings.terminal_distance,
        settings.terminal_reward / settings.goal_steps,
    )


def _potential_advantages(
    rollout: Rollout, reward: Tensor, settings: ReinforcementAgent
) -> tuple[Tensor, Tensor]:
    """Return the advantages (T, B) and ½(R - V)² of the shaped reward; the critic is the first value."""
    reward = reward + settings.discount * rollout.truncated * rollout.truncation_values[..., 0]
    values = _values(rollout, 0)
    advantage = advantages(reward, values, rollout.ended, settings.discount, settings.trace_decay)
    return advantage, 0.5 * F.mse_loss(rollout.values[..., 0], values[:-1] + advantage)


def _reduced(mean: Tensor, rollout: Rollout, settings: Agent) -> Tensor:
    """Return the loss of an update as the settings want it: the mean over its T × B steps, or the sum."""
    return mean * rollout.actions.numel() if settings.reduction == "sum" else mean


def reinforcement_loss(rollout: Rollout, settings: ReinforcementAgent, progress: float = 1.0) -> Tensor:
    """Return the actor-critic loss of a rollout (Eqs. 1 and 2).

    The shaped reward of a step is known for every action: it enters by its mean over the policy, and only
    the rest of the advantage is sampled. The expected gradient is that of Eq. 1, without the noise of which
    action was drawn in its largest part. Without ``all_actions`` the whole advantage is sampled.

    ``progress`` is the part of the training that is over. The value to stop by grows with it: its errors
    are large at first and would drown the policy in the layers that both share.
    """

    def taken(every: Tensor) -> Tensor:
        return every.gather(-1, rollout.actions[..., None])[..., 0]

    log_policy = torch.log_softmax(rollout.logits, -1)
    policy = log_policy.exp()
    bonus = settings.terminal_reward
    stopping_loss: Tensor | float = 0.0
    if settings.reward == "paper":
        known = torch.zeros_like(policy)
        advantage, value_loss = _paper_advantages(rollout, settings, settings.discount, bonus)
    else:
        rewards = _potential_rewards(rollout, settings)
        advantage, value_loss = _potential_advantages(rollout, taken(rewards), settings)
        known = rewards if settings.all_actions else torch.zeros_like(rewards)
        stopping_loss = _paper_advantages(rollout, settings, settings.stopping_discount, bonus)[1]
    rest = advantage - taken(known)
    spread: Tensor | float = 1.0
    if settings.normalise_advantages:
        rest, spread = rest - rest.mean(), advantage.std(correction=0) + 1e-8
    gain = ((taken(log_policy) * rest).mean() + (policy * known).sum(-1).mean()) / spread
    entropy = -(policy * log_policy).sum(-1).mean()
    loss = (
        -gain
        - settings.entropy_weight * entropy
        + settings.value_weight * value_loss
        + settings.stopping_weight * progress * stopping_loss
    )
    return _reduced(loss, rollout, settings)


def supervised_loss(rollout: Rollout, settings: SupervisedAgent, progress: float = 1.0) -> Tensor:
    """Return the cross-entropy of the best actions plus the value loss, without a terminal reward (§3.5).

    With a ``label_temperature``, actions that are nearly as good as the best count in part.

    The value's part grows with ``progress`` as in ``reinforcement_loss``.
    """
    temperature = settings.label_temperature
    labels = torch.softmax(-rollout.candidates / temperature, -1) if temperature else rollout.best
    policy = F.cross_entropy(rollout.logits.flatten(0, 1), labels.flatten(0, 1))
    stopping_loss = _paper_advantages(rollout, settings, settings.stopping_discount, None)[1]
    return _reduced(policy + settings.stopping_weight * progress * stopping_loss, rollout, settings)
