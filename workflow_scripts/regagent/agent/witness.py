"""A network of slices as a witness of a registration in space: does the CT lie on the MR?

Networks of cubes see a head in few voxels, in which two heads look much alike. In slices a network sees where
they differ, and predicts a large D wherever they lie.
"""

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from regagent.agent.networks import ResidualNetwork, to_blocks
from regagent.agent.residual import distance_at
from regagent.anatomy import AIR_HU, TISSUE_HU, head_mask
from regagent.geometry import IDENTITY
from regagent.pairs.cutting import cut, mr_window, pixel_width_mm
from regagent.pairs.slices import choose_slices
from regagent.settings import Slices

#: The slices are chosen on pixels of about so many mm.
COARSE_MM = 3.0
#: The D in mm where no slice shows a head in both volumes.
NOTHING_SEEN_MM = 100.0


def distance_in_slices(
    network: ResidualNetwork, mr: sitk.Image, ct: sitk.Image, transform: sitk.Transform, settings: Slices
) -> float:
    """Return the D in mm that a network predicts of axial slices of an MR and of the CT that lies on it.

    ``transform`` maps MR to CT points. It is the median of the slices, which are chosen as for a training.
    """
    mr = sitk.DICOMOrient(sitk.Cast(mr, sitk.sitkFloat32), "LPS")
    coarse = sitk.BinShrink(mr, [*(max(1, round(COARSE_MM / step)) for step in mr.GetSpacing()[:2]), 1])
    intensity, spacing = sitk.GetArrayFromImage(mr), mr.GetSpacing()
    try:
        window = mr_window(intensity, settings)
        head = head_mask(sitk.GetArrayFromImage(coarse), coarse.GetSpacing())
        density = _values(ct, coarse, transform)
        chosen = choose_slices(head & ~np.isnan(density), density > TISSUE_HU, coarse.GetSpacing(), settings)
    except ValueError:
        return NOTHING_SEEN_MM
    intensity = intensity[chosen]
    density = np.concatenate([_values(ct, mr[:, :, z : z + 1], transform) for z in chosen])
    # Where the CT ends, the MR shall not go on: the network would miss the rest of the head.
    beyond = np.isnan(density)
    intensity[beyond], density[beyond] = window[0], AIR_HU
    device = network.rest.weight.device
    images = cut(intensity, density, range(len(chosen)), spacing[:2], window, settings)
    still, moved = (torch.from_numpy(slices).to(device) for slices in images)
    distance = distance_at(network, to_blocks(still), moved, np.tile(IDENTITY, (len(chosen), 1)))
    return float(np.median(distance)) * pixel_width_mm(intensity.shape[1:], spacing[:2], settings)


def _values(ct: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> NDArray[np.float32]:
    """Return the values (Z, Y, X) of a CT on a grid, NaN beyond it."""
    return sitk.GetArrayFromImage(
        sitk.Resample(ct, grid, transform, sitk.sitkLinear, np.nan, sitk.sitkFloat32)
    )
