"""Register every test case by pure SL (paper §4) or by a network that looks.

Settings: ``inference``. Params: ``learner``, which of the two it is.
Inputs: ``perturbations``, ``slices`` (every patient's), ``model``. Output: ``registrations``.
"""

from regagent.agent.regression import register_regressor
from regagent.jobs import logged
from regagent.settings import Inference

with logged(snakemake.log[0]):
    register_regressor(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        model=snakemake.input.model,
        learner=snakemake.params.learner,
        settings=Inference(**snakemake.params.inference),
        output=snakemake.output.registrations,
    )
