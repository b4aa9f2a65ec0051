"""The page of results: what a run found beside what the paper says, with every number from its tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from regagent.evaluation.claims import (
    AGAINST,
    FOR,
    LABELS,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    OPEN,
    OTHERWISE,
    PLACES,
    SEEDS,
    SUPPORTED,
)
from regagent.evaluation.claims import NOTE as CLAIMS_NOTE
from regagent.evaluation.printing import number, percentage, with_interval, with_spread
from regagent.evaluation.registrations import SUCCESS_PX
from regagent.evaluation.statistics import BELOW, MINUS
from regagent.files import UserError, read_table, write_text
from regagent.jobs import logger
from regagent.methods import PROPOSED, UNREGISTERED, label_of

#: A test is significant below this adjusted p-value.
ALPHA = 0.05
#: A claim with more comparisons than this gets a summary of them instead of a list.
LISTED = 4


def describe_table2(table: pd.DataFrame) -> Iterator[str]:
    """Yield one paragraph per set on Table 2, from its numbers (tables/table2.csv)."""
    for set_name, frame in table.groupby("set"):
        rows = frame[frame["method"] != UNREGISTERED]
        lowest = rows.loc[rows["mean_px"].idxmin()]
        first = frame.iloc[0]
        text = (
            f"On **{set_name}** ({first['n_cases']} cases of {first['n_patients']} patients, "
            f"trainings of {frame['seeds'].max()} seed{'s' if frame['seeds'].max() > 1 else ''}) "
            f"{label_of(lowest['method'])} has the lowest mean TRE, {number(lowest['mean_px'])} px."
        )
        for method in (UNREGISTERED, PROPOSED, "Elastix"):
            for row in frame[frame["method"] == method].itertuples():
                text += f" {method}: {with_spread(row.mean_px, row.std_px)} px"
                text += f", 90th percentile {number(row.p90_px)} px"
                if not np.isnan(row.paper_mean):
                    text += f" (paper: {with_spread(row.paper_mean, row.paper_std)}, {number(row.paper_p90)})"
                text += "."
        both = rows.dropna(subset="paper_mean")
        if len(both) > 2:
            rho = stats.spearmanr(both["mean_px"], both["paper_mean"]).statistic
            text += (
                f" The rank correlation (Spearman's) of the mean TRE of {len(both)} methods here and in the "
                f"paper is {number(rho)}."
            )
        yield text


def describe_statistics(table: pd.DataFrame, seeds: int) -> Iterator[str]:
    """Yield one paragraph per set on the statistics beside Table 2 (tables/table2_statistics.csv).

    ``seeds`` is the number of trainings of each variant.
    """
    for set_name, frame in table.groupby("set"):
        for row in frame[frame["method"] == PROPOSED].itertuples():
            tested = frame.dropna(subset="p_cases")
            text = (
                f"On **{set_name}** {PROPOSED} has a mean TRE of "
                f"{with_interval(row.mean, row.mean_low, row.mean_high)} px, ends within {SUCCESS_PX:g} px "
                f"in {percentage(row.success)} of the cases, and errs by {number(row.worst30)} px on average "
                "in the worst 30 %."
            )
            for unit in ("cases", "patients"):
                clear = tested[tested[f"p_{unit}_holm"] < ALPHA]
                lower, higher = (clear[sign * clear[f"r_{unit}"] > 0]["method"] for sign in (1, -1))
                text += f" With {unit} as pairs, its errors are lower than those of {_names(lower)}"
                text += (
                    f" and higher than those of {_names(higher)} (p < {ALPHA:g}, of {len(tested)} methods)."
                )
            if seeds < SEEDS:
                text += " How another training of the same settings would end, that does not tell."
            yield text


def _names(methods: pd.Series) -> str:
    return ", ".join(map(label_of, methods)) or "none"


def describe_claims(table: pd.DataFrame) -> Iterator[str]:
    """Yield one paragraph per claim, under a heading for each section of the paper (tables/claims.csv)."""
    verdicts = table.drop_duplicates(["claim", "tested_on"])
    for place in PLACES:
        of_place = verdicts.loc[verdicts["tested_on"] == place, "verdict"]
        counts = [f"{(of_place == one).sum()} {one}" for one in (SUPPORTED, NOT_SUPPORTED, NOT_TESTABLE)]
        yield f"{place[0].upper()}{place[1:]}: of {len(of_place)} claims {', '.join(counts)}."
    for section, claims in table.groupby("section"):
        yield f"### § {section}"
        for says, rows in claims.groupby("claim", sort=False):
            remark = rows["remark"].iloc[0]
            compared = rows.dropna(subset="better")
            judged = rows.drop_duplicates("tested_on")
            text = f"**{says}** *{'; '.join(map(_judged, judged['tested_on'], judged['verdict']))}.*"
            if len(compared) > LISTED:
                text += " " + _summary(compared)
            elif len(compared):
                text += " " + "; ".join(map(_comparison, compared.itertuples())) + "."
            if isinstance(remark, str):
                text += f" {remark[0].upper()}{remark[1:]}."
            yield text


def _judged(place: str, verdict: str) -> str:
    """Return a verdict as text, with what it is on."""
    return verdict.capitalize() if place == OTHERWISE else f"{place[0].upper()}{place[1:]}: {verdict}"


def _measured(row: Any) -> str:
    """Return the statistic and the set of a comparison; a pair of sets stands beside the methods instead."""
    where = "" if BELOW in row.set else f", {row.set}"
    return f"{LABELS.get(row.statistic, row.statistic)}{where}"


def _comparison(row: Any) -> str:
    """Return a comparison as text: the two methods, the statistic, the difference, and what it shows."""
    better, worse = label_of(row.better), label_of(row.worse)
    if MINUS in better:
        better, worse = f"({better})", f"({worse})"
    if BELOW in row.set:
        first, second = row.set.split(BELOW)
        better, worse = f"{better} on {first}", f"{worse} on {second}"
    difference = with_interval(row.difference, row.low, row.high)
    return f"{worse} minus {better}, {_measured(row)}: {difference} ({row.shows})"


def _summary(compared: pd.DataFrame) -> str:
    """Return the count of comparisons, the range of their differences, and those not for the claim."""
    text = (
        f"{(compared['shows'] == FOR).sum()} of {len(compared)} comparisons are for it; the differences span "
        f"{number(compared['difference'].min())} to {number(compared['difference'].max())}."
    )
    for shows in (AGAINST, OPEN):
        rows = compared[compared["shows"] == shows]
        if len(rows):
            pairs = rows.groupby(["better", "worse"], sort=False)
            listed = [
                f"{label_of(better)} and {label_of(worse)} ({'; '.join(map(_measured, of.itertuples()))})"
                for (better, worse), of in pairs
            ]
            text += f" {shows.capitalize()}: {', '.join(listed)}."
    return text


def write_results(
    run: str,
    table2: tuple[str | Path, str | Path],
    statistics: tuple[str | Path, str | Path],
    claims: str | Path,
    output: str | Path,
) -> None:
    """Write the page from a run's tables: Table 2 and its statistics as (csv, md), the claims as csv.

    Raises ``UserError`` when a table cannot be read.
    """
    printed = []
    for _, markdown in (table2, statistics):
        try:
            printed.append(Path(markdown).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{markdown}: not a readable table ({error})") from error
    judged, errors = read_table(claims), read_table(table2[0])
    parts = [
        "# What was found",
        f"The run `{run}` against the paper, point by point. The pipeline wrote this page, numbers and all. "
        "Errors are target registration errors (TRE) in px; [ ] are 95 % intervals.",
        "## Table 2",
        *describe_table2(errors),
        printed[0].strip(),
        "## How sure that is",
        *describe_statistics(read_table(statistics[0]), int(errors["seeds"].max())),
        printed[1].strip(),
        "## What the paper says, and what this run says to it",
        CLAIMS_NOTE,
        *describe_claims(judged),
    ]
    write_text("\n\n".join(parts) + "\n", output)
    logger.info("%d claims", judged["claim"].nunique())
