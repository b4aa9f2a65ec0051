"""Environment steps per second of training, on all cores of this machine, and the time of a step's parts.

All are measured in turn, for several rounds, of which the table has the medians. Compare the ratios, not the
rates of two machines. Writes results/benchmarks/training.csv and profile.csv.
"""

import argparse
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable

import pandas as pd
import torch
from tqdm import tqdm

from regagent.agent import a3c, networks, shared_learner
from regagent.agent.environment import Episodes
from regagent.agent.networks import AgentNetwork
from regagent.agent.shared_learner import SharedLearner
from regagent.files import write_table
from regagent.pairs.simulated import simulated_pairs
from regagent.pairs.training_pairs import Pairs
from regagent.settings import Perturbations, ReinforcementAgent

CORES = len(os.sched_getaffinity(0))
RANGES = Perturbations().E1
AGENT = ReinforcementAgent(learner="reinforcement", steps=10**9)
#: A3C as it is usually written: one graph per step, one episode per process, and the paper's eight processes.
TEXTBOOK = AGENT.model_copy(update={"environments": 1, "unroll": 30, "workers": 8})

#: Makes, in its own process, a function that does some work and returns the number of steps that it took.
Maker = Callable[[int], Callable[[], int]]


def in_float32(make: Maker) -> Maker:
    """Return the same work with convolutions in float32 on every machine."""

    def make_in_float32(index: int) -> Callable[[], int]:
        # Each maker has a process of its own, so the others keep their precision.
        networks.precision = lambda kind: torch.float32  # type: ignore[assignment]
        return make(index)

    return make_in_float32


def training(pairs: Pairs, settings: ReinforcementAgent, shared: bool) -> Maker:
    """Return workers that share one network, or a separate training of one worker in each process."""

    def start():
        return a3c.start_training(pairs, RANGES, settings, 1, settings.environments, torch.device("cpu"))

    common = start() if shared else None

    def make(index: int) -> Callable[[], int]:
        worker = (common or start())[1](index)

        def step() -> int:
            worker.update()
            return settings.environments * settings.unroll

        return step

    return make


def network_alone(pairs: Pairs, batch: int, acting: bool) -> Maker:
    """Return the network's work per step: forward and backward to learn, and first forward if it acts."""

    def make(index: int) -> Callable[[], int]:
        network = AgentNetwork(AGENT.network, AGENT.values, pairs.size)
        images = networks.to_blocks(torch.rand(batch, pairs.size, pairs.size))
        states = networks.to_states(images, images)
        memory = network.initial_memory(batch)

        def step() -> int:
            if acting:
                with torch.no_grad():
                    network(states, memory)
            network.zero_grad()
            said = network(states, memory)
            (said.logits.square().mean() + said.values.square().mean()).backward()
            return batch

        return step

    return make


def rate(make: Maker, processes: int, seconds: float) -> float:
    """Return the steps per second of all processes together, after a warm-up in each."""
    context = multiprocessing.get_context("fork")
    barrier, rates = context.Barrier(processes), context.Queue()

    def work(index: int) -> None:
        torch.set_num_threads(1)
        step = make(index)
        step()
        barrier.wait()
        started, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - started) < seconds:
            count += step()
        rates.put(count / spent)

    crew = [context.Process(target=work, args=(index,)) for index in range(processes)]
    for process in crew:
        process.start()
    total = sum(rates.get() for _ in crew)
    for process in crew:
        process.join()
    return total


def profile(pairs: Pairs, seconds: float) -> pd.DataFrame:
    """Return the microseconds per environment step that one worker spends in each part of its work."""
    torch.set_num_threads(1)
    spent: dict[str, float] = defaultdict(float)

    def timed(part: str, owner: object, name: str) -> None:
        function = getattr(owner, name)

        def wrapper(*args, **kwargs):
            started = time.perf_counter()
            result = function(*args, **kwargs)
            spent[part] += time.perf_counter() - started
            return result

        setattr(owner, name, wrapper)

    worker_step = training(pairs, AGENT, shared=False)(0)
    timed("acting: the network forward", AgentNetwork, "forward")
    timed("warping: the states of the next step", Episodes, "states")
    timed("episodes: distances and moves", Episodes, "step")
    timed("episodes: new pairs, augmented and perturbed", Episodes, "reset")
    timed("synchronising: weights in, Adam", shared_learner, "vector_to_parameters")
    timed("synchronising: weights in, Adam", SharedLearner, "update")
    worker_step()
    spent.clear()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        count += worker_step()
    rest = time.perf_counter() - started - sum(spent.values())
    spent["learning and the rest"] = rest
    table = pd.DataFrame(spent.items(), columns=["part", "microseconds"])
    table["microseconds"] *= 1e6 / count
    table["share"] = table.microseconds / table.microseconds.sum()
    return table.sort_values("microseconds", ascending=False, ignore_index=True)


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured, in turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = simulated_pairs()
    makers = {
        "textbook A3C: 8 workers of one episode": (in_float32(training(pairs, TEXTBOOK, True)), 8),
        f"ours: {CORES} trainings side by side": (training(pairs, AGENT, False), CORES),
        f"ours: one training of {CORES} workers": (training(pairs, AGENT, True), CORES),
    }
    native = str(networks.precision("cpu")).removeprefix("torch.")
    for acting, name in ((True, "acting and learning"), (False, "learning alone")):
        for batch in (16, 32, 64, 160):
            maker = network_alone(pairs, batch, acting)
            makers[f"bound: the network {name}, {native}, batch {batch}"] = maker, CORES
            if native != "float32":
                makers[f"bound: the network {name}, float32, batch {batch}"] = in_float32(maker), CORES
    # The speed of a shared machine varies, so each round measures all that is compared.
    rounds = pd.DataFrame(
        [
            {name: rate(make, processes, arguments.seconds) for name, (make, processes) in makers.items()}
            for _ in tqdm(range(arguments.rounds))
        ]
    )
    ours = rounds.iloc[:, 1]
    table = pd.DataFrame(
        {
            "what": rounds.columns,
            "steps_per_second": rounds.median().to_numpy(),
            "ours_over_it": rounds.rdiv(ours, axis=0).median().to_numpy(),
        }
    )
    write_table(table, "results/benchmarks/training.csv")
    print(table.to_string(index=False, float_format="%.2f"))
    parts = profile(pairs, 4 * arguments.seconds)
    write_table(parts, "results/benchmarks/profile.csv")
    print(parts.to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    main()
