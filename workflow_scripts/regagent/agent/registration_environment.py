"""The registration episode behind Gymnasium's interface, for agents of other libraries (§3.1, §3.2).

``import regagent.agent.registration_environment`` registers it as ``regagent/Registration-v0``.
"""

from typing import Any, Literal

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from regagent.agent import rewards
from regagent.agent.environment import Episodes
from regagent.agent.networks import BLOCK
from regagent.geometry import actions
from regagent.images import Image, to_uint8
from regagent.pairs.simulated import simulated_pairs
from regagent.pairs.training_pairs import Pairs
from regagent.settings import Agent, PerturbationRange, Perturbations, ReinforcementAgent

ID = "regagent/Registration-v0"


class RegistrationEnvironment(gymnasium.Env):
    """One episode: A actions, and the state (H, H, 2) in [0, 1], the CT at its pose and the MR.

    Without ``pairs`` it paints the head of one simulated patient, in about ten seconds. ``ranges`` are those
    of the perturbations, by default the training's. Of ``settings`` it takes the episode, the actions, the
    distance and the augmentation, by default RL-LME's. ``reward`` is 'potential' (the fall of D in px) or
    'paper' (-D, Eq. 4); both add the terminal reward. ``info`` holds the pose, D and the perturbation.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        pairs: Pairs | None = None,
        ranges: PerturbationRange | None = None,
        settings: Agent | None = None,
        reward: Literal["potential", "paper"] = "potential",
        render_mode: Literal["rgb_array"] | None = None,
    ):
        pairs = pairs or simulated_pairs()
        settings = settings or ReinforcementAgent(learner="reinforcement")
        self.episodes = Episodes(pairs, ranges or Perturbations().E1, settings, 1, torch.Generator())
        self.reward, self.render_mode = reward, render_mode
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (pairs.size, pairs.size, 2), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(actions(settings.action_sizes)))

    def _image(self) -> Image:
        state = F.pixel_shuffle(self.episodes.states().float(), BLOCK)[0]
        return state.permute(1, 2, 0).numpy()

    def _state(self) -> tuple[Image, dict]:
        episodes = self.episodes
        info = {
            "pose": episodes.pose[0].numpy(),
            "perturbation": episodes.perturbation[0].clone().numpy(),
            "distance": float(episodes.distance[0]),
        }
        return self._image(), info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Image, dict]:
        """Perturb a pair anew; the same seed gives the same pair and perturbation."""
        super().reset(seed=seed)
        if seed is not None or not self.episodes.episode.any():
            self.episodes.generator.manual_seed(int(self.np_random.integers(2**31)))
            self.episodes.episode[:] = 0
        self.episodes.reset()
        return self._state()

    def step(self, action: int) -> tuple[Image, float, bool, bool, dict]:
        """Apply one action."""
        step = self.episodes.step(torch.tensor([int(action)]))
        bonus = self.episodes.settings.terminal_reward
        if self.reward == "paper":
            reward = rewards.paper_reward(step.distance, step.terminated, bonus)
        else:
            reward = rewards.potential_reward(step.before, step.distance, step.terminated, bonus)
        state, info = self._state()
        return state, float(reward[0]), bool(step.terminated[0]), bool(step.truncated[0]), info

    def render(self) -> NDArray[np.uint8] | None:
        """Return the pair (H, H, 3) in 8 bits, the MR in green, the CT in magenta: what fits is grey."""
        if self.render_mode is None:
            return None
        ct, mr = to_uint8(self._image()).transpose(2, 0, 1)
        return np.stack([ct, mr, ct], -1)


gymnasium.register(ID, "regagent.agent.registration_environment:RegistrationEnvironment")
