"""Register every test case by a trained agent, greedy, with the look-ahead (§3.6) or without memory (§5.1).

Settings: ``inference``.
Inputs: ``perturbations``, ``slices`` (every patient's), ``model``, ``threshold``. Output: ``registrations``.
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
        seed=snakemake.params.seed,
    )
