"""Simulate one patient's MR and CT with a known alignment (paper §4, Dataset).

Settings: cohort.seed and the section phantom.
Outputs: mr, ct and tissue (NIfTI), truth (.tfm, maps MR points to CT points in mm).
"""

from regagent.jobs import logged
from regagent.phantom.scanners import simulate_patient
from regagent.settings import Phantom

with logged(snakemake.log[0]):
    simulate_patient(
        patient=snakemake.wildcards.patient,
        seed=snakemake.params.seed,
        output_mr=snakemake.output.mr,
        output_ct=snakemake.output.ct,
        output_truth=snakemake.output.truth,
        output_tissue=snakemake.output.tissue,
        settings=Phantom(**snakemake.params.settings),
    )
