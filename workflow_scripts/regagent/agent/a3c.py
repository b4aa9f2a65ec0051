"""Asynchronous training of the agents (§2.1, §3.4): worker processes that share weights and Adam.

Every worker takes T steps (``unroll``) in each of its B episodes (``environments``), learns, and repeats:

1. weights in: copy the shared weights (P,) into its own network;
2. rollout: act in the episodes, T × B steps;
3. loss: one number, of how the steps went and what the network had said of them;
4. gradient out: clip the loss's gradient (P,) and apply it to the shared weights by the shared Adam.

One worker, the default, trains in the main process; several run side by side and never wait for each other.
The supervised agents (§3.5) run in the same loop; they follow the best action instead of their own policy.
"""

import logging
import os
import queue
import traceback
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
import torch.multiprocessing as processes
from torch import nn
from torch.nn.utils import parameters_to_vector

from regagent.agent.checkpoints import fingerprint, save_model
from regagent.agent.environment import Episodes
from regagent.agent.losses import reinforcement_loss, supervised_loss
from regagent.agent.networks import AgentNetwork, choose_device, precision
from regagent.agent.record import TrainingRecord
from regagent.agent.rollout import Actor
from regagent.agent.shared_learner import SharedLearner
from regagent.files import UserError
from regagent.jobs import end_with
from regagent.pairs.training_pairs import Pairs, read_pairs
from regagent.settings import AgentSettings, PerturbationRange, SupervisedAgent

logger = logging.getLogger("regagent")

#: The record of a training has a row an episode.
COLUMNS = ("worker", "episode", "env_step", "seconds", "steps", "reward", "distance", "success")
#: What a progress line and a curve give the mean of, by its name there.
MEANS = {
    "success": "success",
    "steps an episode": "steps",
    "reward an episode": "reward",
    "distance at the end": "distance",
}


@dataclass(frozen=True)
class Update:
    """What one update of a worker tells."""

    step: int  # environment steps of all workers after it
    episodes: list[dict]  # those that ended in it: a row each of the record, but for number and seconds
    measures: dict[str, float]  # loss, norm of the gradient before it was clipped, learning rate


class Worker:
    """One worker with its own episodes."""

    def __init__(
        self,
        index: int,
        shared: SharedLearner,
        pairs: Pairs,
        ranges: PerturbationRange,
        seed: int,
        environments: int,
    ):
        self.index, self.shared = index, shared
        stream = np.random.SeedSequence([seed, index, shared.steps.value]).generate_state(1)
        generator = torch.Generator(shared.weights.device).manual_seed(int(stream[0]))
        episodes = Episodes(pairs, ranges, shared.settings, environments, generator)
        self.actor = Actor(shared.network, episodes)
        supervised = isinstance(shared.settings, SupervisedAgent)
        follows = isinstance(shared.settings, SupervisedAgent) and shared.settings.acts == "expert"
        self.choose = self.actor.follow if follows else self.actor.sample
        self.loss: Callable[..., torch.Tensor] = supervised_loss if supervised else reinforcement_loss

    def update(self) -> Update:
        """Take one rollout and learn from it. Raises ``UserError`` if the gradient is not finite."""
        shared, settings = self.shared, self.shared.settings
        network = shared.current_network()
        progress = shared.part_done()
        # Around the whole rollout, though it turns nothing on: the convolutions' own autocast then keeps the
        # weights that it cast, instead of casting them in every step.
        with torch.autocast(shared.weights.device.type, enabled=False):
            rollout = self.actor.collect(settings.unroll, self.choose)
        loss = self.loss(rollout, settings, progress)
        network.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        # Both in one tensor, as an accelerator is waited for once then.
        loss_value, norm_value = torch.stack([loss.detach(), norm]).tolist()
        if not np.isfinite(norm_value):
            raise UserError(
                f"training: the gradient is not finite (loss {loss_value:.4g}) after "
                f"{shared.steps.value} steps; try a smaller learning_rate"
            )
        gradient = parameters_to_vector([p.grad for p in network.parameters() if p.grad is not None])
        step = shared.update(gradient, rollout.actions.numel(), len(self.actor.finished))
        episodes = [{"worker": self.index, "env_step": step, **row} for row in self.actor.finished]
        self.actor.finished.clear()
        rate = shared.optimiser.param_groups[0]["lr"]
        measures = {"loss": loss_value, "gradient norm": norm_value, "learning rate": rate}
        return Update(step, episodes, measures)

    def updates(self) -> Generator[Update, None, None]:
        """Yield one update after the other until the training of all workers together is over."""
        while self.shared.part_done() < 1:
            yield self.update()


def start_training(
    pairs: Pairs,
    ranges: PerturbationRange,
    settings: AgentSettings,
    seed: int,
    environments: int,
    device: torch.device,
) -> tuple[SharedLearner, Callable[[int], Worker]]:
    """Return what the workers share, at its random start, and what makes the worker of a number."""
    torch.manual_seed(seed)
    network = AgentNetwork(
        settings.network,
        settings.values,
        pairs.size,
        settings.rescale_values,
        settings.action_sizes,
    ).to(device)
    shared = SharedLearner(network, settings, device)
    return shared, lambda index: Worker(index, shared, pairs, ranges, seed, environments)


def train_agent(
    slices: list[str],
    split: str,
    ranges: PerturbationRange,
    settings: AgentSettings,
    seed: int,
    variant: str,
    state: str,
    version: str,
    output_model: str,
    output_training: str,
) -> None:
    """Train one variant on the training patients; write its model file and the record of its episodes.

    The folder ``state`` holds the growing record, its curves and its checkpoints (see ``TrainingRecord``).
    A training that was killed goes on from the last checkpoint, if the ``version`` of the code is still the
    same; one that ended leaves none. With one worker and a seed, the same CPU gives the same weights, killed
    on the way or not. Raises ``UserError`` when a worker dies.
    """
    torch.set_num_threads(1)
    pairs = read_pairs(slices, split, "train")
    device = choose_device()
    if device.type != "cpu":
        settings = settings.on_accelerator()
    workers, environments = settings.workers, settings.environments
    logger.info(
        "%s: %d pairs, %d workers × %d episodes on %s, convolutions in %s",
        *(variant, len(pairs), workers, environments, device, precision(device.type)),
    )
    if device.type != "cpu":
        logger.info(
            "%s: %d steps at a learning rate of %g (key accelerator: a larger batch costs a GPU little)",
            *(variant, settings.steps, settings.learning_rate),
        )
    shared, make_worker = start_training(pairs, ranges, settings, seed, environments, device)
    mark = fingerprint(pairs, device, version, settings.model_dump(), ranges.model_dump(), seed)
    record = TrainingRecord(
        state, mark, variant, settings.steps, settings.checkpoint_seconds, COLUMNS, MEANS, settings.episodes
    )
    if record.saved:
        shared.restore(record.saved["learner"])
    actor = None
    if workers == 1:
        worker = make_worker(0)
        actor, updates = worker.actor, worker.updates()
        if record.saved:
            actor.restore(record.saved["actor"])
    else:
        updates = updates_of_processes(shared, workers, make_worker, variant)

    with closing(updates):
        for update in updates:
            numbered = enumerate(update.episodes, len(record.rows))
            rows = [{"episode": number, **episode} for number, episode in numbered]
            record.add(update.step, rows, update.measures)
            if record.checkpoint_is_due():  # a single worker goes on exactly where it was
                record.save(learner=shared.state(), actor=actor and actor.state())

    save_model(
        shared.current_network(),
        output_model,
        variant=variant,
        seed=seed,
        steps=shared.steps.value,
        settings=settings.model_dump(),
        workers=workers,
        environments=environments,
        device=device.type,
        precision=str(precision(device.type)),
    )
    record.finish(output_training)


def updates_of_processes(
    shared: SharedLearner, count: int, make_worker: Callable[[int], Worker], title: str
) -> Generator[Update, None, None]:
    """Run workers in processes of their own and yield their updates as they come.

    The processes end with the iterator. Raises ``UserError`` when one of them dies.
    """
    inbox = shared.context.Queue()
    crew = [
        shared.context.Process(target=_run_worker, args=(i, inbox, make_worker), daemon=True)
        for i in range(count)
    ]
    for process in crew:
        process.start()
    try:
        while any(process.is_alive() for process in crew) or not inbox.empty():
            try:
                message = inbox.get(timeout=0.5)
            except queue.Empty:
                message = None
            if isinstance(message, str):
                raise UserError(f"{title}: a worker stopped: {message}")
            if message:
                yield message
            dead = [process for process in crew if process.exitcode not in (None, 0)]
            if dead and inbox.empty():
                raise UserError(f"{title}: a worker died with exit status {dead[0].exitcode}")
    finally:
        for process in crew:
            process.terminate()
            process.join()


def _run_worker(index: int, inbox: processes.Queue, make_worker: Callable[[int], Worker]) -> None:
    """Run a worker in a process of its own; what it has to say goes to the parent's ``inbox``."""
    parent = processes.parent_process()
    assert parent is not None and parent.pid is not None  # this is a process that another one started
    end_with(parent.pid)
    if os.getppid() != parent.pid:  # it has ended already
        raise SystemExit(1)
    torch.set_num_threads(1)
    try:
        for update in make_worker(index).updates():
            inbox.put(update)
    except BaseException as error:
        message = str(error) if isinstance(error, UserError) else traceback.format_exc()
        inbox.put(message)
        raise SystemExit(1) from None
