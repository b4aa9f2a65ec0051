"""What a run consists of follows from its settings: variants, seeds, families, files and targets."""

import pytest
import yaml
from workflow import ROOT

from regagent.files import UserError
from regagent.methods import FIGURE5_PANELS, NO_AGENT, label_of, variant_of
from regagent.reproduction.plan import Plan
from regagent.settings import load

AGENT = {"learner": "reinforcement", "steps": 100}
SHOWN = {"learner": "supervised", "steps": 100}
ELSEWHERE = {"learner": "pretrained", "model": "agent.pt"}


def plan(variants, methods, **keys):
    return Plan(load({"run": "own", "variants": variants, "methods": methods, **keys}))


@pytest.fixture(scope="module")
def default():
    return Plan(load(yaml.safe_load((ROOT / "config/config.yaml").read_text())))


def test_the_default_run_trains_every_variant(default):
    assert default.trained == list(default.settings.variants)
    assert default.reinforced == ["RL-LME", "RL-matrix", "CNN-LME", "CNN-matrix"]
    assert default.supervised == ["SL-LME", "SL-matrix"]
    assert default.regressors == ["pure-SL", "pure-SL-iterated"] and default.pretrained == []
    assert default.finishers == ["pure-SL-iterated"]
    assert default.calibrated == default.agents == [*default.reinforced, *default.supervised]
    assert default.exported == default.calibrated
    assert default.figure4 == ["Elastix", "SL-matrix", "RL-LME-MC", "pure-SL"]
    assert default.figure5 == ["RL-LME", "CNN-LME", "CNN-matrix"]


def test_a_variant_that_no_row_and_no_figure_needs_is_not_trained():
    own = plan({"RL-LME": AGENT, "RL-slow": AGENT, "SL-LME": SHOWN}, ["Initial", "RL-slow-MC"])
    assert own.trained == ["RL-LME", "RL-slow"]  # Figure 5 needs the first
    assert own.exported == ["RL-slow"]
    assert own.figure4 == []


def test_where_no_row_needs_a_training_figure_5_trains_nothing():
    own = plan({"RL-LME": AGENT, "ours": ELSEWHERE}, ["Initial", "ours", "ours-MC+Elastix"], seeds=[1, 2])
    assert own.trained == own.figure5 == own.calibrated == []
    assert own.imported == ["ours"]
    assert own.seeds_of("ours-MC+Elastix") == [0]


def test_a_pretrained_agent_that_no_row_needs_is_not_taken_over():
    own = plan({"RL-LME": AGENT, "ours": ELSEWHERE}, ["RL-LME"])
    assert own.imported == [] and own.trained == ["RL-LME"]


def test_seeds_are_those_of_the_trainings():
    own = plan({"RL-LME": AGENT}, ["SIFT", "SIFT+Elastix", "RL-LME-MC"], seeds=[3, 1])
    assert own.seeds_of("SIFT") == own.seeds_of("SIFT+Elastix") == [0]
    assert own.seeds_of("RL-LME-MC") == own.seeds_of("RL-LME") == [3, 1]
    assert own.registrations(["SIFT", "RL-LME-MC"], ["E2"]) == [
        "results/own/registrations/SIFT/seed0/E2.csv",
        "results/own/registrations/RL-LME-MC/seed3/E2.csv",
        "results/own/registrations/RL-LME-MC/seed1/E2.csv",
    ]
    assert own.examples("E2") == ["results/own/registrations/RL-LME-MC/seed3/E2.csv"]
    assert own.of_models("model.pt", ["RL-LME"]) == [
        "results/own/models/RL-LME/seed3/model.pt",
        "results/own/models/RL-LME/seed1/model.pt",
    ]


def test_a_finished_agent_needs_the_regressor_of_its_seed():
    variants = {"RL-LME": AGENT, "looks": {"learner": "residual"}, "ours": ELSEWHERE}
    assert "looks" not in plan(variants, ["RL-LME"]).trained
    own = plan(variants, ["RL-LME-fine+Elastix", "ours-fine"], seeds=[3, 1])
    assert own.trained == ["RL-LME", "looks"] and own.calibrated == ["RL-LME"]
    assert own.finisher("RL-LME", 3) == "results/own/models/looks/seed3/trusted.pt"
    assert own.regressor("looks", 1) == "results/own/models/looks/seed1/trusted.pt"


def test_an_agent_from_elsewhere_brings_what_finishes_it():
    variants = {"RL-LME": AGENT, "looks": {"learner": "residual"}, "ours": ELSEWHERE}
    own = plan(variants, ["RL-LME", "ours-fine"])
    assert own.trained == ["RL-LME"] and own.imported == ["ours"]
    assert own.finisher("ours", 0) == "results/own/models/ours/seed0/finisher.pt"
    assert plan({"ours": ELSEWHERE}, ["ours-fine"]).trained == []


def test_a_third_set_is_for_those_that_ask_for_it():
    shown = "results/own/figures/rotation_range.pdf"
    bare = plan({"RL-LME": AGENT}, ["SIFT", "RL-LME-MC"])
    assert bare.sets == ["E1", "E2"] and shown not in bare.targets
    wide = plan({"RL-LME": AGENT}, ["SIFT", "RL-LME-MC"], wide_methods=["SIFT"])
    assert wide.sets == ["E1", "E2", "wide"] and shown in wide.targets
    assert not [path for path in wide.registrations(["SIFT"]) if "wide" in path]


def test_slow_methods_have_tables_of_fewer_cases():
    own = plan({"RL-LME": AGENT}, ["SIFT", "SIFT+Elastix"], slow_methods=["SIFT+Elastix"])
    assert own.cases("SIFT", "E1") == "results/own/perturbations/E1.csv"
    assert own.cases("SIFT+Elastix", "E1") == "results/own/perturbations/first/E1.csv"
    assert own.cases("SIFT+Elastix", "wide") == "results/own/perturbations/wide.csv"


def test_networks_of_another_run_register_volumes_in_place_of_own_ones():
    variants = {"RL-LME": AGENT, "coarse": {"learner": "cubes"}, "matching": {"learner": "planes"}}
    trained = {"methods": ["Networks+Elastix"], "networks": ["coarse", "matching"]}
    own = plan(variants, ["Initial"], volumes=trained)
    assert own.volume_model == "results/own/models/space.pt" and own.models_from_elsewhere == {}
    models = [f"results/own/models/{name}/seed1/model.pt" for name in ("coarse", "matching")]
    assert own.volume_models == models
    for others in (["coarse"], ["matching"], ["matching", "coarse"], ["coarse", "RL-LME"], ["matching"] * 2):
        with pytest.raises(UserError, match=f"found {', '.join(others)}, expected .* last one whose learner"):
            plan(variants, ["Initial"], volumes=trained | {"networks": others})
    given = {"methods": ["Networks+Elastix"], "model": "space.pt"}
    own = plan(variants, ["Initial"], volumes=given)
    assert own.volume_model == "space.pt" and own.volume_models == []
    assert own.models_from_elsewhere == {"volumes.model": "space.pt"}
    assert plan(variants, ["Initial"], volumes=given | {"methods": ["Elastix"]}).models_from_elsewhere == {}
    for wrong in ({"methods": ["Networks"]}, trained | given):
        with pytest.raises(UserError, match="needs volumes.networks, or volumes.model"):
            plan(variants, ["Initial"], volumes=wrong)


def test_slow_rows_of_volumes_register_fewer_cases_and_so_does_what_goes_on_from_them():
    volumes = {"methods": ["Centres", "Centres+Elastix", "Greedy", "Greedy+Elastix"], "per_patient": 10}
    slow = {"slow_methods": ["Centres+Elastix", "Greedy"], "slow_per_patient": 3}
    own = plan({"RL-LME": AGENT}, ["Initial"], volumes=volumes | slow)
    counts = {row: own.volumes_per_patient(row) for row in own.volume_rows}
    assert counts == {"Centres": 10, "Centres+Elastix": 3, "Greedy": 3, "Greedy+Elastix": 3}
    with pytest.raises(UserError, match="slow_methods: 'Elastix' is none of volumes.methods"):
        plan({"RL-LME": AGENT}, ["Initial"], volumes=volumes | {"slow_methods": ["Elastix"]})


def test_each_method_has_a_family():
    variants = {"RL-LME": AGENT, "SL-LME": SHOWN, "ours": ELSEWHERE, "pure-SL": {"learner": "regression"}}
    methods = ["Initial", "pure-SL", "RL-LME-MC", "SL-LME", "ours-MC", "RL-LME+Elastix"]
    assert plan(variants, methods).families == {
        "Initial": NO_AGENT,
        "pure-SL": NO_AGENT,
        "RL-LME-MC": "reinforcement agents",
        "SL-LME": "supervised agents",
        "ours-MC": "agents from elsewhere",
        "RL-LME+Elastix": "reinforcement agents",
    }


def test_the_targets_are_what_the_run_can_show(default):
    shown = {path.removeprefix("results/default/") for path in default.targets}
    assert {"tables/table2.tex", "figures/figure4.pdf", "figures/figure5.pdf", "figures/episode.gif"} <= shown
    bare = plan({"pure-SL": {"learner": "regression"}}, ["Initial", "SIFT"])
    names = {path.removeprefix("results/own/") for path in bare.targets}
    assert "tables/table2.tex" in names and "figures/capture_range.pdf" in names
    absent = ("figure4", "figure5", "episode", "worst_cases", "training", "calibration")
    assert not [name for name in names if name.startswith(tuple(f"figures/{figure}" for figure in absent))]


@pytest.mark.parametrize(
    ("method", "variant"),
    [
        ("RL-LME-MC+Elastix", "RL-LME"),
        ("RL-LME", "RL-LME"),
        ("RL-LME-memoryless+Elastix", "RL-LME"),
        ("MI-search+Elastix", "MI-search"),
    ],
)
def test_a_methods_name_begins_with_its_variant(method, variant):
    assert variant_of(method) == variant


def test_names_are_printed_as_in_the_paper():
    assert label_of("pure-SL") == "Pure SL" and label_of("SIFT") == "SIFT"


def test_figure_5_compares_two_variants_a_panel():
    assert [panel.variants for panel in FIGURE5_PANELS.values()] == [
        ("RL-LME", "CNN-LME"),
        ("RL-LME", "CNN-LME"),
        ("CNN-matrix", "CNN-LME"),
        ("CNN-matrix", "CNN-LME"),
    ]
