"""The command ``regagent``: a trained agent for a reader's own images, without the pipeline (§3.6).

``regagent register`` registers an MR and a CT, ``regagent apply`` applies the transform to images and points.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from regagent.agent.agent_file import Evaluation, TrainedAgent, load_agent
from regagent.command.pair import Outcome, Placed, physical_transform, place, read_pair, register_pair
from regagent.figures.examples import draw_overlay
from regagent.figures.overlays import tissue_levels
from regagent.files import STYLE, UserError, parameter_map
from regagent.patients.preregistration import resample
from regagent.settings import Baselines
from regagent.transforms import (
    IMAGE_SUFFIXES,
    TRANSFORM_SUFFIXES,
    read_transform,
    transform_image,
    transform_points,
    write_transform,
)
from regagent.volumes import write_image

REGISTERED, FAULT, USAGE, REFUSED = 0, 1, 2, 3

DIRECTION = """\
Direction and units: a transform maps points of the fixed image (the MR) to points of
the moving image (the CT), in mm, in ITK's world coordinates: x to the patient's left,
y to the back, z to the head (LPS). So SimpleITK.Resample(moving, fixed, transform)
lays the moving image over the fixed one."""

REGISTER = f"""\
Register a CT (moving) to an MR (fixed) of one patient's head by a trained agent.

Both are 2D images, or both are volumes. The agent works on axial slices and looks for
a shift, a rotation and a scale within them; it knows nothing of tilts and shifts
across the slices, nor of deformation. Of volumes, up to twelve slices spread over
the head are registered one by one, and the median of their results becomes one
transform for the whole volume; --slice takes one slice alone. Volumes that are tilted
against each other must be aligned in 3D first, by any rigid registration.

What comes out: for 2D images a Similarity2DTransform, for volumes an AffineTransform
that is this similarity in the plane of the MR's axial slices.

{DIRECTION}

Whether to trust it: the agent stops where the value that its network gives to what it
sees reaches a threshold, found on the patients that it was trained on. If that never
happens, if the slices of a volume do not agree, or if the agent failed in half of its
own tests, the command says "I could not register this pair", writes nothing, and ends
with exit code 3. For the others it tells how many of the agent's own test cases whose
value reached the threshold ended within 2 px of the truth. That number comes from the
patients of the agent's own run; for other scanners and other diseases it is a hope.
Look at --report. Not for clinical use."""

CODES = """\
exit codes:
  0  registered, files written
  1  a fault in the input: the message names the file, what was found and expected
  2  the command line is wrong
  3  I could not register this pair (with --force: and files are written all the same)"""

APPLY = f"""\
Apply a transform that `regagent register` wrote, or any other of ITK, to an image or
to a table of points.

An image (--image, --out) of the moving image's world is laid on the grid of
--reference, the fixed image: a CT, or a map of labels drawn on it (--nearest). Points
(--points) are a CSV file with columns x, y and, for a 3D transform, z; they are
mapped from the fixed image to the moving one. --inverse goes the other way in both.

{DIRECTION}"""


class UsageError(UserError):
    """The options do not go together."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="regagent", description="MR-CT registration by a trained reinforcement-learning agent."
    )
    commands = top.add_subparsers(required=True, metavar="register|apply")
    layout = argparse.RawDescriptionHelpFormatter

    register = commands.add_parser(
        "register",
        help="register a CT to an MR",
        description=REGISTER,
        epilog=CODES,
        formatter_class=layout,
    )
    register.set_defaults(run=run_register)
    add = register.add_argument
    add("--fixed", required=True, metavar="MR", help="the MR: NIfTI, MetaImage, NRRD or what else ITK reads")
    add("--moving", required=True, metavar="CT", help="the CT, in Hounsfield units")
    add(
        "--model",
        required=True,
        metavar="AGENT",
        help="the agent: a file agent.pt, the model.pt beside it, or their folder",
    )
    add("--transform-out", required=True, metavar="TFM", help="where the transform goes (.tfm, .txt or .h5)")
    add(
        "--warped-out",
        metavar="IMAGE",
        help="where the CT on the MR's grid goes (HU, -1000 beyond the CT)",
    )
    add("--report", metavar="PNG", help="where a picture goes: the MR under the CT's lines, before and after")
    add(
        "--slice",
        type=int,
        metavar="N",
        help="of volumes: only the axial slice N of the MR; 0 is the lowest",
    )
    add(
        "--start",
        choices=["coordinates", "centres"],
        default="coordinates",
        help="where the CT lies at first: by its coordinates (default), or with its centre on the MR's",
    )
    add("--refine", action="store_true", help="go on from the agent's pose by a local Elastix registration")
    add("--force", action="store_true", help="write the files even if the pair could not be registered")

    apply = commands.add_parser(
        "apply",
        help="apply a transform to an image or to points",
        description=APPLY,
        epilog="exit codes: 0 done, 1 a fault in the input, 2 the command line is wrong",
        formatter_class=layout,
    )
    apply.set_defaults(run=run_apply)
    add = apply.add_argument
    add("--transform", required=True, metavar="TFM", help="the transform")
    what = apply.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", help="the image to lay on the grid of --reference")
    what.add_argument("--points", metavar="CSV", help="the points to map, in mm (LPS)")
    add("--reference", metavar="IMAGE", help="with --image: the image whose grid the result has")
    add("--out", required=True, metavar="FILE", help="where the image or the table goes")
    add("--inverse", action="store_true", help="map from the moving image to the fixed one instead")
    add("--nearest", action="store_true", help="with --image: no interpolation, for maps of labels")
    add("--outside", type=float, metavar="V", help="with --image: value beyond it (default: its lowest)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except (UserError, OSError, RuntimeError) as error:  # SimpleITK's own are RuntimeErrors
        print(f"error: {error}", file=sys.stderr)
        return FAULT


def run_register(options: argparse.Namespace) -> int:
    """Register a pair, write what is asked for and say what came out."""
    _check_suffix(options.transform_out, TRANSFORM_SUFFIXES)
    _check_suffix(options.warped_out, IMAGE_SUFFIXES)
    _check_suffix(options.report, (".png", ".pdf", ".svg"))
    _check_apart(
        [options.fixed, options.moving, options.model],
        [options.transform_out, options.warped_out, options.report],
    )
    torch.set_num_threads(1)
    agent = load_agent(options.model)
    mr, ct = read_pair(options.fixed, options.moving)
    placed = place(mr, ct, agent.facts.slices, options.start, options.slice)
    refinement = parameter_map(Baselines().refinement_parameter_map) if options.refine else None
    outcome = register_pair(agent, placed, refinement)
    print(_slices(outcome, placed))
    if outcome.refusal:
        print(f"I could not register this pair: {outcome.refusal}", file=sys.stderr)
        if not options.force:
            return REFUSED
    else:
        print(_result(outcome, placed, agent))
    _write(options, outcome, placed, mr, ct, agent)
    return REFUSED if outcome.refusal else REGISTERED


def _write(
    options: argparse.Namespace,
    outcome: Outcome,
    placed: Placed,
    mr: sitk.Image,
    ct: sitk.Image,
    agent: TrainedAgent,
) -> None:
    transform = physical_transform(outcome.pose, placed)
    write_transform(transform, options.transform_out)
    if options.warped_out:
        write_image(resample(ct, mr, transform), options.warped_out)
    if options.report:
        levels = tissue_levels(placed.moving, placed.moving > 0)
        names = [f"slice {number}" if placed.dimension == 3 else "" for number in placed.numbers]
        draw_overlay(placed.fixed, placed.moving, outcome.pose, levels, names, STYLE, options.report)


def _slices(outcome: Outcome, placed: Placed) -> str:
    """Return a line a slice: its own pose in mm and degrees, and what the agent thought of it."""
    lines = [f"slice    x mm    y mm   angle   scale   value (threshold {outcome.threshold:.2f})"]
    found = outcome.slices
    for number, pose, value, stopped, steps in zip(
        placed.numbers, found.pose, found.value, found.stopped, found.steps, strict=True
    ):
        ending = f"reached it after {steps} steps" if stopped else f"not reached in {steps} steps"
        lines.append(f"{number:5d}  {_numbers(pose, placed)}  {value:6.2f}  {ending}")
    return "\n".join(lines)


def _numbers(pose: np.ndarray, placed: Placed) -> str:
    x, y = pose[:2] * placed.mm_per_px
    return f"{x:6.1f}  {y:6.1f}  {pose[2]:6.1f}  {pose[3]:6.3f}"


def _result(outcome: Outcome, placed: Placed, agent: TrainedAgent) -> str:
    whence = " from where their centres meet" if placed.start.any() else ""
    lines = [f"       {_numbers(outcome.pose, placed)}  this moves the CT onto the MR{whence}"]
    reached = outcome.slices.stopped
    if len(reached) > 1:
        spread = np.median(outcome.spread_px[reached]) * placed.mm_per_px
        lines.append(
            f"{reached.sum()} of {len(reached)} slices reached the threshold;"
            f" half of them lie within {spread:.1f} mm of their median"
        )
    return "\n".join([*lines, _success(agent.facts.evaluation, placed.mm_per_px)])


def _success(evaluation: Evaluation, mm_per_px: float) -> str:
    """Return what is known of the agent's success where its value reaches the threshold."""
    share = evaluation.stopped_within / evaluation.stopped
    return (
        f"Success estimate of a slice: {share:.0%}. Of {evaluation.stopped} test cases of this agent"
        f" ({evaluation.patients} patients of its own cohort) whose value reached the threshold, so many"
        f" ended within {evaluation.success_px:g} px of the truth; {evaluation.success_px * mm_per_px:.1f} mm"
        " here."
    )


def run_apply(options: argparse.Namespace) -> int:
    """Apply a transform to an image or to points."""
    if options.image and not options.reference:
        raise UsageError("--image needs --reference, the image whose grid the result has")
    if options.points and (options.reference or options.nearest or options.outside is not None):
        raise UsageError("--reference, --nearest and --outside go with --image, not with --points")
    _check_apart([options.transform, options.image, options.points, options.reference], [options.out])
    transform = read_transform(options.transform, options.inverse)
    if options.points:
        _check_suffix(options.out, (".csv", ".tsv"))
        transform_points(transform, options.points, options.out)
    else:
        _check_suffix(options.out, IMAGE_SUFFIXES)
        transform_image(
            transform, options.image, options.reference, options.out, options.nearest, options.outside
        )
    return REGISTERED


def _check_suffix(path: str | None, suffixes: Sequence[str]) -> None:
    if path and not path.endswith(tuple(suffixes)):
        raise UsageError(f"{path}: expected a name that ends in {', '.join(suffixes)}")
    if path and Path(path).is_dir():
        raise UsageError(f"{path}: a folder, expected the name of a file")


def _check_apart(inputs: Sequence[str | None], outputs: Sequence[str | None]) -> None:
    """Raise ``UsageError`` where a file would be overwritten that is read or written already."""
    taken = {Path(path).resolve() for path in inputs if path}
    for path in filter(None, outputs):
        if Path(path).resolve() in taken:
            raise UsageError(f"{path}: is named twice; each output needs a file of its own")
        taken.add(Path(path).resolve())
