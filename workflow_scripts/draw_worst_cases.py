"""Draw the cases of E2 with the largest errors of the paper's method, as Figure 4 draws its examples.

Input: style, slices (slices/{patient}.npz of the test patients), perturbations (the set's cases),
registrations (registrations/{method}/seed{n}/{set}.csv, one a method). Params: methods (the columns
after the ground truth, in their order), judged (the method whose worst cases these are). Output: pdf, png.
"""

from regagent.figures.examples import draw_worst_cases
from regagent.jobs import logged

with logged(snakemake.log[0]):
    draw_worst_cases(
        slices=snakemake.input.slices,
        perturbations=snakemake.input.perturbations,
        registrations=snakemake.input.registrations,
        methods=snakemake.params.methods,
        judged=snakemake.params.judged,
        style=snakemake.input.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
