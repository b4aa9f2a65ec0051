"""Gather every case of every method in one table (docs/tables.md).

Input: registrations (registrations/{method}/seed{n}/{set}.csv, any number), perturbations
(perturbations/{set}.csv). Output: cases.
"""

from regagent.evaluation.case_table import make_case_table
from regagent.jobs import logged

with logged(snakemake.log[0]):
    make_case_table(
        registrations=snakemake.input.registrations,
        perturbations=snakemake.input.perturbations,
        output=snakemake.output.cases,
    )
