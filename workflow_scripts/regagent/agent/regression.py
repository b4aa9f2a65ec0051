"""Pure SL: a network that gives the transform in one shot (§4)."""

import logging
import time

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regagent.agent.checkpoints import (
    fingerprint,
    forget_state,
    load_model,
    load_state,
    save_model,
    save_state,
)
from regagent.agent.environment import observe
from regagent.agent.networks import RegressionNetwork, choose_device, precision, to_blocks, to_states
from regagent.evaluation.registrations import registration_table
from regagent.files import UserError, read_table, write_table
from regagent.geometry import invert
from regagent.images import Image
from regagent.jobs import clock
from regagent.pairs.augmentation import augment_pairs
from regagent.pairs.perturbations import Images, perturbed_pairs, sample_perturbations
from regagent.pairs.slices import read_cohort
from regagent.pairs.training_pairs import Pairs, read_pairs
from regagent.settings import PerturbationRange, Regressor

logger = logging.getLogger("regagent")


#: Cases of a batch that share one augmented pair.
CASES_PER_PAIR = 4


class _Cases:
    """Freshly perturbed, augmented pairs, on the device of the generator."""

    def __init__(
        self, pairs: Pairs, ranges: PerturbationRange, settings: Regressor, generator: torch.Generator
    ):
        self.ranges, self.settings, self.generator = ranges, settings, generator
        self.pool = pairs.tensors(generator.device)

    def draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return the states (B, 32, H/4, H/4) and true parameters (B, 4) of the batch that the seed gives."""
        generator, count = self.generator.manual_seed(seed), self.settings.batch
        device = generator.device
        drawn = torch.randint(
            len(self.pool[0]), (-(-count // CASES_PER_PAIR),), generator=generator, device=device
        )
        varied = augment_pairs(*(array[drawn] for array in self.pool), self.settings.augmentation, generator)
        fixed, aligned = (images.repeat_interleave(CASES_PER_PAIR, 0)[:count] for images in varied[:2])
        uniform = torch.rand(count, 4, generator=generator, device=device, dtype=torch.float64)
        perturbation = sample_perturbations(uniform, self.ranges)
        truth = invert(perturbation)
        truth[:, 3] = truth[:, 3].log()
        return observe(to_blocks(fixed), aligned, perturbation), truth.float()


def train_regressor(
    slices: list[str],
    split: str,
    ranges: PerturbationRange,
    settings: Regressor,
    seed: int,
    variant: str,
    state: str,
    version: str,
    output_model: str,
    output_training: str,
    threads: int = 1,
) -> None:
    """Train pure SL on the training patients; write its model file and its losses.

    The loss is the mean squared error of the four parameters, each in units of the network. A training that
    was killed goes on from the checkpoint in the folder ``state``, if the
    ``version`` of the code is still the same; one that ended leaves none.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    pairs = read_pairs(slices, split, "train")
    device = choose_device()
    kind = precision(device.type)
    logger.info("%s: %d pairs on %s, convolutions in %s", variant, len(pairs), device, kind)
    network = RegressionNetwork(pairs.size).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    mark = fingerprint(pairs, device, version, settings.model_dump(), ranges.model_dump(), seed)
    cases = _Cases(pairs, ranges, settings, torch.Generator(device))
    parts = {"network": network, "optimiser": optimiser, "schedule": schedule}
    records, first, spent = [], 0, 0.0
    recent: list[float] = []
    saved = load_state(state, mark)
    if saved:
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        records, first, spent = saved["records"], saved["step"], saved["seconds"]
        recent = saved["recent"]
        logger.info("%s: goes on from step %d", variant, first)
    started = last_saved = time.monotonic()
    clock_started = clock()
    for step in range(first, settings.steps):
        states, target = cases.draw(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
        predicted = network(states)
        loss = F.mse_loss(predicted / network.units, target / network.units)
        optimiser.zero_grad()
        loss.backward()
        if not torch.isfinite(nn.utils.get_total_norm(p.grad for p in network.parameters())):
            raise UserError(
                f"{variant}: the gradient is not finite (loss {loss.item():.4g}) at step {step};"
                " try a smaller learning_rate"
            )
        optimiser.step()
        schedule.step()
        recent.append(loss.item())
        now = time.monotonic()
        if (step + 1) % 100 == 0 or step + 1 == settings.steps:
            records.append(
                {
                    "step": step + 1,
                    "seconds": round(spent + clock() - clock_started, 2),
                    "loss": np.mean(recent),
                }
            )
            recent.clear()
        if (step + 1) % 500 == 0:
            rate = (step + 1 - first) / (now - started)
            logger.info(
                "%s: step %d of %d, %.1f steps/s, loss %.4f, %.0f s left",
                *(
                    variant,
                    step + 1,
                    settings.steps,
                    rate,
                    records[-1]["loss"],
                    (settings.steps - step) / rate,
                ),
            )
        if now - last_saved > settings.checkpoint_seconds:
            contents = {name: part.state_dict() for name, part in parts.items()}
            seconds = spent + clock() - clock_started
            save_state(
                state,
                {
                    "fingerprint": mark,
                    "records": records,
                    "recent": recent,
                    "step": step + 1,
                    "seconds": seconds,
                    **contents,
                },
            )
            last_saved = now
    write_table(pd.DataFrame(records, columns=["step", "seconds", "loss"]), output_training)
    save_model(network, output_model, variant=variant, seed=seed, settings=settings.model_dump())
    forget_state(state)


@torch.no_grad()
def regress(
    network: RegressionNetwork, fixed: Image | Images, moving: Image | Images, batch: int = 64
) -> np.ndarray:
    """Return the poses (N, 4) of pairs of images (N, H, H)."""
    device = network.units.device
    poses = []
    for first in range(0, len(fixed), batch):
        part = slice(first, first + batch)
        blocks = (to_blocks(torch.from_numpy(images[part]).to(device)) for images in (moving, fixed))
        poses.append(network(to_states(*blocks)).double().cpu())
    pose = torch.cat(poses).numpy()
    pose[:, 3] = np.exp(pose[:, 3])
    return pose


def register_regressor(perturbations: str, slices: list[str], model: str, output: str) -> None:
    """Register every case in one shot and write the table of registrations."""
    torch.set_num_threads(1)
    network, _ = load_model(model, "regression")
    network.to(choose_device())
    cases, cohort = read_table(perturbations), read_cohort(slices)
    fixed, moving = perturbed_pairs(cases, cohort)
    started = clock()
    pose = regress(network, fixed, moving)
    seconds = (clock() - started) / len(cases)
    write_table(registration_table(cases, pose, cohort, 1, seconds, "registered"), output)
