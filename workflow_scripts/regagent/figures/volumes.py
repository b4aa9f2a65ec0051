"""Figures of whole volumes: how far each method reaches, and one registration by the networks of space."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from matplotlib.figure import Figure
from numpy.typing import NDArray

from regagent.agent.cube_registration import ready_networks, register_volumes
from regagent.evaluation.volume_registrations import Files, by_patient
from regagent.evaluation.volume_table import SUCCESS_MM
from regagent.figures.comparisons import LEGEND_LINE, looks, plot_success, success_along
from regagent.figures.overlays import DARKENED, annotate, outline, show, tissue_levels
from regagent.figures.style import FULL_WIDTH, pack_panels, save, styled
from regagent.files import read_table
from regagent.geometry import IDENTITY
from regagent.methods import NO_AGENT
from regagent.pairs.cubes import ct_cube, middle_of, mr_cube
from regagent.pairs.rigid import motion
from regagent.pairs.volume_cases import POSE, WHOLE, cases_of_patient, registration_error
from regagent.settings import Cubes

#: The two kinds of cases, which are drawn apart.
UNCUT, SHORT = "whole heads", "heads that are cut"
#: The widths of the bins of a start's rotation and shift.
BINS = {"rotation_deg": 22.5, "shift_mm": 20.0}
#: What a picture of a volume shows, and its voxels.
SHOWN = Cubes(size=112, spacing_mm=2.0)


def draw_volume_range(
    registrations: Mapping[tuple[str, str], str | Path],
    perturbations: Mapping[str, str | Path],
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    """Draw the share of cases within 2 mm against the rotation and the shift of the start.

    ``registrations`` are those of each method and set, ``perturbations`` the motions of each set. The upper
    panels show sets of whole heads, the lower ones those that are cut.
    """
    results = started(registrations, perturbations)
    styles = looks(dict.fromkeys(results["method"].unique(), NO_AGENT))
    kinds = [kind for kind in (UNCUT, SHORT) if (results["kind"] == kind).any()]
    labels = {"rotation_deg": "rotation of the start (°)", "shift_mm": "shift of the start (mm)"}
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, 2.3 * len(kinds) + LEGEND_LINE * (1 + len(styles) // 4)))
        grid = figure.subplots(len(kinds), len(BINS), sharex="col", sharey=True, squeeze=False)
        for row, kind in zip(grid, kinds, strict=True):
            for axes, (along, width) in zip(row, BINS.items(), strict=True):
                edges = np.arange(0, results[along].max() + width, width)
                table = success_along(results[results["kind"] == kind], along, edges, "tre_mm", SUCCESS_MM)
                for method, look in styles.items():
                    plot_success(axes, table, along, method, look)
                axes.set(ylim=(-0.02, 1.02), xlim=(0, None))
                axes.set_title(kind, loc="left")
            row[0].set_ylabel(f"cases with TRE ≤ {SUCCESS_MM:g} mm")
        for axes, along in zip(grid[-1], BINS, strict=True):
            axes.set_xlabel(labels[along])
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        save(figure, outputs)


def started(
    registrations: Mapping[tuple[str, str], str | Path], perturbations: Mapping[str, str | Path]
) -> pd.DataFrame:
    """Return all registrations with columns method, set, kind, rotation_deg and shift_mm of their starts."""
    tables = []
    for (method, name), path in registrations.items():
        cases = read_table(perturbations[name]).set_index("case")
        moved = motion(cases[POSE].to_numpy(float))
        cases["shift_mm"] = np.linalg.norm(moved[:, :3], axis=1)
        cases["rotation_deg"] = np.linalg.norm(moved[:, 3:], axis=1)
        cases["kind"] = np.where(cases["cut"] == WHOLE, UNCUT, SHORT)
        table = read_table(path).join(cases[["shift_mm", "rotation_deg", "kind"]], on="case")
        tables.append(table.assign(method=method, set=name))
    return pd.concat(tables, ignore_index=True)


def draw_volume_episode(
    perturbations: str | Path,
    files: Iterable[Files],
    model: str | Path,
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    """Draw how the networks register the first case of a set: the CT's lines over three planes of the MR.

    ``files`` are those of ``register_volume_cases``, ``model`` that of ``by_networks``. The columns are the
    start, each first look of the start that led to the end, where the networks of cubes end, and where
    matching does; errors are TRE in mm.
    """
    trained = ready_networks(model)
    cases, cubes = read_table(perturbations).head(1), trained.volumes.cubes
    (case,) = cases_of_patient(cases, *by_patient(files)[str(cases["patient"][0])], cubes, 0.0)
    found = register_volumes(case.mr, case.ct, trained)
    volumes, seen = trained.volumes, range(1, 1 + trained.volumes.looks)
    looks = len(trained.networks.networks) * (volumes.looks + volumes.further_looks)
    ways = [
        sitk.Transform(3, sitk.sitkIdentity),
        *found.path[: seen.stop],
        found.path[1 + looks],
        found.path[-1],
    ]
    titles = ["as given", "start", *(f"look {number}" for number in seen), "found", "matched"]
    notes = [f"{registration_error(way, case):.1f} mm" for way in ways]
    draw_planes(case.mr, case.ct, ways, titles, notes, style, outputs)


def draw_planes(
    mr: sitk.Image,
    ct: sitk.Image,
    ways: Sequence[sitk.Transform],
    titles: Sequence[str],
    notes: Sequence[str],
    style: str | Path,
    outputs: Iterable[str | Path],
) -> None:
    """Draw the CT's lines over three planes of the MR, in a column for each of several maps from MR to CT.

    Each has its title above and a note in its last picture. Raises ``NoHead`` for an MR that shows none.
    """
    middle = middle_of(mr)
    still = planes(mr_cube(mr, middle, SHOWN))
    with styled(style):
        # Few columns stay as wide as one of a page's three.
        width = FULL_WIDTH * min(1.0, len(ways) / 3)
        figure = Figure(figsize=(width, 3 * width / len(ways) + 0.25))
        pack_panels(figure)
        grid = figure.subplots(3, len(ways), squeeze=False)
        for column, way, title, note in zip(grid.T, ways, titles, notes, strict=True):
            moved = planes(ct_cube(ct, middle, SHOWN, way))
            for axes, fixed, moving in zip(column, still, moved, strict=True):
                show(axes, DARKENED * fixed)
                outline(axes, moving, IDENTITY, *tissue_levels(moving, moving > 0))
            column[0].set_title(title, pad=3)
            annotate(column[-1], note)
        for axes, name in zip(grid[:, 0], ("axial", "coronal", "sagittal"), strict=True):
            axes.set_ylabel(name)
        save(figure, outputs)


def planes(cube: NDArray) -> list[NDArray]:
    """Return the axial, coronal and sagittal plane (N, N) through the middle of a cube, the head upright."""
    half = len(cube) // 2
    return [cube[half], cube[::-1, half], cube[::-1, :, half]]
