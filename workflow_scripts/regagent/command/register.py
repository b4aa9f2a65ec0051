"""``regagent register``: register a CT to an MR, and print how far the result can be trusted."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import SimpleITK as sitk
import torch

from regagent.agent.agent_file import TrainedAgent, load_agent
from regagent.agent.checkpoints import holds
from regagent.command.outputs import (
    FIGURE_SUFFIXES,
    IMAGE_SUFFIXES,
    JSON_SUFFIXES,
    PAGE_SUFFIX,
    UsageError,
    check_outputs,
    write_together,
)
from regagent.command.pair import physical_transform, place, read_pair, register_pair
from regagent.command.telling import plain_facts, told_after, told_result, told_slices
from regagent.figures.examples import draw_overlay
from regagent.figures.overlays import tissue_levels
from regagent.figures.viewer import write_viewer
from regagent.files import OWN, SPACE, STYLE, parameter_map, write_json
from regagent.patients.preregistration import resample
from regagent.settings import Baselines
from regagent.volumes.transforms import WRITTEN_SUFFIXES, write_transform
from regagent.volumes.writing import write_image


def register_files(
    fixed: str | Path,
    moving: str | Path,
    transform_out: str | Path,
    model: str | Path | None = None,
    warped_out: str | Path | None = None,
    report: str | Path | None = None,
    json: str | Path | None = None,
    number: int | Literal["all"] | None = None,
    start: Literal["coordinates", "centres"] = "coordinates",
    scale: Literal["fixed", "free"] | None = None,
    refine: bool = False,
    force: bool = False,
    trust_values: bool = False,
) -> bool:
    """Register the CT ``moving`` to the MR ``fixed``, print the result, and return whether it is registered.

    Without a ``model`` that which comes with the software does it: of volumes networks that find them
    wherever they lie, of 2D images and, with a ``number``, of slices of volumes the agent. The transform is
    written, and on request the CT on the MR's grid, a picture or page and the result as ``json``: all of them
    or none. If the pair is not registered, without ``force`` the last alone is. ``number`` and ``start`` are
    those of ``place``, and 'all' are many slices; ``trust_values`` is that of ``read_pair``; with ``refine``
    Elastix goes on from the result. The scale is 1 if it is ``fixed``, by default that of volumes, whose
    voxels have a size in mm; 2D images may lack their true one. Raises ``UserError`` for a fault in a file,
    ``UsageError`` for options that do not go together.
    """
    check_outputs(
        [fixed, moving, *([model] if model else [OWN, SPACE])],
        [
            (transform_out, WRITTEN_SUFFIXES),
            (warped_out, IMAGE_SUFFIXES),
            (report, (*FIGURE_SUFFIXES, PAGE_SUFFIX)),
            (json, JSON_SUFFIXES),
        ],
    )
    refinement = parameter_map(Baselines().refinement_parameter_map) if refine else None
    torch.set_num_threads(1)
    agent = load_agent(model) if model and not holds(model, "space") else None
    mr, ct = read_pair(fixed, moving, trust_values)
    if not model and (mr.GetDimension() == 2 or number is not None):
        agent = load_agent(OWN)
    page = report and str(report).lower().endswith(PAGE_SUFFIX)
    if page and mr.GetDimension() == 2:
        raise UsageError(f"{report}: a page shows volumes, found 2D images: take a name that ends in .png")
    if agent:
        if number is not None and mr.GetDimension() == 2:
            raise UsageError("--slice is for volumes, and these are 2D images")
        chosen = None if number == "all" else number
        answer = _by_slices(mr, ct, agent, chosen, start, scale, refinement)
    else:
        if number is not None or start != "coordinates" or scale == "free":
            raise UsageError(
                f"--slice, --start and --scale free are for agents of slices; {model} registers whole volumes"
                if model
                else "--start and --scale free are for slices: give --slice, too"
            )
        answer = _in_space(mr, ct, model or SPACE, refine)
    if answer.table:
        print(answer.table)
    if answer.refusal:
        print(f"I could not register this pair: {answer.refusal}", file=sys.stderr)
    else:
        print(answer.words())
    with write_together() as stage:
        if json:
            write_json(answer.facts, stage(json))
        if answer.transform is None or (answer.refusal and not force):
            return False
        write_transform(answer.transform, stage(transform_out))
        if warped_out:
            write_image(resample(ct, mr, answer.transform), stage(warped_out))
        if page:
            title = f"{Path(moving).name} (CT) onto {Path(fixed).name} (MR)"
            ways = answer.begin, answer.transform
            write_viewer(mr, ct, *ways, title, answer.words(), answer.refusal, stage(str(report)))
        elif report:
            answer.draw(stage(report))
    return not answer.refusal


@dataclass(frozen=True)
class Answer:
    """What is told and written of a pair."""

    table: str
    words: Callable[[], str]
    facts: dict
    refusal: str | None  # why the pair is not registered, None if it is
    begin: sitk.Transform  # from MR to CT points in mm, before and after
    transform: sitk.Transform | None  # None where there is nothing to register
    draw: Callable[[Path], None]


def _by_slices(
    mr: sitk.Image,
    ct: sitk.Image,
    agent: TrainedAgent,
    number: int | None,
    start: Literal["coordinates", "centres"],
    scale: Literal["fixed", "free"] | None,
    refinement: Path | None,
) -> Answer:
    """Register by an agent in the plane of the MR's axial slices."""
    placed = place(mr, ct, agent.facts.slices, start, number)
    rigid = scale == "fixed" or (scale is None and placed.dimension == 3)
    outcome = register_pair(agent, placed, rigid, refinement)

    def draw(path: Path) -> None:
        levels = tissue_levels(placed.moving, placed.moving > 0)
        names = [f"slice {row}" if placed.dimension == 3 else "" for row in placed.numbers]
        after = told_after(outcome, placed)
        draw_overlay(placed.fixed, placed.moving, outcome.pose, levels, names, after, STYLE, path)

    return Answer(
        told_slices(outcome, placed),
        partial(told_result, outcome, placed, agent.facts.evaluation),
        plain_facts(outcome, placed),
        outcome.refusal,
        sitk.TranslationTransform(placed.dimension, placed.start[: placed.dimension].tolist()),
        physical_transform(outcome.pose, placed),
        draw,
    )


def _in_space(mr: sitk.Image, ct: sitk.Image, model: str | Path, refine: bool) -> Answer:
    """Register by the networks of volumes, of which an agent of slices need not wait for the imports."""
    from regagent.command.space import facts_in_space, register_in_space, told_in_space
    from regagent.figures.volumes import draw_planes

    outcome = register_in_space(mr, ct, model, parameter_map("refine3d") if refine else None)
    begin = sitk.Transform(3, sitk.sitkIdentity)

    def draw(path: Path) -> None:
        after = "after, refused" if outcome.refusal else "after"
        draw_planes(mr, ct, [begin, outcome.transform or begin], ["before", after], ["", ""], STYLE, [path])

    words, facts = partial(told_in_space, outcome), facts_in_space(outcome)
    return Answer("", words, facts, outcome.refusal, begin, outcome.transform, draw)
