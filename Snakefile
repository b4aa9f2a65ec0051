# From volumes to Table 2 and Figures 4 and 5: see README.md, and config/README.md for every key.

import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")

sys.path.insert(0, str(Path(workflow.basedir, "workflow_scripts")))

from regagent.files import UserError
from regagent.jobs import DETERMINISTIC, RUN_PROCESS, check_writable
from regagent.process import start_in_utf8
from regagent.reproduction.screen import show_run
from regagent.settings.run import load

start_in_utf8()
if workflow.is_main_process:
    show_run(logger)


configfile: "config/config.yaml"


report: "rules/captions/workflow.rst"


try:
    SETTINGS = load(config)
except UserError as error:
    sys.exit(str(error))

if (
    SETTINGS.deterministic
):  # the jobs inherit it; the second is what PyTorch asks for on a GPU
    os.environ |= {DETERMINISTIC: "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

os.environ.setdefault(RUN_PROCESS, str(os.getpid()))  # a job's Snakemake inherits it


wildcard_constraints:
    patient=r"[A-Za-z0-9_.-]+",
    seed=r"\d+",
    set="E1|E2|wide",


onstart:
    check_writable(f"results/{SETTINGS.run}")
    # With its limit of 100 jobs a second, Snakemake 9.27 looks for new jobs once more a second after each job that has
    # ended, for the rest of the run: a third of a core after 200 jobs. On one machine no limit is needed.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


include: "rules/common.smk"
include: "rules/cohort.smk"
include: "rules/preprocess.smk"
include: "rules/train.smk"
include: "rules/register.smk"
include: "rules/report.smk"
include: "rules/volumes.smk"


rule all:
    default_target: True
    input:
        PLAN.targets,
        PLAN.of_models("agent.pt", PLAN.exported),
        results("provenance.json"),
