"""Align a patient's CT with the MR in 3D: by a given transform, by Elastix, or by their coordinates (§4).

Settings: ``preregistration``. Wildcard: ``patient``. Parameter: ``sheet`` (errors name the patient's row).
Inputs: ``mr``, ``ct``, ``parameter_map``; ``start`` where the agent leads; ``transform`` where the sheet
gives one; ``truth`` where known.
Outputs: ``ct`` (on the MR's grid), ``transform``, ``quality``, ``overlay``.
"""

from regagent.jobs import logged
from regagent.patients.preregistration import preregister_patient
from regagent.settings import Preregistration

with logged(snakemake.log[0]):
    preregister_patient(
        patient=snakemake.wildcards.patient,
        mr=snakemake.input.mr,
        ct=snakemake.input.ct,
        parameter_map=snakemake.input.parameter_map,
        output_ct=snakemake.output.ct,
        output_transform=snakemake.output.transform,
        output_quality=snakemake.output.quality,
        output_overlay=snakemake.output.overlay,
        settings=Preregistration(**snakemake.params.settings),
        transform=snakemake.input.get("transform"),
        start=snakemake.input.start or None,
        truth=snakemake.input.get("truth"),
        sheet=snakemake.params.sheet,
    )
