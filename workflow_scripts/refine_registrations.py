"""Refine another method's registrations by a local 2D Elastix, which is not in the paper.

Inputs: ``registrations`` (the other method's), ``perturbations``, ``slices`` (every patient's),
``parameter_map``. Output: ``registrations``.
"""

from regagent.conventional.baselines import refine_registrations
from regagent.jobs import logged

with logged(snakemake.log[0]):
    refine_registrations(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        registrations=snakemake.input.registrations,
        output=snakemake.output.registrations,
        parameter_map=snakemake.input.parameter_map,
    )
