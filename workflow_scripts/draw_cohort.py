"""Draw slices of the first patients of the cohort, MR above aligned CT (paper §4, Dataset).

Input: style, mr (volumes), ct (the volumes pre-registered to them), patient by patient. Output: pdf, png.
"""

from regagent.figures.cohort import draw_cohort
from regagent.jobs import logged

with logged(snakemake.log[0]):
    draw_cohort(
        mr=snakemake.input.mr,
        ct=snakemake.input.ct,
        style=snakemake.input.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
