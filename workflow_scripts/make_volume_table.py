"""Make the table of volumes.

Settings: ``volumes``, the ranges of the sets. Inputs: ``registrations`` of each method and set. Outputs:
``csv``, ``markdown``.
"""

from pathlib import Path

from regagent.evaluation.volume_table import make_volume_table
from regagent.jobs import logged
from regagent.settings import Motion

with logged(snakemake.log[0]):
    paths = map(Path, snakemake.input.registrations)
    make_volume_table(
        registrations={(path.parent.name, path.stem): path for path in paths},
        motions={name: Motion(**ranges) for name, ranges in snakemake.params.motions.items()},
        csv=snakemake.output.csv,
        markdown=snakemake.output.markdown,
    )
