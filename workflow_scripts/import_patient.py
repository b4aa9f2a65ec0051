"""Bring a patient's own MR and CT into the pipeline, checked and in one orientation.

Wildcard: ``patient``. Parameter: ``sheet``, whose row of the patient a fault names.
Inputs: ``mr``, ``ct`` (files or DICOM folders that the sample sheet names). Outputs: ``mr``, ``ct``.
"""

from regagent.jobs import logged
from regagent.patients.importing import import_patient

with logged(snakemake.log[0]):
    import_patient(
        patient=snakemake.wildcards.patient,
        mr=snakemake.input.mr,
        ct=snakemake.input.ct,
        output_mr=snakemake.output.mr,
        output_ct=snakemake.output.ct,
        sheet=snakemake.params.sheet,
    )
