"""Align a patient's CT with the MR in 3D by Elastix (paper §4).

Settings: ``preregistration``. Wildcard: ``patient``.
Inputs: ``mr``, ``ct``, ``parameter_map``, and ``truth`` where the true alignment is known.
Outputs: ``ct`` (on the MR's grid), ``transform``, ``quality``, ``overlay``.
"""

from regagent.jobs import logged
from regagent.patients.preregistration import preregister
from regagent.settings import Preregistration

with logged(snakemake.log[0]):
    preregister(
        patient=snakemake.wildcards.patient,
        mr=snakemake.input.mr,
        ct=snakemake.input.ct,
        parameter_map=snakemake.input.parameter_map,
        output_ct=snakemake.output.ct,
        output_transform=snakemake.output.transform,
        output_quality=snakemake.output.quality,
        output_overlay=snakemake.output.overlay,
        truth=snakemake.input.get("truth"),
        method=Preregistration(**snakemake.params.settings).method,
    )
