"""Align the CT of a sample sheet's patient with the MR: by its transform, Elastix, or as they lie (paper §4).

Settings: ``preregistration``, ``cohort.minimum_overlap``, ``cohort.thick_slice_mm``. Wildcard: ``patient``.
Inputs: ``mr``, ``ct``, ``parameter_map``, and ``transform`` where the sheet gives one.
Outputs: ``ct`` (on the MR's grid), ``transform``, ``quality``, ``overlay``.
"""

from regagent.jobs import logged
from regagent.patients.alignment import align_patient
from regagent.settings import Preregistration

with logged(snakemake.log[0]):
    align_patient(
        patient=snakemake.wildcards.patient,
        mr=snakemake.input.mr,
        ct=snakemake.input.ct,
        parameter_map=snakemake.input.parameter_map,
        output_ct=snakemake.output.ct,
        output_transform=snakemake.output.transform,
        output_quality=snakemake.output.quality,
        output_overlay=snakemake.output.overlay,
        method=Preregistration(**snakemake.params.settings).method,
        transform=snakemake.input.transform or None,
        minimum_overlap=snakemake.params.minimum_overlap,
        thick_slice_mm=snakemake.params.thick_slice_mm,
        sheet=snakemake.params.sheet,
    )
