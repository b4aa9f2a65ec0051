"""Draw the progress of every training: success rate of the agents, loss of the regressor (§3.4, §3.5).

Input: style, training (models/{variant}/seed{n}/training.csv, any number). Output: pdf, png.
"""

from regagent.figures.training import draw_training
from regagent.jobs import logged

with logged(snakemake.log[0]):
    draw_training(
        training=snakemake.input.training,
        style=snakemake.input.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
