"""Write the networks of cubes into one file, and find what the distances are worth that they predict.

Settings: ``calibration``, ``volumes``. Inputs: ``cubes`` (every patient's), ``split``, the ``models`` in
their order. Outputs: ``model``, ``cases``.
"""

from regagent.agent.volume_trust import join_networks
from regagent.jobs import logged
from regagent.settings import Calibration, Volumes

with logged(snakemake.log[0]):
    join_networks(
        cubes=snakemake.input.cubes,
        split=snakemake.input.split,
        models=snakemake.input.models,
        settings=Calibration(**snakemake.params.calibration),
        volumes=Volumes(**snakemake.params.settings),
        output_model=snakemake.output.model,
        output_cases=snakemake.output.cases,
    )
