"""Check the MR and CT of a patient of the sample sheet, and write them in one orientation.

Wildcard: ``patient``. Parameters: ``sheet`` (errors name the patient's row), ``trust_values``.
Inputs: ``mr``, ``ct`` (files or DICOM folders that the sample sheet names). Outputs: ``mr``, ``ct``,
``voxels`` (hashes by which the split finds one image under two names).
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
        trust_values=snakemake.params.trust_values,
        output_voxels=snakemake.output.voxels,
    )
