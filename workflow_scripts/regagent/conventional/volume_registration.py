"""The rows of the table of volumes without a network, and the local Elastix that finishes any row."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regagent.elastix import RegistrationFailed, elastix
from regagent.evaluation.volume_registrations import Method
from regagent.files import read_table
from regagent.methods import UNREGISTERED
from regagent.pairs.cubes import ct_middle, middle_of
from regagent.pairs.rigid import to_itk
from regagent.pairs.volume_cases import POSE, moved_by


def conventional(name: str, parameter_map: str | Path | None) -> Method:
    """Return the method of a row: nothing, the middles of both heads on each other, or 3D Elastix."""
    if name == UNREGISTERED:
        return lambda number, mr, ct: (sitk.Transform(3, sitk.sitkIdentity), np.nan, 0.0)
    if name == "Centres":
        return _on_each_other
    assert parameter_map is not None  # the rule gives Elastix one
    register = elastix(parameter_map)
    return lambda number, mr, ct: (register(mr, ct), np.nan, 0.0)


def _on_each_other(number: int, mr: sitk.Image, ct: sitk.Image) -> tuple[sitk.Transform, float, float]:
    shift = sitk.TranslationTransform(3)
    shift.SetOffset((ct_middle(ct) - middle_of(mr)).tolist())
    return shift, np.nan, 0.0


def refined(start: str | Path, parameter_map: str | Path) -> Method:
    """Return the method that goes on by Elastix from where another row's table of registrations ends.

    As in the plane, the other method's result stays where Elastix finds nothing.
    """
    table, refine = read_table(start).set_index("case"), elastix(parameter_map)

    def method(number: int, mr: sitk.Image, ct: sitk.Image) -> tuple[sitk.Transform, float, float]:
        row = table.loc[number]
        if row.status == "failed":
            raise RegistrationFailed("there is nothing to refine")
        found: sitk.Transform = to_itk(row[POSE].to_numpy(float), np.zeros(3))
        with suppress(RegistrationFailed):
            found = sitk.CompositeTransform([found, refine(mr, moved_by(ct, found.GetInverse()))])
        return found, row.expected_mm, row.seconds

    return method
