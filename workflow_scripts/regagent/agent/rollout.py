"""Rollouts: the network acts in a batch of episodes and keeps the graph, so learning needs no second pass."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from regagent.agent.environment import Episodes, rows_where
from regagent.agent.networks import AgentNetwork
from regagent.agent.rewards import paper_reward


@dataclass(frozen=True)
class Rollout:
    """T steps of B episodes; A is the number of actions, V that of the network's values."""

    logits: Tensor  # (T, B, A), with graph
    values: Tensor  # (T, B, V), with graph
    actions: Tensor  # (T, B)
    before: Tensor  # (T, B) D before the action
    candidates: Tensor  # (T, B, A) D after each action that could have been taken
    best: Tensor  # (T, B) the action of the lowest such D
    after: Tensor  # (T, B) D after the action
    terminated: Tensor  # (T, B) true where D fell below the terminal distance, or an expert was stuck
    truncated: Tensor  # (T, B) true where the step limit cut the episode
    truncation_values: Tensor  # (T, B, V) values of the state at which an episode was truncated, else 0
    final_values: Tensor  # (B, V) values of the state after the last step
    terminal_values: Tensor  # (K, V) values of K states, with graph
    terminal: Tensor  # (K,) true for those of them at which an episode terminated

    @property
    def ended(self) -> Tensor:
        """(T, B) true where nothing of the same episode follows."""
        return self.terminated | self.truncated


class Actor:
    """A network at work in a batch of episodes, with its memory and the record of finished episodes."""

    def __init__(self, network: AgentNetwork, episodes: Episodes):
        self.network, self.episodes = network, episodes
        episodes.reset(stagger=True)
        self.memory = network.initial_memory(len(episodes.index))
        self.states = episodes.states()
        self.steps, self.reward = torch.zeros_like(episodes.index), torch.zeros_like(episodes.distance)
        self.finished: list[dict] = []

    def state(self) -> dict:
        """Return what is needed to go on as if nothing had happened."""
        own = {name: getattr(self, name).detach() for name in ("memory", "steps", "reward")}
        return {**own, "episodes": self.episodes.state()}

    def restore(self, state: dict) -> None:
        """Go on from what ``state`` gave."""
        self.episodes.restore(state["episodes"])
        self.memory, self.steps, self.reward = (
            state[name].to(self.episodes.device) for name in ("memory", "steps", "reward")
        )
        self.states = self.episodes.states()

    def sample(self, logits: Tensor) -> Tensor:
        """Draw actions (B,) from the policy."""
        probabilities = torch.softmax(logits.detach(), -1)
        return torch.multinomial(probabilities, 1, generator=self.episodes.generator)[:, 0]

    def follow(self, logits: Tensor) -> Tensor:
        """Return the best actions (B,), whatever the policy says (§3.5)."""
        return self.episodes.candidates.argmin(1)

    def collect(self, length: int, choose: Callable[[Tensor], Tensor]) -> Rollout:
        """Take ``length`` steps in every episode; episodes that end start anew."""
        episodes = self.episodes
        episodes.lay_in()
        self.memory = self.memory.detach()
        outputs, actions, steps, counts = [], [], [], []
        nothing = self.states[:0], self.memory[:0], self.steps[:0].bool()
        terminal, truncated = [nothing], [(*nothing, self.steps[:0])]
        for number in range(length):
            said = self.network(self.states, self.memory)
            self.memory = said.memory
            chosen = choose(said.logits)
            step = episodes.step(chosen)
            self.steps = self.steps + 1
            success = step.terminated & (step.distance < episodes.settings.terminal_distance)
            self.reward = self.reward + paper_reward(
                step.distance, success, episodes.settings.terminal_reward
            )
            counts.append((self.steps, self.reward, success))
            rows, cut = rows_where(step.truncated)
            if len(rows):
                place = rows + number * len(self.states)
                truncated.append((episodes.states(rows), self.memory[rows], cut, place))
            rows, reached = rows_where(step.terminated)
            if episodes.settings.terminal_value_weight and len(rows):
                terminal.append((episodes.states(rows), self.memory[rows], reached))
            goes_on = ~episodes.reset(step.ended)
            self.memory = self.memory * goes_on[:, None, None]
            self.steps, self.reward = self.steps * goes_on, self.reward * goes_on
            self.states = episodes.states()
            outputs.append(said)
            actions.append(chosen)
            steps.append(step)

        def gather(name: str) -> Tensor:
            column = torch.stack([getattr(step, name) for step in steps])
            return column.float() if column.is_floating_point() else column

        last_states, last_memory, reached = map(torch.cat, zip(*terminal, strict=True))
        cut_states, cut_memory, cut, place = map(torch.cat, zip(*truncated, strict=True))
        looked = torch.cat([cut_states, self.states]), torch.cat([cut_memory, self.memory])
        cut_values, final_values = self._look(*looked).split([len(cut), len(self.states)])
        truncation_values = final_values.new_zeros(length * len(self.states), final_values.shape[-1])
        truncation_values[place] = cut_values * cut[:, None]
        rollout = Rollout(
            logits=torch.stack([said.logits for said in outputs]),
            values=torch.stack([said.values for said in outputs]),
            actions=torch.stack(actions),
            before=gather("before"),
            candidates=gather("candidates"),
            best=torch.stack([step.candidates.argmin(-1) for step in steps]),
            after=gather("distance"),
            terminated=gather("terminated"),
            truncated=gather("truncated"),
            truncation_values=truncation_values.unflatten(0, (length, -1)),
            final_values=final_values,
            terminal_values=self.network(last_states, last_memory).values,
            terminal=reached,
        )
        self._record(rollout, *map(torch.stack, zip(*counts, strict=True)))
        return rollout

    @torch.no_grad()
    def _look(self, states: Tensor, memory: Tensor) -> Tensor:
        return self.network(states, memory).values

    def _record(self, rollout: Rollout, steps: Tensor, reward: Tensor, success: Tensor) -> None:
        """Keep what is known of the episodes that ended; counts and rewards (T, B) are running sums."""
        ended = rollout.ended
        columns = steps[ended], reward[ended], rollout.after[ended], success[ended].long()
        names = "steps", "reward", "distance", "success"
        for row in zip(*(column.tolist() for column in columns), strict=True):
            self.finished.append(dict(zip(names, row, strict=True)))
