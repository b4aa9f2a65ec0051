"""The table of volumes: the errors of every method in space, a part for each set of motions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from regagent.evaluation.printing import Table, number, percentage, to_markdown, with_spread
from regagent.files import read_table, write_table, write_text
from regagent.settings import Motion

#: A case within so many mm counts as a success, and as found.
SUCCESS_MM, FOUND_MM = 2.0, 4.0

NOTE = (
    "TRE in mm over points in the head. The CT is moved by its header: nothing is interpolated before a"
    " method does so. Failed cases count with the error of their start. {}"
)


def make_volume_table(
    registrations: Mapping[tuple[str, str], str | Path],
    motions: Mapping[str, Motion],
    csv: str | Path,
    markdown: str | Path,
) -> None:
    """Write the table of volumes from the registrations of each method and set, as CSV and Markdown.

    ``motions`` are the ranges of each set.
    """
    rows = []
    for (method, name), path in registrations.items():
        cases = read_table(path)
        error = cases.tre_mm
        rows.append(
            {
                "set": name,
                "method": method,
                "n": len(cases),
                "mean": error.mean(),
                "std": error.std(ddof=0),
                "p50": error.median(),
                "p90": error.quantile(0.9),
                "worst": error.max(),
                "success": (error <= SUCCESS_MM).mean(),
                "found": (error <= FOUND_MM).mean(),
                "refused": int((cases.status == "refused").sum()),
                "failed": int((cases.status == "failed").sum()),
                "seconds": cases.seconds.mean(),
            }
        )
    table = pd.DataFrame(rows)
    write_table(table, csv)
    ranges = "; ".join(f"{name}: {described(motion)}" for name, motion in motions.items())
    note = NOTE.format(f"{ranges}.")
    if table.groupby("set").n.nunique().max() > 1:
        note += " n: number of cases; slow methods registered the first of each patient."
    write_text(to_markdown(printed(table), note), markdown)


def described(motion: Motion) -> str:
    """Return in words how far the CT is moved."""
    words = f"shifts of up to {motion.translation_mm:g} mm along each axis, turns of up to"
    words += f" {motion.rotation_deg:g}° about any axis"
    return words + (f", {motion.cut:.0%} of the head cut off one volume" if motion.cut else "")


def printed(table: pd.DataFrame) -> Sequence[Table]:
    """Return the table of volumes as it is printed, a part for each set."""
    parts = []
    for name, rows in table.groupby("set", sort=False):
        cells = pd.DataFrame(
            {
                "mean ± std": [with_spread(*pair) for pair in zip(rows["mean"], rows["std"], strict=True)],
                "50th": rows.p50.map(number),
                "90th": rows.p90.map(number),
                "worst": rows.worst.map(number),
                f"≤ {SUCCESS_MM:g} mm": rows.success.map(percentage),
                f"≤ {FOUND_MM:g} mm": rows.found.map(percentage),
                "refused": rows.refused.map(str),
                "failed": rows.failed.map(str),
                "s/case": rows.seconds.map(number),
            }
        )
        if rows.n.nunique() > 1:
            cells.insert(0, "n", rows.n.map(str))
        cells.index = pd.Index(rows.method, name="Method")
        parts.append(Table(f"{name}: {rows.n.max()} cases", cells))
    return parts
