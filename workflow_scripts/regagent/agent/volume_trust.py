"""Networks of space in one file, with what the disagreement that they see is worth (see ``trust``).

They are asked as those of slices are: they register volumes of their training patients that lie any way,
half of them with a field of view that ends in the head. Every second CT does not belong to its MR.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from tqdm import tqdm

from regagent.agent.checkpoints import load_model, save_model
from regagent.agent.cube_registration import DISAGREEMENT, UNIT_MM, TrainedNetworks, register_volumes
from regagent.agent.cube_regressor import UNLIKE
from regagent.agent.networks import SpaceNetworks, choose_device
from regagent.agent.trust import learn_trust
from regagent.evaluation.volume_registrations import Files, by_patient
from regagent.files import UserError, read_table, write_table
from regagent.pairs.cubes import NoHead
from regagent.pairs.perturbations import stream_seed
from regagent.pairs.volume_cases import POSE, VolumeCase, cases_of_patient, draw_motion, registration_error
from regagent.settings import Calibration, Volumes
from regagent.volumes.moving import moved_by
from regagent.volumes.reading import read_volume


def known_cases(trained: TrainedNetworks, known: Mapping[str, Files], count: int, seed: int) -> pd.DataFrame:
    """Register volumes that lie any way, every second CT of which does not belong to its MR.

    ``known`` are the files of each patient. Return a row a case, as ``trust.known_cases`` does, with errors
    in units of ``UNIT_MM``, and disagreements of ``DISAGREEMENT`` in place of distances.
    """
    volumes, patients, rows = trained.volumes, sorted(known), []
    progress = tqdm(total=count, mininterval=15.0, ascii=True)
    for place, patient in enumerate(patients):
        rng = np.random.default_rng(stream_seed(seed, "trust", patient))
        numbers = range(place, count, len(patients))
        motions = [draw_motion(volumes.V3 if number // 2 % 2 else volumes.V2, rng) for number in numbers]
        table, other = pd.DataFrame(motions, columns=[*POSE, "cut"]), patients[place - 1]
        table.insert(0, "patient", patient)
        cases = cases_of_patient(table, *known[patient], volumes.cubes, volumes.V3.cut)
        for number, case in zip(numbers, cases, strict=True):
            # Of the patients' numbers and the rounds', so that a patient's rounds differ.
            like = (number + number // len(patients)) % 2 == 0
            shown = case if like else unlike(case, known[other][1], rng)
            try:
                found = register_volumes(shown.mr, shown.ct, trained)
            except NoHead:
                continue
            error = registration_error(found.transform, case) if like else np.nan
            rows.append((like, found.verdict.disagreement / DISAGREEMENT, error / UNIT_MM))
            progress.update()
    return pd.DataFrame(rows, columns=["like", "distance_px", "tre_px"])


def unlike(case: VolumeCase, other_ct: str | Path, rng: np.random.Generator) -> VolumeCase:
    """Return a case whose volumes do not belong together, of one of the kinds of ``UNLIKE``.

    ``other_ct`` is the CT of another patient.
    """
    kind = rng.choice(len(UNLIKE), p=UNLIKE)
    if kind == 0:
        return case._replace(ct=moved_by(read_volume(other_ct), case.truth))
    if kind == 1:
        mirrored = sitk.GetImageFromArray(sitk.GetArrayFromImage(case.ct)[:, :, ::-1])
        mirrored.CopyInformation(case.ct)
        return case._replace(ct=mirrored)
    if kind == 2:
        return case._replace(
            mr=sitk.Resample(case.ct, case.mr, case.truth, sitk.sitkLinear, -1000.0) + 1000.0
        )
    noise = sitk.GetImageFromArray(rng.random(case.mr.GetSize()[::-1], dtype=np.float32))
    noise.CopyInformation(case.mr)
    return case._replace(mr=noise)


def join_networks(
    files: Iterable[Files],
    split: str | Path,
    models: Sequence[str | Path],
    settings: Calibration,
    volumes: Volumes,
    output_model: str | Path,
    output_cases: str | Path,
) -> None:
    """Write the networks of several model files into one, in their order, with what is known of their errors.

    The last is that of matching. Also write the cases that tell what the disagreement it sees is worth.
    """
    cubes, of_cubes = zip(*(load_model(model, "cubes") for model in models[:-1]), strict=True)
    matching, of_matching = load_model(models[-1], "planes")
    networks = SpaceNetworks([network.arguments for network in cubes], matching.arguments)
    for place, network in zip((*networks.networks, networks.matching), (*cubes, matching), strict=True):
        place.load_state_dict(network.state_dict())
    trained = TrainedNetworks(networks.to(choose_device()).eval(), volumes)
    members = set(read_table(split).query("set == 'train'").patient)
    own = {patient: one for patient, one in by_patient(files).items() if patient in members}
    if len(own) < 2:
        raise UserError(
            f"{split}: {len(own)} training patient, expected two whose volumes do not belong together"
        )
    cases = known_cases(trained, own, settings.trust_cases, settings.seed)
    learn_trust(networks, cases, settings.refused, str(output_model))
    write_table(cases, output_cases)
    save_model(
        networks,
        output_model,
        networks=[*of_cubes, of_matching],
        volumes=volumes.model_dump(mode="json"),
    )
