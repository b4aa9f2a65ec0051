"""Find the values at which an agent stops, on training pairs with fresh perturbations (paper §3.6).

Settings: ``calibration``, ``inference``, the range ``perturbations.E1`` and a variant's ``thresholds``.
Inputs: ``slices`` (every patient's), ``split``, ``model``. Outputs: ``threshold``, ``calibration``.
"""

from regagent.agent.calibration import calibrate_threshold
from regagent.jobs import logged
from regagent.settings import Calibration, Inference, PerturbationRange, StopThresholds

thresholds = snakemake.params.thresholds
with logged(snakemake.log[0]):
    calibrate_threshold(
        slices=snakemake.input.slices,
        split=snakemake.input.split,
        model=snakemake.input.model,
        ranges=PerturbationRange(**snakemake.params.ranges),
        settings=Calibration(**snakemake.params.settings),
        inference=Inference(**snakemake.params.inference),
        given=StopThresholds(**thresholds) if thresholds else None,
        output_threshold=snakemake.output.threshold,
        output_calibration=snakemake.output.calibration,
    )
