"""The uncertainty of a run's errors: intervals over patients, and paired tests (§4, Table 2; §5)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from regagent.evaluation.registrations import STATISTICS, SUCCESS_PX, Statistic
from regagent.methods import UNREGISTERED

#: The part of the cases that the statistic of the worst cases takes.
WORST = 0.3
#: How often the bootstrap draws patients.
RESAMPLES = 2000
BOTH = ("E1", "E2")
#: "A – B", of two sets or two methods, stands for the error of A minus that of B.
MINUS = " – "
#: "A < B", of two sets, compares the first method's error on A with the second method's on B.
BELOW = " < "
#: The halves of all cases by the error before registration.
NEARER, FARTHER = "nearer half", "farther half"


def worst_mean(error: ArrayLike) -> float:
    """Return the mean of the largest 30 % of the errors (N,) in px, of one error at least."""
    error = np.sort(error)
    return float(error[-max(1, round(WORST * len(error))) :].mean())


def success_rate(error: ArrayLike) -> float:
    """Return the share of the errors (N,) in px that count as success, 0 to 1."""
    return float(np.mean(np.asarray(error) <= SUCCESS_PX))


#: The statistics of TRE (px) over cases.
CASE_STATISTICS: dict[str, Statistic] = {
    **STATISTICS,
    "worst30": worst_mean,
    "success": success_rate,
}


@dataclass(frozen=True)
class Comparison:
    """A difference, its 95 % interval, and its range over the seeds of the trainings."""

    difference: float
    low: float
    high: float
    seed_low: float
    seed_high: float


class CaseErrors:
    """The TRE (px) of every method and set, by seed and patient, for intervals that draw patients.

    ``registrations`` is what ``read_registrations`` returns. Beside E1 and E2 there are two more sets,
    ``NEARER`` and ``FARTHER``: the halves of all cases by the error before registration.
    """

    def __init__(self, registrations: pd.DataFrame):
        self.patients = np.sort(registrations["patient"].unique())
        self._errors: dict[tuple[str, str], list[list[NDArray]]] = {}
        self._known: dict[tuple, NDArray[np.float64]] = {}
        near = registrations["initial_px"] <= registrations["initial_px"].median()
        halves = registrations.assign(set=np.where(near, NEARER, FARTHER))
        for (method, set_name, _), frame in pd.concat([registrations, halves]).groupby(
            ["method", "set", "seed"]
        ):
            of_patient = dict(iter(frame.groupby("patient")["tre_px"]))
            by_patient = [of_patient.get(name, pd.Series(dtype=float)).to_numpy() for name in self.patients]
            self._errors.setdefault((method, set_name), []).append(by_patient)

    def has(self, method: str, set_name: str) -> bool:
        """Tell whether all methods that ``method`` names have errors on all sets that ``set_name`` names."""
        sets = set_name.replace(BELOW, MINUS).split(MINUS)
        return all((name, one) in self._errors for name in method.split(MINUS) for one in sets)

    def statistic(
        self, method: str, set_name: str, name: str, patients: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return a statistic over all cases of some patients (..., n), by seed: (..., seeds).

        ``patients`` are indices; without them all patients count. "A – B" for a method or a set gives the
        statistic of A minus that of B.
        """
        patients = np.arange(len(self.patients)) if patients is None else np.asarray(patients)
        if MINUS in set_name:
            first, second = (self.statistic(method, one, name, patients) for one in set_name.split(MINUS))
            return first - second
        if MINUS in method:
            first, second = (self.statistic(one, set_name, name, patients) for one in method.split(MINUS))
            return first - second
        key = method, set_name, name, patients.shape, patients.tobytes()
        if key not in self._known:
            self._known[key] = _of_drawn(self._errors[method, set_name], name, patients)
        return self._known[key]

    def interval(self, statistic: Callable[[NDArray], NDArray]) -> tuple[float, float]:
        """Return the 95 % percentile interval of a statistic when patients are drawn with replacement.

        ``statistic`` takes indices of patients (..., n) and returns numbers (...). Both bounds are NaN for
        fewer than two patients.
        """
        if len(self.patients) < 2:
            return np.nan, np.nan
        found = stats.bootstrap(
            (np.arange(len(self.patients)),),
            lambda patients, axis: statistic(patients),
            n_resamples=RESAMPLES,
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(1),
        )
        low, high = found.confidence_interval
        return float(low), float(high)

    def with_interval(self, method: str, set_name: str, name: str) -> tuple[float, float, float]:
        """Return the mean over the seeds of a statistic, and its interval."""
        low, high = self.interval(lambda chosen: self.statistic(method, set_name, name, chosen).mean(-1))
        return float(self.statistic(method, set_name, name).mean()), low, high

    def compare(self, better: str, worse: str, set_name: str, name: str) -> Comparison:
        """Return a statistic of ``worse`` minus that of ``better``; resamples draw patients for both alike.

        On the set "A < B" the statistic of ``better`` is taken on A, that of ``worse`` on B.
        """
        first, second = set_name.split(BELOW) if BELOW in set_name else (set_name, set_name)

        def differences(patients: NDArray | None = None) -> NDArray:
            return self.statistic(worse, second, name, patients) - self.statistic(
                better, first, name, patients
            )

        each = differences()
        low, high = self.interval(lambda patients: differences(patients).mean(-1))
        return Comparison(float(each.mean()), low, high, float(each.min()), float(each.max()))


def _of_drawn(seeds: list[list[NDArray]], name: str, patients: NDArray) -> NDArray[np.float64]:
    """Return a statistic over the errors of the drawn patients (..., n), by seed: (..., seeds)."""
    # The order of the drawn patients does not matter, and few patients have few combinations.
    draws, back = np.unique(np.sort(patients.reshape(-1, patients.shape[-1])), axis=0, return_inverse=True)
    values = np.full((len(draws), len(seeds)), np.nan)
    for row, draw in enumerate(draws):
        for column, by_patient in enumerate(seeds):
            errors = np.concatenate([by_patient[patient] for patient in draw])
            if len(errors):
                values[row, column] = CASE_STATISTICS[name](errors)
    return values[back.ravel()].reshape(*patients.shape[:-1], len(seeds))


def signed_rank(ours: ArrayLike, other: ArrayLike) -> tuple[float, float]:
    """Return (r, p) of Wilcoxon's two-sided signed-rank test of paired errors (N,).

    r is the rank-biserial correlation: 1 where ours is lower in every pair, −1 where it is higher. Equal
    pairs are left out, as in Wilcoxon's paper; if all pairs are equal, r is 0 and p is 1.
    """
    difference = np.asarray(other, dtype=float) - np.asarray(ours, dtype=float)
    difference = difference[difference != 0]
    if len(difference) == 0:
        return 0.0, 1.0
    ranks = stats.rankdata(np.abs(difference))
    return float(np.sign(difference) @ ranks / ranks.sum()), float(stats.wilcoxon(difference).pvalue)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return the p-values (N,) of a family of tests adjusted by Holm's step-down method; NaN is no test."""
    p = np.asarray(p, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sort to the end
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p[order]))
    return adjusted


STATISTICS_COLUMNS = (
    *("method", "set", "n_patients"),
    *("mean", "mean_low", "mean_high", "p90", "p90_low", "p90_high"),
    *("success", "success_low", "success_high", "worst30"),
    *("difference", "difference_low", "difference_high"),
    *("r_cases", "p_cases", "p_cases_holm", "r_patients", "p_patients", "p_patients_holm"),
)


def summarise_statistics(registrations: pd.DataFrame, methods: Sequence[str], proposed: str) -> pd.DataFrame:
    """Return one row per method and set: intervals over patients, and tests of ``proposed`` against it.

    ``registrations`` is what ``read_registrations`` returns. The errors are in px. The columns are:

    - ``mean``, ``p90`` and ``success``, with the bounds ``*_low`` and ``*_high`` of their intervals;
    - ``worst30``, the mean of the worst cases;
    - ``difference``, the mean of the method minus that of ``proposed``, with its interval;
    - ``r_*`` and ``p_*`` of ``signed_rank`` on errors averaged over the seeds, over cases and over the means
      of patients;
    - ``p_*_holm``, the p-values adjusted over all methods and both sets.
    """
    errors = CaseErrors(registrations)
    paired = {
        "cases": registrations.groupby(["set", "method", "case"])["tre_px"].mean(),
        "patients": registrations.groupby(["set", "method", "patient"])["tre_px"].mean(),
    }
    rows = []
    for set_name in sorted(registrations["set"].unique()):
        for method in methods:
            row = {"method": method, "set": set_name, "n_patients": len(errors.patients)}
            for name in ("mean", "p90", "success"):
                row[name], row[f"{name}_low"], row[f"{name}_high"] = errors.with_interval(
                    method, set_name, name
                )
            row["worst30"] = errors.statistic(method, set_name, "worst30").mean()
            if proposed in methods and method not in (proposed, UNREGISTERED):
                found = errors.compare(proposed, method, set_name, "mean")
                row |= {"difference": found.difference}
                row |= {"difference_low": found.low, "difference_high": found.high}
                for unit, means in paired.items():
                    row[f"r_{unit}"], row[f"p_{unit}"] = signed_rank(
                        means[set_name, proposed], means[set_name, method]
                    )
            rows.append(row)
    table = pd.DataFrame(rows, columns=STATISTICS_COLUMNS)
    for unit in paired:
        table[f"p_{unit}_holm"] = holm(table[f"p_{unit}"].astype(float))
    return table
