"""Figures that compare the methods over all cases: capture range (§5.3), errors, error against time."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator
from numpy.typing import NDArray
from scipy import stats

from regagent.evaluation.registrations import SUCCESS_PX
from regagent.evaluation.run_tables import read_registrations
from regagent.figures.style import BLACK, FULL_WIDTH, GREY, LIGHT_GREY, save, styled
from regagent.files import read_table
from regagent.methods import (
    FINE,
    LOOKAHEAD,
    MEMORYLESS,
    PROPOSED,
    REFINED,
    UNREGISTERED,
    label_of,
    variant_of,
)

#: The width of a bin of the initial error, and where the last bin begins, which is open.
CAPTURE_BIN_PX = 10.0
CAPTURE_LAST_BIN_PX = 40.0

#: The width of a bin of the rotation of the start.
ROTATION_BIN_DEG = 15.0

#: A method that takes less time is drawn here; the clock does not resolve less.
SHORTEST_SECONDS = 1e-4

#: The height in inches of a line of a legend below the panels.
LEGEND_LINE = 0.17

#: One marker per family of methods, and the number of colours in the style's cycle.
MARKERS = "os^Dv"
COLOURS = 7


def wilson_interval(successes: NDArray, trials: NDArray) -> tuple[NDArray, NDArray]:
    """Return the bounds (N,) of Wilson's 95 % interval for each of N proportions; ``trials`` are positive."""
    intervals = [
        stats.binomtest(count, of).proportion_ci(method="wilson")
        for count, of in zip(successes, trials, strict=True)
    ]
    low, high = np.transpose(intervals)
    return low, high


def capture_range(results: pd.DataFrame) -> pd.DataFrame:
    """Return, for each method and bin of the initial error, the share of cases with TRE ≤ 2 px.

    Columns: method, initial_px (mean of the bin), n, share, low, high. ``low`` and ``high`` are the bounds of
    Wilson's 95 % interval of the share of n cases. Bins are 10 px wide, the last is open. All sets are
    pooled, and a case counts by its mean over the seeds.
    """
    edges = [*np.arange(0, CAPTURE_LAST_BIN_PX + 1e-9, CAPTURE_BIN_PX), np.inf]
    return success_along(results, "initial_px", edges)


def rotation_range(results: pd.DataFrame, perturbations: pd.DataFrame) -> pd.DataFrame:
    """Return, for each method and bin of the start's rotation, the share of cases with TRE ≤ 2 px.

    ``perturbations`` has the columns case and angle (degrees), clockwise and counter-clockwise being one.
    Columns are those of ``capture_range``, with rotation_deg (mean of the bin) in place of initial_px. Bins
    are 15° wide.
    """
    rotation = perturbations.set_index("case")["angle"].abs()
    edges = np.arange(0, rotation.max() + ROTATION_BIN_DEG, ROTATION_BIN_DEG)
    return success_along(results.assign(rotation_deg=results["case"].map(rotation)), "rotation_deg", edges)


def success_along(
    results: pd.DataFrame,
    along: str,
    edges: Sequence[float] | NDArray,
    error: str = "tre_px",
    most: float = SUCCESS_PX,
) -> pd.DataFrame:
    """Return, for each method and bin of a column ``along``, the share of cases whose ``error`` is at most so
    much; columns as in ``capture_range``."""
    binned = results.assign(
        bin=pd.cut(results[along], edges, labels=False, include_lowest=True), success=results[error] <= most
    )
    cases = binned.groupby(["method", "bin", "set", "case"], as_index=False)[[along, "success"]].mean()
    table = cases.groupby(["method", "bin"], as_index=False).agg(
        **{along: (along, "mean"), "n": ("success", "size"), "share": ("success", "mean")}
    )
    successes = (table["share"] * table["n"]).round().astype(int)
    table["low"], table["high"] = wilson_interval(successes.to_numpy(), table["n"].to_numpy())
    return table


def looks(families: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return matplotlib's properties of each method's line and marker; ``families`` is {method: family}.

    They are the same in every figure. Each family has a marker, and each variant a colour within its family.
    A dashed line and a hollow marker stand for an agent without look-ahead, a dash-dotted line and a half
    filled marker for a method that a local Elastix registration finishes, a dotted line and a marker filled
    below for an agent without memory, a line of long and short dashes and a marker filled above for an agent
    that a residual regressor finishes.
    """
    styles: dict[str, dict[str, Any]] = {}
    for marker, members in zip(MARKERS, by_family(families).values(), strict=False):
        variants = list(dict.fromkeys(map(variant_of, members)))
        for method in members:
            index = variants.index(variant_of(method))
            line: str | tuple[int, tuple[int, ...]] = "-"
            fill = "full"
            if method.endswith(REFINED):
                line, fill = "-.", "left"
            elif method.endswith(MEMORYLESS):
                line, fill = ":", "bottom"
            elif method.endswith(FINE):
                line, fill = (0, (5, 1, 1, 1, 1, 1)), "top"
            elif f"{method}{LOOKAHEAD}" in members:
                line, fill = "--", "none"
            elif index >= COLOURS:
                line = (0, (4, 1))
            styles[method] = {"color": f"C{index}", "linestyle": line, "marker": marker, "fillstyle": fill}
    return styles


def by_family(families: Mapping[str, str]) -> dict[str, list[str]]:
    """Return {family: methods} in the order given, without ``UNREGISTERED``."""
    members: dict[str, list[str]] = {}
    for method, family in families.items():
        if method != UNREGISTERED:
            members.setdefault(family, []).append(method)
    return members


def _legend_height(groups: Mapping[str, Sequence[str]]) -> float:
    """Return the height in inches of the longest legend below panels of these groups of methods."""
    return LEGEND_LINE * max(map(len, groups.values()), default=0)


def _legend(axes: Axes, below: float) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -below), handlelength=3.0)


def draw_capture_range(
    registrations: Iterable[str | Path],
    families: Mapping[str, str],
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    """Draw the share of cases within 2 px against the initial error, one panel per family of methods.

    ``families`` is {method: family}. Bands are Wilson's 95 % intervals over cases. The other families' panels
    repeat the proposed method in grey. Raises ``UserError`` when a table of registrations is faulty.
    """
    table = capture_range(read_registrations(registrations))
    groups, styles = by_family(families), looks(families)
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, 2.4 + _legend_height(groups)))
        panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for axes, (family, members) in zip(panels, groups.items(), strict=True):
            for method in members:
                plot_success(axes, table, "initial_px", method, styles[method])
            if PROPOSED in families and PROPOSED not in members:
                frame = table[table["method"] == PROPOSED]
                axes.plot(frame["initial_px"], frame["share"], ":", color=GREY, label=PROPOSED, zorder=1)
            axes.set_title(family, loc="left")
            axes.set(xlabel="initial error (px)", ylim=(-0.02, 1.02))
            axes.set_xlim(left=0)
            _legend(axes, below=0.2)
        panels[0].set_ylabel(f"cases with TRE ≤ {SUCCESS_PX:g} px")
        save(figure, outputs)


def plot_success(axes: Axes, table: pd.DataFrame, along: str, method: str, look: dict[str, Any]) -> None:
    """Draw a method's line of ``success_along`` and its band."""
    frame = table[table["method"] == method]
    axes.plot(frame[along], frame["share"], **look, label=label_of(method))
    axes.fill_between(frame[along], frame["low"], frame["high"], color=look["color"], alpha=0.08, linewidth=0)


def draw_rotation_range(
    registrations: Iterable[str | Path],
    perturbations: str | Path,
    families: Mapping[str, str],
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    """Draw the share of cases within 2 px against the rotation of the start, all methods in one panel.

    ``registrations`` are those of the set of ``perturbations``; ``families`` is {method: family}. Bands are
    Wilson's 95 % intervals over cases. Raises ``UserError`` when a table of registrations is faulty.
    """
    table = rotation_range(read_registrations(registrations), read_table(perturbations))
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, 3.6))
        axes = figure.subplots()
        styles = looks(families)
        variants = list(dict.fromkeys(map(variant_of, styles)))
        for method, look in styles.items():
            # In one panel, two families must not have one colour.
            look["color"] = f"C{variants.index(variant_of(method))}"
            plot_success(axes, table, "rotation_deg", method, look)
        axes.set(xlabel="rotation of the start (°)", ylabel=f"cases with TRE ≤ {SUCCESS_PX:g} px")
        axes.set(xlim=(0, None), ylim=(-0.02, 1.02))
        axes.xaxis.set_major_locator(MultipleLocator(ROTATION_BIN_DEG))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3.0)
        save(figure, outputs)


def draw_error_distribution(
    registrations: Iterable[str | Path],
    families: Mapping[str, str],
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    """Draw the share of cases below each TRE (px), one row per set and one column per family of methods.

    ``families`` is {method: family}; the seeds of a method are pooled. Every panel has the error before
    registration in grey, and repeats the proposed method. Raises ``UserError`` when a table of registrations
    is faulty.
    """
    results = read_registrations(registrations)
    groups, styles = by_family(families), looks(families)
    sets = sorted(results["set"].unique())
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, 2.1 * len(sets) + LEGEND_LINE + _legend_height(groups)))
        grid = figure.subplots(len(sets), len(groups), sharex=True, sharey=True, squeeze=False)
        for row, set_name in zip(grid, sets, strict=True):
            errors = dict(list(results[results["set"] == set_name].groupby("method")["tre_px"]))
            for axes, (family, members) in zip(row, groups.items(), strict=True):
                axes.axvline(SUCCESS_PX, color=BLACK, linewidth=0.6, zorder=1)
                for method in members:
                    look = {key: styles[method][key] for key in ("color", "linestyle")}
                    axes.ecdf(errors[method], label=label_of(method), **look)
                if UNREGISTERED in families:
                    axes.ecdf(errors[UNREGISTERED], color=GREY, linewidth=0.8, label=UNREGISTERED, zorder=1)
                if PROPOSED in families and PROPOSED not in members:
                    axes.ecdf(errors[PROPOSED], color=GREY, linestyle=":", label=PROPOSED, zorder=1)
                axes.set_xscale("log")
                axes.set_title(f"{set_name}, {family}", loc="left")
            row[0].set_ylabel("share of cases")
        for axes in grid[-1]:
            axes.set_xlabel("TRE (px)")
            axes.set_ylim(0, 1.03)
            _legend(axes, below=0.24)
        drawn = results.loc[results["method"].isin(families), "tre_px"]
        _plain(grid[0, 0].xaxis, drawn.quantile([0.002, 1]), (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100))
        save(figure, outputs)


def _plain(axis: XAxis | YAxis, values: Iterable[float], ticks: Sequence[float]) -> None:
    """Label a logarithmic axis with plain numbers, and end it a little beyond the values."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.axes.set(**{f"{axis.axis_name}lim": (min(values) / 1.3, max(values) * 1.3)})


def draw_accuracy_time(
    registrations: Iterable[str | Path],
    families: Mapping[str, str],
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    """Draw median and mean TRE (px) against the seconds per case, one column per set, one point per method.

    ``families`` is {method: family}; the seeds of a method are pooled. The grey steps join the methods that
    no other beats in both error and time. Raises ``UserError`` when a table of registrations is faulty.
    """
    results = read_registrations(registrations)
    groups, styles = by_family(families), looks(families)
    table = (
        results[results["method"].isin(styles)]
        .groupby(["set", "method"])
        .agg(seconds=("seconds", "mean"), median=("tre_px", "median"), mean=("tre_px", "mean"))
    )
    table["seconds"] = table["seconds"].clip(lower=SHORTEST_SECONDS)
    sets = table.index.unique("set")
    lines = 1 + max(map(len, groups.values()))
    with styled(style):
        heights = 4.4, 0.17 * lines + 0.1
        figure = Figure(figsize=(FULL_WIDTH, sum(heights)))
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights).flat
        grid = above.subplots(2, len(sets), sharex=True, sharey="row", squeeze=False)
        for row, statistic in zip(grid, ("median", "mean"), strict=True):
            for axes, set_name in zip(row, sets, strict=True):
                frame = table.loc[set_name]
                axes.set(xscale="log", yscale="log")
                axes.set_title(f"{set_name}, {statistic}", loc="left")
                best = frame.sort_values(["seconds", statistic])
                best = best[best[statistic] < best[statistic].cummin().shift(fill_value=np.inf)]
                axes.step(best["seconds"], best[statistic], where="post", color=LIGHT_GREY, zorder=1)
                for method, look in styles.items():
                    point = {**look, "linestyle": "none", "markersize": 5.5, "label": label_of(method)}
                    axes.plot(*frame.loc[method, ["seconds", statistic]], **point, zorder=2)
            row[0].set_ylabel(f"{statistic} TRE (px)")
            _plain(row[0].yaxis, table[statistic], (0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 50))
        for axes in grid[-1]:
            axes.set_xlabel("seconds a case")
        _plain(grid[0, 0].xaxis, table["seconds"], (0.0001, 0.001, 0.01, 0.1, 1, 10, 100))
        points = {line.get_label(): line for line in grid[0, 0].lines}
        for axes, (family, members) in zip(
            below.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True
        ):
            axes.set_axis_off()
            handles = [points[label_of(method)] for method in members]
            axes.legend(handles=handles, title=family, alignment="left", loc="upper left")
        save(figure, outputs)
