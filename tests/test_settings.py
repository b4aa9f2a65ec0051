"""The configuration: what is refused, with which words, and that every key is explained."""

import re

import pytest
import yaml
from workflow import ROOT

from regagent.files import UserError
from regagent.settings import Model, load

DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def models():
    found = [Model]
    for model in found:
        found.extend(model.__subclasses__())
    return found


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
        ("methods", ["pure-SL-MC"], "a regressor has no look-ahead"),
        ("methods", ["SIFT", "SIFT"], "methods: an entry stands there twice"),
        ("seeds", [], "seeds"),
        ("run", "../elsewhere", "run"),
        ("phantoms", {}, "phantoms: no such key; did you mean 'phantom'"),
    ],
)
def test_a_fault_at_the_top_is_named(config, key, value, message):
    config[key] = value
    with pytest.raises(UserError, match=message):
        load(config)


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
