"""Train pure SL, the one-shot regression of the transform (paper §4), or a residual regressor, of space too.

Settings: one entry of ``variants`` and the range ``perturbations.E1``. Inputs: ``slices`` (every patient's,
or cubes for a regressor of space), ``split``. Outputs: ``model``, ``training``.
"""

from regagent.agent.regression import train_regressor
from regagent.jobs import logged
from regagent.settings import PerturbationRange, regressor_settings

with logged(snakemake.log[0]):
    train_regressor(
        slices=snakemake.input.slices,
        split=snakemake.input.split,
        ranges=PerturbationRange(**snakemake.params.ranges),
        settings=regressor_settings(snakemake.params.settings),
        seed=snakemake.params.seed,
        variant=snakemake.wildcards.variant,
        state=snakemake.params.state,
        version=snakemake.params.code,
        output_model=snakemake.output.model,
        output_training=snakemake.output.training,
    )
