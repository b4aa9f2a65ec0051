"""Pure SL, which gives the transform in one shot (§4), and the training of every regressor."""

import logging
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from regagent.agent.checkpoints import fingerprint, load_finisher, load_model, save_model
from regagent.agent.cube_regressor import CubeLearner, CubeResiduals
from regagent.agent.environment import observe
from regagent.agent.matching import Matches
from regagent.agent.networks import RegressionNetwork, choose_device, precision, to_blocks, to_states
from regagent.agent.record import TrainingRecord
from regagent.agent.residual import Residuals
from regagent.agent.settling import register_alone
from regagent.agent.slice_matching import SliceMatches
from regagent.agent.trust import accepted
from regagent.evaluation.measuring import registration_table
from regagent.files import UserError, read_table, write_table
from regagent.geometry import invert
from regagent.images import Image
from regagent.jobs import clock
from regagent.pairs.augmentation import draw_pairs
from regagent.pairs.perturbations import Images, perturbed_pairs, sample_perturbations
from regagent.pairs.slices import read_cohort
from regagent.pairs.training_pairs import CubePairs, Pairs, read_cubes, read_pairs
from regagent.settings import (
    CubeRegressor,
    CubeSettings,
    Inference,
    Matching,
    PerturbationRange,
    PlaneMatching,
    Regressor,
    RegressorSettings,
    ResidualRegressor,
)

logger = logging.getLogger("regagent")

#: The record of a training has a row for so many steps.
ROW_STEPS = 100
COLUMNS = ("step", "seconds", "loss")  # the loss is their mean

#: Cases of a batch that share one augmented pair.
CASES_PER_PAIR = 4


class OneShot:
    """What pure SL learns: the pose of freshly perturbed, augmented pairs, from one look."""

    clip = math.inf

    def __init__(
        self, pairs: Pairs, ranges: PerturbationRange, settings: Regressor, generator: torch.Generator
    ):
        self.ranges, self.settings, self.generator = ranges, settings, generator
        self.pool = pairs.tensors(generator.device)
        self.network = RegressionNetwork(pairs.size).to(generator.device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, settings.steps)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return states (B, 32, H/4, H/4) and their true parameters (B, 4)."""
        generator, count = self.generator, self.settings.batch
        fixed, aligned, _ = draw_pairs(
            self.pool, count, CASES_PER_PAIR, self.settings.augmentation, generator
        )
        uniform = torch.rand(count, 4, generator=generator, device=generator.device, dtype=torch.float64)
        perturbation = sample_perturbations(uniform, self.ranges)
        target = invert(perturbation)
        target[:, 3] = target[:, 3].log()
        return observe(to_blocks(fixed), aligned, perturbation), target.float()

    def loss(self) -> Tensor:
        """Return the mean squared error of the four parameters of a batch, each in units of the network."""
        states, target = self.draw()
        units = self.network.units
        return F.mse_loss(self.network(states) / units, target / units)


def _task(
    pairs: Pairs | CubePairs,
    ranges: PerturbationRange,
    settings: RegressorSettings,
    generator: torch.Generator,
) -> OneShot | Residuals | SliceMatches | CubeLearner:
    """Return what a regressor learns, at its random start."""
    if isinstance(pairs, CubePairs):
        if isinstance(settings, PlaneMatching):
            return Matches(pairs, settings, generator)
        assert isinstance(settings, CubeRegressor)
        return CubeResiduals(pairs, settings, generator)
    if isinstance(settings, Regressor):
        return OneShot(pairs, ranges, settings, generator)
    if isinstance(settings, Matching):
        return SliceMatches(pairs, settings, generator)
    assert isinstance(settings, ResidualRegressor)
    return Residuals(pairs, settings, generator)


def train_regressor(
    slices: list[str],
    split: str,
    ranges: PerturbationRange,
    settings: RegressorSettings,
    seed: int,
    variant: str,
    state: str,
    version: str,
    output_model: str,
    output_training: str,
) -> None:
    """Train a regressor on the training patients' slices or cubes; write its model file and its losses.

    The folder ``state`` holds the growing record, its curves and its checkpoints (see ``TrainingRecord``). A
    training that was killed goes on from the last checkpoint, if the ``version`` of the code is still the
    same; one that ended leaves none. Raises ``UserError`` if the gradient is not finite.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    pairs: Pairs | CubePairs
    if isinstance(settings, CubeSettings):
        pairs = read_cubes(slices, split, "train")
    else:
        pairs = read_pairs(slices, split, "train")
    device = choose_device()
    kind = precision(device.type)
    logger.info("%s: %d pairs on %s, convolutions in %s", variant, len(pairs), device, kind)
    generator = torch.Generator(device)
    task = _task(pairs, ranges, settings, generator)
    mark = fingerprint(pairs, device, version, settings.model_dump(), ranges.model_dump(), seed)
    parts: dict[str, Any] = {name: getattr(task, name) for name in ("network", "optimiser", "schedule")}
    record = TrainingRecord(state, mark, variant, settings.steps, settings.checkpoint_seconds, COLUMNS)
    losses: list[float] = []  # of the row that is not yet full
    if record.saved:
        losses = record.saved["losses"]
        for name, part in parts.items():
            part.load_state_dict(record.saved[name])

    for step in range(record.step, settings.steps):
        generator.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
        loss = task.loss()
        task.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(task.network.parameters(), task.clip)
        # Both in one tensor, as an accelerator is waited for once then.
        loss_value, norm_value = torch.stack([loss.detach(), norm]).tolist()
        if not np.isfinite(norm_value):
            raise UserError(
                f"{variant}: the gradient is not finite (loss {loss_value:.4g}) at step {step};"
                " try a smaller learning_rate"
            )
        rate = float(task.schedule.get_last_lr()[0])
        task.optimiser.step()
        task.schedule.step()

        losses.append(loss_value)
        rows, done = [], step + 1
        if done % ROW_STEPS == 0 or done == settings.steps:
            rows = [{"step": done, "loss": float(np.mean(losses))}]
            losses.clear()
        record.add(done, rows, {"loss": loss_value, "gradient norm": norm_value, "learning rate": rate})
        if record.checkpoint_is_due():
            record.save(losses=losses, **{name: part.state_dict() for name, part in parts.items()})

    save_model(task.network, output_model, variant=variant, seed=seed, settings=settings.model_dump())
    record.finish(output_training)


@torch.no_grad()
def regress(
    network: RegressionNetwork, fixed: Image | Images, moving: Image | Images, batch: int = 64
) -> np.ndarray:
    """Return the poses (N, 4) of pairs of images (N, H, H), found in one shot."""
    device = network.units.device
    poses = []
    for first in range(0, len(fixed), batch):
        part = slice(first, first + batch)
        images = (torch.from_numpy(images[part]).to(device) for images in (moving, fixed))
        poses.append(network(to_states(*map(to_blocks, images))).double().cpu().numpy())
    pose = np.concatenate(poses)
    pose[:, 3] = np.exp(pose[:, 3])
    return pose


def register_regressor(
    perturbations: str, slices: list[str], model: str, learner: str, settings: Inference, output: str
) -> None:
    """Register every case and write the table of registrations.

    Pure SL (``learner`` 'regression') does it in one shot, and every case counts as registered. A network
    that looks settles from several starts; a case counts where it is likely enough to be right (see
    ``accepted``).
    """
    torch.set_num_threads(1)
    cases, cohort = read_table(perturbations), read_cohort(slices)
    fixed, moving = perturbed_pairs(cases, cohort)
    steps: int | NDArray
    status: str | NDArray
    if learner == "regression":
        network = load_model(model, "regression")[0].to(choose_device())
        started = clock()
        pose, steps, status = regress(network, fixed, moving), 1, "registered"
    else:
        looking = load_finisher(model)[0].to(choose_device())
        started = clock()
        pose, distance, steps = register_alone(looking, fixed, moving, settings)
        status = np.where(accepted(looking, distance), "registered", "refused")
    seconds = (clock() - started) / len(cases)
    write_table(registration_table(cases, pose, cohort, steps, seconds, status), output)
