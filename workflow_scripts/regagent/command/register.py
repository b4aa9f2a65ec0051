"""``regagent register``: register a CT to an MR, and print how far the result can be trusted."""

import sys
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from regagent.agent.agent_file import Evaluation, TrainedAgent, load_agent
from regagent.command.outputs import FIGURE_SUFFIXES, IMAGE_SUFFIXES, check_outputs, write_together
from regagent.command.pair import (
    Outcome,
    Placed,
    physical_transform,
    place,
    read_pair,
    register_pair,
    trusted_cases,
)
from regagent.figures.examples import draw_overlay
from regagent.figures.overlays import tissue_levels
from regagent.files import STYLE, parameter_map
from regagent.patients.preregistration import resample
from regagent.settings import Baselines
from regagent.transforms import WRITTEN_SUFFIXES, write_transform
from regagent.volumes.writing import write_image


def register_files(
    fixed: str | Path,
    moving: str | Path,
    model: str | Path,
    transform_out: str | Path,
    warped_out: str | Path | None = None,
    report: str | Path | None = None,
    number: int | None = None,
    start: Literal["coordinates", "centres"] = "coordinates",
    scale: Literal["fixed", "free"] | None = None,
    refine: bool = False,
    force: bool = False,
    trust_values: bool = False,
) -> bool:
    """Register the CT ``moving`` to the MR ``fixed``, print the result, and return whether it is registered.

    The transform is written, and on request the CT on the MR's grid and a picture: all of them or none. If
    the pair is not registered, none is written without ``force``. ``number`` and ``start`` are those of
    ``place``, ``trust_values`` is that of ``read_pair``; with ``refine`` Elastix refines the agent's poses.
    The scale is 1 if it is ``fixed``, by default that of volumes, whose voxels have a size in mm; 2D images
    may lack their true one. Raises ``UserError`` for a fault in a file, ``UsageError`` for an
    unsuitable name of an output.
    """
    check_outputs(
        [fixed, moving, model],
        [(transform_out, WRITTEN_SUFFIXES), (warped_out, IMAGE_SUFFIXES), (report, FIGURE_SUFFIXES)],
    )
    refinement = parameter_map(Baselines().refinement_parameter_map) if refine else None
    torch.set_num_threads(1)
    agent = load_agent(model)
    mr, ct = read_pair(fixed, moving, trust_values)
    placed = place(mr, ct, agent.facts.slices, start, number)
    rigid = scale == "fixed" or (scale is None and placed.dimension == 3)
    outcome = register_pair(agent, placed, rigid, refinement)
    print(_slices(outcome, placed))
    if outcome.refusal:
        print(f"I could not register this pair: {outcome.refusal}", file=sys.stderr)
        if not force:
            return False
    else:
        print(_result(outcome, placed, agent))
    transform = physical_transform(outcome.pose, placed)
    with write_together() as stage:
        write_transform(transform, stage(transform_out))
        if warped_out:
            write_image(resample(ct, mr, transform), stage(warped_out))
        if report:
            levels = tissue_levels(placed.moving, placed.moving > 0)
            names = [f"slice {row}" if placed.dimension == 3 else "" for row in placed.numbers]
            draw_overlay(placed.fixed, placed.moving, outcome.pose, levels, names, STYLE, stage(report))
    return not outcome.refusal


def _slices(outcome: Outcome, placed: Placed) -> str:
    """Return one line per slice: its own pose in mm and degrees, and what the agent says of it."""
    said, sign, yes, no = f"value (threshold {outcome.threshold:.2f})", 1.0, "reached it", "not reached"
    if outcome.predicts:
        said, sign = f"px off, predicted (limit {-outcome.threshold:g})", -1.0
        yes, no = "within it", "beyond it"
    lines = [f"slice    x mm    y mm   angle   scale   {said}"]
    found = outcome.slices
    for number, pose, value, stopped, steps in zip(
        placed.numbers, found.pose, found.value, found.stopped, found.steps, strict=True
    ):
        ending = f"{yes} after {steps} steps" if stopped else f"{no} in {steps} steps"
        lines.append(f"{number:5d}  {_numbers(pose, placed)}  {sign * value:6.2f}  {ending}")
    return "\n".join(lines)


def _numbers(pose: np.ndarray, placed: Placed) -> str:
    """Return a pose (4,) in columns: x and y in mm, angle in degrees, scale."""
    x, y = pose[:2] * placed.mm_per_px
    return f"{x:6.1f}  {y:6.1f}  {pose[2]:6.1f}  {pose[3]:6.3f}"


def _result(outcome: Outcome, placed: Placed, agent: TrainedAgent) -> str:
    """Return the pose of the pair, the agreement of its slices, and the agent's success rate."""
    start = " from where their centres meet" if placed.start.any() else ""
    lines = [f"       {_numbers(outcome.pose, placed)}  this moves the CT onto the MR{start}"]
    if outcome.rigid:
        lines.append(
            f"The scale is fixed at 1 (the agent saw {outcome.scale_seen:.3f});"
            " --scale free looks for a scale too"
        )
    reached = outcome.slices.stopped
    if len(reached) > 1:
        spread = np.median(outcome.spread_px[reached]) * placed.mm_per_px
        what = "are predicted to be right" if outcome.predicts else "reached the threshold"
        lines.append(
            f"{reached.sum()} of {len(reached)} slices {what};"
            f" half of them lie within {spread:.1f} mm of their median"
        )
    return "\n".join([*lines, _success(agent.facts.evaluation, outcome.predicts, placed.mm_per_px)])


def _success(evaluation: Evaluation, predicts: bool, mm_per_px: float) -> str:
    """Return the agent's success rate in its own tests, over the cases that it took for registered."""
    share = evaluation.stopped_within / evaluation.stopped
    return (
        f"Success estimate of a slice: {share:.0%}. Of {evaluation.stopped} test cases of this agent"
        f" ({evaluation.patients} patients of its own cohort) {trusted_cases(predicts)}, this share"
        f" ended within {evaluation.success_px:g} px of the truth, which is"
        f" {evaluation.success_px * mm_per_px:.1f} mm here."
    )
