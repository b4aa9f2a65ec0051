"""Draw how often each method succeeds against the error it starts from (§5.3).

Input: style, registrations (registrations/{method}/seed{n}/{set}.csv, any number).
Params: methods (the lines in their order). Output: pdf, png.
"""

from regagent.figures.methods import draw_capture_range
from regagent.jobs import logged

with logged(snakemake.log[0]):
    draw_capture_range(
        registrations=snakemake.input.registrations,
        families=snakemake.params.families,
        style=snakemake.input.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
