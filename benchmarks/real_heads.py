"""Pairs of a real head and of what the other scanner might have shown of it: tests of agents that saw none.

Two Debian packages hold a real head each: invesalius-examples a CT, mricron-data the T1-weighted MR ``ch2``.
They are of two persons, so no real MR and CT belong together. From the CT, MRs of several contrasts are made
by its tissues; from the MR, a CT. MR and CT of such a pair lie exactly on each other, and the agents have
seen neither anatomy. The packages are downloaded by apt-get and unpacked without being installed. Writes
results/real_heads/patients.tsv, the sample sheet of config/real_heads.yaml, with its volumes.
"""

import argparse
import plistlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from regagent.anatomy import AIR_HU
from regagent.phantom.canvas import Labels
from regagent.phantom.scanners import like
from regagent.phantom.tissues import AIR, LABELS, TISSUES
from regagent.volumes.transforms import write_transform
from regagent.volumes.writing import write_image

PACKAGES = ("invesalius-examples", "mricron-data")
Volume = NDArray[np.float32]

#: The MRs that are made of the CT: the weighting, or None for signals that no scanner gives.
CONTRASTS = {"T1": "t1", "T2": "t2", "FLAIR": "flair", "none": None}
SEED = 3
#: A run wants a patient to train on; an agent from elsewhere does not use it.
UNUSED = "CT-none"
#: The skull may be open by so much: this one was trepanned.
GAP_MM = 24.0
#: What lies deeper and is soft is brain, in the vault.
SCALP_MM = 10.0


def main() -> None:
    """Download, make the pairs and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="results/real_heads", help="folder of the volumes and the sheet")
    folder = Path(parser.parse_args().output)
    files = unpacked(folder / "packages")
    rows = []

    def add(name: str, reference: sitk.Image, mr: Volume, ct: Volume) -> None:
        place = folder / "scans" / name
        place.mkdir(parents=True, exist_ok=True)
        for kind, values in (("mr", mr), ("ct", ct)):
            write_image(like(values, reference), place / f"{kind}.nii.gz")
        write_transform(sitk.Euler3DTransform(), place / "identity.tfm")
        paths = (str((place / file).absolute()) for file in ("mr.nii.gz", "ct.nii.gz", "identity.tfm"))
        rows.append("\t".join((name, *paths, "train" if name == UNUSED else "test")))

    reference, hounsfield = read_ct(files)
    tissue = tissues_of_ct(hounsfield, reference.GetSpacing()[::-1])
    for name, weighting in CONTRASTS.items():
        # No two scans of a sheet may be the same.
        noise = np.random.default_rng([SEED, len(rows)]).normal(0, 2, hounsfield.shape)
        add(f"CT-{name}", reference, 600 * mr_of(tissue, weighting), np.maximum(hounsfield + noise, AIR_HU))
    reference, signal, brain = read_mr(files)
    add("MR-CT", reference, signal, ct_of(tissues_of_mr(signal, brain)))
    sheet = folder / "patients.tsv"
    sheet.write_text("patient\tmr\tct\ttransform\tset\n" + "\n".join(rows) + "\n")
    print(f"{sheet}: {len(rows)} pairs")


def unpacked(folder: Path) -> Path:
    """Return the folder with the files of the packages, downloaded if they are not there yet."""
    tools = [tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)]
    if tools:
        sys.exit(
            f"error: {' and '.join(tools)} not found: the heads come from Debian's {' and '.join(PACKAGES)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not list(folder.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    return folder


def read_ct(files: Path) -> tuple[sitk.Image, Volume]:
    """Return the grid and the HU (Z, Y, X) of the CT, from the jaw up, the face to the front (LPS)."""
    project = files / "usr/share/doc/invesalius-examples/examples/Cranium.inv3"
    with tarfile.open(project) as archive:
        parts = {Path(name).name: archive.extractfile(name) for name in archive.getnames()}
        content = {name: file.read() for name, file in parts.items() if file}
        facts = plistlib.loads(content["main.plist"])
        matrix = content[facts["matrix"]["filename"]]
    values = np.frombuffer(matrix, np.int16).reshape(facts["matrix"]["shape"])[:, ::-1]
    grid = sitk.GetImageFromArray(values)
    grid.SetSpacing(facts["spacing"])
    return grid, np.maximum(values.astype(np.float32), AIR_HU)


def read_mr(files: Path) -> tuple[sitk.Image, Volume, NDArray[np.bool_]]:
    """Return the grid, the T1 signal (Z, Y, X) and the mask of the brain of the MR, in LPS.

    Only slices with much of the brain: elsewhere nothing tells air from bone.
    """
    templates = files / "usr/share/mricron/templates"
    images = [
        sitk.DICOMOrient(sitk.ReadImage(str(templates / f"{name}.nii.gz")), "LPS")
        for name in ("ch2", "ch2bet")
    ]
    area = (sitk.GetArrayFromImage(images[1]) > 0).sum((1, 2))
    (shown,) = np.nonzero(area > 0.25 * area.max())
    images = [image[:, :, int(shown[0]) : int(shown[-1]) + 1] for image in images]
    signal, brain = (sitk.GetArrayFromImage(image).astype(np.float32) for image in images)
    return images[0], signal, brain > 0


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    return labels == 1 + np.argmax(ndimage.sum_labels(mask, labels, range(1, count + 1)))


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.stack([ndimage.binary_fill_holes(layer) for layer in mask])


def _painted(*layers: tuple[NDArray[np.bool_], str]) -> Labels:
    """Return labels (Z, Y, X): the tissue of the last layer that holds a voxel, else air."""
    tissue = np.full(layers[0][0].shape, LABELS[AIR], np.uint8)
    for where, name in layers:
        tissue[where] = LABELS[name]
    return tissue


def tissues_of_ct(hounsfield: Volume, spacing: tuple[float, ...]) -> Labels:
    """Return the tissue (Z, Y, X), numbers of ``LABELS``, that a CT's HU tell.

    ``spacing`` (z, y, x) is in mm.
    """
    soft = ndimage.gaussian_filter(hounsfield, [1.6 / step for step in spacing])
    body = _filled(_largest(ndimage.binary_opening(hounsfield > -300, iterations=3)))
    solid, bone = body & (hounsfield > -300), hounsfield > 250
    brainlike = ~bone & (soft > -20) & (soft < 90)
    # The cavity: what the bone surrounds in its slice, gaps closed, without the narrow ways out of it.
    margin = int(GAP_MM / spacing[1]) + 1
    padded = np.pad(bone, ((0, 0), (margin, margin), (margin, margin)))
    near = ndimage.distance_transform_edt(~padded, spacing) < GAP_MM
    closed = (ndimage.distance_transform_edt(near, spacing) >= GAP_MM)[:, margin:-margin, margin:-margin]
    middle = _largest(ndimage.binary_erosion(_filled(closed | bone) & brainlike, iterations=4))
    cavity = ndimage.binary_dilation(middle, iterations=5) & ~bone
    # Above its widest slice all that is soft and deep enough belongs to it, however wide a gap is.
    above = (ndimage.distance_transform_edt(body, spacing) > SCALP_MM) & brainlike
    above[: cavity.sum((1, 2)).argmax()] = False
    cavity |= ndimage.binary_propagation(cavity & above, mask=above)
    return _painted(
        (solid, "muscle"),
        (solid & (soft < -25), "fat"),
        (solid & ~ndimage.binary_erosion(body, iterations=2), "skin"),
        (cavity, "grey matter"),
        (cavity & (soft < 30), "white matter"),
        (cavity & (soft < 17), "csf"),
        (body & bone, "diploe"),
        (body & (hounsfield > 600), "bone"),
        (body & (hounsfield > 2200), "metal"),
    )


def tissues_of_mr(signal: Volume, brain: NDArray[np.bool_]) -> Labels:
    """Return the tissue (Z, Y, X), numbers of ``LABELS``, that a T1 signal and the mask of the brain tell."""
    bright = np.percentile(signal[brain], 75)
    body = _filled(_largest(ndimage.binary_opening(signal > 0.15 * bright, iterations=2)))
    away = ndimage.distance_transform_edt(~brain)
    return _painted(
        (body & (signal > 0.25 * bright), "muscle"),
        (body & (signal > 0.9 * bright), "fat"),
        (body & (away < 14) & (signal < 0.45 * bright), "bone"),
        (body & (away < 3) & ~brain, "csf"),
        (brain, "grey matter"),
        (brain & (signal > 0.95 * bright), "white matter"),
        (brain & (signal < 0.5 * bright), "csf"),
    )


def _volume(tissue: Labels, values: list[float]) -> Volume:
    """Return a volume (Z, Y, X) with a value for each tissue, its edges as soft as a scanner's."""
    of_label = np.array([np.nan, *values], np.float32)  # none is unknown
    return ndimage.gaussian_filter(of_label[tissue], 0.6)


def mr_of(tissue: Labels, weighting: str | None) -> Volume:
    """Return an MR (Z, Y, X), white matter about 1, with a coil's shading and noise."""
    rng = np.random.default_rng(SEED)
    signals = [rng.uniform(0.1, 1.2) for _ in TISSUES]
    if weighting:
        signals = [getattr(one, weighting) for one in TISSUES.values()]
    signals[LABELS[AIR] - 1] = TISSUES[AIR].t1
    image = _volume(tissue, signals)
    shading = ndimage.zoom(rng.uniform(-0.2, 0.2, (4, 4, 4)), np.array(tissue.shape) / 4, order=3)
    image *= 1 + shading.astype(np.float32)
    noise = 0.03 * rng.standard_normal((2, *tissue.shape), dtype=np.float32)
    return np.hypot(image + noise[0], noise[1])


def ct_of(tissue: Labels) -> Volume:
    """Return a CT (Z, Y, X) in HU with noise."""
    noise = np.random.default_rng(SEED).standard_normal(tissue.shape, dtype=np.float32)
    image = _volume(tissue, [one.hu for one in TISSUES.values()])
    return np.clip(image + 6 * ndimage.gaussian_filter(noise, 0.6), AIR_HU, 3071)


if __name__ == "__main__":
    main()
