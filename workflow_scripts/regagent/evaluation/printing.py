"""Tables for readers: printed values as Markdown, LaTeX and HTML tables (§4, Table 2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

ABSENT = "–"


@dataclass(frozen=True)
class Table:
    """A title, the printed cells as strings, and which of them are bold.

    The index of ``cells`` is the first printed column. Its columns may have two levels: a heading over
    several columns, and their own names. ``bold`` holds True or False and has the index and columns of
    ``cells``.
    """

    title: str
    cells: pd.DataFrame
    bold: pd.DataFrame | None = None
    align: Literal["right", "left"] = "right"


def number(value: float) -> str:
    """Return a value with two decimals, a dash for NaN."""
    return ABSENT if np.isnan(value) else f"{value:.2f}"


def with_spread(mean: float, std: float) -> str:
    """Return a mean and its standard deviation with two decimals, a dash where the mean is NaN."""
    return ABSENT if np.isnan(mean) else f"{mean:.2f} ± {std:.2f}"


def with_interval(value: float, low: float, high: float) -> str:
    """Return a value and its interval with two decimals; the value alone where the interval is NaN."""
    return number(value) if np.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def percentage(share: float) -> str:
    """Return a share, 0 to 1, in whole per cent."""
    return f"{100 * share:.0f} %"


def to_markdown(tables: Sequence[Table], note: str) -> str:
    """Return the tables as GitHub's Markdown, one under the other, and the note below them."""
    return "\n\n".join([*map(_pipes, tables), note]) + "\n"


def _pipes(table: Table) -> str:
    """Return one table in Markdown; the columns' first heading is left out, the others precede the names."""
    cells = table.cells if table.bold is None else table.cells.mask(table.bold, "**" + table.cells + "**")
    names = cells.columns
    if names.nlevels == 2:
        common = names[0][0]
        names = [name if above == common else f"{above}: {name}" for above, name in names]
    rule = [":--"] + [{"right": "--:", "left": ":--"}[table.align]] * len(names)
    rows = [cells.index.name, *names], rule, *cells.itertuples(name=None)
    return f"**{table.title}**\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _styled(table: Table, escaped: Callable[[str], str], bold: str, title: str | None = None) -> Styler:
    """Return the cells in a format; the name of the index, and above it the title, fill the corner."""
    corner = [title, table.cells.index.name][-table.cells.columns.nlevels :]
    styler = Styler(table.cells.rename_axis(index=None, columns=corner), cell_ids=False).format(escaped)
    styler.format_index(escaped, axis="index").format_index(escaped, axis="columns")
    styler.format_index_names(escaped, axis="columns")
    if table.bold is not None:
        styler.apply(lambda _: np.where(table.bold, bold, ""), axis=None)
    return styler


TEX = str.maketrans(
    {
        **{sign: rf"\{sign}" for sign in "_&%#"},
        **{sign: f"${command}$" for sign, command in (("±", r"\pm"), ("†", r"^\dagger"), ("≤", r"\leq"))},
        **{"<": "$<$", ">": "$>$", "“": "``", "”": "''", "–": "--"},
    }
)


def _tex(text: str) -> str:
    return text.translate(TEX)


def to_latex(tables: Sequence[Table], note: str, title: str, label: str) -> str:
    """Return a ``table*`` with one ``tabular`` per table, scaled down to the text's width if it is wider."""
    tabulars = [
        _styled(table, _tex, "textbf: --rwrap", table.title).to_latex(
            hrules=True, multicol_align="c", column_format="l" + table.align[0] * table.cells.shape[1]
        )
        for table in tables
    ]
    lines = [
        r"% Needs \usepackage{booktabs,graphicx}.",
        r"\begin{table*}",
        r"\centering\small",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_tex(title)}. {_tex(note)}}}",
        rf"\label{{tab:{label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{@{}l@{}}",
        "\\\\[2ex]\n".join(tabulars) + r"\end{tabular}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.4 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 1.5rem; }}
p {{ max-width: 50rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin-bottom: 1.5rem; }}
caption {{ text-align: left; font-weight: 600; padding: .4rem 0; }}
th, td {{ padding: .25rem .7rem; text-align: right; white-space: nowrap; }}
tbody th {{ font-weight: normal; }}
th:first-child {{ text-align: left; }}
th[colspan] {{ text-align: center; }}
thead {{ border-top: 2px solid #1a1a1a; border-bottom: 1px solid #1a1a1a; }}
tbody {{ border-bottom: 2px solid #1a1a1a; }}
.left td, .left th {{ text-align: left; white-space: normal; vertical-align: top; }}
</style></head><body>
{tables}
<p>{note}</p>
</body></html>
"""


def to_html(tables: Sequence[Table], note: str, title: str) -> str:
    """Return a self-contained page, without scripts or external files."""
    shown = [
        _styled(table, escape, "font-weight: bold").to_html(
            caption=escape(table.title), table_uuid=str(place), table_attributes=f'class="{table.align}"'
        )
        for place, table in enumerate(tables)
    ]
    return PAGE.format(title=escape(title), tables="\n".join(shown), note=escape(note))
