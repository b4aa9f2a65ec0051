"""The figure of what an agent is trained on: slice pairs as they are drawn, MR beside CT."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from regagent.figures.style import FULL_WIDTH, pack_panels, save, styled
from regagent.pairs.augmentation import draw_pairs
from regagent.pairs.training_pairs import read_pairs
from regagent.settings import Augmentation

#: Pairs along each axis, and the white px around each.
COUNT, GAP = 6, 6
SEED = 0


def draw_training_pairs(
    slices: Sequence[str | Path],
    split: str | Path,
    augmentation: Augmentation,
    style: str | Path,
    outputs: Sequence[str | Path],
) -> None:
    """Draw 6 × 6 random pairs of the training patients, augmented as in a training."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    pool = read_pairs(slices, split, "train").tensors(generator.device)
    mr, ct, _ = draw_pairs(pool, COUNT**2, 1, augmentation, generator)
    pairs = np.pad(torch.cat([mr, ct], 2).numpy(), ((0, 0), (GAP, GAP), (GAP, GAP)), constant_values=1.0)
    height, width = pairs.shape[1:]
    mosaic = pairs.reshape(COUNT, COUNT, height, width).swapaxes(1, 2).reshape(COUNT * height, COUNT * width)
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, FULL_WIDTH * height / width))
        pack_panels(figure)
        axes = figure.subplots()
        axes.imshow(mosaic, vmin=0, vmax=1)
        axes.set_axis_off()
        save(figure, outputs)
