"""Write the networks of space into one file, and find what is known of their registrations' errors.

Settings: ``calibration``, ``volumes``. Inputs: the volumes ``mr``, ``ct`` and their ``truth`` of every
patient, ``split``, the ``models`` in their order. Outputs: ``model``, ``cases``.
"""

from regagent.agent.volume_trust import join_networks
from regagent.jobs import logged
from regagent.settings import Calibration, Volumes

with logged(snakemake.log[0]):
    given = snakemake.input
    join_networks(
        files=zip(given.mr, given.ct, given.truth, strict=True),
        split=given.split,
        models=given.models,
        settings=Calibration(**snakemake.params.calibration),
        volumes=Volumes(**snakemake.params.settings),
        output_model=snakemake.output.model,
        output_cases=snakemake.output.cases,
    )
