"""Draw the motions of the test patients' CT volumes, one set (V1, V2 or V3) a job.

Settings: ``volumes``. Wildcard: ``motions``. Input: ``split``. Output: ``perturbations``.
"""

from regagent.jobs import logged
from regagent.pairs.volume_cases import perturb_volumes
from regagent.settings import Volumes

with logged(snakemake.log[0]):
    perturb_volumes(
        split=snakemake.input.split,
        output=snakemake.output.perturbations,
        settings=Volumes(**snakemake.params.settings),
        set_name=snakemake.wildcards.motions,
    )
