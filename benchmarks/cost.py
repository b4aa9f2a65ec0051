"""How CPU time and memory grow with the cohort, in runs of several sizes.

Takes the folders of finished runs, and reads what Snakemake measured of the jobs that work patient by patient
or case by case: simulation, 3D pre-registration, every registration. Tables and figures take seconds, and a
training as long for any cohort. Writes results/benchmarks/cost.csv and cost.{pdf,png}: the CPU seconds of all
jobs of a stage, and the memory of the largest, against the number of patients or of registered cases.
"""

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from regagent.figures.style import FULL_WIDTH, save, styled
from regagent.files import STYLE, read_table, write_table

FOLDER = Path("results/benchmarks")
#: Stages whose work is one job a patient; the others register cases.
BY_PATIENT = ("simulate_patient", "preregister_patient")


def main() -> None:
    """Measure the runs, write the table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    table = pd.concat([measured(run) for run in parser.parse_args().runs], ignore_index=True)
    table = table.sort_values(["stage", "number"], ignore_index=True)
    table["cpu_seconds_each"] = table.cpu_seconds / table.number
    write_table(table, FOLDER / "cost.csv")
    draw(table)
    print(table.round(3).to_string(index=False))


def measured(run: Path) -> pd.DataFrame:
    """Return a row a stage of a run: what it worked on, how many of these, CPU seconds and memory in MB."""
    patients = len(list((run / "slices").glob("[!.]*.npz")))
    cases = sum(len(read_table(path)) for path in (run / "perturbations").glob("E?.csv"))
    rows = []
    for folder in sorted((run / "benchmarks").iterdir()):
        jobs = pd.concat([pd.read_csv(path, sep="\t") for path in folder.glob("*.tsv")])
        by_patient = folder.name in BY_PATIENT
        if by_patient or folder.name.startswith(("register_", "refine_")):
            rows.append(
                {
                    "stage": folder.name,
                    "of": "patients" if by_patient else "cases",
                    "number": patients if by_patient else cases,
                    "cpu_seconds": jobs.cpu_time.sum(),
                    "memory_mb": jobs.max_rss.max(),
                }
            )
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> None:
    """Draw a line a stage: CPU time above, memory below; on both axes a factor has one length."""
    with styled(STYLE):
        figure = Figure(figsize=(FULL_WIDTH, 5.0))
        panels = figure.subplots(2, 2, sharex="col", sharey="row")
        for column, (of, stages) in enumerate(table.groupby("of", sort=False)):
            for axes, what in zip(panels[:, column], ("cpu_seconds", "memory_mb"), strict=True):
                for stage, rows in stages.groupby("stage"):
                    axes.plot(rows.number, rows[what], "o-", label=stage)
                axes.set(xscale="log", yscale="log")
                if what == "cpu_seconds":
                    axes.legend(fontsize="x-small")
            panels[1, column].set_xlabel(f"number of {of}")
        panels[0, 0].set_ylabel("CPU seconds, all jobs")
        panels[1, 0].set_ylabel("memory of a job (MB)")
        save(figure, [FOLDER / "cost.pdf", FOLDER / "cost.png"])


if __name__ == "__main__":
    main()
