"""Wall time of one training of RL-LME until the validation TRE, median with look-ahead, is 1 px.

Takes the slices of the default run (`make reproduce` first) and none of its test patients. The last four
training patients are for validation, the others for training and calibration. The time of validation does
not count. Writes results/benchmarks/time_to_accuracy.csv.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from regagent.agent.a3c import start_training
from regagent.agent.calibration import try_thresholds
from regagent.agent.inference import Way, register
from regagent.agent.networks import AgentNetwork, choose_device
from regagent.files import read_table, write_table
from regagent.geometry import landmark_distance
from regagent.images import warp
from regagent.pairs.perturbations import sample_perturbations
from regagent.pairs.training_pairs import Pairs, read_pairs
from regagent.settings import Calibration, Inference, Perturbations, ReinforcementAgent

VALIDATION_PATIENTS = 4
EVERY = 25_000
RANGES = Perturbations().E1
INFERENCE = Inference(maximum_steps=150)
CALIBRATION = Calibration(cases=48, candidates=2, lookahead_candidates=3)


def read(run: str) -> tuple[Pairs, Pairs]:
    """Return the pairs to train on and to validate on."""
    folder = Path("results") / run
    split = read_table(folder / "split.tsv")
    patients = split[split["set"] == "train"].patient.sort_values()
    slices = [folder / f"slices/{patient}.npz" for patient in patients]
    parts = slices[:-VALIDATION_PATIENTS], slices[-VALIDATION_PATIENTS:]
    train, validation = (read_pairs(part, folder / "split.tsv", "train") for part in parts)
    return train, validation


def validation_cases(validation: Pairs, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return fixed and moving images (N, H, H) of fresh cases, their perturbations (N, 4) and points."""
    chosen = np.arange(count) % len(validation)
    poses = sample_perturbations(np.random.default_rng(3).random((count, 4)), RANGES)
    moving = np.stack([warp(validation.ct[i], pose) for i, pose in zip(chosen, poses, strict=True)])
    return validation.mr[chosen], moving, poses, validation.evaluation_points[chosen]


def lookahead_threshold(network: AgentNetwork, train: Pairs) -> float:
    """Return the value at which the look-ahead begins, found on pairs that the agent was trained on."""
    table = try_thresholds(network, train, RANGES, CALIBRATION, INFERENCE)
    return float(table[table.chosen & table.lookahead].threshold.iloc[0])


def validate(network: AgentNetwork, train: Pairs, validation: Pairs, count: int = 96) -> tuple[float, float]:
    """Return median and mean TRE (px) of fresh cases of the validation patients."""
    threshold = lookahead_threshold(network, train)
    fixed, moving, poses, points = validation_cases(validation, count)
    (found,) = register(network, fixed, moving, [Way(threshold, lookahead=True)], INFERENCE)
    error = landmark_distance(found.pose, poses, points)
    return float(np.median(error)), float(error.mean())


def train_until(
    train: Pairs, validation: Pairs, settings: ReinforcementAgent, device: torch.device, goal_px: float = 1.0
) -> tuple[AgentNetwork, pd.DataFrame]:
    """Train one worker until the validation median is ``goal_px``; return the network and the curve.

    The curve has steps, seconds without those of the validation, and median and mean TRE in px.
    """
    shared, make_worker = start_training(train, RANGES, settings, 1, settings.environments, device)
    worker = make_worker(0)
    rows, seconds, median = [], 0.0, np.inf
    every = max(EVERY, settings.steps // 12)
    while shared.steps.value < settings.steps and median > goal_px:
        started, goal = time.perf_counter(), shared.steps.value + every
        while shared.steps.value < min(goal, settings.steps):
            worker.update()
        seconds += time.perf_counter() - started
        median, mean = validate(shared.current_network(), train, validation)
        rows.append((shared.steps.value, seconds, median, mean))
        print(f"{rows[-1][0]} steps, {seconds:.0f} s: median {median:.2f} px, mean {mean:.2f} px", flush=True)
    return shared.current_network(), pd.DataFrame(rows, columns=["steps", "seconds", "median_px", "mean_px"])


def main() -> None:
    """Train, validate now and then, print and write the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="default", help="the run whose slices to take")
    parser.add_argument("--steps", type=int, default=300_000, help="steps at which to give up")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, validation = read(arguments.run)
    device = choose_device()
    settings = ReinforcementAgent(learner="reinforcement", steps=arguments.steps)
    settings = settings if device.type == "cpu" else settings.on_accelerator()
    _, table = train_until(train, validation, settings, device)
    write_table(table.assign(device=device.type), "results/benchmarks/time_to_accuracy.csv")


if __name__ == "__main__":
    main()
