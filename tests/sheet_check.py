"""Two cohorts from a sample sheet to Table 2: `make sheet_check`, some minutes for each of the six runs.

The simulated cohort, written as NIfTI, MetaImage, NRRD and DICOM and read back, must give the simulated
run's Table 2 to the last digit that it prints, the seconds aside. Ten patients with 16 to 20 slices of
256 × 256 pixels at 5 mm must reach theirs. With `formats` or `thick` as its argument it does one of the two.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import SimpleITK as sitk
import yaml
from scans import thick_stack, write_series
from workflow import ROOT, copy_workflow

FORMATS = ("nii.gz", "mha", "nrrd", "DICOM")
THICK_PATIENTS = 10
OUTSIDE = {"mr": 0.0, "ct": -1000.0}

#: One of each kind of method, on trainings of seconds: enough to differ wherever the images do.
SMALL = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text()) | {
    "variants": {
        "RL-LME": {"steps": 1_440, "environments": 4, "episode_steps": 30},
        "pure-SL": {"steps": 20, "batch": 8},
        **dict.fromkeys(("RL-matrix", "CNN-LME", "CNN-matrix", "SL-LME", "SL-matrix")),
    },
    "methods": ["Initial", "SIFT", "Elastix", "pure-SL", "RL-LME", "RL-LME-MC"],
}


def table_of(folder: Path, run: str, **settings: dict) -> pd.DataFrame:
    """Run the pipeline in ``folder`` until Table 2 and return it without what is never the same."""
    overlay = folder / f"{run}.yaml"
    overlay.write_text(yaml.safe_dump({**SMALL, "run": run, **settings}))
    table = f"results/{run}/tables/table2.csv"
    command = [sys.executable, "-m", "snakemake", table, "--configfile", overlay.name]
    subprocess.run(command, cwd=folder, check=True)
    frame = pd.read_csv(folder / table)
    return frame[[name for name in frame if "second" not in name]]


def sheet_of(folder: Path, name: str, write) -> dict:
    """Write a sheet of the simulated patients, as ``write(image, path, modality)`` stores them.

    The path has no suffix yet. Return the section ``cohort`` that takes the sheet.
    """
    rows = ["patient\tmr\tct"]
    for place in sorted((folder / "results" / "simulated" / "volumes").iterdir()):
        files = []
        for modality in ("mr", "ct"):
            path = folder / name / place.name / modality
            path.parent.mkdir(parents=True, exist_ok=True)
            image = sitk.ReadImage(str(place / f"{modality}.nii.gz"))
            files.append(str(write(image, path, modality).relative_to(folder)))
        rows.append("\t".join([place.name, *files]))
    (folder / f"{name}.tsv").write_text("\n".join(rows) + "\n")
    return {"source": "sheet", "sheet": f"{name}.tsv"}


def check_formats(folder: Path) -> None:
    """Compare Table 2 of the simulated run with that of a sheet in each format."""
    expected = table_of(folder, "simulated")
    for suffix in FORMATS:

        def write(image, path, modality, suffix=suffix):
            if suffix == "DICOM":
                return write_series(image, path, modality.upper())
            sitk.WriteImage(image, f"{path}.{suffix}")
            return Path(f"{path}.{suffix}")

        name = suffix.partition(".")[0]
        found = table_of(folder, f"sheet-{name}", cohort=sheet_of(folder, name, write))
        pd.testing.assert_frame_equal(found, expected, rtol=0, atol=0.005)
        print(f"{suffix}: Table 2 is the simulated run's")


def check_thick(folder: Path) -> None:
    """Run patients of 16 to 20 thick slices; the simulated ones are made for their volumes only."""
    cohort = {"patients": THICK_PATIENTS}
    overlay = folder / "simulated.yaml"
    overlay.write_text(yaml.safe_dump({**SMALL, "run": "simulated", "cohort": cohort}))
    volumes = [f"results/simulated/volumes/P{n:03d}/mr.nii.gz" for n in range(1, THICK_PATIENTS + 1)]
    command = [sys.executable, "-m", "snakemake", *volumes, "--configfile", overlay.name]
    subprocess.run(command, cwd=folder, check=True)

    def write(image, path, modality):
        slices = 16 + int(path.parent.name[1:]) % 5
        sitk.WriteImage(thick_stack(image, slices, OUTSIDE[modality]), f"{path}.nii.gz")
        return Path(f"{path}.nii.gz")

    found = table_of(folder, "thick", cohort=sheet_of(folder, "stacks", write))
    assert set(found["method"]) == set(SMALL["methods"]), found
    print(f"{THICK_PATIENTS} patients with thick slices: Table 2 is there")
    print(found.to_string(index=False))


if __name__ == "__main__":
    checks = {"formats": check_formats, "thick": check_thick}
    for name in sys.argv[1:] or checks:
        with tempfile.TemporaryDirectory() as folder:
            checks[name](copy_workflow(Path(folder)))
