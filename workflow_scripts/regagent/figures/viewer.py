"""One page that shows a registered pair of volumes in three planes, in any browser, without a network."""

import base64
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from regagent.anatomy import AIR_HU, BONE_HU, SKIN_HU
from regagent.files import write_text

NIIVUE = Path(__file__).parents[1] / "data/niivue.umd.js.gz"
#: The page's voxels are at least so wide in mm, or it would weigh too much.
SPACING_MM = 1.5
#: The CT's values in HU that become black and white.
CT_WINDOW_HU = (-150.0, 900.0)
#: The part of the MR's voxels that are not brighter than white.
WHITE = 99.5


def write_viewer(
    mr: sitk.Image,
    ct: sitk.Image,
    before: sitk.Transform,
    after: sitk.Transform,
    title: str,
    words: str,
    refusal: str | None,
    output: str | Path,
) -> None:
    """Write the page of two volumes: the MR, the CT over it before and after, and its edges.

    ``before`` and ``after`` map MR to CT points in mm. ``words`` tell the result and stand above, as does the
    ``refusal`` of a pair that is not registered. The page holds NiiVue, which draws it, and the volumes in 8
    bits.
    """
    grid = _grid(mr)
    low, high = 0.0, float(np.percentile(sitk.GetArrayViewFromImage(mr), WHITE))
    volumes = {"mr": _in_8_bits(sitk.Resample(mr, grid, sitk.Transform(), sitk.sitkLinear, 0.0), low, high)}
    for name, transform in (("before", before), ("after", after)):
        moved = sitk.Resample(sitk.Cast(ct, sitk.sitkFloat32), grid, transform, sitk.sitkLinear, AIR_HU)
        volumes[name] = _in_8_bits(moved, *CT_WINDOW_HU)
        volumes[f"{name}_edges"] = _edges(moved)
    pages = Environment(
        loader=PackageLoader("regagent", "data"), autoescape=select_autoescape(), undefined=StrictUndefined
    )
    page = pages.get_template("viewer.html").render(
        title=title,
        words=words,
        refusal=refusal,
        niivue=Markup(gzip.decompress(NIIVUE.read_bytes()).decode("utf-8")),
        volumes=Markup(json.dumps({name: _encoded(volume) for name, volume in volumes.items()})),
    )
    write_text(page, output)


def _grid(mr: sitk.Image) -> sitk.Image:
    """Return an empty image over the MR, its voxels as wide as the MR's or ``SPACING_MM``."""
    spacing = [max(step, SPACING_MM) for step in mr.GetSpacing()]
    size = [
        max(1, round(count * step / new))
        for count, step, new in zip(mr.GetSize(), mr.GetSpacing(), spacing, strict=True)
    ]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing(spacing)
    grid.SetDirection(mr.GetDirection())
    ends = [(new / step - 1) / 2 for new, step in zip(spacing, mr.GetSpacing(), strict=True)]
    grid.SetOrigin(mr.TransformContinuousIndexToPhysicalPoint(ends))
    return grid


def _in_8_bits(image: sitk.Image, low: float, high: float) -> sitk.Image:
    return sitk.Cast(sitk.IntensityWindowing(sitk.Cast(image, sitk.sitkFloat32), low, high), sitk.sitkUInt8)


def _edges(ct: sitk.Image) -> sitk.Image:
    """Return the outlines of skin (half as bright) and bone of a CT in HU, 0 elsewhere."""
    skin, bone = (sitk.BinaryContour(ct > level, True) for level in (SKIN_HU, BONE_HU))
    return sitk.Maximum(skin * 120, bone * 255)


def _encoded(image: sitk.Image) -> str:
    """Return a volume as a compressed NIfTI file in base64."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii.gz"
        sitk.WriteImage(image, str(path), True, 9)
        return base64.b64encode(path.read_bytes()).decode()
