"""Register every test case by SimpleITK from the centres of mass, which is not in the paper.

Inputs: ``perturbations``, ``slices`` (every patient's). Output: ``registrations``.
"""

from regagent.conventional.baselines import register_simpleitk
from regagent.jobs import logged

with logged(snakemake.log[0]):
    register_simpleitk(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        output=snakemake.output.registrations,
    )
