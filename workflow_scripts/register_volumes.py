"""Register every test case in space by one method.

Settings: ``volumes``. Wildcards: ``method``, ``motions``. Inputs: ``perturbations``, the volumes ``mr``,
``ct`` and their ``truth`` of every patient, the ``models`` of the networks, the Elastix ``maps``. Output:
``registrations``.
"""

from pathlib import Path

from regagent.conventional.volume_registration import register_volume_cases
from regagent.jobs import logged
from regagent.settings import Volumes

with logged(snakemake.log[0]):
    settings = Volumes(**snakemake.params.settings)
    files = zip(snakemake.input.mr, snakemake.input.ct, snakemake.input.truth, strict=True)
    register_volume_cases(
        perturbations=snakemake.input.perturbations,
        volumes={Path(mr).parent.name: {"mr": mr, "ct": ct, "truth": truth} for mr, ct, truth in files},
        method=snakemake.wildcards.method,
        part=getattr(settings, snakemake.wildcards.motions).cut,
        settings=settings,
        models=snakemake.input.models,
        maps={Path(path).stem: path for path in snakemake.input.maps},
        output=snakemake.output.registrations,
    )
