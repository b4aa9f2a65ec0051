"""Register every test case by a global search for the highest mutual information, which is not in the paper.

Settings: ``baselines.search``.
Inputs: ``perturbations``, ``slices`` (every patient's). Output: ``registrations``.
"""

from regagent.conventional.baselines import register_search
from regagent.jobs import logged
from regagent.settings import Search

with logged(snakemake.log[0]):
    register_search(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        output=snakemake.output.registrations,
        settings=Search(**snakemake.params.settings),
    )
