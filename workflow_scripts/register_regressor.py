"""Register every test case by pure SL (paper §4).

Inputs: ``perturbations``, ``slices`` (every patient's), ``model``. Output: ``registrations``.
"""

from regagent.agent.regression import register_regressor
from regagent.jobs import logged

with logged(snakemake.log[0]):
    register_regressor(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        model=snakemake.input.model,
        output=snakemake.output.registrations,
    )
