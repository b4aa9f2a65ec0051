"""Register every test case by a trained agent, in one of the ways that a method's ending names.

Settings: ``inference``.
Inputs: ``perturbations``, ``slices`` (every patient's), ``model``, ``threshold``, and ``residual``, the model
that finishes the agent, or nothing. Output: ``registrations``.
"""

from regagent.agent.inference import register_agent
from regagent.jobs import logged
from regagent.settings import Inference

with logged(snakemake.log[0]):
    register_agent(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        model=snakemake.input.model,
        threshold=snakemake.input.threshold,
        output=snakemake.output.registrations,
        settings=Inference(**snakemake.params.inference),
        lookahead=snakemake.params.lookahead,
        memoryless=snakemake.params.memoryless,
        residual=snakemake.input.residual or None,
        seed=snakemake.params.seed,
    )
