"""The configuration: what is refused, with which words, and that every key is explained."""

import json
import re
import runpy
import shutil

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from snakemake.cli import parse_config
from workflow import ROOT

from regagent.files import UserError
from regagent.settings import ReinforcementAgent, SupervisedAgent, agent_settings, load, models

SCHEMA = json.loads((ROOT / "config/schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())


def test_the_default_configuration_is_valid(config):
    assert load(config).run == "default"


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("cohort", "patiens", 3, r"cohort\.patiens: no such key; did you mean 'patients'"),
        ("cohort", "patients", -3, r"cohort\.patients: .*\(found -3\)"),
        ("cohort", "source", "sheet", "'sheet' and the key 'sheet'"),
        ("split", "train_fraction", 1, r"split\.train_fraction"),
        ("perturbations", "E1", {"translation_px": 25, "rotation_deg": 30, "scale": [2, 1]}, r"E1\.scale"),
        (
            "variants",
            "RL-LME",
            {"learner": "reinforcement", "stepps": 3},
            r"variants\.RL-LME\.stepps: no such key",
        ),
        ("variants", "RL-LME", {"learner": "reinforcement", "steps": 0}, r"variants\.RL-LME\.steps: "),
        ("variants", "RL-LME", {"learner": "magic"}, r"variants\.RL-LME: .*'magic'"),
        ("variants", "RL-LME-MC", {"learner": "regression"}, "'RL-LME-MC'"),
        ("variants", "RL-memoryless", {"learner": "regression"}, "'RL-memoryless'"),
        ("variants", "RL-fine", {"learner": "regression"}, "'RL-fine'"),
        ("variants", "SIFT", {"learner": "regression"}, "'SIFT'"),
        ("variants", "a/b", {"learner": "regression"}, "'a/b'"),
    ],
)
def test_a_fault_is_named_by_its_key(config, section, key, value, message):
    config[section][key] = value
    with pytest.raises(UserError, match=message):
        load(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("methods", ["RL-LMW"], "unknown variant 'RL-LMW'; known are Initial, SIFT"),
        ("methods", ["pure-SL-MC"], "a regressor has no -MC and no -fine"),
        ("methods", ["pure-SL-iterated-fine"], "a regressor has no -MC and no -fine"),
        ("methods", ["CNN-LME-memoryless"], "'CNN-LME-memoryless': only an agent .* CNN-LSTM has a memory"),
        ("methods", ["pure-SL-memoryless+Elastix"], "only an agent .* CNN-LSTM has a memory"),
        ("methods", ["RL-LME-memoryless-MC"], "unknown variant 'RL-LME-memoryless-MC'"),
        ("methods", ["SIFT", "SIFT"], "methods: an entry stands there twice"),
        ("wide_methods", ["SIFT", "RL-LMW"], "wide_methods: 'RL-LMW' is none of the methods"),
        ("slow_methods", ["RL-LMW"], "slow_methods: 'RL-LMW' is none of the methods"),
        ("slow_methods", ["RL-LME-MC", "RL-LME-MC+Elastix"], "'RL-LME' needs 'RL-LME-MC' and so belongs"),
        ("slow_methods", ["RL-LME", "RL-LME-MC"], "'RL-LME-MC.Elastix' needs 'RL-LME' and so belongs there"),
        ("seeds", [], "seeds"),
        ("run", "../elsewhere", "run"),
        ("phantoms", {}, "phantoms: no such key; did you mean 'phantom'"),
    ],
)
def test_a_fault_at_the_top_is_named(config, key, value, message):
    config[key] = value
    with pytest.raises(UserError, match=message):
        load(config)


def test_the_truth_alone_is_tilted(config):
    config["preregistration"] = {"tilt_deg": 3.0}
    with pytest.raises(UserError, match="tilt_deg: 3 goes with method 'truth', found 'elastix'"):
        load(config)


def test_a_sheet_has_no_truth_to_take(config):
    config["preregistration"] = {"method": "truth"}
    assert load(config).preregistration.method == "truth"
    config["cohort"] = {"source": "sheet", "sheet": "patients.tsv"}
    with pytest.raises(UserError, match="'truth' is for simulated patients; a sheet gives known alignments"):
        load(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: 001", "run: expected text, found the number 1;"),
        ("run: 1.5", "run: expected text, found the number 1.5;"),
        ("run: 2026-11-27", "run: expected text, found the date 2026-11-27;"),
        ("run: on", "run: expected text, found the truth value True;"),
        ("methods: [SIFT, 007]", "methods.1: expected text, found the number 7;"),
        ("variants: {001: {learner: regression}}", "variants.1: expected text, found the number 1;"),
        ("cohort: {source: sheet, sheet: 2026}", "cohort.sheet: expected text, found the number 2026;"),
        (
            "preregistration: {parameter_map: 3}",
            "preregistration.parameter_map: expected text, found the numb",
        ),
        (
            "variants: {a: {learner: pretrained, model: no}}",
            "variants.a.model: expected text, found the truth v",
        ),
    ],
)
def test_text_that_yaml_takes_for_something_else_needs_quotes(config, text, message):
    with pytest.raises(UserError) as caught:
        load(config | yaml.safe_load(text))
    told = [line for line in str(caught.value).splitlines() if line.startswith(f"config: {message}")]
    assert len(told) == 1 and told[0].endswith(
        "; put it into quotes in a settings file (--config drops quotes)"
    )


def test_a_number_on_the_command_line_is_no_name(config):
    for given in ("run=001", 'run="001"'):
        with pytest.raises(
            UserError, match="^config: run: expected text, found the number 1; put it into quotes"
        ):
            load(config | parse_config([given]))
    assert load(config | yaml.safe_load('run: "001"')).run == "001"


def test_every_fault_is_told_at_once(config):
    config["cohort"]["patients"] = 0
    config["slices"] = {"size": 3}
    with pytest.raises(UserError) as error:
        load(config)
    assert len(str(error.value).splitlines()) == 2


def test_a_variant_that_is_null_is_left_out(config):
    config["variants"]["SL-LME"] = None
    config["methods"] = [name for name in config["methods"] if "SL-LME" not in name]
    assert "SL-LME" not in load(config).variants and "RL-LME" in load(config).variants


def test_every_key_is_explained():
    explained = set(re.findall(r"^\| `(\w+)`", (ROOT / "config/README.md").read_text(), flags=re.MULTILINE))
    keys = {key for model in models() for key in model.model_fields}
    assert keys - explained == set()
    assert explained - keys == set()


def test_defaults_in_the_readme_are_the_models():
    text = (ROOT / "config/README.md").read_text()
    for model in models():
        for key, field in model.model_fields.items():
            default = field.get_default()
            if isinstance(default, int | float) and not isinstance(default, bool) and key != "train_fraction":
                rows = re.findall(rf"^\| `{key}` \| ([^|]+) \|", text, flags=re.MULTILINE)
                numbers = {float(cell.replace(" ", "")) for cell in rows if re.fullmatch(r"[-\d. ]+", cell)}
                assert default in numbers, f"{model.__name__}.{key}: {default} is not among {numbers}"


def test_every_key_has_a_description():
    for model in models():
        for key, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{key}: write what it means in a docstring below it"


def test_the_tables_and_the_schema_are_the_models(tmp_path):
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config/README.md", tmp_path / "config")
    runpy.run_path(str(ROOT / "docs/fill.py"))["fill_settings"](tmp_path)
    for name in ("README.md", "schema.json"):
        written = (tmp_path / "config" / name).read_bytes()
        assert written == (ROOT / "config" / name).read_bytes(), f"config/{name}: run `make settings`"


def test_every_model_with_keys_of_its_own_has_its_table():
    places = re.findall(r"<!-- keys:(\w+):start -->", (ROOT / "config/README.md").read_text())
    keyed = {model.__name__ for model in models() if set(model.__annotations__) - {"learner"}}
    assert sorted(places) == sorted(keyed - {"Model"} | {"learner"})


CONFIGURATIONS = sorted((ROOT / "config").glob("*.yaml"))


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_a_configuration_is_valid_by_the_schema_that_it_names(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    Draft202012Validator(SCHEMA).validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "overlay",
    [
        {},
        {"perturbations": {"E1": {"rotation_deg": 10}}},
        {"variants": {"RL-LME": {"steps": 600_000}, "SL-LME": None}},
        {"variants": {"RL-LME": {"steps": "600_000"}}},  # as an editor reads it
    ],
)
def test_the_schema_accepts_a_part_of_the_configuration(overlay):
    Draft202012Validator(SCHEMA).validate(overlay)


@pytest.mark.parametrize(
    "overlay",
    [
        {"cohorts": {}},
        {"cohort": {"patiens": 3}},
        {"cohort": {"patients": 1}},
        {"cohort": {"patients": "many"}},
        {"cohort": None},
        {"variants": {"RL-LME": {"stepps": 3}}},
        {"variants": {"SL-LME": {"learner": "supervised", "reward": "paper"}}},
        {"methods": []},
    ],
)
def test_the_schema_refuses_what_the_models_refuse(overlay):
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(overlay)


def test_a_variant_is_the_model_that_its_learner_names():
    shown = SupervisedAgent(learner="supervised", steps=7)
    assert agent_settings({"learner": "supervised", "steps": 7}) == shown
    settings = ReinforcementAgent(learner="reinforcement", unroll=3)
    assert agent_settings(settings.model_dump(mode="json")) == settings
    with pytest.raises(ValueError, match="magic"):
        agent_settings({"learner": "magic"})


def test_a_key_of_another_section_is_named_with_its_section():
    with pytest.raises(UserError, match=r"did you mean 'preregistration\.minimum_overlap'\?"):
        load({"cohort": {"minimum_overlap": 0.5}, "variants": {}, "methods": ["Initial"]})


def test_a_parameter_map_must_be_there():
    for name, message in (
        ("config/elastix/rigid3d.txt", r"parameter_map: config/elastix/rigid3d\.txt: no such file"),
        (
            "my/map",
            r"my/map: no parameter map of that name; expected multistart2d, refine2d, refine3d, rigid3d",
        ),
    ):
        with pytest.raises(UserError, match=message):
            load({"preregistration": {"parameter_map": name}, "variants": {}, "methods": ["Initial"]})
