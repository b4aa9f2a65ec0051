"""Registration by a trained agent: greedy steps, the stop rule, and the Monte Carlo look-ahead (§3.6)."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regagent.agent.checkpoints import Finisher, load_model
from regagent.agent.environment import mirrored, observe
from regagent.agent.networks import AgentNetwork, choose_device, to_blocks
from regagent.agent.settling import settle
from regagent.agent.stopping import ends, reached
from regagent.agent.trust import accepted
from regagent.geometry import IDENTITY, MIRROR, act, mean_pose
from regagent.images import Image
from regagent.jobs import clock
from regagent.pairs.perturbations import Images
from regagent.settings import Inference

logger = logging.getLogger("regagent")

Array = NDArray[np.float64]

#: Poses that agree when counted in these units (px, px, degrees, scale), a quarter of an action's step, share
#: one look at the images: a shift before a turn ends close to a turn before a shift. Times the smallest size.
SAME_VIEW = np.array([0.25, 0.25, 0.25, 0.0125])

#: States that go through the convolutions at once: on a CPU as many as its cache holds.
STATES_AT_ONCE = {"cpu": 16, "cuda": 1024}


@dataclass(frozen=True)
class Way:
    """One way to end a walk: where the value reaches the threshold, there perhaps with the look-ahead."""

    threshold: float
    lookahead: bool = False


@dataclass
class Registrations:
    """What registering N pairs gave."""

    pose: Array  # (N, 4)
    steps: NDArray[np.int64]  # (N,)
    value: Array  # (N,) the value at the pose, in the paper's units; of a finished agent -D as predicted, px
    stopped: NDArray[np.bool_]  # (N,) False where the value never reached the threshold, or D says to refuse
    seconds: Array  # (N,) the same for all pairs of a batch


@dataclass
class Walk:
    """The agent's way in B cases at once: look at the states, then move.

    What the convolutions make of a state is kept: the look-ahead's paths share most of their poses, and a
    greedy walk that has come near turns round there. The poses themselves stay exact.
    """

    network: AgentNetwork
    fixed: Tensor  # (N, H/4, H/4, 16)
    moving: Tensor  # (N, H, H)
    case: NDArray[np.int64]  # (B,) which of the N pairs of images
    pose: Array  # (B, 4)
    memory: Tensor  # (B, 2, 256), or (B, 2, 0) without an LSTM
    logits: Tensor  # (B, A)
    seen: dict[tuple[int, ...], Tensor]  # the features (256,) of a case's pose, counted in ``SAME_VIEW``
    memoryless: bool = False  # whether the memory is emptied before every step
    # (B,) True where the last look was the case's first at its pose
    fresh: NDArray[np.bool_] = field(default_factory=lambda: np.ones(0, bool))

    @classmethod
    def start(cls, network: AgentNetwork, fixed: Image, moving: Image, memoryless: bool = False) -> "Walk":
        """Return the walk at the identity in every pair of the images (N, H, H)."""
        count, memory = len(fixed), network.initial_memory(len(fixed))
        still, moved = (torch.as_tensor(images, device=memory.device) for images in (fixed, moving))
        pose, logits = np.tile(IDENTITY, (count, 1)), memory.new_zeros(count, network.policy.out_features)
        return cls(network, to_blocks(still), moved, np.arange(count), pose, memory, logits, {}, memoryless)

    def select(self, chosen: NDArray) -> "Walk":
        """Return the walk in the chosen cases only; indices may repeat."""
        rows = torch.as_tensor(chosen, device=self.memory.device)
        return replace(
            self,
            case=self.case[chosen],
            pose=self.pose[chosen],
            memory=self.memory[rows],
            logits=self.logits[rows],
        )

    def mirrored(self, pose: Array) -> "Walk":
        """Return a walk that begins at poses (B, 4), in the same cases with their images mirrored."""
        fixed, moving, pose = mirrored(self.fixed, self.moving, pose)
        memory = torch.zeros_like(self.memory)
        return replace(self, fixed=fixed, moving=moving, pose=pose, memory=memory, seen={})

    def put(self, rows: NDArray, other: "Walk") -> None:
        """Put another walk's cases into these rows."""
        self.case[rows], self.pose[rows] = other.case, other.pose
        there = torch.as_tensor(rows, device=self.memory.device)
        self.memory[there], self.logits[there] = other.memory, other.logits

    @torch.no_grad()
    def look(self) -> Array:
        """Take in the states; return their values (B,) in the paper's units."""
        memory = torch.zeros_like(self.memory) if self.memoryless else self.memory
        said = self.network.decide(self._features(), memory)
        self.logits, self.memory = said.logits, said.memory
        return self.network.value_to_stop_by(said).double().cpu().numpy()

    def _features(self) -> Tensor:
        """Return the features (B, 256) of the states, computed once for all like poses of a case."""
        device = self.memory.device
        views = np.column_stack(
            [self.case, np.rint(self.pose / (SAME_VIEW * min(self.network.action_sizes)))]
        ).astype(int)
        keys = list(map(tuple, views.tolist()))
        self.fresh = np.array([key not in self.seen for key in keys])
        new = {key: row for row, key in enumerate(keys) if key not in self.seen}
        rows, size = np.array(list(new.values()), int), STATES_AT_ONCE[device.type]
        for part in (rows[first : first + size] for first in range(0, len(rows), size)):
            case = torch.as_tensor(self.case[part], device=device)
            pose = torch.as_tensor(self.pose[part], device=device)
            features = self.network.features(observe(self.fixed[case], self.moving[case], pose))
            self.seen.update(zip((keys[row] for row in part), features, strict=True))
        return torch.stack([self.seen[key] for key in keys])

    def move(self) -> None:
        """Take the action of the highest probability everywhere."""
        self._act(self.logits.argmax(-1).cpu().numpy())

    def explore(self, rng: np.random.Generator, uniform: bool) -> None:
        """Take an action drawn uniformly, or from the policy."""
        if uniform:
            actions = rng.integers(0, self.logits.shape[1], len(self.pose))
        else:
            probabilities = torch.softmax(self.logits.double(), -1).cpu().numpy()
            drawn = rng.random((len(self.pose), 1))
            actions = (probabilities.cumsum(-1) < drawn).sum(-1).clip(max=self.logits.shape[1] - 1)
        self._act(actions)

    def _act(self, actions: NDArray) -> None:
        self.pose = act(self.pose, actions, self.network.action_sizes)


class Circling:
    """Tells which of N walks go in circles: those that have met no new pose for some steps."""

    def __init__(self, count: int, settings: Inference):
        self.idle, self.limit = np.zeros(count), settings.idle_steps or np.inf

    def __call__(self, walk: Walk, rows: NDArray) -> NDArray[np.bool_]:
        """Return (B,) for a walk that has just looked at its states; it is in these of the N rows (B,)."""
        self.idle[rows] = np.where(walk.fresh, 0, self.idle[rows] + 1)
        return self.idle[rows] >= self.limit


#: Is told of a step's number, the walk of the pairs that go on, and their values (B,).
Watch = Callable[[int, Walk, Array], None]


def unwatched(step: int, walk: Walk, value: Array) -> None:
    """Take no notice of a step."""


def weighted_pose(poses: Array, values: Array) -> Array:
    """Return the value-weighted mean poses (N, 4) of trajectories' poses (N, M, 4), values (N, M) (Eq. 5).

    Eq. 5 divides by ΣV, which is an average only where all V have one sign, and prefers the worst path
    where they are negative. So the V are used as they are where all are positive, else counted from the
    lowest of them; where that leaves nothing, all weigh the same.
    """
    lowest = values.min(-1, keepdims=True)
    weights = np.where(lowest > 0, values, values - lowest)
    total = weights.sum(-1, keepdims=True)
    weights = np.where(total > 1e-9, weights, 1.0)
    return mean_pose(poses, weights)


def paper_pose(poses: Array, values: Array) -> Array:
    """Return the mean poses (N, 4) of poses (N, M, 4) by Eq. 5 as it stands, values (N, M).

    Where ΣV is 0 it gives no pose: there all paths weigh the same, and a warning says in how many cases.
    """
    total = values.sum(-1, keepdims=True)
    none = np.abs(total) <= 1e-9 * np.abs(values).sum(-1, keepdims=True)
    if none.any():
        logger.warning(
            "look-ahead: the values of %d cases add up to 0; their paths weigh the same", none.sum()
        )
    return mean_pose(poses, np.where(none, 1.0, values))


def roll_out(walk: Walk, value: Array, settings: Inference, rng: np.random.Generator) -> Array:
    """Return the poses (N, 4) that the Monte Carlo rollouts from the walk's states give (§3.6).

    The walk has looked at its states, of these values (N,). Each of the ``simulations`` rollouts takes a
    uniform action, then actions drawn from the policy, ``depth`` in all; the values of the nodes on the way
    add up to V, with ``weights: paper`` from the first state on.
    """
    count = len(walk.pose)
    paths = walk.select(np.repeat(np.arange(count), settings.simulations))
    total = np.zeros(len(paths.pose))
    for depth in range(settings.depth):
        paths.explore(rng, uniform=depth == 0)
        total += paths.look()
    poses, values = paths.pose.reshape(count, -1, 4), total.reshape(count, -1)
    if settings.weights == "paper":
        return paper_pose(poses, value[:, None] + values)
    return weighted_pose(poses, values)


def look_ahead(walk: Walk, value: Array, settings: Inference, rng: np.random.Generator) -> Array:
    """Return the poses (N, 4) of ``rounds`` of rollouts, each from where the last one ended.

    Rollouts of ten steps do not get all the way to where the policy is at rest. Every second round sees the
    mirrored pairs, where the network errs otherwise; the pose is the mean of the last two. One round is the
    look-ahead of §3.6. Arguments are those of ``roll_out``.
    """
    pose = roll_out(walk, value, settings, rng)
    poses = [pose]
    for number in range(1, settings.rounds):
        walk = walk.mirrored(pose)
        pose = roll_out(walk, walk.look(), settings, rng)
        poses.append(pose * MIRROR if number % 2 else pose)
    last = np.stack(poses[-2:], 1)
    return mean_pose(last, np.ones(last.shape[:2]))


def register(
    network: AgentNetwork,
    fixed: Image | Images,
    moving: Image | Images,
    ways: Sequence[Way],
    settings: Inference,
    seed: int = 0,
    watch: Watch = unwatched,
    memoryless: bool = False,
) -> list[Registrations]:
    """Register the moving images (N, H, H) to the fixed ones, batch by batch, in each of the ways.

    Greedy actions until the value reaches a way's threshold; a pair whose value never does so in
    ``maximum_steps``, or until it goes in circles (see ``Circling``), goes back to where it was highest. From
    there the look-ahead, if wanted, gives the pose. All ways share one walk, whose time counts for each of
    them, and what it sees (up to ``SAME_VIEW``). ``watch`` is told of every step: its number, the walk of the
    pairs that go on, and their values (B,). The memory of a ``memoryless`` agent is emptied before every
    step, which shows what it is worth (§5.1).
    """
    rng = np.random.default_rng([settings.seed, seed])
    parts: list[list[Registrations]] = [[] for _ in ways]
    for first in range(0, len(fixed), settings.batch):
        batch = slice(first, first + settings.batch)
        walk = Walk.start(network, fixed[batch], moving[batch], memoryless)
        walked = _walk_to(walk, [way.threshold for way in ways], settings, watch)
        for part, way, (found, ready) in zip(parts, ways, walked, strict=True):
            looked = clock()
            if way.lookahead:
                found.pose = look_ahead(ready, found.value, settings, rng)
            found.seconds += (clock() - looked) / len(walk.pose)
            part.append(found)
    return [_joined(part) for part in parts]


def register_finely(
    network: AgentNetwork,
    finisher: Finisher,
    fixed: Image | Images,
    moving: Image | Images,
    threshold: float,
    settings: Inference,
) -> Registrations:
    """Register as an agent does that only leads near, from several starts if need be (see ``settle``).

    The ``finisher`` gives the pose. The value is -D as it predicts, and a pair counts as stopped where it is
    likely enough to be right (see ``accepted``). Other arguments are those of ``register``.
    """
    parts = []
    for first in range(0, len(fixed), settings.batch):
        batch, started = slice(first, first + settings.batch), clock()
        walk = Walk.start(network, fixed[batch], moving[batch])

        def approach(
            cases: NDArray, start: Array, fixed: Tensor, moving: Tensor, walk: Walk = walk
        ) -> tuple[Array, NDArray]:
            # What earlier starts have seen is new to this one, or it would seem to go in circles.
            pose = np.tile(start, (len(cases), 1))
            again = replace(walk.select(cases), fixed=fixed, moving=moving, pose=pose, seen={})
            ((found, _),) = _walk_to(again, [threshold], settings, unwatched)
            return found.pose, found.steps

        pose, distance, steps = settle(finisher, walk.fixed, walk.moving, approach, settings)
        seconds = np.full(len(pose), (clock() - started) / len(pose))
        right = accepted(finisher, distance)
        parts.append(Registrations(pose, steps, -distance, right, seconds))
    return _joined(parts)


def ready_agent(model: str, settings: Inference) -> tuple[AgentNetwork, Inference]:
    """Return the agent of a model file on the device, and how it registers; on a CPU it uses one thread.

    An agent that was imported registers as its own file says, in batches of the run's size; any other as the
    ``settings`` say.
    """
    torch.set_num_threads(1)
    network, facts = load_model(model, "agent")
    if own := facts.get("inference"):
        settings = Inference.model_validate(own).model_copy(update={"batch": settings.batch})
    return network.to(choose_device()), settings


def _joined(parts: list[Registrations]) -> Registrations:
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Registrations(*(np.concatenate(column) for column in columns))


def _walk_to(
    walk: Walk, thresholds: Sequence[float], settings: Inference, watch: Watch
) -> list[tuple[Registrations, Walk]]:
    """Return what greedy actions give for each threshold, and the walk at the states where they end."""
    count, started = len(walk.pose), clock()
    active = cases = np.arange(count)
    ready = [walk.select(active) for _ in thresholds]
    values = np.full((settings.maximum_steps + 1, count), -np.inf)
    highest, circling = values[0].copy(), Circling(count, settings)
    for step in range(settings.maximum_steps + 1):
        value = walk.look()
        watch(step, walk, value)
        higher = value > highest[active]  # so it is where a walk stops, too
        for there, threshold in zip(ready, thresholds, strict=True):
            goes_on = higher & ~reached(highest[active], threshold)
            there.put(active[goes_on], walk.select(np.flatnonzero(goes_on)))
        values[step, active] = value
        highest[active] = np.maximum(highest[active], value)
        stop = reached(value, max(thresholds)) | circling(walk, active)
        if stop.any():
            walk, active = walk.select(np.flatnonzero(~stop)), active[~stop]
        if not len(active):
            break
        walk.move()
    seconds, walked = (clock() - started) / count, np.isfinite(values).sum(0) - 1
    found = []
    for there, threshold in zip(ready, thresholds, strict=True):
        end, stopped = ends(values, threshold)
        steps = np.where(stopped, end, walked)
        found.append(Registrations(there.pose, steps, values[end, cases], stopped, np.full(count, seconds)))
    return list(zip(found, ready, strict=True))
