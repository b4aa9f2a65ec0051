"""The weights of a training and their Adam, which all of its worker processes read and update (§3.4)."""

import ctypes
from typing import Any

import torch
import torch.multiprocessing as processes
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from regagent.agent.networks import AgentNetwork
from regagent.files import UserError
from regagent.settings import AgentSettings

#: An update takes a hundredth of a second: after so many, whoever holds the weights' lock is dead.
LOCK_SECONDS = 60.0


def learning_rate(settings: AgentSettings, done: float) -> float:
    """Return Adam's learning rate when this part of the training is over.

    It rises linearly from 0 over ``warmup_fraction`` and falls linearly to its final fraction.
    """
    rate = settings.learning_rate * (1 - done * (1 - settings.final_learning_rate_fraction))
    if done < settings.warmup_fraction:
        rate *= done / settings.warmup_fraction
    return rate


class SharedLearner:
    """Weights (P,), Adam's moments (P,), steps and episodes so far, in memory that all workers share."""

    def __init__(self, network: AgentNetwork, settings: AgentSettings, device: torch.device):
        self.network, self.settings = network, settings
        self.context = processes.get_context("fork")
        self.weights = nn.Parameter(parameters_to_vector(network.parameters()).detach().to(device))
        self.optimiser = torch.optim.Adam(
            [self.weights], lr=settings.learning_rate, betas=(settings.adam_beta1, 0.999), fused=True
        )
        moments = {"step": torch.zeros((), device=device)}
        moments |= {name: torch.zeros_like(self.weights) for name in ("exp_avg", "exp_avg_sq")}
        self.optimiser.state[self.weights] = moments
        if device.type == "cpu":
            for tensor in (self.weights.data, *moments.values()):
                tensor.share_memory_()
        self.lock = self.context.Lock()
        self.steps: Any = self.context.Value(ctypes.c_int64, 0, lock=False)
        self.episodes: Any = self.context.Value(ctypes.c_int64, 0, lock=False)

    def part_done(self) -> float:
        """Return which part of the training is over: of its steps, or of its episodes if that is more."""
        part = self.steps.value / self.settings.steps
        if self.settings.episodes:
            part = max(part, self.episodes.value / self.settings.episodes)
        return min(1.0, part)

    def update(self, gradient: torch.Tensor, steps: int, episodes: int) -> int:
        """Apply one worker's gradient (P,), of so many environment steps, in which so many episodes ended.

        Return the environment steps of all workers so far.
        """
        with self.lock:
            self.steps.value += steps
            self.episodes.value += episodes
            self.optimiser.param_groups[0]["lr"] = learning_rate(self.settings, self.part_done())
            self.weights.grad = gradient
            self.optimiser.step()
            return self.steps.value

    def current_network(self) -> AgentNetwork:
        """Return this process's network, brought to a copy of the shared weights."""
        vector_to_parameters(self.weights.detach().clone(), self.network.parameters())
        return self.network

    def state(self) -> dict:
        """Return a consistent copy of all of it. Raises ``UserError`` if a worker died in an update."""
        if not self.lock.acquire(timeout=LOCK_SECONDS):
            raise UserError("training: a worker died while it wrote the weights")
        try:
            moments = {k: v.cpu().clone() for k, v in self.optimiser.state[self.weights].items()}
            return {
                "weights": self.weights.detach().cpu().clone(),
                "adam": moments,
                "steps": self.steps.value,
                "episodes": self.episodes.value,
            }
        finally:
            self.lock.release()

    def restore(self, state: dict) -> None:
        """Go on from a copy."""
        self.weights.data.copy_(state["weights"])
        for name, tensor in self.optimiser.state[self.weights].items():
            tensor.copy_(state["adam"][name])
        self.steps.value, self.episodes.value = state["steps"], state["episodes"]
