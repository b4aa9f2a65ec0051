"""Draw Figure 5 of the paper: steps and cumulative reward per episode during training (§5.1, §5.2).

Input: style, training (models/{variant}/seed{n}/training.csv of RL-LME, CNN-LME and CNN-matrix).
Output: pdf, png (all four panels), panels_pdf, panels_png (lists of four files, panels a to d).
"""

from regagent.figures.training import draw_figure5
from regagent.jobs import logged

with logged(snakemake.log[0]):
    draw_figure5(
        training=snakemake.input.training,
        style=snakemake.input.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
        panels=zip(snakemake.output.panels_pdf, snakemake.output.panels_png, strict=True),
    )
