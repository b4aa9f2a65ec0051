"""Measures of how fast and how steadily trainings converge (§5.1, §5.2, Figure 5)."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from regagent.evaluation.run_tables import read_models
from regagent.evaluation.statistics import Comparison

#: Claims about trainings have this in place of a set of cases.
TRAINING = "training"


def last_tenth(episodes: pd.DataFrame) -> pd.DataFrame:
    """Return the episodes that ended in the last tenth of a training's steps."""
    return episodes[episodes["env_step"] >= 0.9 * episodes["env_step"].max()]


#: Measures of a training.csv, by name; lower is better.
TRAINING_STATISTICS: dict[str, Callable[[pd.DataFrame], float]] = {
    "steps an episode": lambda episodes: episodes["steps"].mean(),
    "reward lost an episode": lambda episodes: -episodes["reward"].mean(),
    "sd of steps, last tenth": lambda episodes: last_tenth(episodes)["steps"].std(ddof=0),
    "part without terminal, last tenth": lambda episodes: 1 - last_tenth(episodes)["success"].mean(),
}


class Trainings:
    """The measures of every training of a run, by variant and seed.

    ``paths`` are models/{variant}/seed{n}/training.csv. Raises ``UserError`` when a table is faulty.
    """

    def __init__(self, paths: Iterable[str | Path]):
        self._tables = read_models(paths, ("env_step", "steps", "reward", "success"))

    def has(self, variant: str, set_name: str) -> bool:
        """Tell whether a variant was trained; its set is always ``TRAINING``."""
        return variant in self._tables and set_name == TRAINING

    def statistic(self, variant: str, name: str) -> NDArray[np.float64]:
        """Return a measure of ``TRAINING_STATISTICS`` for the training of each seed, (seeds,)."""
        return np.array([TRAINING_STATISTICS[name](table) for table in self._tables[variant].values()])

    def compare(self, better: str, worse: str, set_name: str, name: str) -> Comparison:
        """Return a measure of ``worse`` minus that of ``better``, each a mean over its seeds.

        The interval is Welch's over the seeds. Its bounds are NaN for fewer than two seeds, and equal where
        all seeds of a variant agree, for both variants.
        """
        ours, other = self.statistic(better, name), self.statistic(worse, name)
        difference = other.mean() - ours.mean()
        seeds = min(len(ours), len(other))
        low = high = np.nan
        if seeds > 1:
            low = high = difference
            if np.ptp(ours) or np.ptp(other):
                low, high = stats.ttest_ind(other, ours, equal_var=False).confidence_interval()
        return Comparison(float(difference), float(low), float(high), seeds)
