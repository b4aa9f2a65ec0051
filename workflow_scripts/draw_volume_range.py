"""Draw how often each method registers volumes in space, against the rotation and the shift of the start.

Input: style, registrations (registrations/volumes/{method}/{motions}.csv of all rows), perturbations (of each
set). Output: pdf, png.
"""

from pathlib import Path

from regagent.figures.volumes import draw_volume_range
from regagent.jobs import logged

with logged(snakemake.log[0]):
    given = snakemake.input
    draw_volume_range(
        registrations={(Path(path).parent.name, Path(path).stem): path for path in given.registrations},
        perturbations={Path(path).stem: path for path in given.perturbations},
        style=given.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
