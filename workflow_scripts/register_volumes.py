"""Register every test case in space by a method without a network, or go on by Elastix from another row.

Settings: ``volumes``. Wildcards: ``method``, ``motions``. Inputs: ``perturbations``, the volumes ``mr``,
``ct`` and their ``truth`` of every patient, the Elastix ``parameter_map`` of a method that takes one, and the
registrations ``start`` of the row to go on from. Output: ``registrations``.
"""

from pathlib import Path

from regagent.conventional.volume_registration import conventional, refined
from regagent.evaluation.volume_registrations import register_volume_cases
from regagent.jobs import logged
from regagent.settings import Volumes

with logged(snakemake.log[0]):
    given, settings = snakemake.input, Volumes(**snakemake.params.settings)
    files = zip(given.mr, given.ct, given.truth, strict=True)
    start = given.get("start")
    register_volume_cases(
        perturbations=given.perturbations,
        volumes={Path(mr).parent.name: {"mr": mr, "ct": ct, "truth": truth} for mr, ct, truth in files},
        part=getattr(settings, snakemake.wildcards.motions).cut,
        cubes=settings.cubes,
        register=(
            refined(start, given.parameter_map)
            if start
            else conventional(snakemake.wildcards.method, given.get("parameter_map"))
        ),
        output=snakemake.output.registrations,
    )
