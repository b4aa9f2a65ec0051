"""Animate one registration of an agent, with its value and its error (paper §3.6).

Input: style, episode (every pose, as walk_episode writes it), slices (slices/{patient}.npz of the test
patients), perturbations (the cases of its set). Output: gif, page (a web page that holds the GIF).
"""

from regagent.figures.episode import animate_episode
from regagent.jobs import logged

with logged(snakemake.log[0]):
    animate_episode(
        episode=snakemake.input.episode,
        slices=snakemake.input.slices,
        perturbations=snakemake.input.perturbations,
        style=snakemake.input.style,
        gif=snakemake.output.gif,
        page=snakemake.output.page,
    )
