"""Networks of space in one file, with what the D that they predict is worth (see ``trust``).

They are asked as those of slices are: they register augmented pairs of their training patients that lie any
way, every second of which does not belong together.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from regagent.agent.checkpoints import load_model, save_model
from regagent.agent.cube_registration import UNIT_MM, in_order
from regagent.agent.cube_regressor import STARTS_PER_PAIR, CubeResiduals, settle
from regagent.agent.networks import SpaceNetworks, choose_device
from regagent.agent.trust import UNLIKE, learn_trust
from regagent.files import write_table
from regagent.pairs.cube_augmentation import move_cubes
from regagent.pairs.rigid import compose, displacement, invert
from regagent.pairs.training_pairs import CubePairs, read_cubes
from regagent.settings import Calibration, CubeRegressor, Volumes, regressor_settings

#: A head may lie any way, and about so far from the middle of a cube that was cut about it, in mm.
ANY_WAY = {"near": 0.0, "rotation_deg": 180.0, "translation_mm": 20.0}


def known_cases(
    networks: SpaceNetworks,
    pairs: CubePairs,
    settings: CubeRegressor,
    volumes: Volumes,
    count: int,
    generator: torch.Generator,
) -> pd.DataFrame:
    """Register augmented pairs that lie any way, every second of which does not belong together.

    Return a row a case, as ``trust.known_cases`` does, with lengths in units of ``UNIT_MM``.
    """
    several = 8 * STARTS_PER_PAIR  # pairs side by side give each other their cubes
    changes = {"shrink": 1, "unlike": UNLIKE, "batch": several, **ANY_WAY}
    task = CubeResiduals(pairs, settings.model_copy(update=changes), generator)
    width, rows = pairs.spacing_mm, []
    with torch.no_grad():
        for number in tqdm(range(count), mininterval=15.0, ascii=True):
            row = number % (several // STARTS_PER_PAIR) * STARTS_PER_PAIR
            if not row:
                starts = task.draw()
            seen = compose(starts.error, starts.place)[row]
            moving = move_cubes(starts.moving[row : row + 1], seen[None], width)[0]
            found, distance, _ = settle(
                in_order(networks), starts.fixed[row], moving, volumes.looks, volumes.kept
            )
            pose = compose(torch.from_numpy(found[0]).to(seen), seen)
            error = float(displacement(compose(pose, invert(starts.place[row])), starts.points[row]))
            like = bool(starts.like[row])
            rows.append((like, distance[0] / UNIT_MM, error / UNIT_MM if like else np.nan))
    return pd.DataFrame(rows, columns=["like", "distance_px", "tre_px"])


def join_networks(
    cubes: Sequence[str],
    split: str,
    models: Sequence[str | Path],
    settings: Calibration,
    volumes: Volumes,
    output_model: str | Path,
    output_cases: str | Path,
) -> None:
    """Write the networks of several model files into one, in their order, with what their D is worth.

    Also write the cases that tell it.
    """
    torch.set_num_threads(1)
    alone, facts = zip(*(load_model(model, "cubes") for model in models), strict=True)
    networks = SpaceNetworks([network.arguments for network in alone])
    for place, network in zip(networks.networks, alone, strict=True):
        place.load_state_dict(network.state_dict())
    device = choose_device()
    networks.to(device).eval()
    trained = regressor_settings(facts[0]["settings"])
    assert isinstance(trained, CubeRegressor)
    generator = torch.Generator(device).manual_seed(settings.seed)
    pairs = read_cubes(cubes, split, "train")
    cases = known_cases(networks, pairs, trained, volumes, settings.trust_cases, generator)
    learn_trust(networks, cases, settings.refused, str(output_model))
    write_table(cases, output_cases)
    save_model(networks, output_model, networks=list(facts), volumes=volumes.model_dump(mode="json"))
