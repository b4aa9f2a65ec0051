"""Draw the error against the stop threshold, from which the threshold of each agent was chosen (§3.6).

Input: style, calibrations (models/{variant}/seed{n}/calibration.csv, any number). Output: pdf, png.
"""

from regagent.figures.training import draw_calibration
from regagent.jobs import logged

with logged(snakemake.log[0]):
    draw_calibration(
        calibrations=snakemake.input.calibrations,
        style=snakemake.input.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
