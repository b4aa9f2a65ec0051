"""The slice pairs of the benchmarks: those of one simulated patient, with MR and CT already aligned."""

import tempfile
from pathlib import Path

import SimpleITK as sitk

from regagent.pairs.slices import read_slices, select_slices
from regagent.pairs.training_pairs import Pairs
from regagent.patients.preregistration import resample
from regagent.phantom.scanners import simulate_patient
from regagent.settings import Phantom, Slices
from regagent.volumes.reading import read_volume


def simulated_pairs() -> Pairs:
    """Return the six pairs of a simulated patient who did not move between the scanners."""
    with tempfile.TemporaryDirectory() as folder:
        names = "mr.nii.gz", "ct.nii.gz", "truth.tfm", "tissue.nii.gz", "aligned.nii.gz", "slices.npz"
        mr, ct, truth, tissue, aligned, slices = (Path(folder) / name for name in names)
        still = Phantom(max_translation_mm=0, max_rotation_deg=0)
        simulate_patient("B001", 1, mr, ct, truth, tissue, still)
        volumes = read_volume(ct), read_volume(mr)
        sitk.WriteImage(resample(*volumes, sitk.Transform()), str(aligned))
        select_slices("B001", mr, aligned, slices, Slices(), tissue)
        chosen = read_slices(slices)
    points = chosen.landmarks.astype(float), chosen.evaluation_points.astype(float)
    return Pairs(chosen.mr, chosen.ct, *points, chosen.tissue)
