"""Simulate one patient's MR and CT with a known alignment (paper §4, Dataset).

Settings: cohort.seed and the section phantom. Outputs: mr and ct (NIfTI), truth (.tfm, MR to CT points in mm).
"""

from regagent.files import logged
from regagent.phantom import simulate_patient
from regagent.settings import Phantom

with logged(snakemake.log[0]):  # noqa: F821
    simulate_patient(
        patient=snakemake.wildcards.patient,  # noqa: F821
        seed=snakemake.params.seed,  # noqa: F821
        output_mr=snakemake.output.mr,  # noqa: F821
        output_ct=snakemake.output.ct,  # noqa: F821
        output_truth=snakemake.output.truth,  # noqa: F821
        settings=Phantom(**snakemake.params.settings),  # noqa: F821
    )
