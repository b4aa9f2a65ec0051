"""Table 2 of the paper (§4): the error of every method on E1 and E2, the paper's numbers beside ours."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from regagent.evaluation.printing import (
    Table,
    number,
    to_html,
    to_latex,
    to_markdown,
    with_spread,
)
from regagent.evaluation.registrations import STATISTICS, summarise
from regagent.evaluation.run_tables import read_registrations
from regagent.files import UserError, read_table, write_table, write_text
from regagent.jobs import logger
from regagent.methods import FINE, PROPOSED, UNREGISTERED, label_of, variant_of

#: The headings over the columns.
RUN, PAPER = "This run", "Paper"
#: Marks the methods for which the paper has no numbers.
NOT_IN_PAPER = "†"


def read_registrations_of(methods: Sequence[str], paths: Iterable[str | Path]) -> pd.DataFrame:
    """Return what ``read_registrations`` returns, checked to hold all of ``methods``.

    Raises ``UserError`` when a registration table is faulty or one of ``methods`` has none on a set.
    """
    registrations = read_registrations(paths)
    for set_name, frame in registrations.groupby("set"):
        for method in methods:
            if method not in set(frame["method"]):
                raise UserError(f"Table 2: no registrations of {method} on {set_name}")
    return registrations


def summarise_methods(
    registrations: pd.DataFrame, reference: pd.DataFrame, methods: Sequence[str]
) -> pd.DataFrame:
    """Return one row per method and set, in the order of ``methods``, with our numbers and the paper's.

    ``registrations`` is what ``read_registrations_of`` returns, ``reference`` is the paper's table (px). A
    statistic is taken for each seed over its cases and then averaged over the seeds; ``*_seed_spread`` is its
    standard deviation over the seeds, NaN for a single one. The counts ``failures`` and ``refused`` are
    averaged over the seeds too. A failed case counts with the error of the pose that its method returned.
    ``accepted_mean_px`` is the mean over the cases that the method itself takes for registered, and over the
    seeds that have any.
    Errors are in px, ``mean_mm`` in mm.
    """
    rows = []
    for set_name in sorted(registrations["set"].unique()):
        of_set = registrations[registrations["set"] == set_name]
        for method in methods:
            of_method = of_set[of_set["method"] == method]
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
            row["refused"] = np.mean([(frame["status"] == "refused").sum() for frame in seeds])
            accepted = [frame.loc[frame["status"] == "registered", "tre_px"].mean() for frame in seeds]
            row["accepted_mean_px"] = pd.Series(accepted).mean()
            row["seconds_per_case"] = np.mean([frame["seconds"].mean() for frame in seeds])
            paper = reference[(reference["method"] == method) & (reference["set"] == set_name)]
            for name in STATISTICS:
                row[f"paper_{name}"] = float(paper[name].iloc[0]) if len(paper) else np.nan
            rows.append(row)
    return pd.DataFrame(rows).round(6)


def printed_name(method: str, in_paper: bool) -> str:
    """Return a method's name as the tables print it, marked if the paper has no numbers for it."""
    return label_of(method) + ("" if in_paper or method == UNREGISTERED else NOT_IN_PAPER)


def _best(frame: pd.DataFrame, column: str) -> pd.Series:
    """Mark the smallest value of a column after rounding, so that equal printed values are marked alike."""
    printed = frame[column].round(2)
    competing = frame["method"] != UNREGISTERED
    return competing & (printed == printed[competing].min())


def lay_out(summary: pd.DataFrame) -> list[Table]:
    """Return the tables to print, one per set, from what ``summarise_methods`` returns."""
    tables = []
    for set_name, frame in summary.groupby("set"):
        accepted = frame["accepted_mean_px"].where(frame["refused"] + frame["failures"] > 0)
        columns = {
            (RUN, "n"): frame["n_cases"].map(str),
            (RUN, "mean ± std"): list(map(with_spread, frame["mean_px"], frame["std_px"])),
            (RUN, "seed sd"): frame["mean_px_seed_spread"].map(number),
            (RUN, "50th"): frame["p50_px"].map(number),
            (RUN, "90th"): frame["p90_px"].map(number),
            (RUN, "failed"): frame["failures"].map("{:.3g}".format),
            (RUN, "refused"): frame["refused"].map("{:.3g}".format),
            (RUN, "accepted mean"): accepted.map(number),
            (RUN, "s/case"): frame["seconds_per_case"].map(number),
            (PAPER, "mean ± std"): list(map(with_spread, frame["paper_mean"], frame["paper_std"])),
            (PAPER, "50th"): frame["paper_p50"].map(number),
            (PAPER, "90th"): frame["paper_p90"].map(number),
        }
        if not _several_seeds(summary):
            del columns[RUN, "seed sd"]
        if frame["n_cases"].nunique() == 1:
            del columns[RUN, "n"]
        best = {
            (RUN, name): _best(frame, column)
            for name, column in (("mean ± std", "mean_px"), ("50th", "p50_px"), ("90th", "p90_px"))
        }
        names = pd.Index(map(printed_name, frame["method"], frame["paper_mean"].notna()), name="Method")
        cells = pd.DataFrame(columns).set_axis(names)
        bold = pd.DataFrame(best).reindex(columns=cells.columns, fill_value=False).set_axis(names)
        title = f"{set_name}: {frame['n_cases'].max()} cases of {frame['n_patients'].max()} patients"
        tables.append(Table(title, cells, bold))
    return tables


#: The rows of the README's table.
SHORT = (
    *(UNREGISTERED, "Elastix", "MI-search+Elastix", "pure-SL", "SL-LME-MC", PROPOSED),
    *("pure-SL-iterated", f"{variant_of(PROPOSED)}{FINE}"),
)


def lay_out_short(summary: pd.DataFrame) -> Table:
    """Return a small table of both sets, of those of the ``SHORT`` methods that ``summary`` has."""
    columns: dict[str, list[str]] = {}
    bold: dict[str, list[bool]] = {}
    shown = summary[summary["method"].isin(SHORT)]
    for set_name, frame in shown.groupby("set"):
        frame = frame.sort_values("method", key=lambda names: names.map(SHORT.index))
        for name, column in (("mean", "mean_px"), ("90th", "p90_px"), ("paper's mean", "paper_mean")):
            columns[f"{set_name} {name}"] = list(frame[column].map(number))
            bold[f"{set_name} {name}"] = list(_best(frame, column) & (column != "paper_mean"))
    columns["s/case"], bold["s/case"] = list(frame["seconds_per_case"].map(number)), [False] * len(frame)
    names = pd.Index(map(printed_name, frame["method"], frame["paper_mean"].notna()), name="Method")
    seeds = shown["seeds"].max()
    title = (
        f"{shown['n_cases'].max()} cases of {shown['n_patients'].max()} patients in each set, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    )
    return Table(title, pd.DataFrame(columns, index=names), pd.DataFrame(bold, index=names))


def _several_seeds(summary: pd.DataFrame) -> bool:
    return bool((summary["seeds"] > 1).any())


def notes(summary: pd.DataFrame) -> str:
    """Return the note under the printed table."""
    text = (
        "TRE in px; the lowest mean, 50th and 90th percentile of this run are bold, the initial pose aside. "
        "Failed cases count with the pose that the method returned. "
        "Refused: the method itself does not take the case for registered; “accepted mean” is the mean over "
        "the cases that it neither refused nor failed. "
        f"{NOT_IN_PAPER} not in the paper."
    )
    if (summary.groupby("set")["n_cases"].nunique() > 1).any():
        text += " n: number of cases; slow methods registered the first perturbations of each slice."
    if _several_seeds(summary):
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
    cases = read_registrations_of(methods, registrations)
    summary = summarise_methods(cases, read_table(reference), methods)
    write_table(summary, csv)
    tables, note = lay_out(summary), notes(summary)
    write_text(to_markdown(tables, note), markdown)
    write_text(to_latex(tables, note, "Target registration error", "tre"), latex)
    write_text(to_html(tables, note, "Table 2"), html)
    for table in tables:
        logger.info("%s\n%s", table.title, table.cells.to_string())
