"""Tabulate and draw the quality of the 3D pre-registration of all patients (§4).

Input: style, quality (preregistered/{patient}/quality.json, any number). Output: table, pdf, png.
"""

from regagent.figures.examples import summarise_preregistration
from regagent.jobs import logged

with logged(snakemake.log[0]):
    summarise_preregistration(
        quality=snakemake.input.quality,
        style=snakemake.input.style,
        table=snakemake.output.table,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
