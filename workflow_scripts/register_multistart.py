"""Register every test case by 2D Elastix from several starts, which is not in the paper.

Settings: ``baselines.multistart_rotations_deg`` and ``baselines.multistart_scales``.
Inputs: ``perturbations``, ``slices`` (every patient's), ``parameter_map``. Output: ``registrations``.
"""

from regagent.conventional.baselines import register_multistart
from regagent.jobs import logged

with logged(snakemake.log[0]):
    register_multistart(
        perturbations=snakemake.input.perturbations,
        slices=snakemake.input.slices,
        parameter_map=snakemake.input.parameter_map,
        output=snakemake.output.registrations,
        rotations_deg=snakemake.params.rotations_deg,
        scales=snakemake.params.scales,
    )
