"""The rows of the table of volumes without a network, and the local Elastix that finishes any row.

Each registers in one thread, so that seconds and results are the same wherever it runs.
"""

import io
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.elastix import RegistrationFailed, elastix
from regagent.evaluation.volume_registrations import Judge, Method, Result
from regagent.files import read_table
from regagent.methods import UNREGISTERED
from regagent.pairs.cubes import ct_middle, middle_of, shrunk_to
from regagent.pairs.rigid import covering, rigid_of, to_itk
from regagent.pairs.volume_cases import POSE
from regagent.volumes.moving import go_on

#: From LPS, ITK's axes, to RAS, NIfTI's, and back.
FLIP = np.diag([-1.0, -1, 1, 1])

#: Voxels in mm of the multi-start's coarse search and of its end; so many of the best starts get there.
COARSE_MM, FINE_MM, KEPT = 8.0, 2.0, 3

#: Greedy, a rigid registration by normalised mutual information: the best of 1000 random starts, turned by up
#: to 180° and shifted by up to 40 mm (standard deviation), then three resolutions.
GREEDY = "-threads 1 -i fixed moving -a -dof 6 -m NMI -n 100x50x10 -ia-image-centers -search 1000 180 40"


def conventional(name: str, parameter_map: str | Path | None) -> Method:
    """Return the method of a row that takes no network and goes on from no other row."""
    if parameter_map is not None:
        return _alone(elastix(parameter_map))
    return _alone(
        {
            UNREGISTERED: lambda mr, ct: sitk.Transform(3, sitk.sitkIdentity),
            "Centres": on_each_other,
            "Multistart-SimpleITK": from_all_sides,
            "Greedy": greedy,
            "NeuroReg": neuroreg,
        }[name]
    )


def _alone(register: Callable[[sitk.Image, sitk.Image], sitk.Transform]) -> Method:
    return lambda number, mr, ct: Result(register(mr, ct))


def on_each_other(mr: sitk.Image, ct: sitk.Image) -> sitk.Transform:
    """Return the shift of the MR's middle to that of the CT. Raises ``NoHead``, as the next one does."""
    shift = sitk.TranslationTransform(3)
    shift.SetOffset((ct_middle(ct) - middle_of(mr)).tolist())
    return shift


def from_all_sides(mr: sitk.Image, ct: sitk.Image) -> sitk.Transform:
    """Register by SimpleITK's Mattes mutual information from each of the rotations that cover all others.

    All starts are optimised on coarse voxels, the best on fine ones; the highest mutual information wins.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # sums over several threads differ from run to run
    middle = middle_of(mr)
    shift = ct_middle(ct) - middle
    starts = [to_itk(np.concatenate([shift, turn[3:]]), middle) for turn in covering()]
    coarse, fine = ((shrunk_to(mr, width), shrunk_to(ct, width)) for width in (COARSE_MM, FINE_MM))
    found = [_climbed(coarse, start, COARSE_MM, [1], 1.0) for start in starts]
    best = sorted(found, key=lambda one: one[0])[:KEPT]
    ends = [_climbed(fine, start, FINE_MM, [2, 1], 0.2) for _, start in best]
    value, transform = min(ends, key=lambda one: one[0])
    if not np.isfinite(value):
        raise RegistrationFailed("SimpleITK finds no overlap from any start")
    return transform


def _climbed(
    pair: tuple[sitk.Image, sitk.Image], start: sitk.Transform, step_mm: float, levels: list[int], part: float
) -> tuple[float, sitk.Transform]:
    """Return the negative mutual information of an MR and a CT, infinite for a failure, and its transform."""
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(32)
    registration.SetInterpolator(sitk.sitkLinear)
    if part < 1:
        registration.SetMetricSamplingStrategy(registration.RANDOM)
        registration.SetMetricSamplingPercentage(part, seed=1)
    registration.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0,  # not used, as it is estimated once
        minStep=step_mm / 50,
        numberOfIterations=100,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-6,
        estimateLearningRate=registration.Once,
        maximumStepSizeInPhysicalUnits=step_mm,
    )
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetShrinkFactorsPerLevel(levels)
    registration.SetSmoothingSigmasPerLevel([level - 1 for level in levels])
    registration.SetInitialTransform(start, inPlace=True)
    try:
        registration.Execute(*pair)
    except RuntimeError:
        return np.inf, start
    return registration.GetMetricValue(), start


def greedy(mr: sitk.Image, ct: sitk.Image) -> sitk.Transform:
    """Register by Greedy (picsl-greedy). Raises ``RegistrationFailed``."""
    from picsl_greedy import Greedy3D

    tool = Greedy3D()
    try:
        tool.execute(f"{GREEDY} -o found", fixed=mr, moving=ct, found=None, out=io.StringIO())
        return rigid_of(FLIP @ tool["found"] @ FLIP)
    except (RuntimeError, ValueError) as error:
        raise RegistrationFailed(str(error)) from error


def neuroreg(mr: sitk.Image, ct: sitk.Image) -> sitk.Transform:
    """Register by NeuroReg's coreg, a search and Powell's method. Raises ``RegistrationFailed``."""
    import torch
    from neuroreg.imreg.coreg import coreg

    torch.set_num_threads(1)
    try:
        to_mr = coreg(_nifti(ct), _nifti(mr), dof=6)
        return rigid_of(FLIP @ np.linalg.inv(to_mr.double().numpy()) @ FLIP)
    except (RuntimeError, ValueError) as error:
        raise RegistrationFailed(str(error)) from error


def _nifti(image: sitk.Image) -> nibabel.Nifti1Image:
    affine: NDArray = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return nibabel.Nifti1Image(sitk.GetArrayFromImage(image).T.astype(np.float32), FLIP @ affine)


def refined(start: str | Path, parameter_map: str | Path, judge: Judge | None = None) -> Method:
    """Return the method that goes on by Elastix from where another row's table of registrations ends.

    As in the plane, the other method's result stays where Elastix finds nothing. It also stays where the
    ``judge`` of the other row, if it has one, accepts it, and does not accept what Elastix finds.
    """
    table, refine = read_table(start).set_index("case"), elastix(parameter_map)

    def method(number: int, mr: sitk.Image, ct: sitk.Image) -> Result:
        row = table.loc[number]
        if row.status == "failed":
            raise RegistrationFailed("there is nothing to refine")
        found: sitk.Transform = to_itk(row[POSE].to_numpy(float), np.zeros(3))
        before = Result(found, row.expected_mm, row.seconds, row.status == "registered")
        try:
            found, _ = go_on(refine, mr, ct, found)
        except RegistrationFailed:
            return before
        expected, accepted = judge(mr, ct, found) if judge else (before.expected_mm, before.accepted)
        lost = before.accepted and not accepted
        return before if lost else Result(found, expected, row.seconds, accepted)

    return method
