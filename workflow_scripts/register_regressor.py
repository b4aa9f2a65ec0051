"""Register every test case by pure SL (paper §4).

Inputs: ``perturbations``, ``slices`` (every patient's), ``model``. Output: ``registrations``.
"""

from regagent.files import logged
from regagent.regression import register_regressor

with logged(snakemake.log[0]):
    register_regressor(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        model=snakemake.input.model,
        output=snakemake.output.registrations,
    )
