"""Draw the success rate of each method against the initial error (§5.3).

Input: style, registrations (registrations/{method}/seed{n}/{set}.csv of all methods). Params: families
(the family of each method, in the order of Table 2). Output: pdf, png.
"""

from regagent.figures.comparisons import draw_capture_range
from regagent.jobs import logged

with logged(snakemake.log[0]):
    draw_capture_range(
        registrations=snakemake.input.registrations,
        families=snakemake.params.families,
        style=snakemake.input.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
