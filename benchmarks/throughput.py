"""Environment steps a second of one training worker, and seconds a registration, on this machine's CPU.

Everything runs in turn, in one process of one thread, on synthetic slice pairs of the paper's size; compare
ratios, not the figures of two machines. Writes results/benchmarks/throughput.csv.
"""

import argparse
import platform
import time

import cv2
import numpy as np
import pandas as pd
import torch

from regagent.a3c import SharedLearner, Worker
from regagent.environment import Pairs, to_states
from regagent.files import write_table
from regagent.inference import register
from regagent.networks import AgentNetwork
from regagent.settings import Inference, PerturbationRange, ReinforcementAgent

RANGES = PerturbationRange(translation_px=25, rotation_deg=30)


def blobs(count: int, size: int = 168) -> Pairs:
    """Return pairs of blurred noise: what is in the images does not change what they cost."""
    rng = np.random.default_rng(0)
    images = rng.random((2, count, size, size)).astype(np.float32)
    images = np.stack([[cv2.GaussianBlur(image, (0, 0), 5) for image in half] for half in images])
    return Pairs(*images, *rng.uniform(-60, 60, (2, count, 64, 2)))


def worker_rate(pairs: Pairs, environments: int, unroll: int, seconds: float) -> float:
    """Return environment steps a second of one worker, acting, warping and learning included."""
    settings = ReinforcementAgent(
        learner="reinforcement", environments=environments, unroll=unroll, steps=10**9
    )
    network = AgentNetwork(settings.network, settings.values, pairs.size)
    shared = SharedLearner(network, settings, torch.device("cpu"))
    worker = Worker(0, shared, network, pairs, RANGES, 1, environments)
    return rate(worker.update, environments * unroll, seconds)


def network_rate(pairs: Pairs, batch: int, seconds: float) -> float:
    """Return states a second of the network alone, one pass forward and one backward in a batch."""
    network = AgentNetwork("CNN-LSTM", 2, pairs.size)
    states = to_states(np.random.default_rng(0).random((batch, 168, 168, 2), np.float32))
    memory = network.initial_memory(batch)

    def step() -> None:
        network.zero_grad()
        logits, values, _ = network(states, memory)
        (logits.square().mean() + values.square().mean()).backward()

    return rate(step, batch, seconds)


def rate(step, units: int, seconds: float) -> float:
    """Return units a second of a repeated step, after one to warm up."""
    step()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        step()
        count += 1
    return units * count / (time.perf_counter() - started)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each measurement")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    pairs = blobs(8)
    textbook = worker_rate(pairs, 1, 30, seconds)
    ours = worker_rate(pairs, 32, 5, seconds)
    bound = network_rate(pairs, 32, seconds)
    rows = [
        ("one episode a worker, unroll 30", textbook, "steps/s"),
        ("32 episodes a worker, unroll 5", ours, "steps/s"),
        ("the network alone, batch 32", bound, "steps/s"),
        ("batched over single", ours / textbook, "ratio"),
        ("batched over the network alone", ours / bound, "ratio"),
    ]
    network = AgentNetwork("CNN-LSTM", 2, pairs.size).eval()
    fixed, moving = (np.tile(images, (4, 1, 1)) for images in (pairs.mr, pairs.ct))
    walk = Inference(maximum_steps=60)
    for count, name in ((1, "alone"), (len(fixed), f"in a batch of {len(fixed)}")):
        for threshold, lookahead, kind in (
            (np.inf, False, "60 greedy steps"),
            (-np.inf, True, "one look-ahead"),
        ):
            started = time.perf_counter()
            register(network, True, fixed[:count], moving[:count], threshold, walk, lookahead)
            rows.append((f"{kind}, {name}", (time.perf_counter() - started) / count, "s a pair"))
    table = pd.DataFrame(rows, columns=["what", "value", "unit"]).assign(machine=platform.processor())
    write_table(table, "results/benchmarks/throughput.csv")
    print(table.drop(columns="machine").to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
