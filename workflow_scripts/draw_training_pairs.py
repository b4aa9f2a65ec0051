"""Draw slice pairs as an agent meets them in its training: 6 × 6 random ones, MR beside CT.

Settings: a variant's ``augmentation``. Input: style, slices (every patient's), split. Output: pdf, png.
"""

from regagent.figures.training_pairs import draw_training_pairs
from regagent.jobs import logged
from regagent.settings import Augmentation

with logged(snakemake.log[0]):
    draw_training_pairs(
        slices=snakemake.input.slices,
        split=snakemake.input.split,
        augmentation=Augmentation(**snakemake.params.augmentation),
        style=snakemake.input.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
