"""Register every test case by a trained agent, greedy or with the look-ahead (paper §3.6).

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
        seed=snakemake.params.seed,
    )
