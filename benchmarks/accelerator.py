"""What a GPU gives: training steps a second by the number of episodes, the time to 1 px, and registrations.

One command of some four minutes, on a machine with PyTorch, NumPy, OpenCV, SciPy, pandas, pydantic and psutil
alone: it paints its own heads and reads no volumes. Without a GPU it measures the CPU, to be tried. Writes
results/benchmarks/accelerator.csv.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable

import pandas as pd
import torch
from time_to_accuracy import INFERENCE, RANGES, lookahead_threshold, train_until, validation_cases

from regagent.agent.a3c import start_training
from regagent.agent.inference import Way, register
from regagent.agent.networks import AgentNetwork, choose_device, precision, to_blocks, to_states
from regagent.files import write_table
from regagent.pairs.simulated import simulated_head
from regagent.pairs.training_pairs import Pairs, joined
from regagent.settings import ReinforcementAgent

EPISODES = (64, 256, 1024, 4096)
#: The cases of a test set at the paper's size, and how many of them the CPU registers for comparison.
CASES, CPU_CASES = 7680, 96
AGENT = ReinforcementAgent(learner="reinforcement", steps=300_000)


def rate(step: Callable[[], int], device: torch.device, seconds: float) -> tuple[float, float]:
    """Return what ``step`` does a second, and the milliseconds of one call, after a warm-up."""
    for _ in range(3):
        step()
    calls, count, started = 0, 0, _now(device)
    while (spent := time.perf_counter() - started) < seconds:
        count, calls = count + step(), calls + 1
    spent = _now(device) - started
    return count / spent, 1000 * spent / calls


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def training(pairs: Pairs, episodes: int, device: torch.device) -> Callable[[], int]:
    """Return an update of a training with so many episodes; it tells its environment steps."""
    endless = AGENT.model_copy(update={"steps": 10**9})
    _, make_worker = start_training(pairs, RANGES, endless, 1, episodes, device)
    worker = make_worker(0)

    def step() -> int:
        worker.update()
        return episodes * AGENT.unroll

    return step


def network_alone(size: int, episodes: int, device: torch.device) -> Callable[[], int]:
    """Return a pass forward and back of the network alone, for as many steps as an update has."""
    network = AgentNetwork(AGENT.network, AGENT.values, size).to(device)
    images = to_blocks(torch.rand(episodes, size, size, device=device))
    states, memory = to_states(images, images), network.initial_memory(episodes)

    def step() -> int:
        network.zero_grad()
        for _ in range(AGENT.unroll):
            said = network(states, memory)
            (said.logits.square().mean() + said.values.square().mean()).backward()
        return episodes * AGENT.unroll

    return step


def kernels(step: Callable[[], int]) -> int:
    """Return how many kernels and copies a GPU runs in one call."""
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events())


def registration(
    network: AgentNetwork, threshold: float, validation: Pairs, count: int, device: torch.device
) -> float:
    """Return the seconds that ``count`` cases with look-ahead take."""
    fixed, moving, _, _ = validation_cases(validation, count)
    network = network.to(device)
    started = _now(device)
    register(network, fixed, moving, [Way(threshold, lookahead=True)], INFERENCE)
    return _now(device) - started


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each rate")
    parser.add_argument("--heads", type=int, default=24, help="simulated heads, a sixth to validate")
    parser.add_argument("--episodes", type=int, nargs="+", default=EPISODES)
    parser.add_argument("--steps", type=int, default=AGENT.steps, help="steps of the training to 1 px (CPU)")
    parser.add_argument("--cases", type=int, default=CASES, help="cases to register")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with multiprocessing.get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
        heads = pool.map(simulated_head, range(arguments.heads))
    held_out = max(1, arguments.heads // 6)
    train, validation = joined(heads[held_out:]), joined(heads[:held_out])
    device = choose_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, PyTorch {torch.__version__}, convolutions in {precision(device.type)}", flush=True)
    rows: list[tuple[str, float, str]] = []

    def tell(what: str, value: float, unit: str) -> None:
        rows.append((what, value, unit))
        print(f"{what}: {value:,.1f} {unit}", flush=True)

    for episodes in arguments.episodes:
        step = training(train, episodes, device)
        steps, milliseconds = rate(step, device, arguments.seconds)
        tell(f"training, {episodes} episodes", steps, "steps/s")
        tell(f"training, {episodes} episodes", milliseconds, "ms an update")
        if device.type == "cuda":
            tell(f"training, {episodes} episodes", kernels(step), "kernels an update")
        alone, _ = rate(network_alone(train.size, episodes, device), device, arguments.seconds)
        tell(f"network alone, {episodes} episodes", alone, "steps/s")
        tell(f"training over network alone, {episodes} episodes", steps / alone, "times")
    settings = AGENT.model_copy(update={"steps": arguments.steps})
    settings = settings.on_accelerator() if device.type == "cuda" else settings
    network, curve = train_until(train, validation, settings, device)
    last = curve.iloc[-1]
    what = "to a validation median of 1 px" if last.median_px <= 1 else "training, 1 px not reached"
    for value, unit in ((last.seconds, "s"), (last.steps, "steps"), (last.median_px, "px")):
        tell(what, value, unit)
    threshold = lookahead_threshold(network, train)
    there = registration(network, threshold, validation, arguments.cases, device)
    tell(f"registering {arguments.cases} cases with look-ahead, {device.type}", there, "s")
    if device.type == "cuda":
        one = registration(network, threshold, validation, CPU_CASES, torch.device("cpu")) / CPU_CASES
        tell(f"registering {arguments.cases} cases with look-ahead, one CPU core", one * arguments.cases, "s")
    table = pd.DataFrame(rows, columns=["what", "value", "unit"]).assign(device=name)
    write_table(table, "results/benchmarks/accelerator.csv")


if __name__ == "__main__":
    main()
