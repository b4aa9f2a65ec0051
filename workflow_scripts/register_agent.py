"""Register every test case by a trained agent, by greedy steps alone and with the look-ahead (paper §3.6).

Settings: ``inference``.
Inputs: ``perturbations``, ``slices`` (every patient's), ``model``, ``threshold``. Outputs: ``greedy`` and
``lookahead``, the registrations of the two ways, which share one walk.
"""

from regagent.agent.cases import register_agent
from regagent.jobs import logged
from regagent.settings import Inference

with logged(snakemake.log[0]):
    register_agent(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        model=snakemake.input.model,
        threshold=snakemake.input.threshold,
        output_greedy=snakemake.output.greedy,
        output_lookahead=snakemake.output.lookahead,
        settings=Inference(**snakemake.params.inference),
        seed=snakemake.params.seed,
    )
