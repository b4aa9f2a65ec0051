"""Make the table of volumes.

Inputs: ``registrations`` of each method and set. Outputs: ``csv``, ``markdown``.
"""

from pathlib import Path

from regagent.evaluation.volume_table import make_volume_table
from regagent.jobs import logged

with logged(snakemake.log[0]):
    paths = map(Path, snakemake.input.registrations)
    make_volume_table(
        registrations={(path.parent.name, path.stem): path for path in paths},
        csv=snakemake.output.csv,
        markdown=snakemake.output.markdown,
    )
