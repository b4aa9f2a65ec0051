"""The value at which an agent stops, found on training pairs with fresh perturbations (§3.6)."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from regagent.agent.checkpoints import load_model
from regagent.agent.inference import Circling, Walk, look_ahead
from regagent.agent.networks import AgentNetwork, choose_device
from regagent.agent.stopping import PAPER, Thresholds, ends
from regagent.files import write_table
from regagent.geometry import landmark_distance
from regagent.images import warp
from regagent.pairs.perturbations import sample_perturbations
from regagent.pairs.training_pairs import Pairs, read_pairs
from regagent.settings import Calibration, Inference, PerturbationRange, StopThresholds

logger = logging.getLogger("regagent")


def calibrate_threshold(
    slices: list[str],
    split: str,
    model: str,
    ranges: PerturbationRange,
    settings: Calibration,
    inference: Inference,
    given: StopThresholds | None,
    output_threshold: str,
    output_calibration: str,
) -> None:
    """Write the thresholds of a model, greedy and with look-ahead, and the error that each candidate gave.

    The agent walks without stopping; every candidate is then tried on these walks. The best is the lowest of
    those with nearly the lowest mean error (TRE px). Candidates reach up to where ``minimum_stopped`` of the
    cases still stop. Thresholds that are ``given`` are taken whatever error they give.
    """
    torch.set_num_threads(1)
    network, facts = load_model(model, "agent")
    network.to(choose_device())
    pairs = read_pairs(slices, split, "train")
    table = try_thresholds(network, pairs, ranges, settings, inference, given)
    best_of = table[table.chosen].set_index("lookahead")
    for _, best in best_of.iterrows():
        logger.info(
            "%s: threshold %.3f, mean error %.2f px, %.0f %% stop",
            *(model, best.threshold, best.mean_px, 100 * best.stopped),
        )
    write_table(table, output_calibration)
    thresholds = Thresholds(
        greedy=best_of.threshold[False],
        lookahead=best_of.threshold[True],
        paper=PAPER[facts["settings"]["learner"]],
    )
    thresholds.write(output_threshold)


def try_thresholds(
    network: AgentNetwork,
    pairs: Pairs,
    ranges: PerturbationRange,
    settings: Calibration,
    inference: Inference,
    given: StopThresholds | None = None,
) -> pd.DataFrame:
    """Return a row a candidate, greedy and with look-ahead: its errors, and whether it was ``chosen``.

    Errors are nearly the same over a wide range of thresholds. Of those whose mean error is within
    ``tolerance`` of the lowest, the lowest threshold is chosen: more cases reach it, and sooner. A ``given``
    threshold stands after the candidates, and is chosen.
    """
    rng = np.random.default_rng(settings.seed)
    chosen, perturbation, moving = _cases(pairs, ranges, settings, rng)
    walks = _Walks(network, pairs, chosen, perturbation, moving, settings.steps, inference)
    greedy = walks.candidates(settings.candidates, settings.minimum_stopped)
    ahead = walks.candidates(settings.lookahead_candidates, settings.minimum_stopped)
    rows = [walks.greedy(threshold) for threshold in greedy]
    rows += [walks.ahead(threshold, inference, rng) for threshold in ahead]
    if given:
        taken = [walks.greedy(given.greedy), walks.ahead(given.lookahead, inference, rng)]
        return pd.DataFrame(rows + taken).assign(chosen=[False] * len(rows) + [True] * len(taken))
    table = pd.DataFrame(rows)
    best = table.groupby("lookahead").mean_px.transform("min")
    good = table[table.mean_px <= (1 + settings.tolerance) * best]
    return table.assign(chosen=table.index.isin(good.groupby("lookahead").threshold.idxmin()))


def _cases(
    pairs: Pairs, ranges: PerturbationRange, settings: Calibration, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return N cases: which pair (N,), its perturbation (N, 4) and the perturbed CT (N, H, H)."""
    chosen = rng.choice(len(pairs), settings.cases, replace=len(pairs) < settings.cases)
    perturbation = sample_perturbations(rng.random((settings.cases, 4)), ranges)
    moving = [warp(pairs.ct[i], p) for i, p in zip(chosen, perturbation, strict=True)]
    return chosen, perturbation, np.stack(moving)


def _row(threshold: float, error: np.ndarray, step: np.ndarray, stopped: np.ndarray, lookahead: bool) -> dict:
    return {
        "lookahead": lookahead,
        "threshold": threshold,
        "mean_px": error.mean(),
        "median_px": np.median(error),
        "p90_px": np.quantile(error, 0.9),
        "stopped": stopped.mean(),
        "steps": step.mean(),
    }


class _Walks:
    """Greedy walks of N cases over T steps, which no value stops; one that goes in circles ends."""

    def __init__(
        self,
        network: AgentNetwork,
        pairs: Pairs,
        chosen: np.ndarray,
        perturbation: np.ndarray,
        moving: np.ndarray,
        steps: int,
        inference: Inference,
    ):
        self.walk = Walk.start(network, pairs.mr[chosen], moving)
        self.perturbation, self.points = perturbation, pairs.evaluation_points[chosen]
        self.memory, self.logits = (
            start.new_empty(steps, *start.shape) for start in (self.walk.memory, self.walk.logits)
        )
        value, pose = [], []
        circling, cases = Circling(len(chosen), inference), np.arange(len(chosen))
        ended = np.zeros(len(chosen), bool)
        for step in range(steps):
            value.append(np.where(ended, -np.inf, self.walk.look()))
            ended |= circling(self.walk, cases)
            pose.append(self.walk.pose)
            self.memory[step], self.logits[step] = self.walk.memory, self.walk.logits
            self.walk.move()
        self.value, self.pose = np.stack(value), np.stack(pose)

    def candidates(self, count: int, minimum_stopped: float) -> np.ndarray:
        """Return thresholds between those at which every case and ``minimum_stopped`` of them stop."""
        highest = self.value.max(0)
        return np.unique(np.quantile(highest, np.linspace(0.0, 1.0 - minimum_stopped, count)))

    def greedy(self, threshold: float) -> dict:
        step, stopped = ends(self.value, threshold)
        return self._row(threshold, self.pose[step, np.arange(len(step))], step, stopped, lookahead=False)

    def ahead(self, threshold: float, inference: Inference, rng: np.random.Generator) -> dict:
        step, stopped = ends(self.value, threshold)
        cases = np.arange(len(step))
        pose = self.pose[step, cases]
        ready = replace(
            self.walk, pose=pose, memory=self.memory[step, cases], logits=self.logits[step, cases]
        )
        pose = look_ahead(ready, self.value[step, cases], inference, rng)
        return self._row(threshold, pose, step, stopped, lookahead=True)

    def _row(
        self, threshold: float, pose: np.ndarray, step: np.ndarray, stopped: np.ndarray, lookahead: bool
    ) -> dict:
        error = landmark_distance(pose, self.perturbation, self.points)
        return _row(threshold, error, step, stopped, lookahead)
