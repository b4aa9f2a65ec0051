"""Pure SL: a network that gives the transform in one shot (§4), or in a few, each from where the last led."""

import logging
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regagent.agent.checkpoints import fingerprint, load_model, save_model
from regagent.agent.environment import observe
from regagent.agent.networks import RegressionNetwork, choose_device, precision, to_blocks, to_states
from regagent.agent.record import TrainingRecord
from regagent.evaluation.registrations import registration_table
from regagent.files import UserError, read_table, write_table
from regagent.geometry import compose, invert
from regagent.images import Image, warp_images
from regagent.jobs import clock
from regagent.pairs.augmentation import augment_pairs
from regagent.pairs.perturbations import Images, perturbed_pairs, poses_on_the_way, sample_perturbations
from regagent.pairs.slices import read_cohort
from regagent.pairs.training_pairs import Pairs, read_pairs
from regagent.settings import PerturbationRange, Regressor

logger = logging.getLogger("regagent")

#: The record of a training has a row for so many steps.
ROW_STEPS = 100
COLUMNS = ("step", "seconds", "loss")  # the loss is their mean

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
        mr, ct, points = (array[drawn] for array in self.pool)
        mr, ct, _ = augment_pairs(mr, ct, points, self.settings.augmentation, generator)
        fixed, aligned = (images.repeat_interleave(CASES_PER_PAIR, 0)[:count] for images in (mr, ct))
        uniform = torch.rand(count, 4, generator=generator, device=device, dtype=torch.float64)
        perturbation = sample_perturbations(uniform, self.ranges)
        moving, pose, target = aligned, perturbation, invert(perturbation)
        if self.settings.exploring_starts:
            # What a later shot sees: the perturbed image, at a pose on the way to the truth.
            draws = (
                torch.rand(count, n, generator=generator, device=device, dtype=target.dtype) for n in (1, 4)
            )
            moving = warp_images(aligned, perturbation)
            pose = poses_on_the_way(perturbation, self.settings.exploring_starts, *draws)
            target = compose(target, invert(pose))
        target[:, 3] = target[:, 3].log()
        return observe(to_blocks(fixed), moving, pose), target.float()


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

    The loss is the mean squared error of the four parameters, each in units of the network. The folder
    ``state`` holds the growing record, its curves and its checkpoints (see ``TrainingRecord``). A training
    that was killed goes on from the last checkpoint, if the ``version`` of the code is still the same; one
    that ended leaves none. Raises ``UserError`` if the gradient is not finite.
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
    parts: dict[str, Any] = {"network": network, "optimiser": optimiser, "schedule": schedule}
    record = TrainingRecord(state, mark, variant, settings.steps, settings.checkpoint_seconds, COLUMNS)
    losses: list[float] = []  # of the row that is not yet full
    if record.saved:
        losses = record.saved["losses"]
        for name, part in parts.items():
            part.load_state_dict(record.saved[name])

    for step in range(record.step, settings.steps):
        states, target = cases.draw(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
        predicted = network(states)
        loss = F.mse_loss(predicted / network.units, target / network.units)
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.get_total_norm(p.grad for p in network.parameters() if p.grad is not None)
        # Both in one tensor, as an accelerator is waited for once then.
        loss_value, norm_value = torch.stack([loss.detach(), norm]).tolist()
        if not np.isfinite(norm_value):
            raise UserError(
                f"{variant}: the gradient is not finite (loss {loss_value:.4g}) at step {step};"
                " try a smaller learning_rate"
            )
        rate = float(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()

        losses.append(loss_value)
        rows, done = [], step + 1
        if done % ROW_STEPS == 0 or done == settings.steps:
            rows = [{"step": done, "loss": float(np.mean(losses))}]
            losses.clear()
        record.add(done, rows, {"loss": loss_value, "gradient norm": norm_value, "learning rate": rate})
        if record.checkpoint_is_due():
            record.save(losses=losses, **{name: part.state_dict() for name, part in parts.items()})

    save_model(network, output_model, variant=variant, seed=seed, settings=settings.model_dump())
    record.finish(output_training)


@torch.no_grad()
def regress(
    network: RegressionNetwork,
    fixed: Image | Images,
    moving: Image | Images,
    iterations: int = 1,
    batch: int = 64,
) -> np.ndarray:
    """Return the poses (N, 4) of pairs of images (N, H, H), found in so many shots."""
    device = network.units.device
    poses = []
    for first in range(0, len(fixed), batch):
        part = slice(first, first + batch)
        moved, still = (torch.from_numpy(images[part]).to(device) for images in (moving, fixed))
        blocks = to_blocks(still)
        pose = _shot(network, to_states(to_blocks(moved), blocks))
        for _ in range(iterations - 1):
            states = observe(blocks, moved, torch.as_tensor(pose, device=device))
            pose = compose(_shot(network, states), pose)
        poses.append(pose)
    return np.concatenate(poses)


def _shot(network: RegressionNetwork, states: Tensor) -> np.ndarray:
    """Return the poses (B, 4) that the network gives of states."""
    pose = network(states).double().cpu().numpy()
    pose[:, 3] = np.exp(pose[:, 3])
    return pose


def register_regressor(perturbations: str, slices: list[str], model: str, output: str) -> None:
    """Register every case in the ``iterations`` of its settings, and write the table of registrations."""
    torch.set_num_threads(1)
    network, facts = load_model(model, "regression")
    iterations = facts["settings"]["iterations"]
    network.to(choose_device())
    cases, cohort = read_table(perturbations), read_cohort(slices)
    fixed, moving = perturbed_pairs(cases, cohort)
    started = clock()
    pose = regress(network, fixed, moving, iterations)
    seconds = (clock() - started) / len(cases)
    write_table(registration_table(cases, pose, cohort, iterations, seconds, "registered"), output)
