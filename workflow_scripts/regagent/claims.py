"""What the paper claims of its methods (§4, §5), held against a run: differences and their intervals."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from regagent.files import logger, write_table, write_whole
from regagent.metrics import STATISTICS
from regagent.results import label_of, read_registrations
from regagent.tables import PAGE, to_pipes

RESAMPLES = 2000
COLUMNS = (
    *("section", "claim", "better", "worse", "set", "statistic"),
    *("difference", "low", "high", "verdict"),
)
BOTH = ("E1", "E2")
NOTE = (
    "Difference: TRE of the second method minus that of the first, in px, and its 95 % interval from a "
    f"bootstrap over patients ({RESAMPLES} resamples). Supported: the interval lies above 0; contradicted: "
    "below; open: it holds 0. A claim that two methods are alike is contradicted where it does not hold 0."
)
#: How much larger a difference is on E2 than on E1.
GROWTH = "E2 – E1"


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, in our words: ``better`` has the lower TRE, or both have a like one."""

    section: str
    says: str
    pairs: tuple[tuple[str, str], ...]  # (better, worse)
    statistic: str = "mean"
    sets: tuple[str, ...] = BOTH
    alike: bool = False


LEARNED = (
    *("pure-SL", "SL-matrix", "SL-matrix-MC", "SL-LME", "SL-LME-MC"),
    *("RL-matrix", "RL-matrix-MC", "RL-LME", "RL-LME-MC"),
)
REINFORCED = tuple((f"RL-{rest}", f"SL-{rest}") for rest in ("LME", "LME-MC", "matrix", "matrix-MC"))

CLAIMS = (
    Claim("4", "Every learned method is better than SIFT.", tuple((name, "SIFT") for name in LEARNED)),
    Claim("4", "RL-LME-MC is better than one-shot regression.", (("RL-LME-MC", "pure-SL"),)),
    Claim(
        *("4", "Moving step by step is better than one-shot regression, supervised or not."),
        tuple((name, "pure-SL") for name in ("SL-matrix", "SL-matrix-MC", "SL-LME")),
    ),
    Claim("5.1", "The LSTM makes the agent better.", (("RL-LME-MC", "CNN-LME-MC"), ("RL-LME", "CNN-LME"))),
    Claim("5.2", "RL is better than SL.", REINFORCED),
    Claim("5.2", "What RL gains over SL is more on the larger perturbations.", REINFORCED, sets=(GROWTH,)),
    Claim(
        *("5.2", "In Table 2 the landmark error as a reward is no better than the matrix distance."),
        (("RL-LME", "RL-matrix"), ("RL-LME-MC", "RL-matrix-MC")),
        alike=True,
    ),
    Claim("5.2", "RL gains by the look-ahead.", (("RL-LME-MC", "RL-LME"), ("RL-matrix-MC", "RL-matrix"))),
    Claim(*("5.2", "SL loses by the look-ahead."), (("SL-LME", "SL-LME-MC"), ("SL-matrix", "SL-matrix-MC"))),
    Claim("5.3", "On E1, Elastix is the better one.", (("Elastix", "RL-LME-MC"),), sets=("E1",)),
    Claim("5.3", "On E2, RL-LME-MC is better than Elastix.", (("RL-LME-MC", "Elastix"),), sets=("E2",)),
    Claim(
        *("5.3", "On E2, RL-LME-MC is better than Elastix where both do badly."),
        *((("RL-LME-MC", "Elastix"),), "p90", ("E2",)),
    ),
)


class _Errors:
    """The TRE (px) of every method, set and seed, by patient."""

    def __init__(self, registrations: pd.DataFrame):
        self.patients = sorted(registrations.patient.unique())
        self.of: dict[tuple[str, str], list[list[NDArray]]] = {}
        for (method, set_name, _), frame in registrations.groupby(["method", "set", "seed"]):
            by_patient = [frame[frame.patient == patient].tre_px.to_numpy() for patient in self.patients]
            self.of.setdefault((method, set_name), []).append(by_patient)

    def statistic(self, method: str, set_name: str, name: str, chosen: NDArray) -> float:
        """Return the mean over the seeds of a statistic over all cases of the chosen patients."""
        seeds = self.of[method, set_name]
        return float(np.mean([STATISTICS[name](np.concatenate([seed[i] for i in chosen])) for seed in seeds]))

    def difference(self, better: str, worse: str, set_name: str, name: str, chosen: NDArray) -> float:
        """Return worse minus better on a set, or by how much that is more on E2 than on E1."""
        if set_name == GROWTH:
            larger, smaller = (self.difference(better, worse, one, name, chosen) for one in reversed(BOTH))
            return larger - smaller
        return self.statistic(worse, set_name, name, chosen) - self.statistic(better, set_name, name, chosen)

    def interval(self, *contrast: str) -> tuple[float, float]:
        """Return the 95 % interval of a difference when patients are drawn with replacement."""
        everyone = np.arange(len(self.patients))
        if len(everyone) < 2:
            return np.nan, np.nan
        found = stats.bootstrap(
            (everyone,),
            lambda chosen: self.difference(*contrast, chosen),
            n_resamples=RESAMPLES,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(1),
        )
        return tuple(found.confidence_interval)


def judge(registrations: pd.DataFrame, claims: Iterable[Claim] = CLAIMS) -> pd.DataFrame:
    """Return a row a claim, pair of methods and set: worse minus better (px), its interval, and a verdict.

    ``registrations`` is what ``read_registrations`` returns. The interval is the 95 % percentile interval of
    a bootstrap that draws patients, not cases: those of one patient are alike. A claim is *supported* where
    the interval lies above 0, *contradicted* where it lies below, else *open*; a claim that two methods are
    alike can only be contradicted or open. Pairs of which the run lacks a method are left out.
    """
    errors = _Errors(registrations)
    rows = []
    for claim in claims:
        for (better, worse), set_name in product(claim.pairs, claim.sets):
            needed = BOTH if set_name == GROWTH else (set_name,)
            if not {(method, name) for method in (better, worse) for name in needed} <= set(errors.of):
                continue
            contrast = better, worse, set_name, claim.statistic
            low, high = errors.interval(*contrast)
            difference = errors.difference(*contrast, np.arange(len(errors.patients)))
            verdict = _verdict(low, high, claim.alike)
            rows.append((claim.section, claim.says, *contrast, difference, low, high, verdict))
    return pd.DataFrame(rows, columns=COLUMNS).round(4)


def _verdict(low: float, high: float, alike: bool) -> str:
    if alike:
        return "contradicted" if low > 0 or high < 0 else "open"
    return "supported" if low > 0 else "contradicted" if high < 0 else "open"


def make_claims(
    registrations: Iterable[str | Path], csv: str | Path, markdown: str | Path, html: str | Path
) -> None:
    """Write what ``judge`` returns as numbers (``csv``) and for readers (``markdown``, ``html``)."""
    found = judge(read_registrations(registrations))
    write_table(found, csv)
    printed = pd.DataFrame(
        {
            "§": found.section,
            "The paper says": found.claim,
            "Lower TRE": found.better.map(label_of),
            "than": found.worse.map(label_of),
            "set": found.set,
            "statistic": found.statistic,
            "difference (px)": [
                f"{row.difference:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in found.itertuples()
            ],
            "here": found.verdict,
        }
    )
    repeated = printed["The paper says"].eq(printed["The paper says"].shift())
    printed.loc[repeated, ["§", "The paper says"]] = ""
    with write_whole(markdown) as temporary:
        temporary.write_text(to_pipes(printed) + f"\n\n{NOTE}\n", encoding="utf-8")
    with write_whole(html) as temporary:
        table = printed.to_html(index=False, border=0)
        temporary.write_text(PAGE.format(title="Claims", tables=table, note=NOTE), encoding="utf-8")
    logger.info("%s", found.verdict.value_counts().to_string())
