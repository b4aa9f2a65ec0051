"""The uncertainty of a run's errors: intervals over patients and seeds, paired tests (§4, Table 2; §5)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from regagent.evaluation.registrations import STATISTICS, SUCCESS_PX, Statistic
from regagent.methods import CONVENTIONAL, UNREGISTERED, variant_of

#: The part of the cases that the statistic of the worst cases takes.
WORST = 0.3
#: How often the bootstrap draws patients and seeds.
RESAMPLES = 2000
#: Errors whose statistics are taken at once: more of them need more memory, and are no faster.
ERRORS_AT_ONCE = 1_000_000
BOTH = ("E1", "E2")
#: "A – B", of two sets or two methods, stands for the error of A minus that of B.
MINUS = " – "
#: "A < B", of two sets, compares the first method's error on A with the second method's on B.
BELOW = " < "
#: The halves of E1's and of E2's cases by the error before registration: "nearer half of E1".
NEARER, FARTHER = "nearer half of ", "farther half of "
#: The cases of a set, or of a half, that slow methods have registered too.
SHARED = "cases of all methods of "


def worst_mean(error: ArrayLike) -> NDArray[np.float64]:
    """Return the means (...) of the largest 30 % of the errors (..., N) in px, of one error at least."""
    error = np.sort(error)
    return error[..., -max(1, round(WORST * error.shape[-1])) :].mean(-1)


def success_rate(error: ArrayLike) -> NDArray[np.float64]:
    """Return the shares (...) of the errors (..., N) in px that count as success, 0 to 1."""
    return np.mean(np.asarray(error) <= SUCCESS_PX, -1)


#: The statistics of TRE (px) over cases.
CASE_STATISTICS: dict[str, Statistic] = {
    **STATISTICS,
    "worst30": worst_mean,
    "success": success_rate,
}


@dataclass(frozen=True)
class Comparison:
    """A difference, its 95 % interval, and the least number of seeds of a training in it, if any."""

    difference: float
    low: float
    high: float
    seeds: int | None


class CaseErrors:
    """The TRE (px) of every method and set, by seed and patient, with intervals over patients and seeds.

    ``registrations`` is what ``read_registrations`` returns. Beside E1 and E2 there are the halves of each by
    the error before registration, ``NEARER`` and ``FARTHER``. Where slow methods have registered only a part
    of a set's cases, they are compared on that part.

    The intervals come from a bootstrap of two levels, which crosses patients and seeds: every agent
    registers every patient. A resample draws patients with replacement, the same for all methods, as they
    register the same cases; and for each training, seeds with replacement. What a training registers with
    and without look-ahead, memory or Elastix has the same drawn seeds, as it is the same agent and its luck
    cancels in the difference. Different trainings draw theirs independently: seed 1 of one shares with seed
    1 of another nothing but the number. A method without training, or with one seed, has nothing to draw.
    Few seeds make the interval too narrow, as few patients do.
    """

    def __init__(self, registrations: pd.DataFrame):
        self.patients = np.sort(registrations["patient"].unique())
        self._errors: dict[tuple[str, str], list[list[NDArray]]] = {}
        self._known: dict[tuple, NDArray[np.float64]] = {}
        cases = registrations.drop_duplicates(["set", "case"])
        middle = registrations["set"].map(cases.groupby("set")["initial_px"].median())
        half = np.where(registrations["initial_px"] <= middle, NEARER, FARTHER)
        halves = registrations.assign(set=half + registrations["set"])
        every = pd.concat([registrations, halves])
        counts = every.groupby(["set", "method"])["case"].nunique()
        short = counts[counts < counts.groupby("set").transform("max")].index
        self._short = {(method, set_name) for set_name, method in short}
        by_all = every.groupby(["set", "case"])["method"].transform("nunique")
        shared = every[by_all == every.groupby("set")["method"].transform("nunique")]
        shared = shared[shared["set"].isin(short.get_level_values("set"))]
        every = pd.concat([every, shared.assign(set=SHARED + shared["set"])])
        for (method, set_name, _), frame in every.groupby(["method", "set", "seed"]):
            of_patient = dict(iter(frame.groupby("patient")["tre_px"]))
            by_patient = [of_patient.get(name, pd.Series(dtype=float)).to_numpy() for name in self.patients]
            self._errors.setdefault((method, set_name), []).append(by_patient)

    def has(self, method: str, set_name: str) -> bool:
        """Tell whether all methods that ``method`` names have errors on all sets that ``set_name`` names."""
        sets = set_name.replace(BELOW, MINUS).split(MINUS)
        return all((name, one) in self._errors for name in method.split(MINUS) for one in sets)

    def seeds(self, *methods: str) -> dict[str, int]:
        """Return the number of seeds of each training whose agents these methods use."""
        names = [name for method in methods for name in method.split(MINUS)]
        return {
            variant_of(name): len(errors)
            for (name, _), errors in self._errors.items()
            if name in names and variant_of(name) not in CONVENTIONAL
        }

    def statistic(
        self,
        method: str,
        set_name: str,
        name: str,
        patients: ArrayLike | None = None,
        seeds: Mapping[str, NDArray] | None = None,
    ) -> NDArray[np.float64]:
        """Return the mean over seeds (...) of a statistic over all cases of some patients (..., n).

        ``patients`` are indices; without them all patients count. ``seeds`` are those of some trainings,
        {variant: indices (..., m)}; those of other trainings all count. "A – B" for a method or a set gives
        the statistic of A minus that of B.
        """
        if MINUS in set_name:
            first, second = set_name.split(MINUS)
            return self.statistic(method, first, name, patients, seeds) - self.statistic(
                method, second, name, patients, seeds
            )
        if MINUS in method:
            first, second = method.split(MINUS)
            return self.statistic(first, set_name, name, patients, seeds) - self.statistic(
                second, set_name, name, patients, seeds
            )
        patients = np.arange(len(self.patients)) if patients is None else np.asarray(patients)
        key = method, set_name, name, patients.shape, patients.tobytes()
        if key not in self._known:
            self._known[key] = _of_drawn(self._errors[method, set_name], name, patients)
        values, drawn = self._known[key], (seeds or {}).get(variant_of(method))
        return (values if drawn is None else np.take_along_axis(values, drawn, -1)).mean(-1)

    def _is_short(self, method: str, set_name: str) -> bool:
        """Tell whether a method of "A – B" has registered only a part of the cases of a set of "A – B"."""
        return any(
            (name, one) in self._short for name in method.split(MINUS) for one in set_name.split(MINUS)
        )

    def _shared(self, set_name: str) -> str:
        """Return the name of the parts of the sets of "A – B" that all methods have registered."""
        names = set_name.split(MINUS)
        known = {name for _, name in self._errors}
        return MINUS.join(SHARED + name if SHARED + name in known else name for name in names)

    def interval(
        self, statistic: Callable[[NDArray, Mapping[str, NDArray]], NDArray], *methods: str
    ) -> tuple[float, float]:
        """Return the 95 % percentile interval of a statistic of some methods over patients and seeds.

        ``statistic`` takes indices of patients (..., n) and of seeds {variant: (..., m)}, and returns numbers
        (...). Both bounds are NaN for fewer than two patients.
        """
        if len(self.patients) < 2:
            return np.nan, np.nan
        several = {variant: count for variant, count in self.seeds(*methods).items() if count > 1}
        found = stats.bootstrap(
            tuple(map(np.arange, (len(self.patients), *several.values()))),
            lambda patients, *seeds, axis: statistic(patients, dict(zip(several, seeds, strict=True))),
            n_resamples=RESAMPLES,
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(1),
        )
        low, high = found.confidence_interval
        return float(low), float(high)

    def with_interval(self, method: str, set_name: str, name: str) -> tuple[float, float, float]:
        """Return the mean over the seeds of a statistic, and its interval."""
        low, high = self.interval(lambda *drawn: self.statistic(method, set_name, name, *drawn), method)
        return float(self.statistic(method, set_name, name)), low, high

    def compare(self, better: str, worse: str, set_name: str, name: str) -> Comparison:
        """Return a statistic of ``worse`` minus that of ``better``; resamples draw patients for both alike.

        On the set "A < B" the statistic of ``better`` is taken on A, that of ``worse`` on B.
        """
        first, second = set_name.split(BELOW) if BELOW in set_name else (set_name, set_name)
        if self._is_short(better, first) or self._is_short(worse, second):
            first, second = self._shared(first), self._shared(second)

        def difference(*drawn: Any) -> NDArray[np.float64]:
            return self.statistic(worse, second, name, *drawn) - self.statistic(better, first, name, *drawn)

        interval = self.interval(difference, better, worse)
        seeds = min(self.seeds(better, worse).values(), default=None)
        return Comparison(float(difference()), *interval, seeds)


def _of_drawn(seeds: list[list[NDArray]], name: str, patients: NDArray) -> NDArray[np.float64]:
    """Return a statistic over the errors of the drawn patients (..., n), by seed: (..., seeds)."""
    # The order of the drawn patients does not matter, and few patients have few combinations.
    draws, back = np.unique(np.sort(patients.reshape(-1, patients.shape[-1])), axis=0, return_inverse=True)
    values = np.full((len(draws), len(seeds)), np.nan)
    for column, by_patient in enumerate(seeds):
        sizes = np.array(list(map(len, by_patient)))[draws].sum(-1)
        for size in np.unique(sizes[sizes > 0]):
            rows, step = np.flatnonzero(sizes == size), max(1, ERRORS_AT_ONCE // int(size))
            for some in (rows[first : first + step] for first in range(0, len(rows), step)):
                errors = [np.concatenate([by_patient[patient] for patient in draws[row]]) for row in some]
                values[some, column] = CASE_STATISTICS[name](np.stack(errors))
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
    """Return one row per method and set: intervals of its errors, and tests of ``proposed`` against it.

    ``registrations`` is what ``read_registrations`` returns. Errors are in px, intervals those of
    ``CaseErrors``. The columns are:

    - ``mean``, ``p90`` and ``success``, with the bounds ``*_low`` and ``*_high`` of their intervals;
    - ``worst30``, the mean of the worst cases;
    - ``difference``, the mean of the method minus that of ``proposed``, with its interval;
    - ``r_*`` and ``p_*`` of ``signed_rank`` on errors averaged over the seeds, over cases and over the means
      of patients;
    - ``p_*_holm``, the p-values adjusted over all methods and both sets.
    """
    errors = CaseErrors(registrations)
    units = {"cases": "case", "patients": "patient"}
    rows = []
    for set_name in sorted(registrations["set"].unique()):
        of_set = registrations[registrations["set"] == set_name]
        for method in methods:
            row = {"method": method, "set": set_name, "n_patients": len(errors.patients)}
            for name in ("mean", "p90", "success"):
                row[name], row[f"{name}_low"], row[f"{name}_high"] = errors.with_interval(
                    method, set_name, name
                )
            row["worst30"] = errors.statistic(method, set_name, "worst30")
            if proposed in methods and method not in (proposed, UNREGISTERED):
                found = errors.compare(proposed, method, set_name, "mean")
                row |= {"difference": found.difference}
                row |= {"difference_low": found.low, "difference_high": found.high}
                ours, other = (of_set[of_set["method"] == name] for name in (proposed, method))
                cases = np.intersect1d(ours["case"], other["case"])
                pairs = [frame[frame["case"].isin(cases)] for frame in (ours, other)]
                for unit, column in units.items():
                    means = [frame.groupby(column)["tre_px"].mean() for frame in pairs]
                    row[f"r_{unit}"], row[f"p_{unit}"] = signed_rank(*means)
            rows.append(row)
    table = pd.DataFrame(rows, columns=STATISTICS_COLUMNS)
    for unit in units:
        table[f"p_{unit}_holm"] = holm(table[f"p_{unit}"].astype(float))
    return table
