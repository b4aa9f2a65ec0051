"""Find what the distances are worth that a network predicts which looks, on training pairs.

Settings: ``calibration``, ``inference``. Inputs: ``slices`` (every patient's), ``split``, ``model``.
Outputs: ``model``, ``cases``.
"""

from regagent.agent.trust import calibrate_trust
from regagent.jobs import logged
from regagent.settings import Calibration, Inference

with logged(snakemake.log[0]):
    calibrate_trust(
        slices=snakemake.input.slices,
        split=snakemake.input.split,
        model=snakemake.input.model,
        settings=Calibration(**snakemake.params.settings),
        inference=Inference(**snakemake.params.inference),
        output_model=snakemake.output.model,
        output_cases=snakemake.output.cases,
    )
