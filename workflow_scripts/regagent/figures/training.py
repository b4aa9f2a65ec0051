"""Curves of training and calibration: Figure 5 of the paper (§5.1, §5.2) and the stop thresholds (§3.6)."""

from collections.abc import Iterable
from itertools import chain, cycle, product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regagent.evaluation.run_tables import read_models
from regagent.figures.style import (
    BLACK,
    BLUE,
    FULL_WIDTH,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    save,
    styled,
)
from regagent.files import UserError
from regagent.methods import FIGURE5_PANELS

Seeds = dict[int, pd.DataFrame]

COLOURS = {
    "RL-LME": BLUE,
    "CNN-LME": VERMILION,
    "CNN-matrix": GREEN,
    "RL-matrix": SKY,
    "SL-LME": ORANGE,
    "SL-matrix": PURPLE,
    "pure-SL": BLACK,
}
EPISODE_COLUMNS = ("worker", "episode", "env_step", "steps", "reward", "distance", "success")
#: The part of the episodes that a rolling mean covers.
SMOOTHED_FRACTION = 0.02
#: Points of a smoothed curve.
GRID = 400
#: About so many single episodes are drawn at most.
RAW_POINTS = 3000


def smooth(values: pd.Series) -> pd.Series:
    """Return the centred rolling mean over 2 % of the episodes, at least five."""
    window = max(5, round(SMOOTHED_FRACTION * len(values)))
    return values.rolling(window, center=True, min_periods=max(1, window // 2)).mean()


def over_seeds(tables: Seeds, column: str, along: str) -> tuple[np.ndarray, np.ndarray]:
    """Return x (GRID,) and the smoothed column of every seed (seeds, GRID), over their common range."""
    ends = [frame[along].iloc[-1] for frame in tables.values()]
    starts = [frame[along].iloc[0] for frame in tables.values()]
    grid = np.linspace(max(starts), min(ends), GRID)
    return grid, np.stack([np.interp(grid, t[along], smooth(t[column])) for t in tables.values()])


def _ordered(tables: dict[str, Seeds]) -> dict[str, Seeds]:
    """Order the episodes of all workers by their ends, and number them, in thousands."""
    ordered: dict[str, Seeds] = {}
    for variant, seeds in tables.items():
        ordered[variant] = {}
        for seed, frame in seeds.items():
            frame = frame.sort_values(["env_step", "worker", "episode"], kind="stable", ignore_index=True)
            ordered[variant][seed] = frame.assign(
                thousand_episodes=np.arange(1, len(frame) + 1) / 1000, thousand_steps=frame["env_step"] / 1000
            )
    return ordered


def _styles(variants: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return a colour and a dash for each variant: its own or a free colour, then those with dashes."""
    variants = list(variants)
    free = [(colour, "-") for name, colour in COLOURS.items() if name not in variants]
    more = chain(free, ((colour, dash) for dash, colour in cycle(product(("--", ":"), COLOURS.values()))))
    return {name: (COLOURS[name], "-") if name in COLOURS else next(more) for name in variants}


def _line(
    axes: Axes,
    seeds: Seeds,
    column: str,
    along: str,
    label: str,
    style: tuple[str, str],
    raw: bool,
) -> None:
    grid, curves = over_seeds(seeds, column, along)
    colour, dash = style
    axes.plot(grid, curves.mean(0), dash, color=colour, label=label, zorder=3)
    if len(seeds) > 1:
        axes.fill_between(grid, curves.min(0), curves.max(0), color=colour, alpha=0.2, linewidth=0)
    elif raw:
        frame = next(iter(seeds.values()))
        every = max(1, len(frame) // RAW_POINTS)
        axes.plot(
            frame[along][::every], frame[column][::every], ".", color=colour,
            markersize=1.8, alpha=0.3, markeredgewidth=0, rasterized=True, zorder=1,
        )  # fmt: skip


def _draw_panel(axes: Axes, tables: dict[str, Seeds], panel: str) -> None:
    column, label = FIGURE5_PANELS[panel].column, FIGURE5_PANELS[panel].label
    shown = [variant for variant in FIGURE5_PANELS[panel].variants if variant in tables]
    for variant in shown:
        _line(axes, tables[variant], column, "thousand_episodes", variant, (COLOURS[variant], "-"), raw=True)
    if shown:
        # Without limits, a few very low rewards of the first episodes would flatten the rest.
        values = np.concatenate([f[column] for variant in shown for f in tables[variant].values()])
        low, high = np.percentile(values, [1, 99.9])
        margin = 0.05 * (high - low) + 1e-9
        axes.set_ylim(low - margin, high + margin)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0)
    axes.set_title(f"({panel})", loc="left")
    axes.set_xlabel("training episodes (thousands)")
    axes.set_ylabel(label)
    axes.set_xlim(left=0)


def draw_figure5(
    training: Iterable[str | Path],
    style: str | Path,
    outputs: Iterable[str | Path],
    panels: Iterable[tuple[str | Path, str | Path]],
) -> None:
    """Draw Figure 5 from the trainings' tables: all four panels to ``outputs``, each alone to ``panels``.

    Points are episodes, lines their rolling means; with several seeds the line is the mean over the seeds
    and the band their range. Raises ``UserError`` when none of the figure's variants was trained.
    """
    tables = _ordered(read_models(training, EPISODE_COLUMNS))
    if not {variant for panel in FIGURE5_PANELS.values() for variant in panel.variants} & set(tables):
        raise UserError("Figure 5: no training of RL-LME, CNN-LME or CNN-matrix given")
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, 4.8))
        for axes, panel in zip(figure.subplots(2, 2).flat, FIGURE5_PANELS, strict=True):
            _draw_panel(axes, tables, panel)
        save(figure, outputs)
        for panel, paths in zip(FIGURE5_PANELS, panels, strict=True):
            figure = Figure(figsize=(FULL_WIDTH / 2, 2.4))
            _draw_panel(figure.subplots(), tables, panel)
            save(figure, paths)


def draw_training(training: Iterable[str | Path], style: str | Path, outputs: Iterable[str | Path]) -> None:
    """Draw success rate and last distance of the agents, and the loss of the regressors, over the training.

    The distance is D at the end of an episode, of the variant's own kind: in px for LME. The panel of the
    loss is left out if there is no regressor. Raises ``UserError`` when a table is faulty.
    """
    tables = read_models(training)
    styles = _styles(tables)
    losses = {name: seeds for name, seeds in tables.items() if "loss" in next(iter(seeds.values()))}
    agents = _ordered({name: seeds for name, seeds in tables.items() if name not in losses})
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, 2.7))
        success, distance, *right = figure.subplots(1, 3 if losses else 2)
        for variant, seeds in agents.items():
            _line(success, seeds, "success", "thousand_steps", variant, styles[variant], raw=False)
            _line(distance, seeds, "distance", "thousand_steps", variant, styles[variant], raw=False)
        success.set(ylabel="episodes that reach the terminal", ylim=(-0.02, 1.02))
        distance.set(ylabel="D at the end of an episode", yscale="log")
        for axes in (success, distance):
            axes.set_xlabel("environment steps (thousands)")
        for axes in right:
            for variant, seeds in losses.items():
                _line(axes, seeds, "loss", "step", variant, styles[variant], raw=True)
            axes.set(xlabel="optimiser steps", ylabel="loss of the regressor", yscale="log")
        handles = [line for axes in (success, *right) for line in axes.get_legend_handles_labels()[0]]
        figure.legend(handles=handles, loc="outside upper center", ncols=4)
        save(figure, outputs)


def draw_calibration(
    calibrations: Iterable[str | Path], style: str | Path, outputs: Iterable[str | Path]
) -> None:
    """Draw the error (px) and the share of stopped cases against the stop threshold, one block per agent.

    Solid lines are greedy inference, dashed lines inference with look-ahead; the dot is the threshold that
    was chosen. With several seeds the first is drawn. Raises ``UserError`` when a table is faulty.
    """
    tables = read_models(
        calibrations, ("threshold", "mean_px", "median_px", "stopped", "chosen", "lookahead")
    )
    columns = min(3, len(tables))
    rows = -(-len(tables) // columns)
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH * columns / 3 + 0.6 * (columns < 3), 2.4 * rows + 0.3))
        blocks = figure.subfigures(rows, columns, squeeze=False)
        for block, (variant, seeds) in zip(blocks.flat, tables.items(), strict=False):
            error, stopped = block.subplots(2, 1, sharex=True, height_ratios=[3, 1])
            table = next(iter(seeds.values()))
            for lookahead, frame in table.groupby(table["lookahead"].astype(bool)):
                frame = frame.sort_values("threshold")
                dash, kind = (".--", "look-ahead") if lookahead else ("-", "greedy")
                for column, colour in (("mean", BLUE), ("median", ORANGE)):
                    label = f"{column}, {kind}"
                    error.plot(frame["threshold"], frame[f"{column}_px"], dash, color=colour, label=label)
                stopped.plot(frame["threshold"], frame["stopped"], dash, color=GREY)
                chosen = frame[frame["chosen"].astype(bool)]
                error.plot(chosen["threshold"], chosen["mean_px"], "o", color=BLACK, markersize=4.5, zorder=4)
            error.set_title(variant, loc="left")
            error.set_ylabel("TRE (px)")
            error.set_ylim(0, 1.1 * table[["mean_px", "median_px"]].to_numpy().max())
            stopped.set(xlabel="threshold on the value", ylabel="stopped", ylim=(-0.05, 1.15))
            stopped.xaxis.set_major_locator(MaxNLocator(3))
        for block in blocks.flat[len(tables) :]:
            block.set_visible(False)
        handles, labels = error.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4)
        save(figure, outputs)
