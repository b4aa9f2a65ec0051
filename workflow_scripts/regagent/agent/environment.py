"""The registration episode as a Markov decision process (§3.1, §3.2), in batches."""

import math
from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor

from regagent.agent import rewards
from regagent.agent.networks import mirror_blocks, to_blocks, to_states
from regagent.geometry import IDENTITY, MIRROR, act
from regagent.images import warp_images
from regagent.pairs.augmentation import augment_pairs
from regagent.pairs.perturbations import poses_on_the_way, sample_perturbations
from regagent.pairs.training_pairs import Pairs
from regagent.settings import Agent, PerturbationRange, SupervisedAgent


def observe(fixed: Tensor, moving: Tensor, pose: Tensor) -> Tensor:
    """Return the states (B, 32, H/4, H/4) of moving images (B, H, H) at the poses (B, 4).

    The fixed images are already in blocks (B, H/4, H/4, 16).
    """
    return to_states(to_blocks(warp_images(moving, pose)), fixed)


def mirrored(fixed: Tensor, moving: Tensor, pose: NDArray) -> tuple[Tensor, Tensor, NDArray]:
    """Return images and poses (B, 4), as ``observe`` takes them, of the pairs mirrored left to right."""
    return mirror_blocks(fixed), moving.flip(-1), pose * MIRROR


#: The part of the episodes that an accelerator treats as ended in each step.
ENDED_AT_MOST = 1 / 8


def host_knows(tensor: Tensor) -> bool:
    """Tell whether a tensor's values are at hand: an accelerator would have to be waited for."""
    return tensor.device.type == "cpu"


def rows_where(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (K,) among which are those where ``flags`` (B,) is true, and for which of them it is (K,).

    On the CPU these are just the rows where it is true. To ask an accelerator how many those are would stop
    it in every step: there K is fixed, the rows where it is true come first, and what is more than K waits.
    """
    if host_knows(flags):
        rows = flags.nonzero()[:, 0]
        return rows, flags[rows]
    found, rows = flags.int().topk(math.ceil(ENDED_AT_MOST * len(flags)))
    return rows, found.bool()


def _chosen(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return the new rows where ``chosen`` (K,), else the old ones."""
    return torch.where(chosen.view(-1, *[1] * (new.ndim - 1)), new, old)


def _replace(old: Tensor, rows: Tensor, chosen: Tensor, new: Tensor) -> Tensor:
    """Return a copy of ``old`` (B, ...) with the chosen of the new rows (K, ...) put into it."""
    return old.index_copy(0, rows, _chosen(chosen, new, old[rows]))


@dataclass(frozen=True)
class Step:
    """What a step gave in every episode, (B,) where nothing else is said; ``distance`` is D after it."""

    before: Tensor
    candidates: Tensor  # (B, A) D after each action that could have been taken
    distance: Tensor
    terminated: Tensor
    truncated: Tensor

    @property
    def ended(self) -> Tensor:
        """(B,) true where nothing of the same episode follows."""
        return self.terminated | self.truncated


class Episodes:
    """B registration episodes in step, on the device of the random generator.

    An episode perturbs the CT of a pair once (what leaves the field of view is lost) and ends when D is
    below the terminal distance, at once or after a random number of steps (``goal_steps``), or is truncated
    at the step limit. Each of the B keeps a pair for
    ``episodes_per_pair`` episodes, with a fresh perturbation every time (§3.4, §4). A pair is augmented
    when it is drawn.
    """

    def __init__(
        self,
        pairs: Pairs,
        ranges: PerturbationRange,
        settings: Agent,
        count: int,
        generator: torch.Generator,
    ):
        self.ranges, self.settings, self.generator = ranges, settings, generator
        self.device = generator.device
        self.pool = pairs.tensors(self.device)
        self.index = self._whole(count)  # which pair
        self.episode, self.elapsed = self._whole(count), self._whole(count)
        self.perturbation = torch.tensor(IDENTITY, device=self.device).repeat(count, 1)
        self.pose = self.perturbation.clone()
        # The pair as it was drawn, and the CT after its perturbation.
        fixed, self.aligned, self.landmarks, _ = self.pool.pick(self.index)
        self.fixed = to_blocks(fixed)
        self.moving = self.aligned.clone()
        self.distance, self.candidates = self.measure()
        self._spare: tuple[Tensor, ...] = ()

    def state(self) -> dict[str, Tensor]:
        """Return all that changes as the episodes go on."""
        arrays = {name: value for name, value in vars(self).items() if torch.is_tensor(value)}
        return {**arrays, "generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what ``state`` gave."""
        self.generator.set_state(state["generator"])
        for name in set(state) - {"generator"}:
            setattr(self, name, state[name].to(self.device))

    def _whole(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.long, device=self.device)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.device, dtype=torch.float64)

    def _integers(self, high: int, count: int) -> Tensor:
        return torch.randint(high, (count,), generator=self.generator, device=self.device)

    def measure(self, which: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return D (B,) of the chosen episodes' poses, and D (B, A) after each action."""
        arrays = self.settings, self.pose[which], self.perturbation[which], self.landmarks[which]
        return rewards.distance(*arrays), rewards.distances_after(*arrays)

    def reset(self, which: Tensor | None = None, stagger: bool = False) -> Tensor:
        """Start new episodes where ``which`` (B,) is true, or everywhere; return where it started them (B,).

        ``stagger`` lets them start at random counts of elapsed steps, so that later truncations do not
        all fall on one step.
        """
        if which is None:
            which = torch.ones_like(self.index, dtype=torch.bool)
            rows, chosen = torch.arange(len(which), device=self.device), which
        else:
            rows, chosen = rows_where(which)
        if not len(rows):
            return which
        perturbation = sample_perturbations(self._uniform(len(rows), 4), self.ranges)
        self.perturbation = _replace(self.perturbation, rows, chosen, perturbation)
        self.pose = _replace(self.pose, rows, chosen, self._starts(perturbation))
        elapsed = self._whole(len(rows))
        if stagger:
            elapsed = self._integers(self.settings.episode_steps, len(rows))
        self.elapsed = _replace(self.elapsed, rows, chosen, elapsed)
        self._draw_pairs(rows, chosen & (self.episode[rows] % self.settings.episodes_per_pair == 0))
        self.episode[rows] += chosen.long()
        self.moving[rows] = _chosen(chosen, warp_images(self.aligned[rows], perturbation), self.moving[rows])
        distance, candidates = self.measure(rows)
        self.distance = self.distance.index_copy(0, rows, distance)
        self.candidates = self.candidates.index_copy(0, rows, candidates)
        return torch.zeros_like(which).index_copy(0, rows, chosen)

    def _draw_pairs(self, rows: Tensor, chosen: Tensor) -> None:
        """Give the rows that are ``chosen`` another pair."""
        if host_knows(chosen):
            rows, chosen = rows[chosen], chosen[chosen]
            if not len(rows):
                return
        if host_knows(chosen) or len(rows) == len(self.index):
            drawn = self._fresh_pairs(len(rows))
        else:
            drawn = self._spare or self.lay_in()
        for array, new in zip((self.index, self.fixed, self.aligned, self.landmarks), drawn, strict=True):
            array[rows] = _chosen(chosen, new, array[rows])

    def lay_in(self) -> tuple[Tensor, ...]:
        """Draw the pairs that an accelerator gives to the episodes of the next steps, and return them.

        A draw takes hundreds of operators, whose launches cost an accelerator more than their work. So there
        is one for all steps of a rollout. The CPU draws what it needs when it needs it.
        """
        if not host_knows(self.index):
            self._spare = self._fresh_pairs(math.ceil(ENDED_AT_MOST * len(self.index)))
        return self._spare

    def _fresh_pairs(self, count: int) -> tuple[Tensor, ...]:
        """Return numbers, fixed images in blocks, moving images and landmarks of augmented pairs."""
        index = self._integers(len(self.pool.mr), count)
        pairs = augment_pairs(self.pool.pick(index), self.settings.augmentation, self.generator)
        return index, to_blocks(pairs[0]), *pairs[1:]

    def _starts(self, perturbation: Tensor) -> Tensor:
        """Return the first poses: the identity, or in a share of the episodes a pose on the way to the truth.

        Far from the truth the states hardly tell one action from another; met at all distances, they are
        learned much sooner.
        """
        draws = self._uniform(len(perturbation), 1), self._uniform(*perturbation.shape)
        return poses_on_the_way(perturbation, self.settings.exploring_starts, *draws)

    def states(self, which: Tensor | slice = slice(None)) -> Tensor:
        """Return the states (B, 32, H/4, H/4), or those of the chosen episodes."""
        return observe(self.fixed[which], self.moving[which], self.pose[which])

    def step(self, actions: Tensor) -> Step:
        """Apply T ← a ∘ T with the actions (B,); does not reset what ended."""
        before, candidates = self.distance, self.candidates
        self.pose = act(self.pose, actions, self.settings.action_sizes)
        self.elapsed = self.elapsed + 1
        self.distance = candidates.gather(1, actions[:, None])[:, 0]
        self.candidates = rewards.distances_after(self.settings, self.pose, self.perturbation, self.landmarks)
        terminated = self.distance < self.settings.terminal_distance
        if self.settings.goal_steps > 1:
            terminated = terminated & (self._uniform(len(terminated)) < 1 / self.settings.goal_steps)
        if isinstance(self.settings, SupervisedAgent) and self.settings.ends_when_stuck:
            terminated = terminated | (self.candidates.min(1).values >= self.distance)
        # What an accelerator has no room for goes on, and is truncated a step later.
        rows, late = rows_where(~terminated & (self.elapsed >= self.settings.episode_steps))
        truncated = torch.zeros_like(terminated).index_copy(0, rows, late)
        return Step(before, candidates, self.distance, terminated, truncated)
