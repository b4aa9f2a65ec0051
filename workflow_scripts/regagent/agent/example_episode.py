"""One registration step by step: where the agent went on one test case, and what it valued (§3.6)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regagent.agent.inference import Walk, Way, ready_agent, register
from regagent.agent.networks import AgentNetwork
from regagent.agent.stopping import Thresholds
from regagent.evaluation.measuring import registration_table
from regagent.files import read_table, write_table
from regagent.geometry import IDENTITY, POSE, landmark_distance
from regagent.images import Image
from regagent.jobs import logger
from regagent.pairs.perturbations import perturbed_pairs
from regagent.pairs.slices import read_cohort
from regagent.settings import Inference

#: The other ways than by an action in which a pose is reached.
START, LOOKED_AHEAD = "start", "look-ahead"


def action_names(sizes: Iterable[float]) -> list[str]:
    """Return what each of ``geometry.actions`` does."""
    names = []
    for size in sizes:
        names += [f"{axis} {sign} {size:g} px" for axis in "xy" for sign in "+−"]
        names += [f"turn + {size:g}°", f"turn − {size:g}°"]
        names += [f"scale × {1 + 0.05 * size:g}", f"scale × {1 - 0.05 * size:g}"]
    return names


def walk_case(
    network: AgentNetwork, fixed: Image, moving: Image, threshold: float, settings: Inference, seed: int
) -> pd.DataFrame:
    """Register one moving image (H, H) with look-ahead; return a row a pose.

    Columns: step, the pose, value, reached_by (an action's name, or in the last row the look-ahead). The
    look-ahead's pose has no value.
    """
    rows, reached_by, names = [], [START], action_names(network.action_sizes)

    def note(step: int, walk: Walk, value: NDArray) -> None:
        rows.append((step, *walk.pose[0], value[0], reached_by[-1]))
        reached_by.append(names[int(walk.logits.argmax())])

    ways = [Way(threshold, lookahead=True)]
    (found,) = register(network, fixed[None], moving[None], ways, settings, seed, note)
    rows.append((found.steps[0], *found.pose[0], np.nan, LOOKED_AHEAD))
    return pd.DataFrame(rows, columns=["step", *POSE, "value", "reached_by"])


def walk_episode(
    perturbations: str | Path,
    slices: list[str | Path],
    model: str | Path,
    threshold: str | Path,
    output: str | Path,
    settings: Inference,
    seed: int,
) -> None:
    """Walk the agent on the case whose initial error is the median of its set, and write every pose.

    Beside the columns of ``walk_case``: case, threshold, and the errors in px of each pose, ``landmark_px``
    on the SIFT landmarks (Eq. 4) and ``tre_px`` on the evaluation points.
    """
    network, settings = ready_agent(str(model), settings)
    level = Thresholds.read(threshold).lookahead
    cases, cohort = read_table(perturbations), read_cohort(slices)
    unmoved = np.tile(IDENTITY, (len(cases), 1))
    initial = registration_table(cases, unmoved, cohort, 0, 0.0, "registered")["initial_px"]
    row = int((initial - initial.quantile(0.5)).abs().idxmin())
    case = cases.iloc[[row]]
    (fixed,), (moving,) = perturbed_pairs(case, cohort)
    table = walk_case(network, fixed, moving, level, settings, seed)

    pairs, number = cohort[case["patient"].item()], case["slice"].item()
    pose, perturbation = table[POSE].to_numpy(), case[POSE].to_numpy(dtype=float)
    table.insert(0, "case", case["case"].item())
    table["threshold"] = level
    table["landmark_px"] = landmark_distance(pose, perturbation, pairs.landmarks[number])
    table["tre_px"] = landmark_distance(pose, perturbation, pairs.evaluation_points[number])
    write_table(table, output)
    first, last = table.iloc[0], table.iloc[-1]
    logger.info(
        "case %d: TRE from %.2f to %.2f px in %d steps, then %s",
        *(first["case"], first["tre_px"], last["tre_px"], last["step"], last["reached_by"]),
    )
