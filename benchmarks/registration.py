"""Seconds of one CPU core per registration: the agent, 2D Elastix and SIFT on the same pairs.

Takes the trained agent, the stop thresholds and E1 cases of a run (`make reproduce` first). The numbers are
medians over some rounds, each of which measures all methods. Writes results/benchmarks/registration.csv.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from regagent.agent.checkpoints import load_model
from regagent.agent.inference import Way, register, register_finely
from regagent.agent.networks import AgentNetwork, ResidualNetwork
from regagent.agent.stopping import Thresholds
from regagent.conventional.sift import sift_pose
from regagent.conventional.slice_registration import itk_pose
from regagent.elastix import elastix
from regagent.files import parameter_map, read_table, write_table
from regagent.images import Image
from regagent.pairs.perturbations import perturbed_pairs
from regagent.pairs.slices import read_cohort
from regagent.settings import Baselines, Inference

ROUNDS = 5
#: How many pairs per round are registered one by one.
ALONE = 24

#: Registers pairs of a fixed and a moving image.
Work = Callable[[list[tuple[Image, Image]]], object]


def stacked(images: list[tuple[Image, Image]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the fixed and the moving images of pairs, each as one array."""
    fixed, moving = zip(*images, strict=True)
    return np.stack(fixed), np.stack(moving)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="default", help="the run whose agent and cases to take")
    parser.add_argument("--cases", type=int, default=240, help="pairs in a batch")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path("results") / arguments.run
    cases = read_table(folder / "perturbations/E1.csv")
    cases = cases.iloc[:: max(1, len(cases) // arguments.cases)][: arguments.cases]
    cohort = read_cohort(sorted(folder.glob("slices/[!.]*.npz")))
    fixed, moving = (images[:] for images in perturbed_pairs(cases, cohort))
    network, _ = load_model(folder / "models/RL-LME/seed1/model.pt", "agent")
    assert isinstance(network, AgentNetwork)
    finisher, _ = load_model(folder / "models/pure-SL-iterated/seed1/trusted.pt", "residual")
    assert isinstance(finisher, ResidualNetwork)
    thresholds = Thresholds.read(folder / "models/RL-LME/seed1/threshold.json")
    ways = {"greedy": Way(thresholds.greedy), "look-ahead": Way(thresholds.lookahead, lookahead=True)}
    baselines, count = Baselines(), len(fixed)
    align = elastix(parameter_map(baselines.elastix_parameter_map))
    some = slice(None, None, max(1, count // ALONE))
    rounds: list[dict[str, list[float]]] = []

    def measure(name: str, work: Work, pairs: slice = some) -> None:
        images = list(zip(fixed[pairs], moving[pairs], strict=True))
        started, clock = time.process_time(), time.perf_counter()
        work(images)
        spent = time.process_time() - started, time.perf_counter() - clock
        rounds[-1][name] = [seconds / len(images) for seconds in spent]

    def agent(name: str, batch: int) -> Work:
        settings = Inference(batch=batch)

        def work(images: list[tuple[Image, Image]]) -> None:
            register(network, *stacked(images), [ways[name]], settings)

        return work

    def fine(images: list[tuple[Image, Image]]) -> None:
        register_finely(network, finisher, *stacked(images), thresholds.lookahead, Inference(batch=count))

    def each(method: Callable[[Image, Image], object]) -> Work:
        return lambda images: [method(*pair) for pair in images]

    ratio, matches = baselines.sift_ratio, baselines.sift_minimum_matches
    itk_pose(align, fixed[0], moving[0])
    for _ in tqdm(range(ROUNDS)):
        rounds.append({})
        measure("Elastix", each(lambda one, other: itk_pose(align, one, other)))
        measure("SIFT", each(lambda one, other: sift_pose(one, other, ratio, matches)))
        for name in ways:
            measure(f"agent, {name}, one by one", agent(name, 1))
            measure(f"agent, {name}, in a batch of {count}", agent(name, count), slice(None))
        measure(f"agent, finished (RL-LME-fine), in a batch of {count}", fine, slice(None))
    seconds = np.array([list(row.values()) for row in rounds])
    table = pd.DataFrame(np.median(seconds, 0), columns=["cpu_seconds", "seconds"])
    table.insert(0, "what", list(rounds[0]))
    table["elastix_over_it"] = np.median(seconds[:, :1, 0] / seconds[:, :, 0], 0)
    write_table(table, "results/benchmarks/registration.csv")
    print(table.to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
