"""The pipeline is built from its configuration: every run's jobs, and faults of the configuration."""

import re
from collections import Counter

import pytest
import yaml
from snakemake.utils import update_config
from workflow import ROOT, copy_workflow, counted_jobs, snakemake, write_overlay

from regagent.agent.stopping import PAPER
from regagent.settings import load

# The rules whose number of jobs does not depend on the configuration.
ONCE = (
    *("split_patients", "make_table2", "make_claims", "draw_figure4", "draw_figure5"),
    *("make_table2_statistics", "make_case_table", "write_results"),
    *(
        "draw_capture_range",
        "draw_error_distribution",
        "draw_accuracy_time",
        "draw_worst_cases",
        "walk_episode",
        "draw_episode",
        "animate_episode",
        "write_summary",
        "draw_training",
        "draw_training_pairs",
        "draw_calibration",
        "draw_cohort",
        "summarise_preregistration",
        "write_provenance",
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return copy_workflow(tmp_path_factory.mktemp("workflow"))


def overlaid(name="config"):
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    update_config(config, yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()))
    return load(config)


def planned(folder, *arguments):
    result = snakemake(folder, "--dry-run", *arguments)
    assert result.returncode == 0, result.stdout
    return counted_jobs(result.stdout)


def expected_jobs(patients, seeds):
    names = ("initial", "sift", "elastix", "multistart", "search", "simpleitk")
    conventional = {f"register_{name}": 2 for name in names}
    return {
        **dict.fromkeys(ONCE, 1),
        **dict.fromkeys(("simulate_patient", "preregister_patient", "select_slices"), patients),
        **conventional,
        "perturb_slices": 2,
        "train_agent": 6 * seeds,
        "train_regressor": 2 * seeds,
        "calibrate_threshold": 6 * seeds,
        "calibrate_trust": seeds,
        "register_regressor": 4 * seeds,
        "register_agent": 12 * seeds,
        "register_fine": 2 * seeds,
        "register_memoryless": 2 * seeds,
        "export_agent": 6 * seeds,
        "refine_registrations": 2 * seeds + 2,
    }


#: What the smoke run does beyond the default run: two methods register a third set, and a figure shows it;
#: a slow one registers fewer cases.
FURTHER = {
    "perturb_slices": 1,
    "first_perturbations": 2,
    "register_sift": 1,
    "register_agent": 1,
    "draw_rotation_range": 1,
    # Five rows of the table of volumes in three sets.
    "cut_cube": 4,
    "train_regressor": 2,
    "perturb_volumes": 3,
    "register_volumes": 9,
    "join_networks": 1,
    "register_volumes_by_networks": 6,
    "make_volume_table": 1,
    "draw_volume_range": 1,
    "draw_volume_episode": 1,
}


def test_the_default_run(folder):
    assert planned(folder) == expected_jobs(patients=overlaid().cohort.patients, seeds=1)


def test_the_smoke_run_has_every_rule_of_the_default_run(folder):
    jobs = planned(folder, "--configfile", "config/smoke.yaml")
    expected = Counter(expected_jobs(patients=overlaid("smoke").cohort.patients, seeds=1))
    assert jobs == expected + Counter(FURTHER)


def test_a_job_runs(folder):
    split = "results/smoke/split.tsv"
    result = snakemake(folder, split, "--configfile", "config/smoke.yaml")
    assert result.returncode == 0, result.stdout
    assert (folder / split).read_text().startswith("patient\tset\n")
    (folder / split).unlink()


def test_each_rule_names_a_script_of_its_own():
    """The report and ``snakemake --archive`` find a script by its literal name only."""
    text = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    scripts = dict(
        re.findall(r"rule (\w+):.*?script:\s+\"\.\./workflow_scripts/(.+?)\.py\"", text, re.DOTALL)
    )
    assert scripts == {name: name for name in re.findall(r"rule (\w+):", text)}
    assert set(scripts) == {path.stem for path in (ROOT / "workflow_scripts").glob("*.py")}


def test_the_papers_run(folder):
    jobs = planned(folder, "--configfile", "config/paper.yaml")
    assert jobs == expected_jobs(patients=99, seeds=3)


def test_the_run_of_the_papers_size(folder):
    jobs = planned(folder, "--configfile", "config/full.yaml")
    assert jobs == expected_jobs(patients=99, seeds=3) | {"first_perturbations": 2}


@pytest.mark.parametrize("name", ["accuracy", "ablations", "literal", "few_patients", "repeats"])
def test_the_longer_experiments_can_be_planned(folder, name):
    jobs = planned(folder, "--configfile", f"config/{name}.yaml")
    assert jobs["train_agent"] >= 2 and jobs["make_table2"] == 1


def test_the_agent_that_comes_with_the_software_can_be_planned(folder):
    jobs = planned(folder, "--configfile", "config/agent.yaml")
    assert jobs["train_agent"] == jobs["train_regressor"] == jobs["calibrate_trust"] == 1
    assert jobs["export_agent"] == 1
    assert planned(folder, "--configfile", "config/cost.yaml")["register_fine"] == 2
    heads = planned(
        folder, "--configfile", "config/agent.yaml", "config/trust.yaml", "--until", "select_slices"
    )
    assert heads.keys() == {"simulate_patient", "preregister_patient", "select_slices"}


def test_whole_volumes_can_be_planned(folder):
    target = "results/volumes/tables/volumes.md"
    jobs = planned(folder, "--configfile", "config/volumes.yaml", "--", target)
    assert jobs["train_regressor"] == 2 and jobs["make_volume_table"] == 1
    assert jobs["cut_cube"] == 84 and jobs["perturb_volumes"] == 3 and jobs["join_networks"] == 1
    assert jobs["register_volumes"] == 3 * 6 and jobs["register_volumes_by_networks"] == 3 * 2


def test_networks_may_bring_the_patients_together_first(folder):
    target = "results/default/preregistered/P001/transform.tfm"
    jobs = planned(folder, "--config", "preregistration={method: agent}", "--", target)
    assert jobs["place_patient"] == jobs["preregister_patient"] == 1


def test_real_heads_are_registered_without_a_training(folder, tmp_path):
    rows = []
    for name, group in (("CT-none", "train"), ("CT-T1", "test"), ("MR-CT", "test")):
        files = [tmp_path / f"{name}-{kind}" for kind in ("mr.nii.gz", "ct.nii.gz", "identity.tfm")]
        for file in files:
            file.touch()
        rows.append("\t".join((name, *map(str, files), group)))
    sheet = folder / "results/real_heads/patients.tsv"
    sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet.write_text("patient\tmr\tct\ttransform\tset\n" + "\n".join(rows) + "\n")
    jobs = planned(folder, "--configfile", "config/real_heads.yaml")
    assert jobs["import_patient"] == 3 and jobs["register_fine"] == 2
    agent = "preregistration={method: agent}"
    known = planned(folder, "--configfile", "config/real_heads.yaml", "--config", agent)
    assert known == jobs  # the sheet gives all transforms
    assert not [rule for rule in jobs if rule.startswith(("train", "calibrate"))]


def test_the_overlays_keep_what_they_do_not_name():
    smoke, paper = overlaid("smoke"), overlaid("paper")
    assert (smoke.run, paper.run) == ("smoke", "paper")
    assert smoke.methods == paper.methods == overlaid().methods
    for variant, (network, kind) in {
        "RL-LME": ("CNN-LSTM", "LME"),
        "RL-matrix": ("CNN-LSTM", "matrix"),
        "CNN-LME": ("CNN", "LME"),
        "CNN-matrix": ("CNN", "matrix"),
        "SL-LME": ("CNN-LSTM", "LME"),
        "SL-matrix": ("CNN-LSTM", "matrix"),
    }.items():
        for settings, literal in ((smoke, kind), (paper, kind.replace("matrix", "Frobenius"))):
            assert settings.variants[variant].network == network
            assert settings.variants[variant].distance == literal
            assert settings.variants[variant].learner == overlaid().variants[variant].learner


def test_the_papers_literal_hyperparameters():
    agent = overlaid("paper").variants["RL-LME"]
    assert (agent.reward, agent.discount, agent.entropy_weight) == ("paper", 0.99, 0.1)
    assert (agent.learning_rate, agent.workers, agent.unroll) == (1e-4, 8, 30)
    assert (agent.episode_steps, agent.terminal_distance, agent.terminal_reward) == (500, 1.0, 10.0)
    assert (agent.episodes, agent.reduction) == (20_000 * 8, "sum")
    assert overlaid("paper").perturbations.per_slice == 64
    assert overlaid("paper").inference.weights == "paper"
    for name, variant in overlaid("paper").variants.items():
        if not name.startswith("pure-SL"):
            assert variant.thresholds == PAPER[variant.learner]
            assert variant.episodes * variant.episode_steps == variant.steps  # so the episodes end first


def test_a_finished_agent_is_refined_as_others_are(folder, tmp_path):
    settings = {"run": "own", "methods": ["Initial", "RL-LME-fine+Elastix"]}
    jobs = planned(folder, "--configfile", write_overlay(tmp_path, settings))
    assert jobs["register_fine"] == jobs["refine_registrations"] == 2 and jobs["train_regressor"] == 1


def test_a_variant_of_ones_own_needs_no_code(folder, tmp_path):
    settings = {
        "run": "own",
        "variants": {"RL-slow": {"learner": "reinforcement", "steps": 100, "learning_rate": 1.0e-5}},
        "methods": ["Initial", "RL-slow-MC"],
    }
    jobs = planned(folder, "--configfile", write_overlay(tmp_path, settings))
    assert jobs["train_agent"] == 4  # three of Figure 5 and this one
    assert jobs["register_agent"] == 2
    assert "register_elastix" not in jobs


def test_an_agent_of_another_run_needs_no_training(folder, tmp_path):
    (tmp_path / "agent.pt").touch()
    settings = {
        "run": "elsewhere",
        "seeds": [1, 2],
        "variants": {"ours": {"learner": "pretrained", "model": str(tmp_path / "agent.pt")}},
        "methods": ["Initial", "ours", "ours-MC", "ours-MC+Elastix", "ours-fine"],
    }
    jobs = planned(folder, "--configfile", write_overlay(tmp_path, settings))
    assert not [rule for rule in jobs if rule.startswith(("train", "calibrate", "export", "draw_figure5"))]
    assert jobs["import_agent"] == jobs["import_finisher"] == 1
    assert jobs["register_agent"] == jobs["register_fine"] == jobs["refine_registrations"] == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cohort": {"patiens": 5}}, "config: cohort.patiens: no such key; did you mean 'patients'?"),
        ({"perturbations": {"per_slice": -1}}, "config: perturbations.per_slice: Input should be greater"),
        ({"methods": ["Initial", "RL-LMW"]}, "config: methods: unknown variant 'RL-LMW'; known are Initial"),
        ({"cohort": {"source": "sheet", "sheet": "absent.tsv"}}, "absent.tsv: No such file or directory"),
        ({"cohort": {"source": "sheet", "sheet": "config"}}, "config: Is a directory"),
        (
            {"variants": {"ours": {"learner": "pretrained", "model": "absent.pt"}}, "methods": ["ours"]},
            "config: variants.ours.model: absent.pt: no such file",
        ),
        (
            {"volumes": {"model": "absent.pt", "methods": ["Networks"]}},
            "config: volumes.model: absent.pt: no such file",
        ),
    ],
)
def test_a_faulty_configuration_ends_in_one_message(folder, tmp_path, settings, message):
    result = snakemake(folder, "--dry-run", "--configfile", write_overlay(tmp_path, settings))
    assert result.returncode == 1
    lines = [
        line for line in result.stdout.splitlines() if not line.startswith(("Using work", "Config file"))
    ]
    assert len(lines) == 1, result.stdout
    assert lines[0].startswith(message)


def test_the_workflow_is_free_of_lint(folder):
    result = snakemake(folder, "--lint")
    assert result.returncode == 0, result.stdout
    assert "in a good condition" in result.stdout
