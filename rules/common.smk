# What the rules share: names of files, lists of patients and methods, parameters. No rules here.

import os
import re
import shutil

from regagent import files
from regagent.files import parameter_map
from regagent.reproduction.code_hash import code_hash
from regagent.methods import NO_AGENT
from regagent.methods import CONVENTIONAL, REFINED, variant_of
from regagent.settings import Pretrained, Regressor, ReinforcementAgent, SupervisedAgent

SETS = ["E1", "E2"]

# One training at a time holds the accelerator, where there is one.
GPU = int(shutil.which("nvidia-smi") is not None)


def results(path):
    """Return the path of a file of this run."""
    return f"results/{SETTINGS.run}/{path}"


def of_package(path):
    """Return the path of a file of the library as it is seen from the working folder."""
    return os.path.relpath(path)


def map_file(name):
    """Return the Elastix parameter file that the settings name."""
    return of_package(parameter_map(name))


STYLE = of_package(files.STYLE)


def code(script):
    """Return the hash of what a script runs, so that its rule reruns when that changes, and only then."""
    digest = code_hash(Path(workflow.basedir, "workflow_scripts", f"{script}.py"))
    return f"{digest} deterministic" if SETTINGS.deterministic else digest


def section(name):
    """Return one section of the settings, defaults filled in, as a rule's parameter."""
    return getattr(SETTINGS, name).model_dump(mode="json")


def variant_settings(wildcards):
    """Return the settings of the variant that a job trains or uses."""
    return SETTINGS.variants[wildcards.variant].model_dump(mode="json")


def variant_threads(wildcards):
    """Return one thread for each worker process of a training."""
    return SETTINGS.variants[wildcards.variant].workers


def variants_of(kind):
    """Return the names of the variants with settings of this kind."""
    return [
        name
        for name, settings in SETTINGS.variants.items()
        if isinstance(settings, kind)
    ]


def any_of(names):
    """Return a wildcard constraint: one of the names, and nothing where there are none."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def seeds_of(method):
    """Return the seeds of a method: those of the trainings, 0 where nothing is trained."""
    untrained = (*CONVENTIONAL, *PRETRAINED)
    return [0] if variant_of(method) in untrained else SETTINGS.seeds


def registrations(methods, sets=SETS):
    """Return the tables of registered cases of these methods, where the run has them."""
    return [
        results(f"registrations/{method}/seed{seed}/{name}.csv")
        for method in methods
        if method in SETTINGS.methods
        for seed in seeds_of(method)
        for name in sets
    ]


def of_models(name, variants):
    """Return the files of this name of these variants, one a seed."""
    return [
        results(f"models/{variant}/seed{seed}/{name}")
        for variant in variants
        for seed in seeds_of(variant)
    ]


REINFORCED = variants_of(ReinforcementAgent)
SUPERVISED = variants_of(SupervisedAgent)
REGRESSORS = variants_of(Regressor)
PRETRAINED = variants_of(Pretrained)
AGENTS = [*REINFORCED, *SUPERVISED]


def family_of(method):
    """Return the panel that a method stands in where a figure compares all of them."""
    variant = variant_of(method)
    if variant in REINFORCED:
        return "reinforcement agents"
    if variant in SUPERVISED:
        return "supervised agents"
    return "agents from elsewhere" if variant in PRETRAINED else NO_AGENT


FAMILIES = {method: family_of(method) for method in SETTINGS.methods}

# The variants that the methods of Table 2 need.
USED = [name for name in SETTINGS.variants if name in map(variant_of, SETTINGS.methods)]

# The comparisons of Figure 5, and the columns of Figure 4, as far as the run has them. Where no method needs a
# training, as with agents from elsewhere, nothing is trained for Figure 5 alone.
FIGURE5 = [
    name
    for name in ("RL-LME", "CNN-LME", "CNN-matrix")
    if name in REINFORCED and set(USED) - set(PRETRAINED)
]
FIGURE4 = [
    name
    for name in ("Elastix", "SL-matrix", "RL-LME-MC", "pure-SL")
    if name in SETTINGS.methods
]

# The paper's method: its worst cases and one of its episodes are shown, where the run has it.
PROPOSED = "RL-LME-MC"

# What is trained: what the methods and Figure 5 need.
TRAINED = [
    name
    for name in SETTINGS.variants
    if name in {*FIGURE5, *USED} and name not in PRETRAINED
]
IMPORTED = [name for name in USED if name in PRETRAINED]

for name in IMPORTED:
    if not Path(SETTINGS.variants[name].model).is_file():
        sys.exit(
            f"config: variants.{name}.model: {SETTINGS.variants[name].model}: no such file"
        )

SHEET = SETTINGS.cohort.sheet
if SHEET is None:
    PATIENTS = [f"P{number:03d}" for number in range(1, SETTINGS.cohort.patients + 1)]
else:
    from regagent.patients.sheet import read_sheet

    try:
        ROWS = {row.patient: row for row in read_sheet(SHEET)}
    except UserError as error:
        sys.exit(str(error))
    PATIENTS = list(ROWS)

CALIBRATED = [name for name in TRAINED if name in AGENTS]

# The agents that other cohorts can use: those whose test cases with look-ahead say how good they are.
EXPORTED = [name for name in CALIBRATED if f"{name}-MC" in SETTINGS.methods]

FIGURE5_PANELS = {
    "a": "RL-LME and CNN-LME: steps an episode",
    "b": "RL-LME and CNN-LME: cumulative reward",
    "c": "CNN-matrix and CNN-LME: steps an episode",
    "d": "CNN-matrix and CNN-LME: cumulative reward",
}

SCRIPTS = sorted(Path(workflow.basedir, "workflow_scripts").glob("*.py"))

# What a person looks at: the pipeline's targets, as far as the run has what they show.
FACE = [
    *[
        results(f"tables/{table}.{suffix}")
        for table in ("table2", "table2_statistics")
        for suffix in ("csv", "md", "tex", "html")
    ],
    results("tables/cases.csv"),
    *[results(f"tables/claims.{suffix}") for suffix in ("csv", "md", "html")],
    results("tables/results.md"),
    results("tables/preregistration.csv"),
    results("figures/preregistration.pdf"),
    results("figures/cohort.pdf"),
    results("figures/capture_range.pdf"),
    results("figures/error_distribution.pdf"),
    results("figures/accuracy_time.pdf"),
    results("tables/summary.rst"),
    *(
        results(f"figures/{name}")
        for name in ("worst_cases.pdf", "episode.pdf", "episode.gif")
        if PROPOSED in SETTINGS.methods
    ),
    *([results("figures/figure4.pdf")] if FIGURE4 else []),
    *([results("figures/figure5.pdf")] if FIGURE5 else []),
    *([results("figures/training.pdf")] if TRAINED else []),
    *([results("figures/calibration.pdf")] if CALIBRATED else []),
]
