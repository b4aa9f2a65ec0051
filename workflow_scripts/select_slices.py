"""Cut MR/CT slice pairs from a pre-registered patient, with landmarks and evaluation points (paper §3.3, §4).

Settings: ``slices``. Wildcard: ``patient``.
Inputs: ``mr``, ``ct`` (pre-registered, on the MR's grid), ``tissue`` (if known). Output: ``slices``.
"""

from regagent.jobs import logged
from regagent.pairs.selection import select_slices
from regagent.settings import Slices

with logged(snakemake.log[0]):
    select_slices(
        patient=snakemake.wildcards.patient,
        mr=snakemake.input.mr,
        ct=snakemake.input.ct,
        tissue=snakemake.input.get("tissue"),
        output=snakemake.output.slices,
        settings=Slices(**snakemake.params.settings),
    )
