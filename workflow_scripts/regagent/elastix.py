"""The one place where Elastix is called: in 3D to align patients, in 2D for the methods of Table 2 (§4)."""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import SimpleITK as sitk

from regagent.files import UserError, itk_name, reason

LOG = "elastix.log"


class RegistrationFailed(Exception):
    """A registration found no result; the message is that of Elastix or SimpleITK."""


def elastix(
    parameter_map: str | Path, rigid: bool = False
) -> Callable[[sitk.Image, sitk.Image], sitk.Transform]:
    """Return a function that registers (fixed, moving) by the parameter map of the file, in one thread.

    Its result maps fixed physical points to moving physical points, so that ``sitk.Resample(moving, fixed,
    result)`` aligns the moving image with the fixed one. Euler transforms and similarities of 2D images are
    known, and Euler transforms of volumes. With ``rigid`` an Euler transform takes the place of the map's
    own transform. The returned function raises ``RegistrationFailed`` when Elastix finds no result. This one
    raises ``UserError`` when the file is no parameter map of a known transform.

    Importing itk takes ten to twenty seconds, so make one such function for many pairs.
    """
    file = itk_name(parameter_map)
    import itk

    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
    parameters = itk.ParameterObject.New()
    try:
        parameters.AddParameterFile(file)
        kind = parameters.GetParameterMap(0)["Transform"][0]
    except (RuntimeError, IndexError) as error:
        raise UserError(f"{parameter_map}: not an Elastix parameter map ({reason(error)})") from error
    if kind not in ("EulerTransform", "SimilarityTransform"):
        raise UserError(
            f"{parameter_map}: Transform is {kind}, expected EulerTransform or SimilarityTransform"
        )
    if rigid:
        parameters.SetParameter(0, "Transform", "EulerTransform")

    def register(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
        with tempfile.TemporaryDirectory() as folder:
            try:
                _, result = itk.elastix_registration_method(
                    _to_itk(itk, fixed),
                    _to_itk(itk, moving),
                    parameter_object=parameters,
                    number_of_threads=1,
                    log_to_console=False,
                    log_to_file=True,
                    output_directory=folder,
                    log_file_name=LOG,
                )
            except RuntimeError as error:
                raise RegistrationFailed(_reason(Path(folder, LOG))) from error
        return _transform(result.GetParameterMap(result.GetNumberOfParameterMaps() - 1))

    return register


def _to_itk(itk: ModuleType, image: sitk.Image) -> Any:
    converted = itk.image_from_array(sitk.GetArrayFromImage(image).astype(np.float32))
    dimension = image.GetDimension()
    converted.SetOrigin(image.GetOrigin())
    converted.SetSpacing(image.GetSpacing())
    converted.SetDirection(itk.matrix_from_array(np.reshape(image.GetDirection(), (dimension, dimension))))
    return converted


def _transform(parameter_map: Mapping[str, Sequence[str]]) -> sitk.Transform:
    kind = parameter_map["Transform"][0]
    values = [float(value) for value in parameter_map["TransformParameters"]]
    if not np.isfinite(values).all():
        raise RegistrationFailed("the transform is not finite")
    centre = [float(value) for value in parameter_map["CenterOfRotationPoint"]]
    transform: sitk.Euler3DTransform | sitk.Euler2DTransform | sitk.Similarity2DTransform
    if kind == "EulerTransform" and len(centre) == 3:
        transform = sitk.Euler3DTransform()
        transform.SetComputeZYX(parameter_map["ComputeZYX"][0] == "true")
    elif kind == "EulerTransform" and len(centre) == 2:
        transform = sitk.Euler2DTransform()
    elif kind == "SimilarityTransform" and len(centre) == 2:
        transform = sitk.Similarity2DTransform()
    else:
        raise RegistrationFailed(f"{kind} in {len(centre)}D is not known here")
    transform.SetCenter(centre)
    transform.SetParameters(values)
    return transform


def _reason(log: Path) -> str:
    """Return the last error in Elastix's log; its exception only says to look there."""
    text = log.read_text(errors="replace") if log.exists() else ""
    found = re.findall(r"Description: ITK ERROR: (?:\w+\(0x\w+\): )?(.+)", text)
    return found[-1].strip() if found else "no reason given"
