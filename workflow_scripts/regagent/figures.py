"""Figures of registrations: Figure 4 of the paper (§4), the capture range (§5.3), the pre-registration."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from regagent.drawing import BLACK, BLUE, FULL_WIDTH, GREY, ORANGE, SKY, save, styled
from regagent.files import UserError, read_table, write_table
from regagent.geometry import IDENTITY, invert
from regagent.images import warp
from regagent.metrics import POSE, SUCCESS_PX
from regagent.results import label_of, read_registrations
from regagent.settings import CONVENTIONAL, variant_of
from regagent.slices import SlicePairs, read_slices

#: Figure 4 shows the cases whose initial error stands at these quantiles of the set.
EXAMPLE_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)

CAPTURE_BIN_PX = 10.0
CAPTURE_LAST_BIN_PX = 40.0
PROPOSED = "RL-LME-MC"

#: Methods that are no agents and so have no look-ahead.
ALONE = (*CONVENTIONAL, "pure-SL")


def choose_examples(cases: pd.DataFrame, quantiles: Sequence[float] = EXAMPLE_QUANTILES) -> list[int]:
    """Return the cases whose ``initial_px`` lies nearest to the quantiles, each of another patient.

    ``cases`` has case, patient and initial_px. Looks at no method's result. A patient comes twice only
    when there are fewer patients than quantiles; no case comes twice.
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


def _show(axes: Axes, image: NDArray) -> None:
    axes.imshow(image, vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _write(axes: Axes, text: str) -> None:
    outline = [withStroke(linewidth=1.8, foreground="black")]
    place = {"transform": axes.transAxes, "ha": "left", "va": "bottom"}
    axes.text(0.03, 0.03, text, color="white", path_effects=outline, linespacing=1.0, **place)


def _outline(axes: Axes, moving: NDArray, pose: NDArray, skin: float, bone: float) -> None:
    """Draw the moving image, warped by the pose, as the lines of its skin and bone.

    Nothing is drawn where the pose asks for what was outside the moving image's field of view.
    """
    outside = gaussian_filter(warp(np.ones_like(moving), pose), 1.0) < 0.98
    image = np.ma.masked_array(gaussian_filter(warp(moving, pose), 0.8), outside)
    for level, colour, width in ((skin, SKY, 0.9), (bone, ORANGE, 0.7)):
        if image.min() < level < image.max():
            axes.contour(image, levels=[level], colors=[colour], linewidths=width)


def _tissue_levels(ct: NDArray, head: NDArray) -> tuple[float, float]:
    """Return the levels of skin (between air and fat) and bone of a CT slice in [0, 1]."""
    soft = float(np.median(ct[head])) if head.any() else 0.2
    return 0.2 * soft, soft + 0.2


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
    are chosen by their initial error alone (``choose_examples``). The TRE in px stands on each panel.
    """
    cases = read_table(perturbations).set_index("case")
    results = read_registrations(registrations)
    results = results[results["seed"] == results.groupby("method")["seed"].transform("min")]
    missing = [method for method in methods if method not in set(results["method"])]
    if missing:
        raise UserError(f"Figure 4: no registrations of {', '.join(missing)}")
    results = results.set_index(["method", "case"])
    examples = choose_examples(results.loc[methods[0]].reset_index())
    pairs = {path.stem: path for path in map(Path, slices)}
    titles = ["MR, fixed", "CT, initial", "truth", *map(label_of, methods)]

    with styled(style):
        width = FULL_WIDTH / 7 * len(titles)
        figure = Figure(figsize=(width, (width - 0.3) / len(titles) * len(examples) + 0.75))
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
        grid = figure.subplots(len(examples), len(titles), squeeze=False)
        for row, (axes, number) in enumerate(zip(grid, examples, strict=True)):
            case = cases.loc[number]
            if case["patient"] not in pairs:
                raise UserError(f"Figure 4: patient {case['patient']}: no slices given")
            patient = read_slices(pairs[case["patient"]])
            _draw_example(axes, patient, case, results.xs(number, level="case"), methods)
            axes[0].set_ylabel(f"{case['patient']}, slice {int(case['slice']) + 1}")
            if row == 0:
                for column, (panel, title) in enumerate(zip(axes, titles, strict=True)):
                    panel.set_title(f"({'abcdefghijklmnopqrst'[column]})\n{title}", linespacing=1.1)
        lines = [Line2D([], [], color=SKY, label="CT skin"), Line2D([], [], color=ORANGE, label="CT bone")]
        figure.legend(handles=lines, loc="outside lower center", ncols=2)
        save(figure, outputs)


def _draw_example(
    axes: Sequence[Axes], pairs: SlicePairs, case: pd.Series, results: pd.DataFrame, methods: Sequence[str]
) -> None:
    number = int(case["slice"])
    perturbation = case[POSE].to_numpy(dtype=float)
    moving = warp(pairs.ct[number], perturbation)
    levels = _tissue_levels(pairs.ct[number], pairs.head[number])
    fixed = 0.75 * pairs.mr[number]  # darker than it is, for the lines to stand out
    _show(axes[0], pairs.mr[number])
    _show(axes[1], moving)
    _write(axes[1], f"{results['initial_px'].iloc[0]:.1f} px")
    _show(axes[2], fixed)
    _outline(axes[2], moving, invert(perturbation), *levels)
    for panel, method in zip(axes[3:], methods, strict=True):
        result = results.loc[method]
        _show(panel, fixed)
        _outline(panel, moving, result[POSE].to_numpy(dtype=float), *levels)
        ending = {"failed": "failed\n", "step_limit": "step limit\n"}.get(result["status"], "")
        _write(panel, f"{ending}{result['tre_px']:.1f} px")


def wilson_interval(successes: NDArray, trials: NDArray, z: float = 1.96) -> tuple[NDArray, NDArray]:
    """Return the bounds of Wilson's interval (95 %) for a proportion; ``trials`` must be positive."""
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def capture_range(results: pd.DataFrame) -> pd.DataFrame:
    """Return, for each method and bin of the initial error, the share of cases with TRE ≤ 2 px.

    Columns: method, initial_px (mean of the bin), n, successes, share, low, high. Bins are 10 px wide, the
    last is open. All sets and seeds are pooled.
    """
    edges = [*np.arange(0, CAPTURE_LAST_BIN_PX + 1e-9, CAPTURE_BIN_PX), np.inf]
    binned = results.assign(
        bin=pd.cut(results["initial_px"], edges, labels=False, include_lowest=True),
        success=results["tre_px"] <= SUCCESS_PX,
    )
    table = binned.groupby(["method", "bin"], as_index=False).agg(
        initial_px=("initial_px", "mean"), n=("success", "size"), successes=("success", "sum")
    )
    table["share"] = table["successes"] / table["n"]
    table["low"], table["high"] = wilson_interval(table["successes"].to_numpy(), table["n"].to_numpy())
    return table


def _family(method: str) -> str:
    if variant_of(method) in ALONE:
        return "without an agent"
    return "supervised agents" if method.startswith("SL-") else "reinforcement agents"


def draw_capture_range(
    registrations: Iterable[str | Path],
    methods: Sequence[str],
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    """Draw the share of cases within 2 px against the initial error, one panel a family of methods.

    Bands are Wilson's 95 % intervals over cases. The proposed method comes back in grey in every panel.
    A dashed line is the agent without look-ahead, a solid one of the same colour with it.
    """
    table = capture_range(read_registrations(registrations))
    shown = [method for method in methods if method in set(table["method"]) and method != "Initial"]
    families: dict[str, list[str]] = {}
    for method in shown:
        families.setdefault(_family(method), []).append(method)
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, 3.6))
        panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
        for axes, (family, members) in zip(panels, families.items(), strict=True):
            agents = list(dict.fromkeys(method.removesuffix("-MC") for method in members))
            for method in members:
                frame = table[table["method"] == method]
                colour = f"C{agents.index(method.removesuffix('-MC'))}"
                dash = "-" if method.endswith("-MC") or variant_of(method) in ALONE else "--"
                axes.plot(
                    frame["initial_px"], frame["share"], f"o{dash}", color=colour, label=label_of(method)
                )
                axes.fill_between(
                    frame["initial_px"], frame["low"], frame["high"], color=colour, alpha=0.1, linewidth=0
                )
            if PROPOSED in shown and PROPOSED not in members:
                frame = table[table["method"] == PROPOSED]
                axes.plot(frame["initial_px"], frame["share"], ":", color=GREY, label=PROPOSED, zorder=1)
            axes.set_title(family, loc="left")
            axes.set(xlabel="initial error (px)", ylim=(-0.02, 1.02))
            axes.set_xlim(left=0)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), handlelength=3.0)
        panels[0].set_ylabel(f"cases with TRE ≤ {SUCCESS_PX:g} px")
        save(figure, outputs)


def summarise_preregistration(
    quality: Iterable[str | Path], style: str | Path, table: str | Path, outputs: Iterable[str | Path]
) -> None:
    """Write the pre-registrations' quality, a row a patient, and draw it.

    A quality file is preregistered/{patient}/quality.json; its plain values become columns. Errors in mm
    (``error_mean_mm``, ``error_max_mm``) are there where the truth is known; ``overlap`` always is.
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
    style: str | Path,
    output: str | Path,
    most: int = 4,
) -> None:
    """Draw a pair before and after its registration: the MR under the CT's lines of skin and bone.

    ``fixed`` and ``moving`` (S, H, H) are slices, ``names`` their names; ``most`` of them are shown, evenly
    spread. ``pose`` (4,) moves all of them; ``levels`` are those of skin and bone in the CT.
    """
    shown = np.unique(np.linspace(0, len(fixed) - 1, most).round().astype(int))
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH / 2, FULL_WIDTH / 4 * len(shown) + 0.4))
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
        grid = figure.subplots(len(shown), 2, squeeze=False)
        for axes, row in zip(grid, shown, strict=True):
            for panel, shift in zip(axes, (IDENTITY, pose), strict=True):
                _show(panel, 0.75 * fixed[row])  # darker than it is, for the lines to stand out
                _outline(panel, moving[row], shift, *levels)
            axes[0].set_ylabel(names[row])
        for panel, title in zip(grid[0], ("before", "after"), strict=True):
            panel.set_title(title)
        lines = [Line2D([], [], color=SKY, label="CT skin"), Line2D([], [], color=ORANGE, label="CT bone")]
        figure.legend(handles=lines, loc="outside lower center", ncols=2)
        save(figure, [output])
