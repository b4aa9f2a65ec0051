"""Draw the success rate of some methods against the rotation of the start.

Settings: ``wide_methods`` and ``perturbations.wide``. Input: style, perturbations (of the set wide),
registrations (registrations/{method}/seed{n}/wide.csv). Params: families (the family of each method).
Output: pdf, png.
"""

from regagent.figures.comparisons import draw_rotation_range
from regagent.jobs import logged

with logged(snakemake.log[0]):
    draw_rotation_range(
        registrations=snakemake.input.registrations,
        perturbations=snakemake.input.perturbations,
        families=snakemake.params.families,
        style=snakemake.input.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
