"""Distances and rewards of the registration episode (§3.3, Eq. 4)."""

import torch
from torch import Tensor

from regagent.geometry import (
    act_all,
    compose,
    displacements_after,
    frobenius_distance,
    landmark_distance,
    matrix_distance,
)
from regagent.settings import Agent


def distance(settings: Agent, pose: Tensor, perturbation: Tensor, landmarks: Tensor) -> Tensor:
    """Return the distance D (...) of poses (..., 4) to the truth, as the settings measure it.

    'LME' is the landmark error in px (Eq. 4), 'matrix' and 'Frobenius' are two readings of §3.3.
    A new distance is a branch here. Leading axes broadcast: ``distances_after`` asks for (B, A) at once.
    """
    if settings.distance == "LME":
        return landmark_distance(pose, perturbation, landmarks)
    if settings.distance == "Frobenius":
        return frobenius_distance(pose, perturbation)
    return matrix_distance(pose, perturbation, settings.matrix_scale_weight)


def distances_after(settings: Agent, pose: Tensor, perturbation: Tensor, landmarks: Tensor) -> Tensor:
    """Return D (B, A) of the next pose a ∘ T for each of the A actions a."""
    sizes = settings.action_sizes
    if settings.distance == "LME":
        # Eq. 4 as in ``distance``, but what the actions share is composed once: every step asks for this.
        return displacements_after(compose(pose, perturbation), landmarks, sizes)
    return distance(settings, act_all(pose, sizes), perturbation[:, None], landmarks[:, None])


def paper_reward(after: Tensor, terminated: Tensor, terminal_reward: float) -> Tensor:
    """Return -D of the pose reached, or the terminal reward where the episode ended (Eq. 4, §4)."""
    return torch.where(terminated, terminal_reward, -after)


def potential_reward(before: Tensor, after: Tensor, terminated: Tensor, terminal_reward: float) -> Tensor:
    """Return the fall of D in this step, plus the terminal reward where the episode ended.

    It is the reward -D shaped by the potential -D/(1-γ) (Ng et al., 1999), times 1-γ, but for the terminal
    reward, which weighs more beside it than beside -D: 1/(1-γ) times. An action's worth is no longer
    drowned by the thousands that -D adds up to.
    """
    return before - after + terminal_reward * terminated
