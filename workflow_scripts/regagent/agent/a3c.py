"""Asynchronous training of the agents (§2.1, §3.4): worker processes, one shared network, one shared Adam.

Every worker repeats: copy the shared weights, take a rollout in its own episodes, compute the loss's
gradient, apply it to the shared weights. The supervised agents (§3.5) run in the same loop; they follow the
best action instead of their own policy.
"""

import ctypes
import logging
import os
import queue
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.multiprocessing as processes
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from regagent.agent.checkpoints import fingerprint, forget_state, load_state, save_model, save_state
from regagent.agent.environment import Episodes
from regagent.agent.losses import reinforcement_loss, supervised_loss
from regagent.agent.networks import AgentNetwork, choose_device, precision
from regagent.agent.rollout import Actor
from regagent.files import UserError, write_table
from regagent.jobs import clock, end_with
from regagent.pairs.training_pairs import Pairs, read_pairs
from regagent.settings import PerturbationRange, ReinforcementAgent, SupervisedAgent

logger = logging.getLogger("regagent")

#: An update takes a hundredth of a second: after so many, whoever holds the weights' lock is dead.
LOCK_SECONDS = 60.0

AgentSettings = ReinforcementAgent | SupervisedAgent


class SharedLearner:
    """Weights, Adam's moments and the step count, in memory that all workers share."""

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
        self.steps = self.context.Value(ctypes.c_int64, 0, lock=False)

    def update(self, gradient: torch.Tensor, steps: int) -> int:
        """Apply one worker's gradient; return the environment steps of all workers so far."""
        settings = self.settings
        with self.lock:
            total = self.steps.value + steps
            done = min(1.0, total / settings.steps)
            rate = settings.learning_rate * (1 - done * (1 - settings.final_learning_rate_fraction))
            if done < settings.warmup_fraction:
                rate *= done / settings.warmup_fraction
            self.optimiser.param_groups[0]["lr"] = rate
            self.weights.grad = gradient
            self.optimiser.step()
            self.steps.value = total
            return total

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
            }
        finally:
            self.lock.release()

    def restore(self, state: dict) -> None:
        """Go on from a copy."""
        self.weights.data.copy_(state["weights"])
        for name, tensor in self.optimiser.state[self.weights].items():
            tensor.copy_(state["adam"][name])
        self.steps.value = state["steps"]


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

    def update(self) -> list[dict]:
        """Take one rollout, learn from it, and return the records of the episodes that ended in it."""
        settings, network = self.shared.settings, self.shared.current_network()
        progress = min(1.0, self.shared.steps.value / settings.steps)
        supervised = isinstance(settings, SupervisedAgent)
        # Around the whole rollout, though it turns nothing on: the convolutions' own autocast then keeps the
        # weights that it cast, instead of casting them in every step.
        with torch.autocast(self.shared.weights.device.type, enabled=False):
            rollout = self.actor.collect(
                settings.unroll, self.actor.follow if supervised else self.actor.sample
            )
        loss = (supervised_loss if supervised else reinforcement_loss)(rollout, settings, progress)
        network.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        if not torch.isfinite(norm):
            raise UserError(
                f"training: the gradient is not finite (loss {loss.item():.4g}) after "
                f"{self.shared.steps.value} steps; try a smaller learning_rate"
            )
        gradient = parameters_to_vector(p.grad for p in network.parameters())
        total = self.shared.update(gradient, rollout.actions.numel())
        records = [{"worker": self.index, "env_step": total, **record} for record in self.actor.finished]
        self.actor.finished.clear()
        return records


def _run_worker(index: int, inbox: processes.Queue, make_worker) -> None:
    """Run a worker in a process of its own; what it has to say goes to the parent's ``inbox``."""
    parent = processes.parent_process().pid
    end_with(parent)
    if os.getppid() != parent:  # it has ended already
        raise SystemExit(1)
    torch.set_num_threads(1)
    try:
        worker = make_worker(index)
        while worker.shared.steps.value < worker.shared.settings.steps:
            inbox.put(worker.update())
    except BaseException as error:
        message = str(error) if isinstance(error, UserError) else traceback.format_exc()
        inbox.put(message)
        raise SystemExit(1) from None


class _Progress:
    """The training's record (training.csv), its progress lines, and its checkpoints."""

    def __init__(self, shared: SharedLearner, title: str, state_folder: Path, mark: str):
        self.shared, self.title, self.folder, self.mark = shared, title, state_folder, mark
        self.actor: Actor | None = None  # of a single worker, which goes on exactly where it was
        self.records: list[dict] = []
        self.spent, self.first_step = 0.0, 0
        self.saved_actor = None
        saved = load_state(state_folder, mark)
        if saved:
            self.saved_actor = saved["actor"]
            shared.restore(saved["learner"])
            self.records, self.spent = saved["records"], saved["seconds"]
            self.first_step = shared.steps.value
            logger.info("%s: goes on from step %d", title, self.first_step)
        self.started = self.said = self.saved = time.monotonic()
        self.clock_started = clock()

    def keep(self, actor: Actor) -> None:
        """Put the actor where it was when the state was saved, and save it from now on."""
        self.actor = actor
        if self.saved_actor:
            actor.restore(self.saved_actor)

    @property
    def seconds(self) -> float:
        return self.spent + clock() - self.clock_started

    def add(self, records: list[dict]) -> None:
        for record in records:
            number = len(self.records)
            self.records.append({"episode": number, "seconds": round(self.seconds, 2), **record})
        now = time.monotonic()
        if now - self.said > 10:
            self.say()
            self.said = now
        if now - self.saved > self.shared.settings.checkpoint_seconds:
            self.save()
            self.saved = now

    def say(self) -> None:
        steps, total = self.shared.steps.value, self.shared.settings.steps
        rate = (steps - self.first_step) / (time.monotonic() - self.started)
        recent = pd.DataFrame(self.records[-200:], columns=["success", "steps", "distance"]).mean()
        left = max(0, total - steps) / max(rate, 1e-9)
        logger.info(
            "%s: step %d of %d, %.0f steps/s, %d episodes, success %.2f, %.0f steps an episode, "
            "distance %.2f at the end, %.0f s left",
            *(self.title, steps, total, rate, len(self.records)),
            *(recent.success, recent.steps, recent.distance, left),
        )

    def save(self) -> None:
        state = {"learner": self.shared.state(), "records": self.records, "seconds": self.seconds}
        actor = self.actor and self.actor.state()
        save_state(self.folder, {"fingerprint": self.mark, **state, "actor": actor})


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
    network = AgentNetwork(settings.network, settings.values, pairs.size, settings.rescale_values).to(device)
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

    A training that was killed goes on from the checkpoint in the folder ``state``, if the
    ``version`` of the code is still the same; one that ended leaves none. With one worker and a
    seed, the same CPU gives the same weights, killed on the way or not. Raises ``UserError`` when a
    worker dies.
    """
    torch.set_num_threads(1)
    pairs = read_pairs(slices, split, "train")
    device = choose_device()
    workers, environments = settings.workers, settings.environments
    if device.type == "cuda":  # one process feeds the GPU, with the episodes of all workers
        workers, environments = 1, workers * environments
    logger.info(
        "%s: %d pairs, %d workers × %d episodes on %s, convolutions in %s",
        *(variant, len(pairs), workers, environments, device, precision(device.type)),
    )
    shared, make_worker = start_training(pairs, ranges, settings, seed, environments, device)
    mark = fingerprint(pairs, device, version, settings.model_dump(), ranges.model_dump(), seed)
    progress = _Progress(shared, variant, Path(state), mark)
    if workers == 1:
        worker = make_worker(0)
        progress.keep(worker.actor)
        while shared.steps.value < settings.steps:
            progress.add(worker.update())
    else:
        _train_with_processes(shared, workers, make_worker, progress)
    progress.say()
    columns = ["worker", "episode", "env_step", "seconds", "steps", "reward", "distance", "success"]
    write_table(pd.DataFrame(progress.records, columns=columns), output_training)
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
    forget_state(state)


def _train_with_processes(shared: SharedLearner, count: int, make_worker, progress: _Progress) -> None:
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
                message = []
            if isinstance(message, str):
                raise UserError(f"{progress.title}: a worker stopped: {message}")
            progress.add(message)
            dead = [process for process in crew if process.exitcode not in (None, 0)]
            if dead and inbox.empty():
                raise UserError(f"{progress.title}: a worker died with exit status {dead[0].exitcode}")
    finally:
        for process in crew:
            process.terminate()
            process.join()
