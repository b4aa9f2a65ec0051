"""Register every test case in space by the networks of cubes, or go on by Elastix from where they end.

Settings: ``volumes``, and ``per_patient`` cases of each. Wildcards: ``method``, ``motions``. Inputs:
``perturbations``, the volumes ``mr``, ``ct`` and their ``truth`` of every patient, the ``model`` of the
networks, and to go on their registrations, ``start``, and Elastix's ``parameter_map``. Output:
``registrations``.
"""

from regagent.agent.cube_registration import by_networks, judged_by
from regagent.conventional.volume_registration import refined
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
            refined(start, given.parameter_map, judged_by(given.model)) if start else by_networks(given.model)
        ),
        output=snakemake.output.registrations,
    )
