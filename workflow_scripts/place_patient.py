"""Bring a patient's CT onto the MR by the networks of volumes, wherever the two lie.

Wildcard: ``patient``. Parameter: ``sheet`` (errors name the patient's row). Inputs: ``mr``, ``ct``, the
``model`` of the networks. Output: ``transform``.
"""

from regagent.agent.cube_registration import place_patient
from regagent.jobs import logged

with logged(snakemake.log[0]):
    place_patient(
        patient=snakemake.wildcards.patient,
        mr=snakemake.input.mr,
        ct=snakemake.input.ct,
        model=snakemake.input.model,
        output=snakemake.output.transform,
        sheet=snakemake.params.sheet,
    )
