"""Pictures of one episode of an agent (§3.6): a film strip and an animation, with its value and its error."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regagent.figures.overlays import DARKENED, annotate, outline, show, tissue_levels
from regagent.figures.style import (
    BLACK,
    BLUE,
    FULL_WIDTH,
    GREEN,
    GREY,
    LIGHT_GREY,
    VERMILION,
    pack_panels,
    save,
    styled,
)
from regagent.files import UserError, read_table, write_text, write_whole
from regagent.geometry import POSE
from regagent.images import Image, warp
from regagent.pairs.slices import read_slices

#: The film strip shows so many states: the first, the last, and others at equal distances between them.
STATES = 7

#: Of an episode of more poses than this the animation shows every second one, or every third, …
FRAMES = 60
FRAMES_A_SECOND = 6
LAST_FRAME_SECONDS = 3
DOTS_AN_INCH = 110

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>One episode</title></head>
<body style="margin: 1rem"><img alt="The agent at work" src="data:image/gif;base64,{gif}"></body></html>
"""


@dataclass(frozen=True)
class Episode:
    """An episode and the images of its case."""

    table: pd.DataFrame  # one row per pose, as ``example_episode.walk_episode`` writes it
    fixed: Image  # (H, H) in [0, 1]
    moving: Image  # (H, H) in [0, 1], perturbed
    levels: tuple[float, float]  # of skin and bone in the CT
    name: str  # of patient and slice

    def text(self, row: int) -> str:
        """Return the step of a row, and how its pose was reached."""
        pose = self.table.iloc[row]
        return f"step {pose['step']}: {pose['reached_by']}" if row else "start"


def read_episode(episode: str | Path, slices: Iterable[str | Path], perturbations: str | Path) -> Episode:
    """Read an episode and the images of its case. Raises ``UserError`` if it lacks the slices."""
    table = read_table(episode)
    case = read_table(perturbations).set_index("case").loc[int(table["case"].iloc[0])]
    path = {path.stem: path for path in map(Path, slices)}.get(case["patient"])
    if path is None:
        raise UserError(f"{episode}: patient {case['patient']}: no slices given")
    pairs, number = read_slices(path), int(case["slice"])
    return Episode(
        table=table,
        fixed=pairs.mr[number],
        moving=warp(pairs.ct[number], case[POSE].to_numpy(dtype=float)),
        levels=tissue_levels(pairs.ct[number], pairs.head[number]),
        name=f"{case['patient']}, slice {number + 1}",
    )


def _draw_state(axes: Axes, episode: Episode, row: int) -> None:
    pose = episode.table.iloc[row]
    show(axes, DARKENED * episode.fixed)
    outline(axes, episode.moving, pose[POSE].to_numpy(dtype=float), *episode.levels)
    annotate(axes, f"{pose['tre_px']:.1f} px")


def _draw_curves(value: Axes, error: Axes, episode: Episode) -> None:
    table = episode.table
    walked, last = table.iloc[:-1], table.iloc[-1]
    value.axhline(table["threshold"].iloc[0], color=GREY, linestyle="--", linewidth=0.9, label="threshold")
    value.plot(walked["step"], walked["value"], ".-", color=BLUE, label="value")
    value.set_ylabel("value")
    value.set_yscale("symlog", linthresh=10)
    error.plot(walked["step"], walked["landmark_px"], ".--", color=GREEN, label="D on the landmarks")
    error.plot(walked["step"], walked["tre_px"], ".-", color=VERMILION, label="TRE")
    error.plot(last["step"], last["tre_px"], "o", color=BLACK, label=f"TRE after {last['reached_by']}")
    error.set(xlabel="step", ylabel="error (px)", xlim=(-0.5, last["step"] + 0.5))
    error.xaxis.set_major_locator(MaxNLocator(integer=True))
    error.set_ylim(bottom=0)


def draw_episode(
    episode: str | Path,
    slices: Iterable[str | Path],
    perturbations: str | Path,
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    """Draw an episode as a film strip of states from the first to the last, above its value and its error.

    The strip shows the moving CT as the agent sees it, and its lines over the fixed MR. The last state is
    the pose that the look-ahead gave. The error is in px. Raises ``UserError`` if the slices of the
    episode's patient are not given.
    """
    shown = read_episode(episode, slices, perturbations)
    walked = len(shown.table) - 1
    rows = [*np.unique(np.linspace(0, walked - 1, STATES - 1).round().astype(int)), walked]
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, 2 * FULL_WIDTH / STATES + 2.8))
        pack_panels(figure)
        heights = [2 * FULL_WIDTH / STATES + 0.2, 2.6]
        strip, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights).flat
        grid = strip.subplots(2, len(rows), squeeze=False)
        for (moving, overlay), row in zip(grid.T, rows, strict=True):
            show(moving, warp(shown.moving, shown.table.iloc[row][POSE].to_numpy(dtype=float)))
            _draw_state(overlay, shown, row)
            step, reached_by = shown.table.iloc[row][["step", "reached_by"]]
            moving.set_title(f"step {step}" if row < walked else reached_by, pad=3)
        grid[0, 0].set_ylabel("moving CT")
        grid[1, 0].set_ylabel("lines on the MR")
        value, error = below.subplots(2, 1, sharex=True)
        _draw_curves(value, error, shown)
        for axes in (value, error):
            for step in shown.table["step"].iloc[rows[:-1]]:
                axes.axvline(step, color=LIGHT_GREY, linewidth=0.8, zorder=0)
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        value.set_title(shown.name, loc="left")
        save(figure, outputs)


def animate_episode(
    episode: str | Path,
    slices: Iterable[str | Path],
    perturbations: str | Path,
    style: str | Path,
    gif: str | Path,
    page: str | Path,
) -> None:
    """Write an episode as an animated GIF, states beside the curves, and a web page that holds the GIF.

    Raises ``UserError`` if the slices of the episode's patient are not given.
    """
    shown = read_episode(episode, slices, perturbations)
    last = len(shown.table) - 1
    rows = [*range(0, last, -(-last // FRAMES)), last]
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, 3.1))
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[3.1, FULL_WIDTH - 3.1]).flat
        state = left.subplots()
        value, error = right.subplots(2, 1, sharex=True)
        _draw_curves(value, error, shown)
        for axes in (value, error):
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderpad=0)
        nows = [axes.axvline(0, color=BLACK, linewidth=0.9) for axes in (value, error)]
        _draw_frame(state, shown, 0)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # else each frame would have a layout of its own
        writer = PillowWriter(fps=FRAMES_A_SECOND)
        with write_whole(gif) as temporary, writer.saving(figure, temporary, DOTS_AN_INCH):
            for row in rows:
                _draw_frame(state, shown, row)
                for now in nows:
                    now.set_xdata([shown.table["step"].iloc[row]] * 2)
                writer.grab_frame()
            for _ in range(FRAMES_A_SECOND * LAST_FRAME_SECONDS):
                writer.grab_frame()
    write_text(PAGE.format(gif=base64.b64encode(Path(gif).read_bytes()).decode()), page)


def _draw_frame(axes: Axes, episode: Episode, row: int) -> None:
    axes.clear()
    _draw_state(axes, episode, row)
    axes.set_title(episode.text(row), loc="left")
