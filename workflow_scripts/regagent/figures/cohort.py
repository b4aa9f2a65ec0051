"""The figure of the cohort (§4, Dataset): slices of some patients, MR above the aligned CT."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib.figure import Figure

from regagent.figures.style import FULL_WIDTH, pack_panels, save, styled
from regagent.files import UserError
from regagent.images import normalise
from regagent.volumes.reading import read_volume

#: The heights of the two levels: 0 is the lowest slice of the MR, 1 the highest.
LEVELS = {"ventricles": 0.71, "nasopharynx": 0.40}
MR_PERCENTILES = (1.0, 99.5)
CT_WINDOW_HU = (-200.0, 800.0)


def draw_cohort(
    mr: Sequence[str | Path], ct: Sequence[str | Path], style: str | Path, outputs: Sequence[str | Path]
) -> None:
    """Draw one column per patient: the MR and the aligned CT at the ventricles and at the nasopharynx.

    ``mr`` and ``ct`` are the patients' volumes, in the same order; the MR's folder names the patient.
    Raises ``UserError`` when a CT is not on its MR's grid.
    """
    with styled(style):
        figure = Figure(figsize=(FULL_WIDTH, FULL_WIDTH / len(mr) * 2.08 * len(LEVELS)))
        pack_panels(figure)
        axes = figure.subplots(2 * len(LEVELS), len(mr), squeeze=False)
        for column, paths in enumerate(zip(mr, ct, strict=True)):
            patient = Path(paths[0]).parent.name
            fixed, moving = (read_volume(path, patient) for path in paths)
            if fixed.GetSize() != moving.GetSize():
                raise UserError(
                    f"patient {patient}: {paths[1]} has size {moving.GetSize()}, expected that of"
                    f" {paths[0]}, {fixed.GetSize()}: pre-register it first"
                )
            width, height = (n * s for n, s in zip(fixed.GetSize()[:2], fixed.GetSpacing()[:2], strict=True))
            intensity, hounsfield = (sitk.GetArrayFromImage(volume) for volume in (fixed, moving))
            for level, fraction in enumerate(LEVELS.values()):
                z = round(fraction * (len(intensity) - 1))
                slices = (
                    normalise(intensity[z], *np.percentile(intensity[z], MR_PERCENTILES)),
                    normalise(hounsfield[z], *CT_WINDOW_HU),
                )
                for row, image in enumerate(slices):
                    axis = axes[2 * level + row, column]
                    axis.imshow(image, vmin=0, vmax=1, extent=(0, width, height, 0))
            axes[0, column].set_title(patient)
        for axis in axes.ravel():
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
        for level, name in enumerate(LEVELS):
            axes[2 * level, 0].set_ylabel(f"MR, {name}")
            axes[2 * level + 1, 0].set_ylabel("aligned CT")
        save(figure, outputs)
