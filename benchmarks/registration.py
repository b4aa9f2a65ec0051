"""Seconds of one CPU core a registration: the agent, 2D Elastix and SIFT on the same pairs in one go.

Takes the trained agent, the stop thresholds and E1 cases of a run (`make reproduce` first). Writes
results/benchmarks/registration.csv.
"""

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch

from regagent.baselines import itk_pose, sift_pose
from regagent.checkpoints import load_model
from regagent.elastix import elastix
from regagent.files import read_table, write_table
from regagent.inference import register
from regagent.perturbations import perturbed_pairs
from regagent.settings import Baselines, Inference
from regagent.slices import read_cohort


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="default", help="the run whose agent and cases to take")
    parser.add_argument("--cases", type=int, default=240, help="pairs to register by each method")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path("results") / arguments.run
    cases = read_table(folder / "perturbations/E1.csv")
    cases = cases.iloc[:: max(1, len(cases) // arguments.cases)][: arguments.cases]
    fixed, moving = perturbed_pairs(cases, read_cohort(sorted(folder.glob("slices/*.npz"))))
    network, facts = load_model(folder / "models/RL-LME/seed1/model.pt", "agent")
    thresholds = json.loads((folder / "models/RL-LME/seed1/threshold.json").read_text())
    baselines, count = Baselines(), len(fixed)
    align = elastix(baselines.elastix_parameter_map)
    rows = {}

    def measure(name: str, work) -> None:
        started, clock = time.process_time(), time.perf_counter()
        work()
        rows[name] = ((time.process_time() - started) / count, (time.perf_counter() - clock) / count)

    def agent(kind: str, batch: int) -> None:
        settings, rescaled = Inference(batch=batch), facts["settings"]["rescale_values"]
        register(network, rescaled, fixed, moving, thresholds[kind], settings, kind == "lookahead")

    def each(method) -> None:
        for pair in zip(fixed, moving, strict=True):
            method(*pair)

    ratio, matches = baselines.sift_ratio, baselines.sift_minimum_matches
    itk_pose(align, fixed[0], moving[0])
    measure("Elastix", lambda: each(lambda one, other: itk_pose(align, one, other)))
    measure("SIFT", lambda: each(lambda one, other: sift_pose(one, other, ratio, matches)))
    for batch, where in ((1, "one by one"), (count, f"in a batch of {count}")):
        measure(f"agent, greedy, {where}", lambda size=batch: agent("greedy", size))
        measure(f"agent, look-ahead, {where}", lambda size=batch: agent("lookahead", size))
    table = pd.DataFrame(
        [(name, *times) for name, times in rows.items()], columns=["what", "cpu_seconds", "seconds"]
    )
    table["elastix_over_it"] = table.cpu_seconds[0] / table.cpu_seconds
    write_table(table, "results/benchmarks/registration.csv")
    print(table.to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
