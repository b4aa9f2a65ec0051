"""The statistics beside Table 2 (§4): intervals of the errors, and RL-LME-MC tested against every method."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from regagent.evaluation.printing import (
    ABSENT,
    Table,
    number,
    percentage,
    to_html,
    to_latex,
    to_markdown,
    with_interval,
)
from regagent.evaluation.registrations import SUCCESS_PX
from regagent.evaluation.statistics import RESAMPLES, summarise_statistics
from regagent.evaluation.table2 import RUN, printed_name, read_registrations_of
from regagent.files import read_table, write_table, write_text
from regagent.jobs import logger
from regagent.methods import PROPOSED

TESTS = f"against {PROPOSED}"
NOTE = (
    f"TRE in px. [ ]: 95 % interval from a bootstrap over patients ({RESAMPLES} resamples), as the cases "
    "of a patient are alike, and over the seeds of each training where there are several; of few patients or "
    "seeds it comes out too narrow. Worst 30 %: mean of the largest "
    f"30 % of the errors. ≤ {SUCCESS_PX:g} px: part of the cases. All these are means over the seeds. "
    f"Difference: mean of the method minus that of {PROPOSED}. p: Wilcoxon's two-sided signed-rank test "
    f"of {PROPOSED} and the method on errors averaged over the seeds, adjusted by Holm's method over all "
    "methods and both sets. Pairs are cases, which makes p too small, as the cases of a patient are not "
    "independent; or patients, by their mean errors, where p cannot be small with few of them. r: "
    f"rank-biserial correlation over cases, above 0 where {PROPOSED} has the lower errors."
)


def _p_value(p: float) -> str:
    return ABSENT if np.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _intervals(frame: pd.DataFrame, name: str) -> list[str]:
    return list(map(with_interval, frame[name], frame[f"{name}_low"], frame[f"{name}_high"]))


def lay_out(statistics: pd.DataFrame, in_paper: Iterable[str]) -> list[Table]:
    """Return the tables to print, one per set, from what ``summarise_statistics`` returns.

    ``in_paper`` are the methods for which the paper has numbers; the others are marked.
    """
    tables = []
    for set_name, frame in statistics.groupby("set"):
        columns = {
            (RUN, "mean [95 %]"): _intervals(frame, "mean"),
            (RUN, "90th [95 %]"): _intervals(frame, "p90"),
            (RUN, "worst 30 %"): frame["worst30"].map(number),
            (RUN, f"≤ {SUCCESS_PX:g} px"): frame["success"].map(percentage),
            (TESTS, "difference [95 %]"): _intervals(frame, "difference"),
            (TESTS, "r"): frame["r_cases"].map(number),
            (TESTS, "p, cases"): frame["p_cases_holm"].map(_p_value),
            (TESTS, "p, patients"): frame["p_patients_holm"].map(_p_value),
        }
        names = pd.Index(map(printed_name, frame["method"], frame["method"].isin(in_paper)), name="Method")
        title = f"{set_name}: {frame['n_patients'].iloc[0]} patients"
        tables.append(Table(title, pd.DataFrame(columns).set_axis(names)))
    return tables


def make_table2_statistics(
    registrations: Iterable[str | Path],
    reference: str | Path,
    methods: Sequence[str],
    csv: str | Path,
    markdown: str | Path,
    latex: str | Path,
    html: str | Path,
) -> None:
    """Write the statistics beside Table 2 as numbers (``csv``) and for readers (the other files).

    ``reference`` is the paper's Table 2; methods that it lacks are marked. Raises ``UserError`` when a
    registration table is faulty or one of ``methods`` has none.
    """
    cases = read_registrations_of(methods, registrations)
    statistics = summarise_statistics(cases, methods, PROPOSED)
    write_table(statistics.round(6), csv)
    tables = lay_out(statistics, read_table(reference)["method"])
    title = "Statistics of the target registration error"
    write_text(to_markdown(tables, NOTE), markdown)
    write_text(to_latex(tables, NOTE, title, "tre-statistics"), latex)
    write_text(to_html(tables, NOTE, "Statistics of Table 2"), html)
    below = statistics[statistics.p_cases_holm < 0.05]
    logger.info("%s: %d of %d tests on cases with p < 0.05", PROPOSED, len(below), statistics.p_cases.count())
