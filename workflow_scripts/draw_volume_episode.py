"""Draw how the networks of space register the first case of a set, look by look.

Input: style, ``perturbations``, the volumes ``mr``, ``ct`` and their ``truth`` of
every patient, the ``model`` of the networks. Output: pdf, png.
"""

from regagent.figures.volumes import draw_volume_episode
from regagent.jobs import logged

with logged(snakemake.log[0]):
    given = snakemake.input
    draw_volume_episode(
        perturbations=given.perturbations,
        files=zip(given.mr, given.ct, given.truth, strict=True),
        model=given.model,
        style=given.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
