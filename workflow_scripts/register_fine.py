"""Register every test case by a trained agent that another network finishes.

Settings: ``inference``.
Inputs: ``perturbations``, ``slices`` (every patient's), ``model``, ``threshold``, and ``finisher``, the model
of the other network. Output: ``registrations``.
"""

from regagent.agent.cases import register_fine
from regagent.jobs import logged
from regagent.settings import Inference

with logged(snakemake.log[0]):
    register_fine(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        model=snakemake.input.model,
        threshold=snakemake.input.threshold,
        finisher=snakemake.input.finisher,
        output=snakemake.output.registrations,
        settings=Inference(**snakemake.params.inference),
    )
