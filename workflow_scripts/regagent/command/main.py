"""The command line of ``regagent``: its options, its help and its exit codes (§3.6).

Nothing but the standard library is imported until a command runs, so that help appears at once.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

from regagent import __version__
from regagent.patients.layouts import LAYOUTS
from regagent.process import flush_output, print_anything, start_in_utf8

DONE, FAULT, USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130

DIRECTION = """\
Direction and units: a transform maps points of the fixed image (the MR) to points of
the moving image (the CT), in mm, in ITK's world coordinates: x to the patient's left,
y to the back, z to the head (LPS). So SimpleITK.Resample(moving, fixed, transform)
resamples the moving image onto the grid of the fixed one."""

REGISTER = f"""\
Register a CT (moving) to an MR (fixed) of one patient's head by trained networks.

Both are 2D images, or both are volumes. Volumes may lie any way, with any axes, voxels
and fields of view that show the most of the head: networks see where the CT lies in
space, from all sides at once. The result is rigid.

An agent registers 2D images, and with --slice axial slices of volumes: it looks for a
shift, a rotation and a scale within the plane. It corrects no tilt, no shift across the
slices and no deformation. Of volumes, up to twelve slices spread over the head are
registered one by one, and the median of their results becomes one transform for the
whole volume; --slice N takes one slice alone.

Scale: a head has one size in mm, so the scale of volumes is fixed at 1. A 2D image may
lack its true mm, so its scale is free: the agent looks for it too. --scale fixed and
--scale free choose for either kind of slices.

Result: a VersorRigid3DTransform of volumes; for 2D images a Similarity2DTransform; with
--slice an AffineTransform that moves points only in the plane of the MR's axial slices.
All files that are asked for are written together; after a fault, files that were there
before are unchanged.

{DIRECTION}

Whether to trust it: a network looks at the pair where the result puts it, and predicts
how far it lies from the truth. What such a prediction is worth was found on pairs of
its training patients. The command tells the error that is to be expected with an
interval, if both images show one head, and the chance of a success, an error of at most
4 mm of volumes and 2 px of slices, if every second pair does not. (An agent without
such a network tells how many of its own test cases ended within 2 px, of those whose
value reached a threshold.) The pair counts as not registered if that chance is low or
the value never reaches the threshold, if the slices of a volume do not agree, if the
scale is fixed but the agent sees another one, or if the agent failed in half of its own
tests. The command then says "I could not register this pair", writes no transform and
no image, and ends with exit code 3. All this comes from the patients of the networks'
own run; it may not hold for other scanners and other diseases. Look at the picture that
--report writes. Not for clinical use."""

REGISTER_CODES = """\
exit codes:
  0  registered, files written
  1  a fault in the input: the message names the file, what was found and expected
  2  the command line is wrong
  3  the pair could not be registered (with --force the files are written nevertheless)"""

APPLY = f"""\
Apply a transform that `regagent register` wrote, or any other of ITK (.tfm, .txt, .h5,
or a .mat of ANTs), to an image or to points.

An image (--image) is resampled onto the grid of --reference, the fixed image, of which
nothing but the grid counts. It is the moving image, or lies where that lies, as a map
of labels drawn on it (--nearest).

Points (--points) are mapped from the fixed image to the moving one. They are
- a .csv or .tsv with columns x, y and, for a 3D transform, z in mm (LPS), or with the
  columns of a table of 3D Slicer, l, p, s or r, a, s;
- or markups of 3D Slicer, .fcsv or .mrk.json, which state LPS or RAS. They are written
  as a .csv or .tsv in LPS, or in their own format, in the system that they state.
All that is not a coordinate stays as it is. --inverse exchanges fixed and moving.

{DIRECTION}"""

DATASETS = """\
Write the sample sheet of a public data set from its unpacked folder, for
`cohort: {source: sheet}` in the pipeline's settings. Patients without MR or CT are
left out and named. docs/data.md tells where the data sets come from."""

CODES = "exit codes: 0 done, 1 a fault in the input, 2 the command line is wrong"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the parsed ``run`` is a function of all other options."""
    top = argparse.ArgumentParser(
        prog="regagent", description="MR-CT registration by a trained reinforcement-learning agent."
    )
    top.add_argument("--version", action="version", version=f"regagent {__version__}")
    commands = top.add_subparsers(required=True, metavar="register|apply|datasets")
    layout = argparse.RawDescriptionHelpFormatter

    register = commands.add_parser(
        "register",
        help="register a CT to an MR",
        description=REGISTER,
        epilog=REGISTER_CODES,
        formatter_class=layout,
    )
    register.set_defaults(run=_register)
    add = register.add_argument
    add(
        "--fixed",
        required=True,
        metavar="MR",
        help="the MR: NIfTI, MetaImage, NRRD, a DICOM file, or the folder of a DICOM series",
    )
    add(
        "--moving",
        required=True,
        metavar="CT",
        help="the CT, in Hounsfield units: such a file or the folder of a DICOM series",
    )
    add(
        "--model",
        metavar="AGENT",
        help="others than those that come with this software: an agent of slices, the file agent.pt, the"
        " model.pt beside it, or their folder; or networks of volumes, the space.pt of a run",
    )
    add("--transform-out", required=True, metavar="TFM", help="the file for the transform (.tfm or .txt)")
    add(
        "--warped-out",
        metavar="IMAGE",
        help="the file for the CT on the MR's grid (HU, -1000 beyond the CT)",
    )
    add(
        "--report",
        metavar="FILE",
        help="the file for a picture: the MR under the CT's lines, before and after (.png, .pdf, .svg); of"
        " volumes also for a page to look around in, with any browser (.html)",
    )
    add(
        "--json",
        metavar="JSON",
        help="the file for the result and what is expected of it, written for a refused pair too",
    )
    add(
        "--slice",
        type=_number_or_all,
        nargs="?",
        const="all",
        metavar="N",
        dest="number",
        help="of volumes: by slices instead of in space, up to twelve, or only the axial slice N of the MR; 0"
        " is the lowest",
    )
    add(
        "--start",
        choices=["coordinates", "centres"],
        default="coordinates",
        help="of slices: start by the coordinates (default), or with the CT's centre on the MR's",
    )
    add(
        "--scale",
        choices=["fixed", "free"],
        help="fixed: the scale is 1 (default of volumes); free: it is looked for (default of 2D images)",
    )
    add("--refine", action="store_true", help="go on from the result by a local Elastix registration")
    add("--trust-values", action="store_true", help="take MR and CT as such, whatever their values look like")
    add("--force", action="store_true", help="write the files even if the pair could not be registered")

    apply = commands.add_parser(
        "apply",
        help="apply a transform to an image or to points",
        description=APPLY,
        epilog=CODES,
        formatter_class=layout,
    )
    apply.set_defaults(run=_apply)
    add = apply.add_argument
    add("--transform", required=True, metavar="TFM", help="the transform")
    what = apply.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", help="the image to resample onto the grid of --reference")
    what.add_argument("--points", metavar="FILE", help="the points to map (.csv, .tsv, .fcsv, .mrk.json)")
    add("--reference", metavar="IMAGE", help="with --image: the image whose grid the result has")
    add("--out", required=True, metavar="FILE", help="the file for the resampled image or the points")
    add("--inverse", action="store_true", help="map from the moving image to the fixed one instead")
    add("--nearest", action="store_true", help="with --image: no interpolation, for maps of labels")
    add(
        "--outside", type=float, metavar="V", help="with --image: value beyond it (default: its lowest value)"
    )

    datasets = commands.add_parser(
        "datasets",
        help="write the sample sheet of a public data set",
        description=DATASETS,
        epilog=CODES,
        formatter_class=layout,
    )
    datasets.set_defaults(run=_datasets)
    add = datasets.add_argument
    add("kind", choices=LAYOUTS, help="the data set")
    add("folder", help="the unpacked folder that holds the patients' folders")
    add("--out", default="patients.tsv", metavar="TSV", help="the new sheet (default: %(default)s)")
    return top


def _number_or_all(text: str) -> int | str:
    return text if text == "all" else int(text)


def _register(**options: Any) -> int:
    from regagent.command.register import register_files

    return DONE if register_files(**options) else REFUSED


def _apply(**options: Any) -> int:
    from regagent.command.apply import apply_transform

    apply_transform(**options)
    return DONE


def _datasets(kind: str, folder: str, out: str) -> int:
    from regagent.command.outputs import check_home
    from regagent.patients.datasets import write_sheet

    check_home(out)
    write_sheet(kind, folder, out)
    return DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. Without ``arguments`` the whole process is the command's."""
    if arguments is not None:
        return _run(arguments)
    start_in_utf8()
    print_anything()
    try:
        code = _run(None)
    except SystemExit as end:  # of argparse
        code = end.code if isinstance(end.code, int) else DONE
    if lost := flush_output():
        print(f"error: what was to be printed: {lost}", file=sys.stderr)
        return code or FAULT
    return code


def _run(arguments: Sequence[str] | None) -> int:
    options = vars(parser().parse_args(arguments))
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("regagent").setLevel(logging.INFO)
    run = options.pop("run")
    try:
        return run(**options)
    except KeyboardInterrupt:
        code, message = INTERRUPTED, "interrupted"
    except Exception as error:
        code, message = _fault(error)
    print(f"error: {message}", file=sys.stderr)
    return code


def _fault(error: Exception) -> tuple[int, str]:
    from regagent.command.outputs import UsageError
    from regagent.jobs import told

    return USAGE if isinstance(error, UsageError) else FAULT, told(error)
