"""What a predicted distance D is worth: the expected TRE with an interval, and P(TRE ≤ ``SUCCESS_PX``).

A network is surest of what it has learned. So it is asked again: without an agent it registers
augmented pairs of its training patients from fresh perturbations of its own range (``starts``), every second
of which does not belong together. What its D turned out to mean there is kept in the network.
"""

import logging
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from regagent.agent.checkpoints import Finisher, load_finisher, save_model
from regagent.agent.distance import FARTHEST
from regagent.agent.judged import TRUST_KNOTS, Judged
from regagent.agent.matching_network import SliceMatchingNetwork
from regagent.agent.networks import choose_device
from regagent.agent.settling import settle, stay
from regagent.agent.slice_matching import learn_distance
from regagent.agent.starts import Starts, draw_starts
from regagent.evaluation.registrations import SUCCESS_PX
from regagent.files import write_table
from regagent.geometry import compose, displacement
from regagent.pairs.training_pairs import Pairs, Pool, read_pairs
from regagent.settings import Calibration, FinisherSettings, Inference, Matching, regressor_settings

logger = logging.getLogger("regagent")

Array = NDArray[np.float64]

#: Every second pair does not belong together: a probability means nothing without saying of what.
UNLIKE = 0.5

#: A case that is less likely to be right than this is refused, whatever that costs.
LOWEST = 0.05

#: Pairs that are drawn side by side, and give each other their images.
BATCH = 64

#: The parts of the cases that lie below and below the upper end of the interval of the expected TRE.
INTERVAL = (0.05, 0.95)


class Judgement(NamedTuple):
    """What N predicted distances are worth, (N,) each; TRE in px."""

    probability: Array  # of a TRE of at most ``SUCCESS_PX``, where every second pair does not belong together
    expected: Array  # the mean TRE of pairs that do: it says nothing where the probability is low
    low: Array  # ends of the interval in which nine in ten of these lie, where the probability is high
    high: Array


def judge(network: Judged, distance: Array) -> Judgement:
    """Return what distances D (N,) in px, predicted by ``settle``, are worth."""
    return Judgement(*(_at(distance, row) for row in network.trust.double().cpu().numpy()))


def accepted(network: Judged, distance: Array) -> NDArray[np.bool_]:
    """Return for which predicted distances D (N,) in px a case counts as registered."""
    return judge(network, distance).probability >= network.least.item()


def least_probability(of_right: Array, refused: float) -> float:
    """Return below which probability a case is refused: a half, if that does not refuse too many.

    It refuses at most the part ``refused`` of the cases that are right, of these probabilities (N,). It is
    rounded down to hundredths.
    """
    lowest = np.quantile(of_right, refused, method="lower")
    return float(np.clip(np.floor(100 * lowest + 1e-9) / 100, LOWEST, 0.5))


def _at(distance: Array, of_knots: Array, knots: Array = TRUST_KNOTS) -> Array:
    """Return the values at D (N,), given those (K,) at the knots, linear in log D between them."""
    return np.interp(np.log(distance), np.log(knots), of_knots)


def fit(distance: Array, error: Array, like: NDArray[np.bool_]) -> Array:
    """Return the ``trust`` (4, K) of a network from N cases: predicted D and true TRE (N,) in px.

    Cases that are not ``like`` (N,) have no TRE. Probability and expected TRE are monotone in D (isotonic
    regression); no probability comes nearer to 0 or 1 than 1/N. Raises ``ValueError`` if no case is ``like``.
    """
    if not like.any():
        raise ValueError("no pair belongs together: there is no TRE")
    right = like & (error <= SUCCESS_PX)
    surest = 1 / len(distance)
    probability = _monotone(distance, right.astype(float), rising=False).clip(surest, 1 - surest)
    near, error = distance[like], error[like].clip(max=FARTHEST)
    expected = _monotone(near, error, rising=True)
    likely = _at(near, probability) >= 0.5
    ratio = error / _at(near, expected)
    low, high = np.quantile(ratio[likely] if likely.any() else ratio, INTERVAL)
    return np.stack([probability, expected, low * expected, high * expected])


def _monotone(distance: Array, value: Array, rising: bool) -> Array:
    """Return the values (K,) at the ``TRUST_KNOTS`` of the monotone function of D that fits (N,) best."""
    different, place, count = np.unique(distance, return_inverse=True, return_counts=True)
    mean = np.bincount(place, value) / count
    return _at(TRUST_KNOTS, isotonic_regression(mean, weights=count, increasing=rising).x, different)


def to_evaluate(pairs: Pairs, device: torch.device) -> Pool:
    """Return pairs as a training takes them, with their evaluation points in place of the landmarks."""
    return replace(pairs, landmarks=pairs.evaluation_points).tensors(device)


def true_error(starts: Starts, pose: Array) -> Array:
    """Return the TRE (B,) in px of poses (B, 4), NaN where a start's images do not belong together."""
    there = compose(torch.from_numpy(pose).to(starts.perturbation), starts.perturbation)
    return torch.where(starts.like, displacement(there, starts.points), torch.nan).cpu().numpy()


def known_cases(
    network: Finisher,
    pool: Pool,
    settings: FinisherSettings,
    inference: Inference,
    count: int,
    generator: torch.Generator,
) -> pd.DataFrame:
    """Register augmented, freshly perturbed pairs of a pool, every second of which does not belong together.

    Return a row a case: ``like``, the predicted ``distance_px``, and the ``tre_px`` of the pool's points, NaN
    where the images do not belong together.
    """
    tables = []
    for first in range(0, count, BATCH):
        size = min(BATCH, count - first)
        starts = draw_starts(pool, settings.augmentation, settings.starts, size, 1, generator, unlike=UNLIKE)
        pose, distance, _ = settle(network, starts.fixed, starts.moving, stay, inference)
        columns = {"like": starts.like.cpu().numpy(), "distance_px": distance}
        tables.append(pd.DataFrame({**columns, "tre_px": true_error(starts, pose)}))
    return pd.concat(tables, ignore_index=True)


def calibrate_trust(
    slices: list[str],
    split: str,
    model: str,
    settings: Calibration,
    inference: Inference,
    output_model: str,
    output_cases: str,
) -> None:
    """Write a network that looks with what its D is worth, and the cases that tell it."""
    torch.set_num_threads(1)
    network, facts = load_finisher(model)
    device = choose_device()
    network.to(device)
    trained = regressor_settings(facts["settings"])
    assert isinstance(trained, FinisherSettings)
    generator = torch.Generator(device).manual_seed(settings.seed)
    pool = to_evaluate(read_pairs(slices, split, "train"), device)
    if isinstance(network, SliceMatchingNetwork):
        assert isinstance(trained, Matching)
        learn_distance(network, pool, trained, settings.distance_cases, generator)
    cases = known_cases(network, pool, trained, inference, settings.trust_cases, generator)
    learn_trust(network, cases, settings.refused, model)
    write_table(cases, output_cases)
    save_model(network, output_model, **facts)


def learn_trust(network: Judged, cases: pd.DataFrame, refused: float, name: str) -> None:
    """Keep in a network what its D is worth, found on cases as ``known_cases`` gives them.

    The cases get a column ``probability``. ``refused`` is the largest part of those that are right that the
    network may refuse; ``name`` stands in the log.
    """
    network.trust.copy_(
        torch.from_numpy(fit(*(cases[column].to_numpy() for column in ("distance_px", "tre_px", "like"))))
    )
    distance = cases.distance_px.to_numpy()
    cases["probability"] = judge(network, distance).probability
    right = cases.probability[cases.tre_px <= SUCCESS_PX]
    network.least.fill_(least_probability(right.to_numpy(), refused) if len(right) else 0.5)
    taken = cases[accepted(network, distance)]
    logger.info(
        "%s: %d of %d pairs that belong together have a chance of %.2f or more and are taken for registered,"
        " with a mean TRE of %.2f px, and %d of %d others",
        *(name, taken.like.sum(), cases.like.sum(), network.least, taken.tre_px[taken.like].mean()),
        *((~taken.like).sum(), (~cases.like).sum()),
    )
