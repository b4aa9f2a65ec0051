"""Register every test case by a trained agent whose memory is emptied before every step (paper §5.1).

Settings: ``inference``.
Inputs: ``perturbations``, ``slices`` (every patient's), ``model``, ``threshold``. Output: ``registrations``.
"""

from regagent.agent.cases import register_memoryless
from regagent.jobs import logged
from regagent.settings import Inference

with logged(snakemake.log[0]):
    register_memoryless(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        model=snakemake.input.model,
        threshold=snakemake.input.threshold,
        output=snakemake.output.registrations,
        settings=Inference(**snakemake.params.inference),
    )
