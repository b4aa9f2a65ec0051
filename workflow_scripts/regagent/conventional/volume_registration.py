"""The job that registers every test case in space by one method, and the methods without a network."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
import torch
from tqdm import tqdm

from regagent.agent.checkpoints import load_model
from regagent.agent.cube_registration import register_volumes
from regagent.agent.networks import CubeNetwork, choose_device
from regagent.elastix import RegistrationFailed, elastix
from regagent.files import read_table, write_table
from regagent.jobs import clock
from regagent.methods import NETWORKS, REFINED, UNREGISTERED
from regagent.pairs.cubes import ct_middle, middle_of
from regagent.pairs.volume_cases import cases_of_patient, moved_by, registration_error
from regagent.settings import Volumes

#: Registers an MR and a CT: the transform from MR to CT points, and the error in mm to be expected, NaN if
#: unknown.
Method = Callable[[sitk.Image, sitk.Image], tuple[sitk.Transform, float]]


def volume_method(
    name: str, settings: Volumes, models: Sequence[str | Path], maps: Mapping[str, str | Path]
) -> Method:
    """Return the method of a row of the table of volumes.

    ``models`` are those of the networks in their order, ``maps`` the files of the Elastix parameter maps
    ``rigid3d`` and ``refine3d``. The method raises ``RegistrationFailed`` where it finds nothing.
    """
    if name.endswith(REFINED):
        start = volume_method(name.removesuffix(REFINED), settings, models, maps)
        refine = elastix(maps["refine3d"])

        def refined(mr: sitk.Image, ct: sitk.Image) -> tuple[sitk.Transform, float]:
            found, expected = start(mr, ct)
            try:
                rest = refine(mr, moved_by(ct, found.GetInverse()))
            except RegistrationFailed:  # as in the plane, the other method's result stays
                return found, expected
            return sitk.CompositeTransform([found, rest]), expected

        return refined
    if name == UNREGISTERED:
        return lambda mr, ct: (sitk.Transform(3, sitk.sitkIdentity), np.nan)
    if name == "Centres":
        return _on_each_other
    if name == NETWORKS:
        torch.set_num_threads(1)
        networks: list[CubeNetwork] = [load_model(path, "cubes")[0].to(choose_device()) for path in models]

        def by_networks(mr: sitk.Image, ct: sitk.Image) -> tuple[sitk.Transform, float]:
            found = register_volumes(mr, ct, networks, settings)
            return found.transform, found.distance_mm

        return by_networks
    register = elastix(maps["rigid3d"])
    return lambda mr, ct: (register(mr, ct), np.nan)


def _on_each_other(mr: sitk.Image, ct: sitk.Image) -> tuple[sitk.Transform, float]:
    shift = sitk.TranslationTransform(3)
    shift.SetOffset((ct_middle(ct) - middle_of(mr)).tolist())
    return shift, np.nan


def register_volume_cases(
    perturbations: str | Path,
    volumes: Mapping[str, Mapping[str, str | Path]],
    method: str,
    part: float,
    settings: Volumes,
    models: Sequence[str | Path],
    maps: Mapping[str, str | Path],
    output: str | Path,
) -> None:
    """Register every case of a set by a method and write the table of registrations.

    ``volumes`` has the files ``mr``, ``ct`` and ``truth`` (.tfm, from MR to CT points) of each patient,
    ``part`` is how much of the head is cut off where a case says so. Where the method fails, its case keeps
    the error of the start.
    """
    cases, register, rows = read_table(perturbations), volume_method(method, settings, models, maps), []
    progress = tqdm(total=len(cases), mininterval=15.0, ascii=True)
    for patient, own in cases.groupby("patient", sort=False):
        pairs = cases_of_patient(own, **volumes[str(patient)], cubes=settings.cubes, part=part)
        for row, case in zip(own.itertuples(index=False), pairs, strict=True):
            begun, status = clock(), "registered"
            try:
                found, expected = register(case.mr, case.ct)
            except (RegistrationFailed, ValueError):
                found, expected, status = sitk.Transform(3, sitk.sitkIdentity), np.nan, "failed"
            rows.append(
                {
                    "case": row.case,
                    "patient": patient,
                    "initial_mm": registration_error(sitk.Transform(3, sitk.sitkIdentity), case),
                    "tre_mm": registration_error(found, case),
                    "expected_mm": expected,
                    "seconds": clock() - begun,
                    "status": status,
                }
            )
            progress.update()
    write_table(pd.DataFrame(rows), output)
