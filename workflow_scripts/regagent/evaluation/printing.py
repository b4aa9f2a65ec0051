"""Tables for readers: one layout, printed as a GitHub, a LaTeX and an HTML table (§4, Table 2)."""

import html as escaping
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from regagent.files import write_whole

ABSENT = "–"


@dataclass(frozen=True)
class Cell:
    """One printed value and whether it is the best of its column."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Block:
    """The printed rows of one set: a name and its cells; ``spans`` are the columns under common titles."""

    title: str
    spans: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def number(value: float, digits: int = 2) -> str:
    """Return a value as printed, a dash where there is none."""
    return ABSENT if np.isnan(value) else f"{value:.{digits}f}"


def with_interval(value: float, low: float, high: float) -> str:
    """Return a value and its interval as printed; the value alone where there is no interval."""
    return number(value) if np.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def to_markdown(blocks: Sequence[Block], note: str) -> str:
    """Return the blocks as GitHub tables, one under the other."""
    parts = []
    for block in blocks:
        (_, head), *later = block.spans
        head = ["Method", *head, *(f"{title}: {name}" for title, names in later for name in names)]
        rows = []
        for method, cells in block.rows:
            printed = [f"**{cell.text}**" if cell.best else cell.text for cell in cells]
            rows.append([method.replace("|", r"\|"), *printed])
        table = to_pipes(pd.DataFrame(rows, columns=head), numbers_from=1)
        parts.append(f"**{block.title}**\n\n{table}")
    return "\n\n".join([*parts, note]) + "\n"


def to_pipes(frame: pd.DataFrame, numbers_from: int | None = None) -> str:
    """Return a table of strings as a GitHub table; columns from ``numbers_from`` on are aligned right."""
    count = len(frame.columns) if numbers_from is None else numbers_from
    rule = [":--"] * count + ["--:"] * (len(frame.columns) - count)
    return "\n".join("| " + " | ".join(row) + " |" for row in (frame.columns, rule, *frame.to_numpy()))


TEX = {
    **{sign: rf"\{sign}" for sign in "_&%#"},
    **{sign: f"${command}$" for sign, command in (("±", r"\pm"), ("†", r"^\dagger"), ("≤", r"\leq"))},
    **{"<": "$<$", ">": "$>$", "“": "``", "”": "''", "–": "--"},
}


def _tex(text: str) -> str:
    return "".join(TEX.get(sign, sign) for sign in text)


def _tex_cell(cell: Cell) -> str:
    text = _tex(cell.text)
    return rf"\textbf{{{text}}}" if cell.best else text


def to_latex(blocks: Sequence[Block], note: str, title: str, label: str) -> str:
    """Return a ``table*``, narrowed to the text's width where it is wider."""
    columns = 1 + sum(len(names) for _, names in blocks[0].spans)
    lines = [
        r"% Needs \usepackage{booktabs,graphicx}.",
        r"\begin{table*}",
        r"\centering\small",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_tex(title)}. {_tex(note)}}}",
        rf"\label{{tab:{label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{l" + "r" * (columns - 1) + "}",
    ]
    for index, block in enumerate(blocks):
        titles, rules, first = [_tex(block.title)], "", 2
        for span, names in block.spans:
            titles.append(rf"\multicolumn{{{len(names)}}}{{c}}{{{_tex(span)}}}")
            rules += rf"\cmidrule(lr){{{first}-{first + len(names) - 1}}}"
            first += len(names)
        names = [name for _, names in block.spans for name in names]
        lines += [
            r"\toprule" if index == 0 else r"\midrule",
            " & ".join(titles) + r" \\",
            rules,
            " & ".join(["Method", *map(_tex, names)]) + r" \\",
            r"\midrule",
        ]
        for method, cells in block.rows:
            lines.append(" & ".join([_tex(method), *map(_tex_cell, cells)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table*}"]) + "\n"


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.4 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 1.5rem; }}
p {{ max-width: 50rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin-bottom: 1.5rem; }}
caption {{ text-align: left; font-weight: 600; padding: .4rem 0; }}
th, td {{ padding: .25rem .7rem; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
thead tr:last-child th {{ border-bottom: 1px solid #1a1a1a; }}
thead tr:first-child th {{ border-top: 2px solid #1a1a1a; text-align: center; }}
tbody tr:last-child td {{ border-bottom: 2px solid #1a1a1a; }}
.later {{ color: #595959; }}
.text td, .text th {{ text-align: left; white-space: normal; vertical-align: top; }}
</style></head><body>
{tables}
<p>{note}</p>
</body></html>
"""


def to_html(blocks: Sequence[Block], note: str, title: str) -> str:
    """Return a page that stands alone, without scripts or outside files."""
    tables = []
    for block in blocks:
        titles, names, classes = "", "", []
        for index, (span, columns) in enumerate(block.spans):
            shown = ' class="later"' if index else ""
            titles += f'<th{shown} colspan="{len(columns)}">{escaping.escape(span)}</th>'
            names += "".join(f"<th{shown}>{escaping.escape(name)}</th>" for name in columns)
            classes += [shown] * len(columns)
        lines = [
            f"<table><caption>{escaping.escape(block.title)}</caption><thead>",
            f"<tr><th></th>{titles}</tr>",
            f"<tr><th>Method</th>{names}</tr></thead><tbody>",
        ]
        for method, cells in block.rows:
            printed = ""
            for cell, shown in zip(cells, classes, strict=True):
                text = escaping.escape(cell.text)
                printed += f"<td{shown}>{f'<b>{text}</b>' if cell.best else text}</td>"
            lines.append(f"<tr><td>{escaping.escape(method)}</td>{printed}</tr>")
        tables.append("\n".join([*lines, "</tbody></table>"]))
    return PAGE.format(title=title, tables="\n".join(tables), note=escaping.escape(note))


def write_texts(texts: Iterable[tuple[str, str | Path]]) -> None:
    """Write each text whole to its path."""
    for text, path in texts:
        with write_whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
