"""The table of every case, the page of what was found, and the README and docs filled from a run."""

import re
import runpy
import shutil

import pandas as pd
import pytest
from test_tables import REFERENCE, write
from workflow import ROOT

from regagent.evaluation.case_table import SCHEMA_VERSION, make_case_table
from regagent.evaluation.claims import make_claims
from regagent.evaluation.results_page import write_results
from regagent.evaluation.table2 import make_table2
from regagent.evaluation.table2_statistics import make_table2_statistics
from regagent.files import UserError
from regagent.settings import Inference

METHODS = {
    "Initial": [20.0, 20.0, 20.0, 20.0],
    "SIFT": [10.0, 20.0, 9.0, 11.0],
    "Elastix": [1.0, 1.0, 9.0, 9.0],
    "RL-LME-MC": [1.0, 2.0, 1.0, 2.0],
}


@pytest.fixture
def run(tmp_path):
    """Write a made-up run with every table that the page needs, and invented pictures."""
    run = tmp_path / "results" / "tiny"
    paths = [
        write(run, method, METHODS[method], seed, name)
        for name in ("E1", "E2")
        for method in METHODS
        for seed in ([1, 2, 3] if method == "RL-LME-MC" else [0])
    ]
    tables = run / "tables"
    of = {name: [tables / f"{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")] for name in NAMES}
    make_table2(paths, REFERENCE, list(METHODS), *of["table2"])
    make_table2_statistics(paths, REFERENCE, list(METHODS), *of["table2_statistics"])
    make_claims(paths, [], of["claims"][0], of["claims"][1], of["claims"][3], Inference())
    write_results(
        "tiny", of["table2"][:2], of["table2_statistics"][:2], of["claims"][0], tables / "results.md"
    )
    (run / "figures").mkdir()
    for name in ("figure4", "figure5", "training"):
        (run / "figures" / f"{name}.png").write_bytes(name.encode())
    return run


NAMES = ("table2", "table2_statistics", "claims")
#: Pictures of the docs that no default run draws.
OF_OTHER_RUNS = {"literal", "rotation_range", "training_pairs", "trust", "volume_episode"}


def test_the_page_holds_the_numbers_of_the_tables(run):
    text = (run / "tables" / "results.md").read_text(encoding="utf-8")
    assert "RL-LME-MC has the lowest mean TRE, 1.50 px" in text
    assert "RL-LME-MC: 1.50 ± 0.50 px, 90th percentile 2.00 px (paper: 1.39 ± 1.45, 2.59)" in text
    assert "ends within 2 px in 100 % of the cases" in text
    for name in ("table2", "table2_statistics"):
        assert (run / "tables" / f"{name}.md").read_text(encoding="utf-8").strip() in text
    claims = pd.read_csv(run / "tables" / "claims.csv")
    for says, rows in claims.drop_duplicates(["claim", "tested_on"]).groupby("claim"):
        verdicts = [
            verdict.capitalize() if place == "otherwise" else f"{place[0].upper()}{place[1:]}: {verdict}"
            for place, verdict in zip(rows["tested_on"], rows["verdict"], strict=True)
        ]
        assert f"**{says}** *{'; '.join(verdicts)}.*" in text
    # Patients with differences of 0 … −0.5 px and of 7.5 px: the mean is 3.5 px, and open.
    assert "Elastix minus RL-LME-MC, mean, E2: 3.50 [-0.50, 7.50] (open)" in text
    of_e1 = claims[claims["tested_on"] == "E1"].drop_duplicates("claim")["verdict"].value_counts()
    assert of_e1["supported"] and f"E1: of {of_e1.sum()} claims {of_e1['supported']} supported, " in text
    assert "nan" not in re.findall(r"\w+", text)


def test_the_page_of_an_own_run_without_the_papers_methods(tmp_path):
    paths = [write(tmp_path, "mine", [1.0, 2.0], name=name) for name in ("E1", "E2")]
    of = {name: [tmp_path / f"{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")] for name in NAMES}
    make_table2(paths, REFERENCE, ["mine"], *of["table2"])
    make_table2_statistics(paths, REFERENCE, ["mine"], *of["table2_statistics"])
    make_claims(paths, [], of["claims"][0], of["claims"][1], of["claims"][3], Inference())
    page = tmp_path / "results.md"
    write_results("own", of["table2"][:2], of["table2_statistics"][:2], of["claims"][0], page)
    text = page.read_text(encoding="utf-8")
    assert "0 supported, 0 not supported" in text and "nan" not in re.findall(r"\w+", text)


def test_a_table_that_cannot_be_read_is_named(run):
    tables = run / "tables"
    of = {name: (tables / f"{name}.csv", tables / f"{name}.md") for name in NAMES}
    for path in (of["claims"][0], of["table2"][1]):
        path.unlink()
        with pytest.raises(UserError, match=f"{path.name}: not a readable table"):
            write_results("tiny", of["table2"], of["table2_statistics"], of["claims"][0], tables / "again.md")


@pytest.fixture
def fill():
    return runpy.run_path(str(ROOT / "docs" / "fill.py"))["fill_run"]


def test_readme_and_docs_are_filled_from_a_run(run, tmp_path, fill):
    root = tmp_path / "checkout"
    for folder in (root / "docs" / "images", root / "workflow_scripts" / "regagent" / "data"):
        folder.mkdir(parents=True)
    for name, seconds in (("P001", 12.2), ("P002", 13.2)):
        path = run / "benchmarks" / "simulate_patient" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tcpu_time\n{seconds}\t0:00:12\tNA\n")
    shutil.copy(ROOT / "README.md", root)
    for _ in range(2):  # a second time changes nothing more
        fill(run, root)
        text = (root / "README.md").read_text(encoding="utf-8")
        table = text.split("<!-- table2:start -->\n")[1].split("<!-- table2:end -->")[0]
        assert re.search(r"^\| RL-LME-MC \| .* \| 1\.39 \|", table, flags=re.MULTILINE)
        before, after = (ROOT / "README.md").read_text(encoding="utf-8").split("<!-- table2:start -->\n")
        assert text == f"{before}<!-- table2:start -->\n{table}{after[after.index('<!-- table2:end -->') :]}"
    assert (root / "docs" / "results.md").read_text() == (run / "tables" / "results.md").read_text()
    pages = [text, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))]
    shown = set(re.findall(r"images/(\w+)\.png", "".join(pages))) - OF_OTHER_RUNS
    assert {path.stem for path in (root / "docs" / "images").iterdir()} == shown
    assert (folder / "seconds.csv").read_text() == "rule,seconds\nsimulate_patient,13.0\n"


def test_an_unfinished_run_changes_nothing(run, tmp_path, fill):
    root = tmp_path / "checkout"
    root.mkdir()
    shutil.copy(ROOT / "README.md", root)
    (run / "figures" / "figure5.png").unlink()
    with pytest.raises(UserError, match=r"figure5.png: no such file.*make reproduce"):
        fill(run, root)
    assert [path.name for path in root.iterdir()] == ["README.md"]
    assert (root / "README.md").read_bytes() == (ROOT / "README.md").read_bytes()


def perturbations(folder, cases=4):
    paths = []
    for name, shift in (("E1", 3.0), ("E2", 9.0)):
        path = folder / "perturbations" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        pd.DataFrame(
            {
                "case": range(cases), "patient": [f"P{number // 2:03d}" for number in range(cases)],
                "slice": 0, "tx": shift, "ty": range(cases), "angle": -5.0, "scale": 0.9, "seed": 1,
            }
        ).to_csv(path, index=False)  # fmt: skip
        paths.append(path)
    return paths


def test_every_case_stands_in_one_table(tmp_path):
    paths = [write(tmp_path, "SIFT", METHODS["SIFT"], name=name) for name in ("E1", "E2")]
    paths += [write(tmp_path, "RL-LME", [1.0, 2.0, 3.0, 4.0], seed, tx=-2.5) for seed in (1, 2)]
    output = tmp_path / "cases.csv"
    make_case_table(paths, perturbations(tmp_path), output)
    cases = pd.read_csv(output)
    assert len(cases) == 16 and (cases["schema_version"] == SCHEMA_VERSION).all()
    row = cases[(cases["method"] == "RL-LME") & (cases["seed"] == 2)].iloc[3]
    assert (row["set"], row["patient"], row["pose_tx"], row["tre_px"], row["tre_mm"]) == (
        "E1",
        "P001",
        -2.5,
        4,
        6,
    )
    assert row[[f"perturbation_{name}" for name in ("tx", "ty", "angle", "scale")]].tolist() == [
        3,
        3,
        -5,
        0.9,
    ]
    assert (cases["perturbation_tx"] == cases["set"].map({"E1": 3.0, "E2": 9.0})).all()
    text = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    documented = text[text.index("## cases.csv") : text.index("## table2.csv")]
    assert set(cases.columns) <= set(re.findall(r"`(\w+)`", documented))


def test_a_case_that_was_not_perturbed_is_named(tmp_path):
    paths = [write(tmp_path, "SIFT", METHODS["SIFT"])]
    with pytest.raises(UserError, match="SIFT, seed 0, E1: case 2 of patient P001, slice 0, is not in"):
        make_case_table(paths, perturbations(tmp_path, cases=2), tmp_path / "cases.csv")
