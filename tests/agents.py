"""Small slice pairs for the tests of the agents: blobs whose 'CT' has another contrast than their 'MR'."""

import cv2
import numpy as np

from regagent.environment import Pairs
from regagent.settings import PerturbationRange, ReinforcementAgent, SupervisedAgent

PLAIN = {"augmentation": {"enabled": False}}
RANGES = PerturbationRange(translation_px=25, rotation_deg=30)


def make_pairs(count: int = 3, size: int = 168, seed: int = 0) -> Pairs:
    """Return pairs (count, size, size) with landmarks and evaluation points, some padded by NaN."""
    rng = np.random.default_rng(seed)
    mr, ct = np.zeros((2, count, size, size), np.float32)
    for i in range(count):
        for _ in range(12):
            centre = rng.uniform(0.3 * size, 0.7 * size, 2).astype(int).tolist()
            axes = rng.uniform(0.03 * size, 0.12 * size, 2).astype(int).tolist()
            angle, bright, dense = rng.uniform(0, 180), rng.uniform(0.2, 1), rng.uniform(0.2, 1)
            cv2.ellipse(mr[i], centre, axes, angle, 0, 360, float(bright), -1)
            cv2.ellipse(ct[i], centre, axes, angle, 0, 360, float(dense), -1)
    landmarks = rng.uniform(-0.25 * size, 0.25 * size, (count, 20, 2))
    landmarks[0, 15:] = np.nan
    return Pairs(mr, ct, landmarks, rng.uniform(-0.25 * size, 0.25 * size, (count, 15, 2)))


def reinforcement(**keys) -> ReinforcementAgent:
    """Return the settings of a small reinforcement agent."""
    small = {"steps": 960, "workers": 1, "environments": 4, "unroll": 10, "checkpoint_seconds": 1000, **PLAIN}
    return ReinforcementAgent(learner="reinforcement", **{**small, **keys})


def supervised(**keys) -> SupervisedAgent:
    """Return the settings of a small supervised agent."""
    small = {"steps": 960, "workers": 1, "environments": 4, "unroll": 10, "checkpoint_seconds": 1000, **PLAIN}
    return SupervisedAgent(learner="supervised", **{**small, **keys})
