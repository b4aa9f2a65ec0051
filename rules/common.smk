# What the rules share: names of files, lists of patients, parameters. There are no rules here.

import os
import re
import shutil

from regagent import files
from regagent.methods import (
    CONVENTIONAL,
    FIGURE5_PANELS,
    FINE,
    LOOKAHEAD,
    MEMORYLESS,
    NETWORKS,
    PROPOSED,
    REFINED,
    UNREGISTERED,
)
from regagent.patients.sheet import read_sheet
from regagent.reproduction.code_hash import code_hash
from regagent.reproduction.plan import SETS, WIDE, Plan
from regagent.volumes.fingerprint import fingerprint

PLAN = Plan(SETTINGS)
results = PLAN.results

# One training at a time holds the accelerator, where there is one.
GPU = int(shutil.which("nvidia-smi") is not None)

STYLE = os.path.relpath(files.STYLE)

SCRIPTS = sorted(Path(workflow.basedir, "workflow_scripts").glob("*.py"))

for key, model in PLAN.models_from_elsewhere.items():
    if not Path(model).is_file():
        sys.exit(f"config: {key}: {model}: no such file")

SHEET = SETTINGS.cohort.sheet
if SHEET is None:
    PATIENTS = [f"P{number:03d}" for number in range(1, SETTINGS.cohort.patients + 1)]
else:
    try:
        ROWS = {row.patient: row for row in read_sheet(SHEET)}
    except UserError as error:
        sys.exit(str(error))
    PATIENTS = list(ROWS)

SLICES = expand(results("slices/{patient}.npz"), patient=PATIENTS)
CUBES = expand(results("cubes/{patient}.npz"), patient=PATIENTS)
MOTIONS = ["V1", "V2", "V3"]
BY_NETWORKS = [NETWORKS, NETWORKS + REFINED]
VOLUME_REGISTRATIONS = expand(
    results("registrations/volumes/{method}/{motions}.csv"),
    motions=MOTIONS,
    method=SETTINGS.volumes.methods,
)
SCANS = {
    "mr": expand(results("volumes/{patient}/mr.nii.gz"), patient=PATIENTS),
    "ct": expand(results("volumes/{patient}/ct.nii.gz"), patient=PATIENTS),
    "truth": expand(results("preregistered/{patient}/transform.tfm"), patient=PATIENTS),
}


def code(script):
    """Return the hash of what a script runs, so that its rule reruns when that changes, and only then."""
    digest = code_hash(Path(workflow.basedir, "workflow_scripts", f"{script}.py"))
    return f"{digest} deterministic" if SETTINGS.deterministic else digest


def cases_of(method):
    """Return the input function of the cases that a method registers; wildcards complete its name."""
    return lambda wildcards: PLAN.cases(method.format(**wildcards), wildcards.set)


def section(name):
    """Return one section of the settings, with defaults filled in, as a rule's parameter."""
    return getattr(SETTINGS, name).model_dump(mode="json")


def map_file(name):
    """Return the Elastix parameter file that the settings name."""
    return os.path.relpath(files.parameter_map(name))


def any_of(names):
    """Return a wildcard constraint that matches one of the names; without names it matches nothing."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def placed(wildcards):
    """Return where a patient's Elastix starts, nothing where it starts from the coordinates or is not run."""
    known = SHEET is not None and ROWS[wildcards.patient].transform
    start = results("placed/{patient}.tfm")
    return start if SETTINGS.preregistration.method == "agent" and not known else []


def alignment_map():
    """Return the parameter map of the alignment in 3D: a local one where the agent has led there."""
    settings = SETTINGS.preregistration
    return map_file(
        "refine3d" if settings.method == "agent" else settings.parameter_map
    )


def volume_settings(wildcards):
    """Return the cubes' settings and the range of a set of volumes."""
    return SETTINGS.volumes.model_dump(
        mode="json", include={"cubes", wildcards.motions}
    )


def volume_start(wildcards):
    """Return the registrations that a refined row goes on from, nothing for another row."""
    row = wildcards.method.removesuffix(REFINED)
    start = results(f"registrations/volumes/{row}/{wildcards.motions}.csv")
    return [] if row == wildcards.method else start


def volume_map(wildcards):
    """Return the parameter map of a row that runs Elastix."""
    if wildcards.method.endswith(REFINED):
        return map_file("refine3d")
    return map_file("rigid3d") if wildcards.method == "Elastix" else []
