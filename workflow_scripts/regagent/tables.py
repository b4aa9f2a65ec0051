"""Table 2 of the paper (§4): the error of every method on E1 and E2, the paper's numbers beside ours."""

import html as escaping
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from regagent.files import UserError, logger, read_table, write_table, write_whole
from regagent.metrics import STATISTICS, summarise
from regagent.results import label_of, read_registrations

NOT_COMPETING = ("Initial",)
ABSENT = "–"
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


@dataclass(frozen=True)
class Cell:
    """One printed value and whether it is the best of its column."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Block:
    """The printed rows of one set: a method's name, our cells and the paper's."""

    title: str
    ours: tuple[str, ...]
    paper: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...], tuple[Cell, ...]], ...]


def _number(value: float, digits: int = 2) -> str:
    return ABSENT if np.isnan(value) else f"{value:.{digits}f}"


def _mean_std(mean: float, std: float) -> str:
    return ABSENT if np.isnan(mean) else f"{mean:.2f} ± {std:.2f}"


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
                Cell(_number(row["p50_px"]), bool(best["p50"][index])),
                Cell(_number(row["p90_px"]), bool(best["p90"][index])),
                Cell(f"{row['failures']:.3g}"),
                Cell(f"{row['step_limit']:.3g}"),
                Cell(_number(row["seconds_per_case"])),
            ]
            if several:
                ours.insert(1, Cell(_number(row["mean_px_seed_spread"])))
            paper = [
                Cell(_mean_std(row["paper_mean"], row["paper_std"])),
                Cell(_number(row["paper_p50"])),
                Cell(_number(row["paper_p90"])),
            ]
            new = np.isnan(row["paper_mean"]) and row["method"] not in NOT_COMPETING
            rows.append((label_of(row["method"]) + (NOT_IN_PAPER if new else ""), tuple(ours), tuple(paper)))
        first = frame.iloc[0]
        ours = ["mean ± std", "50th", "90th", "failed", "step limit", "s/case"]
        if several:
            ours.insert(1, "seed sd")
        title = f"{set_name}: {first['n_cases']} cases of {first['n_patients']} patients"
        blocks.append(Block(title, tuple(ours), ("mean ± std", "50th", "90th"), tuple(rows)))
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


def to_markdown(blocks: list[Block], note: str) -> str:
    """Return the blocks as GitHub tables, one under the other."""
    parts = []
    for block in blocks:
        head = ["Method", *block.ours, *(f"paper: {name}" for name in block.paper)]
        rows = []
        for method, ours, paper in block.rows:
            cells = [f"**{cell.text}**" if cell.best else cell.text for cell in (*ours, *paper)]
            rows.append([method.replace("|", r"\|"), *cells])
        table = to_pipes(pd.DataFrame(rows, columns=head), numbers_from=1)
        parts.append(f"**{block.title}**\n\n{table}")
    return "\n\n".join([*parts, note]) + "\n"


def to_pipes(frame: pd.DataFrame, numbers_from: int | None = None) -> str:
    """Return a table of strings as a GitHub table; columns from ``numbers_from`` on are aligned right."""
    count = len(frame.columns) if numbers_from is None else numbers_from
    rule = [":--"] * count + ["--:"] * (len(frame.columns) - count)
    return "\n".join("| " + " | ".join(row) + " |" for row in (frame.columns, rule, *frame.to_numpy()))


def _tex(text: str) -> str:
    for sign, replacement in (("_", r"\_"), ("&", r"\&"), ("%", r"\%"), ("#", r"\#")):
        text = text.replace(sign, replacement)
    for sign, replacement in (("“", "``"), ("”", "''"), ("–", "--"), ("±", r"$\pm$"), ("†", r"$^\dagger$")):
        text = text.replace(sign, replacement)
    return text


def _tex_cell(cell: Cell) -> str:
    text = _tex(cell.text)
    return rf"\textbf{{{text}}}" if cell.best else text


def to_latex(blocks: list[Block], note: str) -> str:
    """Return a ``table*`` that needs the package booktabs only."""
    ours, paper = len(blocks[0].ours), len(blocks[0].paper)
    columns = ours + paper + 1
    lines = [
        r"% Needs \usepackage{booktabs}.",
        r"\begin{table*}",
        r"\centering\small",
        r"\setlength{\tabcolsep}{4pt}",
        r"\caption{Target registration error. " + _tex(note) + "}",
        r"\label{tab:tre}",
        r"\begin{tabular}{l" + "r" * (columns - 1) + "}",
    ]
    spans = rf"\multicolumn{{{ours}}}{{c}}{{This run}} & \multicolumn{{{paper}}}{{c}}{{Paper}} \\"
    for index, block in enumerate(blocks):
        lines += [
            r"\toprule" if index == 0 else r"\midrule",
            f"{_tex(block.title)} & {spans}",
            rf"\cmidrule(lr){{2-{ours + 1}}}\cmidrule(lr){{{ours + 2}-{columns}}}",
            " & ".join(["Method", *map(_tex, (*block.ours, *block.paper))]) + r" \\",
            r"\midrule",
        ]
        for method, our_cells, paper_cells in block.rows:
            cells = [_tex_cell(cell) for cell in (*our_cells, *paper_cells)]
            lines.append(" & ".join([_tex(method), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}"]) + "\n"


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.4 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 1.5rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin-bottom: 1.5rem; }}
caption {{ text-align: left; font-weight: 600; padding: .4rem 0; }}
th, td {{ padding: .25rem .7rem; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
thead tr:last-child th {{ border-bottom: 1px solid #1a1a1a; }}
thead tr:first-child th {{ border-top: 2px solid #1a1a1a; text-align: center; }}
tbody tr:last-child td {{ border-bottom: 2px solid #1a1a1a; }}
.paper {{ color: #595959; }}
</style></head><body>
{tables}
<p>{note}</p>
</body></html>
"""


def to_html(blocks: list[Block], note: str) -> str:
    """Return a page that stands alone, without scripts or outside files."""
    tables = []
    for block in blocks:
        head = "".join(f"<th>{name}</th>" for name in block.ours)
        head += "".join(f'<th class="paper">{name}</th>' for name in block.paper)
        lines = [
            f"<table><caption>{escaping.escape(block.title)}</caption><thead>",
            f'<tr><th></th><th colspan="{len(block.ours)}">This run</th>'
            f'<th class="paper" colspan="{len(block.paper)}">Paper</th></tr>',
            f"<tr><th>Method</th>{head}</tr></thead><tbody>",
        ]
        for method, ours, paper in block.rows:
            cells = "".join(f"<td>{f'<b>{cell.text}</b>' if cell.best else cell.text}</td>" for cell in ours)
            cells += "".join(f'<td class="paper">{cell.text}</td>' for cell in paper)
            lines.append(f"<tr><td>{escaping.escape(method)}</td>{cells}</tr>")
        tables.append("\n".join([*lines, "</tbody></table>"]))
    return PAGE.format(title="Table 2", tables="\n".join(tables), note=escaping.escape(note))


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
    renderers: list[tuple[Callable[[list[Block], str], str], str | Path]] = [
        (to_markdown, markdown),
        (to_latex, latex),
        (to_html, html),
    ]
    for render, path in renderers:
        with write_whole(path) as temporary:
            temporary.write_text(render(blocks, note), encoding="utf-8")
    for block in blocks:
        logger.info("%s", block.title)
        for method, ours, _ in block.rows:
            logger.info("  %-14s %s", method, "  ".join(cell.text for cell in ours))
