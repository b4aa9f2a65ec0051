"""Register one test case by a trained agent and record every pose and value (paper §3.6).

Settings: ``inference``.
Inputs: ``perturbations``, ``slices`` (every patient's), ``model``, ``threshold``. Output: ``episode``.
"""

from regagent.agent.example_episode import walk_episode
from regagent.jobs import logged
from regagent.settings import Inference

with logged(snakemake.log[0]):
    walk_episode(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        model=snakemake.input.model,
        threshold=snakemake.input.threshold,
        output=snakemake.output.episode,
        settings=Inference(**snakemake.params.inference),
        seed=snakemake.params.seed,
    )
