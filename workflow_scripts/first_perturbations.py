"""Take the first perturbations of each slice, for the methods that are slow, one set (E1 or E2) a job.

Setting: ``perturbations.slow_per_slice``. Wildcard: ``set``. Input and output: ``perturbations``.
"""

from regagent.jobs import logged
from regagent.pairs.perturbations import first_perturbations

with logged(snakemake.log[0]):
    first_perturbations(
        perturbations=snakemake.input.perturbations,
        output=snakemake.output.perturbations,
        per_slice=snakemake.params.per_slice,
    )
