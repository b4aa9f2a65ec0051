"""Draw Figure 4 of the paper: examples of E2 registered by four methods beside the truth (§4).

Input: style, slices (slices/{patient}.npz of the test patients), perturbations (the set's cases),
registrations (registrations/{method}/seed{n}/{set}.csv, one a method). Params: methods (the columns
after the ground truth, in their order). Output: pdf, png.
"""

from regagent.figures.examples import draw_figure4
from regagent.jobs import logged

with logged(snakemake.log[0]):
    draw_figure4(
        slices=snakemake.input.slices,
        perturbations=snakemake.input.perturbations,
        registrations=snakemake.input.registrations,
        methods=snakemake.params.methods,
        style=snakemake.input.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
