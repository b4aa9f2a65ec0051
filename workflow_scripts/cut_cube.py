"""Cut a patient's cubes: what networks of space see of the MR and the aligned CT.

Settings: ``volumes.cubes``. Inputs: ``mr``, ``ct``, ``transform`` (from MR to CT points), ``tissue`` if
known. Output: ``cube``.
"""

from regagent.jobs import logged
from regagent.pairs.cubes import cut_cube
from regagent.settings import Cubes

with logged(snakemake.log[0]):
    cut_cube(
        patient=snakemake.wildcards.patient,
        mr=snakemake.input.mr,
        ct=snakemake.input.ct,
        transform=snakemake.input.transform,
        output=snakemake.output.cube,
        settings=Cubes(**snakemake.params.settings),
        tissue=snakemake.input.get("tissue"),
    )
