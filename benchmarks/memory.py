"""Peak memory of the paper-sized jobs that grow with the cohort, beside the ``mem_mb`` of their rules.

The inputs are those of the 99 patients of config/paper.yaml, with 64 perturbations per slice. They are made
from a finished default run, whose patients and registrations are copied under several names. Trainings are
short, as their memory does not grow. Jobs that read one patient or one case at a time are measured by every
run, in results/{run}/benchmarks/. Writes results/benchmarks/memory.csv and ends with status 1 if a job takes
more than its rule says.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml
from snakemake.utils import update_config

from regagent.files import read_table, write_table
from regagent.methods import PROPOSED
from regagent.settings import load

DEFAULT, RUN = Path("results/default"), Path("results/memory")
OVERLAY = RUN / "memory.yaml"
STEPS = 2_000

#: The jobs: a rule and one of its targets.
JOBS = {
    "split_patients": "split.tsv",
    "perturb_slices": "perturbations/E1.csv",
    "train_agent": "models/RL-LME/seed1/model.pt",
    "train_regressor": "models/pure-SL/seed1/model.pt",
    "calibrate_threshold": "models/RL-LME/seed1/threshold.json",
    "calibrate_trust": "models/pure-SL-iterated/seed1/trusted.pt",
    "register_sift": "registrations/SIFT/seed0/E1.csv",
    "register_regressor": "registrations/pure-SL/seed1/E1.csv",
    "register_agent": f"registrations/{PROPOSED}/seed1/E1.csv",
    "register_fine": "registrations/RL-LME-fine/seed1/E1.csv",
    "make_table2": "tables/table2.csv",
    "make_table2_statistics": "tables/table2_statistics.csv",
    "make_case_table": "tables/cases.csv",
    "write_summary": "tables/summary.rst",
    "draw_figure4": "figures/figure4.pdf",
    "draw_error_distribution": "figures/error_distribution.pdf",
    "draw_capture_range": "figures/capture_range.pdf",
    "draw_accuracy_time": "figures/accuracy_time.pdf",
    "draw_worst_cases": "figures/worst_cases.pdf",
}


def snakemake(*arguments: str | Path) -> list[str]:
    """Return the command that runs Snakemake on the paper's configuration with short trainings."""
    return [sys.executable, "-m", "snakemake", "--configfile", str(OVERLAY), *map(str, arguments)]


def write_overlay() -> dict:
    """Write the paper's configuration with short trainings; return it merged with the default one."""
    config, paper = (yaml.safe_load(Path("config", f"{n}.yaml").read_text()) for n in ("config", "paper"))
    for name, variant in paper["variants"].items():
        paper["variants"][name] = variant | {"steps": 20 if name == "pure-SL" else STEPS}
    overlay = paper | {"run": RUN.name}
    RUN.mkdir(parents=True)
    OVERLAY.write_text(yaml.safe_dump(overlay))
    update_config(config, overlay)
    return config


def write_slices(patients: int) -> None:
    """Write the default run's slices under the names of so many patients."""
    known = sorted(DEFAULT.glob("slices/[!.]*.npz"))
    for number in range(patients):
        name = f"P{number + 1:03d}"
        with np.load(known[number % len(known)], allow_pickle=False) as archive:
            path = RUN / "slices" / f"{name}.npz"
            path.parent.mkdir(exist_ok=True)
            np.savez_compressed(path, **{**archive, "patient": np.array(name)})


def write_registrations(config: dict) -> None:
    """Write the default run's registrations of every method, repeated for all cases of the paper's run."""
    for path in sorted(DEFAULT.glob("registrations/*/*/[!.]*.csv")):
        cases, known = read_table(RUN / "perturbations" / path.name), read_table(path)
        table = known.iloc[np.arange(len(cases)) % len(known)].reset_index(drop=True)
        table[["case", "patient", "slice"]] = cases[["case", "patient", "slice"]]
        method, seed = path.parts[-3:-1]
        for number in [0] if seed == "seed0" else config["seeds"]:
            write_table(table, RUN / "registrations" / method / f"seed{number}" / path.name)


def peak_of(rule: str, target: str) -> dict:
    """Run one job; return its peak memory in MB, shared pages counted once, and its rule's ``mem_mb``."""
    command = snakemake("--allowed-rules", rule, "--force", RUN / target)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_resident, psutil.Process(process.pid).children(recursive=True))))
            time.sleep(0.1)
        said, _ = process.communicate()
    if process.returncode:
        sys.exit(said)
    return {"rule": rule, "peak_mb": round(peak / 1e6), "mem_mb": allowed_mb(rule)}


def allowed_mb(rule: str) -> int:
    """Return the ``mem_mb`` of a rule."""
    rules = "".join(path.read_text() for path in Path("rules").glob("*.smk"))
    found = re.search(rf"rule {rule}:.*?mem_mb=(\d+)", rules, re.DOTALL)
    assert found, f"no rule {rule}"
    return int(found[1])


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:  # it ended meanwhile
        return 0


def main() -> None:
    """Make the inputs, run the jobs, print and write the table."""
    shutil.rmtree(RUN, ignore_errors=True)
    config = write_overlay()
    write_slices(load(config).cohort.patients)
    for part in ("split.tsv", "perturbations/E1.csv", "perturbations/E2.csv"):
        subprocess.run(
            snakemake("--allowed-rules", "split_patients", "perturb_slices", "--", RUN / part), check=True
        )
    shutil.copytree(DEFAULT / "models", RUN / "models")
    write_registrations(config)
    table = pd.DataFrame([peak_of(rule, target) for rule, target in JOBS.items()])
    write_table(table, "results/benchmarks/memory.csv")
    print(table.to_string(index=False))
    shutil.rmtree(RUN)
    sys.exit(int((table.peak_mb > table.mem_mb).any()))


if __name__ == "__main__":
    main()
