"""Tests of the paper's claims (§4, §5) on a run: differences with intervals, and a verdict on each claim."""

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regagent.evaluation.paper_claims import ALIKE_PX, CLAIMS, Claim
from regagent.evaluation.printing import Table, to_html, to_markdown, with_interval
from regagent.evaluation.run_tables import read_registrations
from regagent.evaluation.statistics import FARTHER, MINUS, NEARER, RESAMPLES, CaseErrors, Comparison
from regagent.evaluation.trainings import TRAINING, Trainings
from regagent.files import write_table, write_text
from regagent.jobs import logger
from regagent.methods import label_of

SUPPORTED, NOT_SUPPORTED, NOT_TESTABLE = "supported", "not supported", "not testable here"
FOR, AGAINST, OPEN = "for", "against", "open"
COLUMNS = (
    *("section", "claim", "verdict", "remark", "better", "worse", "set", "statistic", "margin"),
    *("difference", "low", "high", "seed_low", "seed_high", "shows"),
)
LABELS = {"p50": "50th", "p90": "90th", "worst30": "worst 30 %"}
NOTE = (
    "Difference: the second method minus the first, a mean over the seeds, in px of TRE or in what the "
    f"statistic names, and its 95 % interval: from a bootstrap over patients ({RESAMPLES} resamples), "
    "for trainings Welch's over the seeds. A comparison is for the claim where the interval and the "
    "difference of every seed lie above 0, or above the margin that the claim names; against it where "
    f"they lie below; else open. Alike are methods that differ by less than {ALIKE_PX:g} px, half of an "
    "agent's step. A claim is supported where all its comparisons are for it (one, where it speaks of "
    "some cases), else not supported: that may mean too few patients or too small a difference as well "
    f"as the opposite. “A{MINUS}B” is the error of A minus that of B; the {NEARER} and the {FARTHER} are "
    "those of all cases by the error before registration."
)


def judge(
    registrations: pd.DataFrame, trainings: Iterable[str | Path] = (), claims: Iterable[Claim] = CLAIMS
) -> pd.DataFrame:
    """Return one row per comparison, and one for a claim without comparisons, with the verdict on the claim.

    ``registrations`` is what ``read_registrations`` returns, ``trainings`` are models/*/seed*/training.csv.
    ``difference`` and its bounds ``low`` and ``high`` are in px of TRE or in what the statistic names;
    ``seed_low`` and ``seed_high`` are the range of the difference over the seeds. ``shows`` says whether a
    comparison is for its claim, against it, or open; ``NOTE`` gives the rule.

    A comparison is left out where the run lacks one of its methods, and the remark names what is lacking.
    A claim is not testable here if none of its comparisons has an interval.
    """
    sources = CaseErrors(registrations), Trainings(trainings)
    rows = []
    for claim in claims:
        found: list[dict[str, Any]] = []
        lacking: dict[str, None] = {}  # its keys, in their order
        for (better, worse), set_name, name in product(claim.pairs, claim.sets, claim.statistics):
            source = sources[set_name == TRAINING]
            absent = [method for method in (better, worse) if not source.has(method, set_name)]
            lacking |= dict.fromkeys(absent)
            if not absent:
                compared = source.compare(better, worse, set_name, name)
                names = {"better": better, "worse": worse, "set": set_name, "statistic": name}
                found.append(names | vars(compared) | {"shows": _shows(compared, claim)})
        remarks = [claim.remark] if claim.remark else []
        if lacking:
            remarks.append(f"this run lacks {', '.join(map(label_of, lacking))}")
        if found and all(np.isnan(row["low"]) for row in found):
            remarks.append("an interval needs two test patients, for trainings two seeds")
        about = {
            "section": claim.section,
            "claim": claim.says,
            "verdict": _verdict(found, claim.some),
            "remark": "; ".join(remarks),
            "margin": claim.margin,
        }
        rows += [about | row for row in found or [{}]]
    return pd.DataFrame(rows, columns=COLUMNS).round(4)


def _shows(found: Comparison, claim: Claim) -> str:
    """Return whether a comparison is for its claim, against it, or open."""
    if np.isnan(found.low):
        return OPEN
    low, high = min(found.low, found.seed_low), max(found.high, found.seed_high)
    if claim.relation == "not lower":
        return AGAINST if low > claim.margin else FOR
    if claim.relation == "alike":
        apart = low > claim.margin or high < -claim.margin
        return AGAINST if apart else FOR if -claim.margin < low and high < claim.margin else OPEN
    return FOR if low > claim.margin else AGAINST if high < claim.margin else OPEN


def _verdict(found: list[dict[str, Any]], some: bool) -> str:
    """Return the verdict on a claim from its comparisons; with ``some``, one that is for it is enough."""
    if all(np.isnan(row["low"]) for row in found):
        return NOT_TESTABLE
    enough = any if some else all
    return SUPPORTED if enough(row["shows"] == FOR for row in found) else NOT_SUPPORTED


def _printed(found: pd.DataFrame) -> list[Table]:
    """Return the tables to print: the verdict on each claim, and the comparisons behind it."""
    claims = found.drop_duplicates("claim")
    counts = pd.crosstab(found["claim"], found["shows"])
    counts = counts.reindex(index=claims["claim"], columns=[FOR, AGAINST, OPEN], fill_value=0).astype(str)
    verdicts = pd.DataFrame(
        {
            "§": claims["section"],
            "The paper says": claims["claim"],
            "here": claims["verdict"],
            **{shows: count.to_numpy() for shows, count in counts.items()},
            "remark": claims["remark"],
        }
    )
    compared = found.dropna(subset="better")
    details = pd.DataFrame(
        {
            "§": compared["section"],
            "The paper says": compared["claim"],
            "Lower": compared["better"].map(label_of),
            "than": compared["worse"].map(label_of),
            "set": compared["set"],
            "statistic": compared["statistic"].replace(LABELS),
            "difference": [with_interval(row.difference, row.low, row.high) for row in compared.itertuples()],
            "shows": compared["shows"],
        }
    )
    repeated = details["The paper says"].eq(details["The paper says"].shift())
    details.loc[repeated, ["§", "The paper says"]] = ""
    tables = {"Claims": verdicts, "Comparisons": details}
    return [Table(title, table.set_index("§"), align="left") for title, table in tables.items()]


def make_claims(
    registrations: Iterable[str | Path],
    trainings: Iterable[str | Path],
    csv: str | Path,
    markdown: str | Path,
    html: str | Path,
) -> None:
    """Write what ``judge`` returns as numbers (``csv``) and for readers (``markdown``, ``html``).

    Raises ``UserError`` when a table of a registration or of a training is faulty.
    """
    found = judge(read_registrations(registrations), trainings)
    write_table(found, csv)
    tables = _printed(found)
    write_text(to_markdown(tables, NOTE), markdown)
    write_text(to_html(tables, NOTE, "Claims"), html)
    logger.info("%s", found.drop_duplicates("claim")["verdict"].value_counts().to_string())
