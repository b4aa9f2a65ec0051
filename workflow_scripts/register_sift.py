"""Register every test case by SIFT matches (paper §4, Table 2).

Settings: ``baselines``.
Inputs: ``perturbations``, ``slices`` (every patient's). Output: ``registrations``.
"""

from regagent.conventional.baselines import register_sift
from regagent.jobs import logged
from regagent.settings import Baselines

with logged(snakemake.log[0]):
    register_sift(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        output=snakemake.output.registrations,
        settings=Baselines(**snakemake.params.settings),
    )
