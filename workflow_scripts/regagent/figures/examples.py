"""Figures of single cases (Figure 4 of the paper, §4; the worst cases), pre-registrations and overlays."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from regagent.evaluation.run_tables import read_registrations
from regagent.figures.overlays import DARKENED, annotate, outline, show, tissue_levels
from regagent.figures.style import BLACK, BLUE, FULL_WIDTH, ORANGE, SKY, pack_panels, save, styled
from regagent.files import UserError, read_table, write_table
from regagent.geometry import IDENTITY, POSE, invert
from regagent.images import warp
from regagent.methods import label_of
from regagent.pairs.slices import SlicePairs, read_slices

#: Figure 4 shows the cases whose initial error is nearest to these quantiles of the set.
EXAMPLE_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)

#: How many of the worst cases are shown.
WORST_CASES = 5


def choose_examples(cases: pd.DataFrame, quantiles: Sequence[float] = EXAMPLE_QUANTILES) -> list[int]:
    """Return the cases whose ``initial_px`` lies nearest to the quantiles, each of another patient.

    ``cases`` has the columns case, patient and initial_px; no method's result has a part in the choice. A
    patient appears twice only if there are fewer patients than quantiles; no case appears twice.
    """
    left = cases.sort_values("case")
    chosen: list[int] = []
    shown: list[str] = []
    for quantile in quantiles:
        target = cases["initial_px"].quantile(quantile)
        free = left[~left["patient"].isin(shown)]
        free = left if free.empty else free
        if free.empty:
            break
        example = free.loc[(free["initial_px"] - target).abs().idxmin()]
        chosen.append(int(example["case"]))
        shown.append(example["patient"])
        left = left[left["case"] != example["case"]]
    return chosen


def draw_figure4(
    slices: Iterable[str | Path],
    perturbations: str | Path,
    registrations: Iterable[str | Path],
    methods: Sequence[str],
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    """Draw examples: fixed MR, initial CT, then the MR under the CT's lines at the truth and by ``methods``.

    ``registrations`` hold the set of ``perturbations``; of several seeds the first is shown. The examples
    are chosen by their initial error alone (``choose_examples``). The TRE in px is written on each panel.
    Raises ``UserError`` if a method's registrations or a patient's slices are not given.
    """
    results = _of_first_seed(registrations, methods)
    examples = choose_examples(results.loc[methods[0]].reset_index())
    _draw_cases(slices, perturbations, results, examples, methods, style, outputs)


def draw_worst_cases(
    slices: Iterable[str | Path],
    perturbations: str | Path,
    registrations: Iterable[str | Path],
    methods: Sequence[str],
    judged: str,
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    """Draw the cases with the highest TRE of the method ``judged``, the worst on top, as Figure 4 does.

    Raises ``UserError`` as ``draw_figure4`` does.
    """
    results = _of_first_seed(registrations, methods)
    worst = results.loc[judged].sort_values(["tre_px", "case"], ascending=[False, True])
    _draw_cases(slices, perturbations, results, worst.index[:WORST_CASES], methods, style, outputs)


def _of_first_seed(registrations: Iterable[str | Path], methods: Sequence[str]) -> pd.DataFrame:
    """Return the registrations of each method's first seed, by method and case: the cases of all methods."""
    results = read_registrations(registrations)
    missing = [method for method in methods if method not in set(results["method"])]
    if missing:
        raise UserError(f"examples: no registrations of {', '.join(missing)}")
    results = results[results["seed"] == results.groupby("method")["seed"].transform("min")]
    results = results[results.groupby("case")["method"].transform("nunique") == results["method"].nunique()]
    return results.set_index(["method", "case"])


def _draw_cases(
    slices: Iterable[str | Path],
    perturbations: str | Path,
    results: pd.DataFrame,
    shown: Iterable[int],
    methods: Sequence[str],
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    cases = read_table(perturbations).set_index("case").loc[list(shown)]
    pairs = {path.stem: path for path in map(Path, slices)}
    titles = ["MR, fixed", "CT, initial", "truth", *map(label_of, methods)]
    with styled(style):
        width = FULL_WIDTH / 7 * len(titles)
        figure = Figure(figsize=(width, (width - 0.3) / len(titles) * len(cases) + 0.75))
        pack_panels(figure)
        grid = figure.subplots(len(cases), len(titles), squeeze=False)
        for axes, (number, case) in zip(grid, cases.iterrows(), strict=True):
            if case["patient"] not in pairs:
                raise UserError(f"examples: patient {case['patient']}: no slices given")
            patient = read_slices(pairs[case["patient"]])
            _draw_case(axes, patient, case, results.xs(number, level="case"), methods)
            axes[0].set_ylabel(f"{case['patient']}, slice {int(case['slice']) + 1}")
        for column, (panel, title) in enumerate(zip(grid[0], titles, strict=True)):
            panel.set_title(f"({'abcdefghijklmnopqrst'[column]})\n{title}", linespacing=1.1)
        lines = [Line2D([], [], color=SKY, label="CT skin"), Line2D([], [], color=ORANGE, label="CT bone")]
        figure.legend(handles=lines, loc="outside lower center", ncols=2)
        save(figure, outputs)


def _draw_case(
    axes: Sequence[Axes], pairs: SlicePairs, case: pd.Series, results: pd.DataFrame, methods: Sequence[str]
) -> None:
    number = int(case["slice"])
    perturbation = case[POSE].to_numpy(dtype=float)
    moving = warp(pairs.ct[number], perturbation)
    levels = tissue_levels(pairs.ct[number], pairs.head[number])
    fixed = DARKENED * pairs.mr[number]
    show(axes[0], pairs.mr[number])
    show(axes[1], moving)
    annotate(axes[1], f"{results['initial_px'].iloc[0]:.1f} px")
    show(axes[2], fixed)
    outline(axes[2], moving, invert(perturbation), *levels)
    for panel, method in zip(axes[3:], methods, strict=True):
        result = results.loc[method]
        show(panel, fixed)
        outline(panel, moving, result[POSE].to_numpy(dtype=float), *levels)
        ending = {"failed": "failed\n", "refused": "refused\n"}.get(result["status"], "")
        annotate(panel, f"{ending}{result['tre_px']:.1f} px")


def summarise_preregistration(
    quality: Iterable[str | Path], style: str | Path, table: str | Path, outputs: Iterable[str | Path]
) -> None:
    """Write the quality of the pre-registrations, one row per patient, and draw it.

    A quality file is preregistered/{patient}/quality.json; its plain values become columns. ``overlap`` is
    there for every patient; the errors in mm (``error_mean_mm``, ``error_max_mm``) only where the truth is
    known. Raises ``UserError`` for a file that is missing or is not JSON, and if none is given.
    """
    rows = []
    for path in map(Path, quality):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"patient {path.parent.name}: {path}: not a quality file ({error})") from error
        plain = {key: value for key, value in record.items() if not isinstance(value, dict | list)}
        rows.append({**plain, "patient": path.parent.name})
    if not rows:
        raise UserError("no quality files given, expected one a patient")
    frame = pd.DataFrame(rows).sort_values("patient", ignore_index=True)
    frame.insert(0, "patient", frame.pop("patient"))
    write_table(frame, table)

    measures = [("error (mm)", ["error_mean_mm", "error_max_mm"]), ("head overlap\n(Dice)", ["overlap"])]
    measures = [
        (label, [c for c in columns if c in frame and frame[c].notna().any()]) for label, columns in measures
    ]
    measures = [(label, columns) for label, columns in measures if columns]
    names = {"error_mean_mm": "mean over the head", "error_max_mm": "largest"}
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, 0.6 + 1.2 * max(1, len(measures))))
        panels = figure.subplots(max(1, len(measures)), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (label, columns) in zip(panels, measures, strict=False):
            for column, colour, filled in zip(columns, (BLUE, BLACK), ("full", "none"), strict=False):
                axes.plot(
                    frame.index, frame[column].astype(float), "o", color=colour, fillstyle=filled,
                    label=names.get(column),
                )  # fmt: skip
            axes.set_ylabel(label)
            if "error_mean_mm" in columns:
                axes.set_ylim(bottom=0)
                axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
            else:
                axes.set_ylim(top=1.0)
        every = max(1, -(-len(frame) // 40))
        panels[-1].set_xticks(frame.index[::every], frame["patient"][::every], rotation=90)
        save(figure, outputs)


def draw_overlay(
    fixed: NDArray,
    moving: NDArray,
    pose: NDArray,
    levels: tuple[float, float],
    names: Sequence[str],
    after: str,
    style: str | Path,
    output: str | Path,
    most: int = 4,
) -> None:
    """Draw a pair before and after its registration: the MR under the CT's lines of skin and bone.

    ``fixed`` and ``moving`` (S, H, H) are slices in [0, 1], ``names`` (S,) their names, ``after`` is what
    stands over the right column. At most ``most`` of them are shown, evenly spread. ``pose`` (4,) moves all
    of them; ``levels`` are those of skin and bone.
    """
    shown = np.unique(np.linspace(0, len(fixed) - 1, most).round().astype(int))
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH / 2, FULL_WIDTH / 4 * len(shown) + 0.4))
        pack_panels(figure)
        grid = figure.subplots(len(shown), 2, squeeze=False)
        for axes, row in zip(grid, shown, strict=True):
            for panel, shift in zip(axes, (IDENTITY, pose), strict=True):
                show(panel, DARKENED * fixed[row])
                outline(panel, moving[row], shift, *levels)
            axes[0].set_ylabel(names[row])
        for panel, title in zip(grid[0], ("before", after), strict=True):
            panel.set_title(title)
        lines = [Line2D([], [], color=SKY, label="CT skin"), Line2D([], [], color=ORANGE, label="CT bone")]
        figure.legend(handles=lines, loc="outside lower center", ncols=2)
        save(figure, [output])
