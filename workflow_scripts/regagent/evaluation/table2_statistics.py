"""The statistics beside Table 2 (§4): how sure the errors are, and RL-LME-MC tested against every method."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from regagent.evaluation.printing import (
    ABSENT,
    Block,
    Cell,
    number,
    to_html,
    to_latex,
    to_markdown,
    with_interval,
    write_texts,
)
from regagent.evaluation.registrations import SUCCESS_PX
from regagent.evaluation.run_tables import read_registrations
from regagent.evaluation.statistics import RESAMPLES, summarise_statistics
from regagent.evaluation.table2 import printed_name
from regagent.files import UserError, read_table, write_table
from regagent.jobs import logger
from regagent.methods import PROPOSED

OURS = ("mean [95 %]", "90th [95 %]", "worst 30 %", f"≤ {SUCCESS_PX:g} px")
TESTS = ("difference [95 %]", "r", "p, cases", "p, patients")
NOTE = (
    f"TRE in px. [ ]: 95 % interval from a bootstrap over patients ({RESAMPLES} resamples), as the cases "
    "of a patient are alike; of few patients it comes out too narrow. Worst 30 %: mean of the largest "
    f"30 % of the errors. ≤ {SUCCESS_PX:g} px: part of the cases. All these are means over the seeds. "
    f"Difference: mean of the method minus that of {PROPOSED}. p: Wilcoxon's two-sided signed-rank test "
    f"of {PROPOSED} and the method on errors averaged over the seeds, adjusted by Holm's method over all "
    "methods and both sets. Pairs are cases, which makes p too small, as the cases of a patient are not "
    "independent; or patients, by their mean errors, where p cannot be small with few of them. r: "
    f"rank-biserial correlation over cases, above 0 where {PROPOSED} has the lower errors."
)


def _p_value(p: float) -> str:
    return ABSENT if np.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def lay_out(statistics: pd.DataFrame, in_paper: Iterable[str]) -> list[Block]:
    """Return the blocks to print, one a set, from what ``summarise_statistics`` returns."""
    blocks, known = [], set(in_paper)
    for set_name, frame in statistics.groupby("set"):
        rows = []
        for row in frame.itertuples():
            cells = [
                with_interval(row.mean, row.mean_low, row.mean_high),
                with_interval(row.p90, row.p90_low, row.p90_high),
                number(row.worst30),
                f"{100 * row.success:.0f} %",
                with_interval(row.difference, row.difference_low, row.difference_high),
                number(row.r_cases),
                _p_value(row.p_cases_holm),
                _p_value(row.p_patients_holm),
            ]
            rows.append((printed_name(row.method, row.method in known), tuple(map(Cell, cells))))
        spans = ("This run", OURS), (f"against {PROPOSED}", TESTS)
        blocks.append(Block(f"{set_name}: {frame.n_patients.iloc[0]} patients", spans, tuple(rows)))
    return blocks


def make_table2_statistics(
    registrations: Iterable[str | Path],
    reference: str | Path,
    methods: Sequence[str],
    csv: str | Path,
    markdown: str | Path,
    latex: str | Path,
    html: str | Path,
) -> None:
    """Write the statistics beside Table 2 as numbers (``csv``) and for readers (``markdown``, …).

    ``reference`` is the paper's Table 2: methods that it lacks are marked. Raises ``UserError`` when a
    registration table is faulty or one of ``methods`` has none.
    """
    cases = read_registrations(registrations)
    for set_name, frame in cases.groupby("set"):
        absent = [method for method in methods if method not in set(frame["method"])]
        if absent:
            raise UserError(f"statistics of Table 2: no registrations of {absent[0]} on {set_name}")
    statistics = summarise_statistics(cases, methods, PROPOSED)
    write_table(statistics.round(6), csv)
    blocks = lay_out(statistics, read_table(reference)["method"])
    title = "Statistics of the target registration error"
    write_texts(
        [
            (to_markdown(blocks, NOTE), markdown),
            (to_latex(blocks, NOTE, title, "tre-statistics"), latex),
            (to_html(blocks, NOTE, "Statistics of Table 2"), html),
        ]
    )
    below = statistics[statistics.p_cases_holm < 0.05]
    logger.info("%s: %d of %d tests on cases with p < 0.05", PROPOSED, len(below), statistics.p_cases.count())
