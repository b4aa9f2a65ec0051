"""Seconds of one CPU core a registration: the agent, 2D Elastix and SIFT on the same pairs in one run.

The network's weights are random, as weights change no speed: a greedy registration is taken as 50 steps,
about what a trained agent needs. Writes results/benchmarks/registration.csv.
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch
from pairs import simulated_pairs

from regagent.baselines import elastix_pose, sift_pose
from regagent.elastix import elastix
from regagent.files import write_table
from regagent.images import warp
from regagent.inference import register
from regagent.networks import AgentNetwork
from regagent.perturbations import sample_perturbations
from regagent.settings import Baselines, Inference, Perturbations

STEPS = 50


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=48, help="pairs to register by each method")
    count = parser.parse_args().cases
    torch.set_num_threads(1)
    pairs, baselines = simulated_pairs(), Baselines()
    chosen = np.arange(count) % len(pairs)
    poses = sample_perturbations(np.random.default_rng(1).random((count, 4)), Perturbations().E1)
    fixed = pairs.mr[chosen]
    moving = np.stack([warp(pairs.ct[i], pose) for i, pose in zip(chosen, poses, strict=True)])
    network = AgentNetwork("CNN-LSTM", 2, pairs.size).eval()
    settings = Inference(maximum_steps=STEPS)
    align = elastix(baselines.elastix_parameter_map)

    def agent(threshold: float, lookahead: bool, number: int) -> None:
        register(network, True, fixed[:number], moving[:number], threshold, settings, lookahead)

    def each(method) -> None:
        for one, other in zip(fixed, moving, strict=True):
            method(one, other)

    ratio, matches = baselines.sift_ratio, baselines.sift_minimum_matches
    rows = {}

    def measure(name: str, number: int, work) -> None:
        started, clock = time.process_time(), time.perf_counter()
        work()
        rows[name] = ((time.process_time() - started) / number, (time.perf_counter() - clock) / number)

    align_one = lambda one, other: elastix_pose(align, one, other)  # noqa: E731
    align_one(fixed[0], moving[0])
    measure("Elastix", count, lambda: each(align_one))
    measure("SIFT", count, lambda: each(lambda one, other: sift_pose(one, other, ratio, matches)))
    for number, where in ((1, "alone"), (count, f"in a batch of {count}")):
        # Above every value nothing stops before the last step; below, everything looks ahead at once.
        measure(f"agent, greedy, {where}", number, lambda n=number: agent(np.inf, False, n))
        measure(f"agent, look-ahead alone, {where}", number, lambda n=number: agent(-np.inf, True, n))
    table = pd.DataFrame(
        [(name, *times) for name, times in rows.items()], columns=["what", "cpu_seconds", "seconds"]
    )
    for where in ("alone", f"in a batch of {count}"):
        parts = table[table.what.str.startswith("agent") & table.what.str.endswith(where)]
        total = parts[["cpu_seconds", "seconds"]].sum()
        table.loc[len(table)] = [f"agent, greedy and look-ahead, {where}", *total]
    table["elastix_over_it"] = table.cpu_seconds[0] / table.cpu_seconds
    write_table(table, "results/benchmarks/registration.csv")
    print(table.to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
