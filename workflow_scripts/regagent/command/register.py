"""``regagent register``: register a CT to an MR, and print how far the result can be trusted."""

import sys
from pathlib import Path
from typing import Literal

import SimpleITK as sitk
import torch

from regagent.agent.agent_file import OWN, load_agent
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
from regagent.files import STYLE, parameter_map, write_json
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
    number: int | None = None,
    start: Literal["coordinates", "centres"] = "coordinates",
    scale: Literal["fixed", "free"] | None = None,
    refine: bool = False,
    force: bool = False,
    trust_values: bool = False,
) -> bool:
    """Register the CT ``moving`` to the MR ``fixed``, print the result, and return whether it is registered.

    Without a ``model`` the agent that comes with the software does it. The transform is written, and on
    request the CT on the MR's grid, a picture or page and the result as ``json``: all of them or none. If the
    pair is not registered, without ``force`` the last alone is. ``number``, ``start`` are those of ``place``,
    ``trust_values`` is that of ``read_pair``; with ``refine`` Elastix refines the agent's poses. The scale is
    1 if it is ``fixed``, by default that of volumes, whose voxels have a size in mm; 2D images may lack their
    true one. Raises ``UserError`` for a fault in a file, ``UsageError`` for an unsuitable name of an output.
    """
    model = model or OWN
    check_outputs(
        [fixed, moving, model],
        [
            (transform_out, WRITTEN_SUFFIXES),
            (warped_out, IMAGE_SUFFIXES),
            (report, (*FIGURE_SUFFIXES, PAGE_SUFFIX)),
            (json, JSON_SUFFIXES),
        ],
    )
    refinement = parameter_map(Baselines().refinement_parameter_map) if refine else None
    torch.set_num_threads(1)
    agent = load_agent(model)
    mr, ct = read_pair(fixed, moving, trust_values)
    placed = place(mr, ct, agent.facts.slices, start, number)
    page = report and str(report).lower().endswith(PAGE_SUFFIX)
    if page and placed.dimension == 2:
        raise UsageError(f"{report}: a page shows volumes, found 2D images: take a name that ends in .png")
    rigid = scale == "fixed" or (scale is None and placed.dimension == 3)
    outcome = register_pair(agent, placed, rigid, refinement)
    print(told_slices(outcome, placed))
    if outcome.refusal:
        print(f"I could not register this pair: {outcome.refusal}", file=sys.stderr)
    else:
        print(told_result(outcome, placed, agent.facts.evaluation))
    transform = physical_transform(outcome.pose, placed)
    with write_together() as stage:
        if json:
            write_json(plain_facts(outcome, placed), stage(json))
        if outcome.refusal and not force:
            return False
        write_transform(transform, stage(transform_out))
        if warped_out:
            write_image(resample(ct, mr, transform), stage(warped_out))
        if page:
            begin = sitk.TranslationTransform(3, placed.start.tolist())
            title = f"{Path(moving).name} (CT) onto {Path(fixed).name} (MR)"
            words = told_result(outcome, placed, agent.facts.evaluation)
            write_viewer(mr, ct, begin, transform, title, words, outcome.refusal, stage(str(report)))
        elif report:
            levels = tissue_levels(placed.moving, placed.moving > 0)
            names = [f"slice {row}" if placed.dimension == 3 else "" for row in placed.numbers]
            after = told_after(outcome, placed)
            draw_overlay(
                placed.fixed, placed.moving, outcome.pose, levels, names, after, STYLE, stage(report)
            )
    return not outcome.refusal
