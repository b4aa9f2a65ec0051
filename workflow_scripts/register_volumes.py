"""Register every test case in space by a method without a network, or go on by Elastix from another row.

Settings: ``volumes``, and ``per_patient`` cases of each. Wildcards: ``method``, ``motions``. Inputs:
``perturbations``, the volumes ``mr``, ``ct`` and their ``truth`` of every patient, the Elastix
``parameter_map`` of a method that takes one, and the registrations ``start`` of the row to go on from.
Output: ``registrations``.
"""

from regagent.conventional.volume_registration import conventional, refined
from regagent.evaluation.volume_registrations import register_volume_cases
from regagent.jobs import logged
from regagent.settings import Volumes

with logged(snakemake.log[0]):
    given, settings = snakemake.input, Volumes(**snakemake.params.settings)
    start = given.get("start")
    register_volume_cases(
        perturbations=given.perturbations,
        files=zip(given.mr, given.ct, given.truth, strict=True),
        per_patient=snakemake.params.per_patient,
        part=getattr(settings, snakemake.wildcards.motions).cut,
        cubes=settings.cubes,
        register=(
            refined(start, given.parameter_map)
            if start
            else conventional(snakemake.wildcards.method, given.get("parameter_map") or None)
        ),
        output=snakemake.output.registrations,
    )
