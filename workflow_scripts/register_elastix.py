"""Register every test case by 2D Elastix (paper §4, Table 2).

Inputs: ``perturbations``, ``slices`` (every patient's), ``parameter_map``. Output: ``registrations``.
"""

from regagent.conventional.baselines import register_elastix
from regagent.jobs import logged

with logged(snakemake.log[0]):
    register_elastix(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        parameter_map=snakemake.input.parameter_map,
        output=snakemake.output.registrations,
    )
