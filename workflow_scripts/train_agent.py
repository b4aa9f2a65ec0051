"""Train an agent by advantage actor-critic, or on the best action of each step (paper §3.4, §3.5).

Settings: one entry of ``variants`` and the range ``perturbations.E1``.
Inputs: ``slices`` (every patient's), ``split``. Outputs: ``model``, ``training``.
"""

from regagent.agent.a3c import train_agent
from regagent.jobs import logged
from regagent.settings import PerturbationRange, agent_settings

with logged(snakemake.log[0]):
    train_agent(
        slices=snakemake.input.slices,
        split=snakemake.input.split,
        ranges=PerturbationRange(**snakemake.params.ranges),
        settings=agent_settings(snakemake.params.settings),
        seed=snakemake.params.seed,
        variant=snakemake.wildcards.variant,
        state=snakemake.params.state,
        version=snakemake.params.code,
        output_model=snakemake.output.model,
        output_training=snakemake.output.training,
    )
