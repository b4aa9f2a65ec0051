"""Draw one registration of an agent as a film strip over its value and its error (paper §3.6).

Input: style, episode (every pose, as walk_episode writes it), slices (slices/{patient}.npz of the test
patients), perturbations (the cases of its set). Output: pdf, png.
"""

from regagent.figures.episode import draw_episode
from regagent.jobs import logged

with logged(snakemake.log[0]):
    draw_episode(
        episode=snakemake.input.episode,
        slices=snakemake.input.slices,
        perturbations=snakemake.input.perturbations,
        style=snakemake.input.style,
        outputs=[snakemake.output.pdf, snakemake.output.png],
    )
