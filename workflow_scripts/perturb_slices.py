"""Draw the perturbations of the test patients' slices, one set (E1, E2 or wide) a job (paper §4).

Settings: ``perturbations``. Wildcard: ``set``.
Inputs: ``slices`` (every patient's), ``split``. Output: ``perturbations``.
"""

from regagent.jobs import logged
from regagent.pairs.perturbations import perturb_slices
from regagent.settings import Perturbations

with logged(snakemake.log[0]):
    perturb_slices(
        slices=snakemake.input.slices,
        split=snakemake.input.split,
        output=snakemake.output.perturbations,
        settings=Perturbations(**snakemake.params.settings),
        set_name=snakemake.wildcards.set,
    )
