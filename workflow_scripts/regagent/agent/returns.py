"""Returns and advantages of a rollout (§2.1), and the rescaling of values."""

import torch
from torch import Tensor


def advantages(
    rewards: Tensor, values: Tensor, ended: Tensor, discount: float, trace_decay: float = 1.0
) -> Tensor:
    """Return generalised advantages (T, B) (Schulman et al., 2016).

    rewards (T, B); values (T+1, B), the last being the bootstrap; ended (T, B) marks steps after which
    nothing of the same episode follows. A truncated step's bootstrap value is to be added to its reward
    by the caller. With ``trace_decay`` 1, advantage + value is the n-step return of A3C.
    """
    result = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        goes_on = 1.0 - ended[t].to(rewards.dtype)
        error = rewards[t] + discount * goes_on * values[t + 1] - values[t]
        running = error + discount * trace_decay * goes_on * running
        result[t] = running
    return result


#: Rescaled returns are counted in this unit, so that they are of order one.
UNIT = 5.0


def rescale(x: Tensor) -> Tensor:
    """Squash returns whose range is -thousands to 10: sign(x)·(√(|x|+1) - 1) (Pohlen et al., 2018)."""
    return torch.sign(x) * (torch.sqrt(x.abs() + 1.0) - 1.0) / UNIT


def unscale(y: Tensor) -> Tensor:
    """Invert ``rescale``."""
    return torch.sign(y) * (((y * UNIT).abs() + 1.0) ** 2 - 1.0)
