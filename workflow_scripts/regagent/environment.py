"""The registration episode as a Markov decision process (§3.1, §3.2), batched, and behind Gymnasium."""

from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
from numpy.typing import NDArray

from regagent import rewards
from regagent.augmentation import augment_pair
from regagent.files import UserError, read_table
from regagent.geometry import IDENTITY, act, corner_matrix, invert
from regagent.images import Image, warp, warp_by
from regagent.perturbations import sample_perturbations
from regagent.settings import Agent, PerturbationRange
from regagent.slices import read_slices


@dataclass(frozen=True)
class Pairs:
    """Aligned slice pairs: images (M, H, H) in [0, 1], points (M, N, 2) in centred px, padded by NaN."""

    mr: Image
    ct: Image
    landmarks: NDArray[np.float64]
    evaluation_points: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.mr)

    @property
    def size(self) -> int:
        """Width and height of the images in px."""
        return self.mr.shape[-1]


def read_pairs(slices: list[str | Path], split: str | Path, subset: str) -> Pairs:
    """Read the pairs of all patients of a subset, 'train' or 'test'. Raises ``UserError`` if it is empty."""
    members = set(read_table(split).query("set == @subset").patient)
    chosen = [pairs for pairs in map(read_slices, sorted(map(str, slices))) if pairs.patient in members]
    if not chosen:
        raise UserError(f"{split}: no patient of the set {subset!r} among the slices given")

    def stack(arrays: list[NDArray]) -> NDArray:
        points = max(a.shape[1] for a in arrays)
        fill = [np.pad(a, ((0, 0), (0, points - a.shape[1]), (0, 0)), constant_values=np.nan) for a in arrays]
        return np.concatenate(fill)

    return Pairs(
        mr=np.concatenate([p.mr for p in chosen]),
        ct=np.concatenate([p.ct for p in chosen]),
        landmarks=stack([p.landmarks for p in chosen]),
        evaluation_points=stack([p.evaluation_points for p in chosen]),
    )


def observe(fixed: Image, moving: Image, pose: NDArray[np.float64]) -> Image:
    """Return the states (B, H, H, 2): the moving images (B, H, H) warped by their poses, and the fixed."""
    states = np.empty((*fixed.shape, 2), np.float32)
    for state, image, forward in zip(states, moving, corner_matrix(pose, fixed.shape[-1]), strict=True):
        state[..., 0] = warp_by(image, forward)
    states[..., 1] = fixed
    return states


@dataclass(frozen=True)
class Step:
    """What a step gave in every episode, (B,) where nothing else is said; ``distance`` is D after it."""

    before: NDArray[np.float64]
    candidates: NDArray[np.float64]  # (B, 8) D after each action that could have been taken
    distance: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


class Episodes:
    """B registration episodes in step.

    An episode perturbs the CT of a pair once (what leaves the field of view is lost) and ends when D is
    below the terminal distance, or is truncated at the step limit. Each of the B keeps a pair for
    ``episodes_per_pair`` episodes, with a fresh perturbation every time (§3.4, §4). A pair is augmented
    when it is drawn.
    """

    def __init__(
        self,
        pairs: Pairs,
        ranges: PerturbationRange,
        settings: Agent,
        count: int,
        rng: np.random.Generator,
    ):
        self.pairs, self.ranges, self.settings, self.rng = pairs, ranges, settings, rng
        size = pairs.size
        self.index = np.zeros(count, int)  # which pair
        self.episode = np.zeros(count, int)
        self.elapsed = np.zeros(count, int)
        self.perturbation = np.tile(IDENTITY, (count, 1))
        self.pose = np.tile(IDENTITY, (count, 1))
        self.distance = np.zeros(count)
        self.fixed = np.zeros((count, size, size), np.float32)
        self.aligned = np.zeros((count, size, size), np.float32)  # the CT before its perturbation
        self.moving = np.zeros((count, size, size), np.float32)
        self.landmarks = np.zeros((count, *pairs.landmarks.shape[1:]))

    def measure(self) -> NDArray[np.float64]:
        """Return D (B,) of the current poses."""
        return rewards.distance(self.settings, self.pose, self.perturbation, self.landmarks)

    def candidates(self) -> NDArray[np.float64]:
        """Return D (B, 8) after each action; the lowest is that of the best action (§3.5)."""
        return rewards.distances_after(self.settings, self.pose, self.perturbation, self.landmarks)

    def reset(self, which: NDArray[np.bool_] | None = None, stagger: bool = False) -> None:
        """Start new episodes where ``which`` (B,) is true, or everywhere.

        ``stagger`` lets them start at random counts of elapsed steps, so that later truncations do not
        all fall on one step.
        """
        chosen = np.arange(len(self.index)) if which is None else np.flatnonzero(which)
        self.perturbation[chosen] = sample_perturbations(self.rng, len(chosen), self.ranges)
        self.pose[chosen] = self._starts(self.perturbation[chosen])
        self.elapsed[chosen] = 0
        if stagger:
            self.elapsed[chosen] = self.rng.integers(0, self.settings.episode_steps, len(chosen))
        for i in chosen:
            if self.episode[i] % self.settings.episodes_per_pair == 0:
                self._draw_pair(i)
            self.episode[i] += 1
            self.moving[i] = warp(self.aligned[i], self.perturbation[i])
        self.distance = self.measure()

    def _draw_pair(self, i: int) -> None:
        pairs, number = self.pairs, self.rng.integers(len(self.pairs))
        self.index[i] = number
        self.fixed[i], self.aligned[i], self.landmarks[i] = augment_pair(
            pairs.mr[number], pairs.ct[number], pairs.landmarks[number], self.settings.augmentation, self.rng
        )

    def _starts(self, perturbation: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the first poses: the identity, or in a share of the episodes a pose on the way to the truth.

        Each parameter of such an exploring start is a random part of its true value. Far from the truth
        the states hardly tell one action from another; met at all distances, they are learned much sooner.
        """
        poses = np.tile(IDENTITY, (len(perturbation), 1))
        exploring = self.rng.random(len(poses)) < self.settings.exploring_starts
        part = self.rng.random(poses.shape)
        truth = invert(perturbation)
        on_the_way = np.concatenate([part[:, :3] * truth[:, :3], truth[:, 3:] ** part[:, 3:]], 1)
        return np.where(exploring[:, None], on_the_way, poses)

    def states(self, which: NDArray[np.bool_] | slice = slice(None)) -> Image:
        """Return the states (B, H, H, 2), or of the episodes where ``which`` (B,) is true."""
        return observe(self.fixed[which], self.moving[which], self.pose[which])

    def step(self, actions: NDArray[np.int64]) -> Step:
        """Apply T ← a ∘ T with the actions (B,); does not reset what ended."""
        before, candidates = self.distance, self.candidates()
        self.pose = act(self.pose, actions)
        self.elapsed = self.elapsed + 1
        self.distance = candidates[np.arange(len(actions)), actions]
        terminated = self.distance < self.settings.terminal_distance
        truncated = ~terminated & (self.elapsed >= self.settings.episode_steps)
        return Step(before, candidates, self.distance, terminated, truncated)


class RegistrationEnvironment(gymnasium.Env):
    """One episode behind Gymnasium's interface: state (H, H, 2) in [0, 1], eight actions.

    ``reward`` is 'paper' (-D, Eq. 4) or 'potential' (the fall of D). ``info`` holds the pose, D and the
    perturbation.
    """

    metadata = {"render_modes": []}

    def __init__(self, pairs: Pairs, ranges: PerturbationRange, settings: Agent, reward: str = "paper"):
        self.episodes = Episodes(pairs, ranges, settings, 1, np.random.default_rng())
        self.reward = reward
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (pairs.size, pairs.size, 2), np.float32)
        self.action_space = gymnasium.spaces.Discrete(8)

    def _state(self) -> tuple[Image, dict]:
        episodes = self.episodes
        info = {
            "pose": episodes.pose[0].copy(),
            "perturbation": episodes.perturbation[0].copy(),
            "distance": float(episodes.distance[0]),
        }
        return episodes.states()[0], info

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Image, dict]:
        """Perturb a pair anew; the same seed gives the same pair and perturbation."""
        super().reset(seed=seed)
        self.episodes.rng = self.np_random
        if seed is not None:
            self.episodes.episode[:] = 0
        self.episodes.reset()
        return self._state()

    def step(self, action: int) -> tuple[Image, float, bool, bool, dict]:
        """Apply one action."""
        step = self.episodes.step(np.array([action]))
        bonus = self.episodes.settings.terminal_reward
        if self.reward == "paper":
            reward = rewards.paper_reward(step.distance, step.terminated, bonus)
        else:
            reward = rewards.potential_reward(step.before, step.distance, step.terminated, bonus)
        state, info = self._state()
        return state, float(reward[0]), bool(step.terminated[0]), bool(step.truncated[0]), info
