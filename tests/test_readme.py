"""The README and the docs say what is so: their settings are valid, their rules and files exist."""

import re
from pathlib import Path

import yaml
from test_house import ORDER

from regagent.settings import load

ROOT = Path(__file__).parent.parent
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/running.md")}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", "".join(TEXTS.values()), flags=re.DOTALL)


def laid_over(base: dict, overlay: dict) -> dict:
    """Merge as Snakemake does with a second config file: mappings by key, all else replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = laid_over(merged[key], value) if both else value
    return merged


def test_example_settings_are_valid():
    base = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    examples = blocks("yaml")
    assert len(examples) == 3
    for example in examples:
        assert load(laid_over(base, yaml.safe_load(example))).run != base["run"]


def test_the_graph_names_every_rule():
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    rules = set(re.findall(r"^\s*rule (\w+):", text, flags=re.MULTILINE))
    rules -= {"import_patient"}  # with a sample sheet, in place of the first
    drawn = set(re.findall(r"[a-z]+_[a-z0-9_]+", blocks("mermaid")[0]))
    assert drawn == rules


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(" ".join(re.findall(r"^([\w ]+):", makefile, flags=re.MULTILINE)).split())
    named = set(re.findall(r"(?:^|`)make ([a-z_]+)", "".join(TEXTS.values()), flags=re.MULTILINE))
    assert {"reproduce", "report", "smoke", "test"} <= named <= targets


def test_linked_files_exist():
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "config/README.md")]
    pages += (ROOT / "docs").glob("*.md")
    links = {page: re.findall(r"\[[^]]*\]\(((?!http)[^)#]+)", page.read_text("utf-8")) for page in pages}
    assert links[pages[0]]
    assert not [(page, link) for page in pages for link in links[page] if not (page.parent / link).exists()]


def test_the_layout_names_every_package_in_its_order():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    packages = text.split("| in `workflow_scripts/regagent/` |")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)/` \|", packages, flags=re.MULTILINE) == list(ORDER[1:])


def test_the_recipes_name_files_that_exist_but_for_the_new_ones():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w.]+(?:/[\w.]+)+/?)`", text))
    assert {path for path in named if not (ROOT / path).exists()} == {
        "rules/captions/patients.rst",
        "workflow_scripts/draw_patients.py",
        "workflow_scripts/regagent/conventional/phase.py",
        "workflow_scripts/register_phase.py",
    }
