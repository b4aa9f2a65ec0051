"""Rollouts: the network acts in a batch of episodes and keeps the graph, so learning needs no second pass."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regagent.environment import Episodes
from regagent.networks import AgentNetwork, to_states
from regagent.rewards import paper_reward


@dataclass(frozen=True)
class Rollout:
    """T steps of B episodes; V is the number of the network's values."""

    logits: Tensor  # (T, B, 8), with graph
    values: Tensor  # (T, B, V), with graph
    actions: Tensor  # (T, B)
    before: Tensor  # (T, B) D before the action
    candidates: Tensor  # (T, B, 8) D after each action that could have been taken
    after: Tensor  # (T, B) D after it
    terminated: Tensor  # (T, B) 1.0 where D fell below the terminal distance
    truncated: Tensor  # (T, B) 1.0 where the step limit cut the episode
    truncation_values: Tensor  # (T, B, V) values of the state at which an episode was truncated, else 0
    final_values: Tensor  # (B, V) values of the state after the last step

    @property
    def ended(self) -> Tensor:
        """(T, B) 1.0 where nothing of the same episode follows."""
        return self.terminated + self.truncated


class Actor:
    """A network at work in a batch of episodes, with its memory and the record of finished episodes."""

    def __init__(self, network: AgentNetwork, episodes: Episodes, generator: torch.Generator):
        self.network, self.episodes, self.generator = network, episodes, generator
        self.device = network.policy.weight.device
        episodes.reset(stagger=True)
        count = len(episodes.index)
        self.memory = network.initial_memory(count)
        self.states = to_states(episodes.states(), self.device)
        self.steps = np.zeros(count, int)
        self.reward = np.zeros(count)
        self.finished: list[dict] = []

    def sample(self, logits: Tensor) -> np.ndarray:
        """Draw actions (B,) from the policy."""
        probabilities = torch.softmax(logits.detach(), -1)
        return torch.multinomial(probabilities, 1, generator=self.generator)[:, 0].cpu().numpy()

    def follow(self, logits: Tensor) -> np.ndarray:
        """Return the best actions (B,), whatever the policy says (§3.5)."""
        return self.episodes.candidates().argmin(1)

    def collect(self, length: int, choose: Callable[[Tensor], np.ndarray]) -> Rollout:
        """Take ``length`` steps in every episode; episodes that end start anew."""
        episodes = self.episodes
        terminal_reward = episodes.settings.terminal_reward
        self.memory = self.memory.detach()
        logits, values, actions, steps, truncation_values = [], [], [], [], []
        for _ in range(length):
            step_logits, step_values, self.memory = self.network(self.states, self.memory)
            chosen = choose(step_logits)
            step = episodes.step(chosen)
            self.steps += 1
            self.reward += paper_reward(step.distance, step.terminated, terminal_reward)
            cut_values = torch.zeros_like(step_values)
            if step.truncated.any():
                cut = torch.from_numpy(step.truncated).to(self.device)
                last_states = to_states(episodes.states(step.truncated), self.device)
                cut_values[cut] = self._look(last_states, self.memory[cut])
            ended = step.terminated | step.truncated
            if ended.any():
                self._record(step, ended)
                episodes.reset(ended)
                kept = torch.from_numpy(~ended).to(self.memory)
                self.memory = self.memory * kept[:, None, None]
            self.states = to_states(episodes.states(), self.device)
            logits.append(step_logits)
            values.append(step_values)
            actions.append(chosen)
            steps.append(step)
            truncation_values.append(cut_values)

        def gather(name: str) -> Tensor:
            array = np.stack([getattr(step, name) for step in steps])
            return torch.from_numpy(array.astype(np.float32)).to(self.device)

        return Rollout(
            logits=torch.stack(logits),
            values=torch.stack(values),
            actions=torch.from_numpy(np.stack(actions)).to(self.device),
            before=gather("before"),
            candidates=gather("candidates"),
            after=gather("distance"),
            terminated=gather("terminated"),
            truncated=gather("truncated"),
            truncation_values=torch.stack(truncation_values).detach(),
            final_values=self._look(self.states, self.memory),
        )

    @torch.no_grad()
    def _look(self, states: Tensor, memory: Tensor) -> Tensor:
        return self.network(states, memory)[1]

    def _record(self, step, ended: np.ndarray) -> None:
        for i in np.flatnonzero(ended):
            self.finished.append(
                {
                    "steps": int(self.steps[i]),
                    "reward": float(self.reward[i]),
                    "distance": float(step.distance[i]),
                    "success": int(step.terminated[i]),
                }
            )
        self.steps[ended] = 0
        self.reward[ended] = 0.0
