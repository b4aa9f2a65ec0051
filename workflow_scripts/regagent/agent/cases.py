"""The jobs that register every test case by a trained agent, in each of the ways that Table 2 shows."""

import logging
from collections.abc import Callable

import numpy as np

from regagent.agent.checkpoints import load_finisher
from regagent.agent.inference import Registrations, Way, ready_agent, register, register_finely
from regagent.agent.networks import choose_device
from regagent.agent.stopping import Thresholds
from regagent.evaluation.measuring import registration_table
from regagent.evaluation.registrations import summarise
from regagent.files import read_table, write_table
from regagent.pairs.perturbations import Images, perturbed_pairs
from regagent.pairs.slices import read_cohort
from regagent.settings import Inference

logger = logging.getLogger("regagent")


def register_agent(
    perturbations: str,
    slices: list[str],
    model: str,
    threshold: str,
    output_greedy: str,
    output_lookahead: str,
    settings: Inference,
    seed: int,
) -> None:
    """Register every case by greedy steps and, on the same walk, with the look-ahead; write both tables."""
    (network, settings), levels = ready_agent(model, settings), Thresholds.read(threshold)
    ways = [Way(levels.greedy), Way(levels.lookahead, lookahead=True)]
    _register_cases(
        perturbations, slices, [output_greedy, output_lookahead],
        lambda fixed, moving: register(network, fixed, moving, ways, settings, seed),
    )  # fmt: skip


def register_memoryless(
    perturbations: str, slices: list[str], model: str, threshold: str, output: str, settings: Inference
) -> None:
    """Register every case by greedy steps with the memory emptied before each; write the table."""
    (network, settings), ways = ready_agent(model, settings), [Way(Thresholds.read(threshold).greedy)]
    _register_cases(
        perturbations, slices, [output],
        lambda fixed, moving: register(network, fixed, moving, ways, settings, memoryless=True),
    )  # fmt: skip


def register_fine(
    perturbations: str,
    slices: list[str],
    model: str,
    threshold: str,
    finisher: str,
    output: str,
    settings: Inference,
) -> None:
    """Register every case by an agent that the network in ``finisher`` finishes; write the table."""
    (network, settings), level = ready_agent(model, settings), Thresholds.read(threshold).lookahead
    finishing = load_finisher(finisher)[0].to(choose_device())
    _register_cases(
        perturbations, slices, [output],
        lambda fixed, moving: [register_finely(network, finishing, fixed, moving, level, settings)],
    )  # fmt: skip


def _register_cases(
    perturbations: str,
    slices: list[str],
    outputs: list[str],
    work: Callable[[Images, Images], list[Registrations]],
) -> None:
    """Write the tables of what ``work`` makes of the fixed and the moving images of all cases."""
    cases, cohort = read_table(perturbations), read_cohort(slices)
    for found, output in zip(work(*perturbed_pairs(cases, cohort)), outputs, strict=True):
        status = np.where(found.stopped, "registered", "refused")
        table = registration_table(cases, found.pose, cohort, found.steps, found.seconds, status)
        write_table(table, output)
        summary = summarise(table)
        logger.info(
            "%s, %d cases: TRE %.2f ± %.2f px, median %.2f, 90th percentile %.2f; %d refused",
            output,
            *(summary[name] for name in ("n", "mean", "std", "p50", "p90")),
            (~found.stopped).sum(),
        )
