"""The README says what is so: its settings are valid, its rules and files exist."""

import re
from pathlib import Path

import yaml

from regagent.settings import load

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


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
    rules = set(re.findall(r"^\s*(?:rule|use rule \w+ as) (\w+)(?::| with:)", text, flags=re.MULTILINE))
    rules -= {"import_patient"}  # with a sample sheet, in place of the first
    drawn = set(re.findall(r"[a-z]+_[a-z0-9_]+", blocks("mermaid")[0]))
    assert drawn == rules


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(" ".join(re.findall(r"^([\w ]+):", makefile, flags=re.MULTILINE)).split())
    named = set(re.findall(r"(?:^|`)make ([a-z_]+)", TEXT, flags=re.MULTILINE))
    assert {"reproduce", "report", "smoke", "test"} <= named <= targets


def test_linked_files_exist():
    pages = [ROOT / "README.md", ROOT / "config" / "README.md", *(ROOT / "docs").glob("*.md")]
    links = {page: re.findall(r"\[[^]]*\]\(((?!http)[^)#]+)", page.read_text("utf-8")) for page in pages}
    assert links[pages[0]]
    assert not [(page, link) for page in pages for link in links[page] if not (page.parent / link).exists()]
