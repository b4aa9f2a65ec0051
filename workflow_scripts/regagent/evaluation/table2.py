"""Table 2 of the paper (§4): the error of every method on E1 and E2, the paper's numbers beside ours."""

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
    write_texts,
)
from regagent.evaluation.registrations import STATISTICS, summarise
from regagent.evaluation.run_tables import read_registrations
from regagent.files import UserError, read_table, write_table
from regagent.jobs import logger
from regagent.methods import label_of

NOT_COMPETING = ("Initial",)
NOT_IN_PAPER = "†"


def summarise_methods(
    registrations: pd.DataFrame, reference: pd.DataFrame, methods: Sequence[str]
) -> pd.DataFrame:
    """Return one row a method and set, in the order of ``methods``, with our numbers and the paper's.

    ``registrations`` is what ``read_registrations`` returns. A statistic is taken for each seed over its
    cases and then averaged over the seeds; ``*_seed_spread`` is its standard deviation over the seeds,
    empty for a single one. Counts (failures, step_limit) are averaged over the seeds too. A failed case
    counts with the error of the pose that its method returned. Errors are in px, ``mean_mm`` in mm.
    """
    rows = []
    for set_name in sorted(registrations["set"].unique()):
        of_set = registrations[registrations["set"] == set_name]
        for method in methods:
            of_method = of_set[of_set["method"] == method]
            if of_method.empty:
                raise UserError(f"Table 2: no registrations of {method} on {set_name}")
            seeds = [frame for _, frame in of_method.groupby("seed")]
            statistics = [summarise(frame) for frame in seeds]
            row = {"method": method, "set": set_name, "seeds": len(seeds)}
            row |= {"n_cases": len(seeds[0]), "n_patients": seeds[0]["patient"].nunique()}
            for name in STATISTICS:
                values = [float(seed[name]) for seed in statistics]
                row[f"{name}_px"] = np.mean(values)
                row[f"{name}_px_seed_spread"] = np.std(values, ddof=1) if len(values) > 1 else np.nan
            row["mean_mm"] = np.mean([frame["tre_mm"].mean() for frame in seeds])
            row["failures"] = np.mean([(frame["status"] == "failed").sum() for frame in seeds])
            row["step_limit"] = np.mean([(frame["status"] == "step_limit").sum() for frame in seeds])
            row["seconds_per_case"] = np.mean([frame["seconds"].mean() for frame in seeds])
            paper = reference[(reference["method"] == method) & (reference["set"] == set_name)]
            for name in STATISTICS:
                row[f"paper_{name}"] = float(paper[name].iloc[0]) if len(paper) else np.nan
            rows.append(row)
    return pd.DataFrame(rows).round(6)


def _mean_std(mean: float, std: float) -> str:
    return ABSENT if np.isnan(mean) else f"{mean:.2f} ± {std:.2f}"


def printed_name(method: str, in_paper: bool) -> str:
    """Return a method's name as the tables print it, marked where the paper has no numbers of it."""
    return label_of(method) + ("" if in_paper or method in NOT_COMPETING else NOT_IN_PAPER)


def _best(frame: pd.DataFrame, column: str) -> pd.Series:
    """Mark the smallest value of a column as printed, so that equal looking values are marked alike."""
    printed = frame[column].round(2)
    competing = ~frame["method"].isin(NOT_COMPETING)
    return competing & (printed == printed[competing].min())


def lay_out(summary: pd.DataFrame) -> list[Block]:
    """Return the blocks to print, one a set, from what ``summarise_methods`` returns."""
    blocks = []
    several = bool((summary["seeds"] > 1).any())
    for set_name, frame in summary.groupby("set"):
        best = {name: _best(frame, f"{name}_px") for name in ("mean", "p50", "p90")}
        rows = []
        for index, row in frame.iterrows():
            ours = [
                Cell(_mean_std(row["mean_px"], row["std_px"]), bool(best["mean"][index])),
                Cell(number(row["p50_px"]), bool(best["p50"][index])),
                Cell(number(row["p90_px"]), bool(best["p90"][index])),
                Cell(f"{row['failures']:.3g}"),
                Cell(f"{row['step_limit']:.3g}"),
                Cell(number(row["seconds_per_case"])),
            ]
            if several:
                ours.insert(1, Cell(number(row["mean_px_seed_spread"])))
            paper = [
                Cell(_mean_std(row["paper_mean"], row["paper_std"])),
                Cell(number(row["paper_p50"])),
                Cell(number(row["paper_p90"])),
            ]
            name = printed_name(row["method"], in_paper=not np.isnan(row["paper_mean"]))
            rows.append((name, (*ours, *paper)))
        first = frame.iloc[0]
        ours = ["mean ± std", "50th", "90th", "failed", "step limit", "s/case"]
        if several:
            ours.insert(1, "seed sd")
        spans = ("This run", tuple(ours)), ("Paper", ("mean ± std", "50th", "90th"))
        title = f"{set_name}: {first['n_cases']} cases of {first['n_patients']} patients"
        blocks.append(Block(title, spans, tuple(rows)))
    return blocks


def notes(summary: pd.DataFrame) -> str:
    """Return the sentences that belong under the printed table."""
    text = (
        "TRE in px; the lowest mean, 50th and 90th percentile of this run are bold, the initial pose aside. "
        "Failed cases count with the pose that the method returned. "
        "A case at the step limit never reached the stop threshold. "
        f"{NOT_IN_PAPER} not in the paper."
    )
    if (summary["seeds"] > 1).any():
        text += " Each number is the mean over seeds; “seed sd” is the spread of the mean over them."
    return text


def make_table2(
    registrations: Iterable[str | Path],
    reference: str | Path,
    methods: Sequence[str],
    csv: str | Path,
    markdown: str | Path,
    latex: str | Path,
    html: str | Path,
) -> None:
    """Write Table 2 as numbers (``csv``) and for readers (``markdown``, ``latex``, ``html``).

    Raises ``UserError`` when a registration table is faulty or one of ``methods`` has none.
    """
    summary = summarise_methods(read_registrations(registrations), read_table(reference), methods)
    write_table(summary, csv)
    blocks, note = lay_out(summary), notes(summary)
    title = "Target registration error"
    write_texts(
        [
            (to_markdown(blocks, note), markdown),
            (to_latex(blocks, note, title, "tre"), latex),
            (to_html(blocks, note, "Table 2"), html),
        ]
    )
    for block in blocks:
        logger.info("%s", block.title)
        for method, cells in block.rows:
            logger.info("  %-18s %s", method, "  ".join(cell.text for cell in cells))
