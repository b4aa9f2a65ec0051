"""Measure the error of every test case before registration, a row of Table 2 (paper §4).

Inputs: ``perturbations``, ``slices`` (every patient's). Output: ``registrations``.
"""

from regagent.conventional.baselines import register_initial
from regagent.jobs import logged

with logged(snakemake.log[0]):
    register_initial(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        output=snakemake.output.registrations,
    )
