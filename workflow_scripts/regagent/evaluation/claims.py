"""Tests of the paper's claims (§4, §5) on a run: differences with intervals, and a verdict on each claim."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regagent.evaluation.paper_claims import ALIKE_PX, CLAIMS, Claim
from regagent.evaluation.printing import Table, to_html, to_markdown, with_interval
from regagent.evaluation.run_tables import read_registrations
from regagent.evaluation.statistics import BOTH, MINUS, RESAMPLES, CaseErrors, Comparison
from regagent.evaluation.trainings import TRAINING, Trainings
from regagent.files import write_table, write_text
from regagent.jobs import logger
from regagent.methods import LOOKAHEAD, label_of
from regagent.settings import Inference

SUPPORTED, NOT_SUPPORTED, NOT_TESTABLE = "supported", "not supported", "not testable here"
FOR, AGAINST, OPEN = "for", "against", "open"
#: A claim about a trained method needs as many trainings of it.
SEEDS = 3
#: Stands for what compares the two sets, and for claims that nothing in a run tests.
OTHERWISE = "otherwise"
#: What a claim may have a verdict on.
PLACES = (*BOTH, TRAINING, OTHERWISE)
COLUMNS = (
    *("section", "claim", "tested_on", "verdict", "remark", "better", "worse", "set", "statistic"),
    *("margin", "difference", "low", "high", "seeds", "shows"),
)
LABELS = {"p50": "50th", "p90": "90th", "worst30": "worst 30 %"}
NOTE = (
    "Difference: the second method minus the first, a mean over the seeds, in px of TRE or in what the "
    "statistic names, and its 95 % interval: from a bootstrap that draws the patients and the seeds of each "
    f"training ({RESAMPLES} resamples), too narrow where there are few; for the course of trainings Welch's "
    "over the seeds. A comparison is for the claim where the interval lies above 0, or above the margin that "
    "the claim names; against it where it lies below; else open. Alike are methods that differ by less than "
    f"{ALIKE_PX:g} px, half of an agent's step. On each set a claim is supported if all its comparisons are "
    "for it (one, where it speaks of some cases), else not supported: that may mean too few patients or too "
    "small a difference as well as the opposite. What is trained is tested with "
    f"{SEEDS} seeds or more. “{OTHERWISE.capitalize()}”: E1 and E2 are compared with each other, or nothing "
    f"in a run tests the claim. “A{MINUS}B” is the error of A minus that of B; nearer and farther half "
    "are those of a set's cases by the error before registration."
)


def judge(
    registrations: pd.DataFrame,
    trainings: Iterable[str | Path] = (),
    claims: Iterable[Claim] = CLAIMS,
    lookahead: str = "",
) -> pd.DataFrame:
    """Return one row per comparison, with the verdict on its claim on E1, on E2, or on the trainings.

    ``registrations`` is what ``read_registrations`` returns, ``trainings`` are models/*/seed*/training.csv.
    ``tested_on`` is one of ``PLACES``, and a verdict rests on the comparisons of one of them. ``difference``
    and its bounds ``low`` and ``high`` are in px of TRE or in what the statistic names, ``seeds`` is the
    least number of seeds of a training in it. ``shows`` says whether a comparison is for its claim, against
    it, or open; ``NOTE`` gives the rule.

    ``lookahead`` says how the run's look-ahead differs from the paper's, to readers of what compares it.
    A comparison is left out where the run lacks one of its methods, and the remark names what is lacking.
    Where this leaves none, and for a claim without comparisons, there is one row without methods. Bounds are
    NaN, and the claim is not testable, with fewer than two patients or ``SEEDS`` seeds.
    """
    sources = CaseErrors(registrations), Trainings(trainings)
    table = pd.DataFrame(
        [row for claim in claims for row in _judge_one(claim, lookahead, *sources)], columns=COLUMNS
    )
    return table.astype({"seeds": "Int64"}).round(4)


def _judge_one(
    claim: Claim, lookahead: str, errors: CaseErrors, trainings: Trainings
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one claim."""
    found: dict[str, list[dict[str, Any]]] = {}
    lacking: dict[str, None] = {}  # its keys, in their order
    for (better, worse), set_name, name in product(claim.pairs, claim.sets, claim.statistics):
        rows = found.setdefault(_tested_on(set_name), [])
        source = trainings if set_name == TRAINING else errors
        absent = [method for method in (better, worse) if not source.has(method, set_name)]
        lacking |= dict.fromkeys(absent)
        if not absent:
            compared = source.compare(better, worse, set_name, name)
            if compared.seeds is not None and compared.seeds < SEEDS:
                compared = replace(compared, low=np.nan, high=np.nan)
            names = {"better": better, "worse": worse, "set": set_name, "statistic": name}
            rows.append(names | vars(compared) | {"shows": _shows(compared, claim)})
    about = {"section": claim.section, "claim": claim.says, "margin": claim.margin}
    every = [row for rows in found.values() for row in rows]
    about["remark"] = "; ".join(_remarks(claim, every, lacking, lookahead))
    for place, rows in found.items() or [(OTHERWISE, [])]:
        about |= {"tested_on": place, "verdict": _verdict(rows, claim.some)}
        yield from (about | row for row in rows or [{}])


def _tested_on(set_name: str) -> str:
    """Return the one of ``PLACES`` that a comparison's set is or is a part of."""
    sets = [place for place in PLACES if place in set_name]
    return sets[0] if len(sets) == 1 else OTHERWISE


def differences_of_lookahead(settings: Inference) -> str:
    """Return how the look-ahead of a run differs from the paper's, '' where it does not."""
    found = []
    if settings.rounds > 1:
        found.append(f"goes on for {settings.rounds} rounds, the paper's for one")
    if settings.weights == "guarded":
        found.append("averages by Eq. 5 with a guard against weights that cancel")
    return f"the look-ahead here {' and '.join(found)}" if found else ""


def _remarks(
    claim: Claim, found: list[dict[str, Any]], lacking: Iterable[str], lookahead: str
) -> Iterator[str]:
    """Yield how a claim is tested, what the run lacks for that, and what its verdict hangs on."""
    if claim.remark:
        yield claim.remark
    if lacking:
        yield f"this run lacks {', '.join(map(label_of, lacking))}"
    untested = [row for row in found if np.isnan(row["low"])]
    few = [row["seeds"] for row in untested if row["seeds"] is not None and row["seeds"] < SEEDS]
    if few:
        yield f"a trained method needs {SEEDS} seeds, this run has {min(few)}"
    if len(untested) > len(few):
        yield "an interval needs two test patients"
    names = {name for row in found for side in ("better", "worse") for name in row[side].split(MINUS)}
    if lookahead and any(name.endswith(LOOKAHEAD) for name in names):
        yield lookahead


def _shows(found: Comparison, claim: Claim) -> str:
    """Return whether a comparison is for its claim, against it, or open."""
    if np.isnan(found.low):
        return OPEN
    if claim.relation == "not lower":
        return AGAINST if found.low > claim.margin else FOR
    if claim.relation == "alike":
        apart = found.low > claim.margin or found.high < -claim.margin
        within = -claim.margin < found.low and found.high < claim.margin
        return AGAINST if apart else FOR if within else OPEN
    return FOR if found.low > claim.margin else AGAINST if found.high < claim.margin else OPEN


def _verdict(found: list[dict[str, Any]], some: bool) -> str:
    """Return the verdict from the comparisons of one set; with ``some``, one that is for it is enough."""
    if not found or any(np.isnan(row["low"]) for row in found):
        return NOT_TESTABLE
    enough = any if some else all
    return SUPPORTED if enough(row["shows"] == FOR for row in found) else NOT_SUPPORTED


def _cell(rows: pd.DataFrame) -> str:
    """Return the verdict of one claim on one set, with the count of what the comparisons show."""
    verdict = rows["verdict"].iloc[0]
    if verdict == NOT_TESTABLE:
        return verdict
    counts = [
        f"{count} {shows}" for shows in (FOR, AGAINST, OPEN) if (count := (rows["shows"] == shows).sum())
    ]
    return f"{verdict} ({', '.join(counts)})"


def _printed(found: pd.DataFrame) -> list[Table]:
    """Return the tables to print: the verdicts on each claim side by side, and the comparisons behind."""
    claims = found.drop_duplicates("claim").set_index("claim")
    cells = {key: _cell(rows) for key, rows in found.groupby(["claim", "tested_on"])}
    verdicts = pd.DataFrame(
        {
            "§": claims["section"],
            "The paper says": claims.index,
            **{place: [cells.get((says, place), "") for says in claims.index] for place in PLACES},
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
    inference: Inference,
) -> None:
    """Write what ``judge`` returns as numbers (``csv``) and for readers (``markdown``, ``html``).

    Raises ``UserError`` when a table of a registration or of a training is faulty.
    """
    differs = differences_of_lookahead(inference)
    found = judge(read_registrations(registrations), trainings, lookahead=differs)
    write_table(found, csv)
    tables = _printed(found)
    write_text(to_markdown(tables, NOTE), markdown)
    write_text(to_html(tables, NOTE, "Claims"), html)
    verdicts = found.drop_duplicates(["claim", "tested_on"])
    logger.info("%s", pd.crosstab(verdicts["verdict"], verdicts["tested_on"]).to_string())
