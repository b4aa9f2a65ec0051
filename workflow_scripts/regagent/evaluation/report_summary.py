"""The summary of a run on the report's first page: its patients, errors and failures (§4)."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from regagent.evaluation.printing import percentage
from regagent.evaluation.registrations import SUCCESS_PX
from regagent.evaluation.run_tables import read_registrations
from regagent.files import read_table, write_text
from regagent.methods import NO_AGENT, PROPOSED, UNREGISTERED, label_of

#: The summary names at most so many test patients.
NAMED = 12


def write_summary(
    registrations: Iterable[str | Path], split: str | Path, families: Mapping[str, str], output: str | Path
) -> None:
    """Write patients, a short table of errors, and the failures of the proposed method as reStructuredText.

    ``families`` is {method: family}. The table has the proposed method and the methods without an agent;
    Table 2 has all. The seeds of a method are pooled. Raises ``UserError`` when a table is faulty.
    """
    results = read_registrations(registrations)
    results["missed"] = results["tre_px"] > SUCCESS_PX
    parts = [_patients(results, read_table(split)), _errors(results, families)]
    if PROPOSED in families:
        parts.append(_failures(results[results["method"] == PROPOSED]))
    write_text("\n\n".join(parts) + "\n", output)


def _patients(results: pd.DataFrame, split: pd.DataFrame) -> str:
    training = int((split["set"] == "train").sum())
    cases = results.drop_duplicates(["set", "case"])
    slices = len(cases.drop_duplicates(["patient", "slice"]))
    sizes = " and ".join(f"{count} cases of {name}" for name, count in cases.groupby("set").size().items())
    tested = sorted(cases["patient"].unique())
    names = ", ".join(f"``{name}``" for name in tested[:NAMED])
    more = " and others" if len(tested) > NAMED else ""
    seeds = results.loc[results["seed"] > 0, "seed"].nunique()
    trained = "once" if seeds <= 1 else f"{seeds} times, each from another seed"
    pixel = (cases["tre_mm"] / cases["tre_px"]).median()
    return (
        f"**On how many patients.** {training} patients trained the agents, each agent {trained}. All errors"
        f" are of {len(tested)} others ({names}{more}): {slices} slice pairs, misaligned at"
        f" random to {sizes}, which every method registers. A pixel is {pixel:.2f} mm of their heads."
    )


def _errors(results: pd.DataFrame, families: Mapping[str, str]) -> str:
    shown = [
        method for method, family in families.items() if method.startswith(PROPOSED) or family == NO_AGENT
    ]
    names = sorted(results["set"].unique())
    header = ["Method", *(f"{name}: {what}" for name in names for what in ("mean", "median", "within 2 px"))]
    rows = []
    for method in shown:
        cells = [label_of(method)]
        for name in names:
            frame = results[(results["method"] == method) & (results["set"] == name)]
            error = frame["tre_px"]
            cells += [f"{error.mean():.2f}", f"{error.median():.2f}", _share(~frame["missed"])]
        rows.append(cells)
    table = pd.DataFrame(rows).to_csv(index=False, header=False, quoting=1).strip()
    lines = [
        "**How well it works.** Target registration error (TRE) in px over the cases, and how many of them"
        f" end within {SUCCESS_PX:g} px of the truth:",
        "",
        ".. csv-table::",
        "   :header: " + ", ".join(f'"{cell}"' for cell in header),
        "",
        *(f"   {row}" for row in table.splitlines()),
        "",
        _best(results[results["method"] != UNREGISTERED]),
    ]
    return "\n".join(lines)


def _best(results: pd.DataFrame) -> str:
    """Return a sentence that names the method with the lowest mean error on each set."""
    parts = []
    for name, frame in results.groupby("set"):
        means = frame.groupby("method")["tre_px"].mean()
        parts.append(f"on {name} {label_of(means.idxmin())} ({means.min():.2f} px)")
    return f"Of all methods of Table 2 the lowest mean error has {' and '.join(parts)}."


def _share(marks: pd.Series) -> str:
    return percentage(marks.mean())


def _failures(results: pd.DataFrame) -> str:
    """Return how many cases the proposed method misses, by set, initial error, patient and status."""
    by_set = [
        f"{frame['missed'].sum()} of {len(frame)} cases of {name} ({_share(frame['missed'])})"
        for name, frame in results.groupby("set")
    ]
    start, middle = results["initial_px"], results["initial_px"].median()
    near, far = (results.loc[half, "missed"] for half in (start <= middle, start > middle))
    patients = results.groupby("patient")["missed"].mean().sort_values()
    refused = results["status"] == "refused"
    worst = results.loc[results["tre_px"].idxmax()]
    text = (
        f"**Where it fails.** {PROPOSED} ends farther than {SUCCESS_PX:g} px from the truth in"
        f" {' and in '.join(by_set)}: {_share(near)} of the cases that begin within {middle:.0f} px and"
        f" {_share(far)} of those that begin farther off. By patient it is {_share(patients.iloc[[0]])}"
        f" (``{patients.index[0]}``) to {_share(patients.iloc[[-1]])} (``{patients.index[-1]}``)."
    )
    if refused.any():
        text += (
            f" In {refused.sum()} of {len(results)} the value never reached the threshold;"
            f" {_share(results.loc[refused, 'missed'])} of these end that far off."
        )
    return text + (
        f" The worst case, of ``{worst['patient']}`` and {worst['set']}, ends {worst['tre_px']:.1f} px off,"
        f" from {worst['initial_px']:.1f} px at the start."
    )
