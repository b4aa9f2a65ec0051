"""Table 2 against hand-computed numbers, and the reference against cells known from the paper."""

import re
from pathlib import Path

import pandas as pd
import pytest

from regagent.evaluation.table2 import lay_out_short, make_table2
from regagent.files import UserError, read_table

REFERENCE = Path(__file__).parent.parent / "config" / "reference" / "table2.csv"
METHODS = ["Initial", "SIFT", "RL-LME-MC"]


def write(run: Path, method: str, errors: list[float], seed: int = 0, name: str = "E1", **columns) -> Path:
    frame = pd.DataFrame(
        {
            "case": range(len(errors)),
            "patient": [f"P{number // 2:03d}" for number in range(len(errors))],
            "slice": 0, "tx": 0.0, "ty": 0.0, "angle": 0.0, "scale": 1.0, "initial_px": 20.0,
            "tre_px": errors, "tre_mm": [1.5 * error for error in errors],
            "steps": 0, "seconds": 0.25, "status": "registered",
        }
    ).assign(**columns)  # fmt: skip
    path = run / "registrations" / method / f"seed{seed}" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    run = tmp_path / "results" / "tiny"
    failed = ["failed", "failed", "registered", "registered"]
    limited = ["refused", "registered", "registered", "registered"]
    return [
        write(run, method, errors, name=name, status=status)
        for name in ("E1", "E2")
        for method, errors, status in (
            ("Initial", [0.5, 0.5, 0.5, 0.5], "registered"),
            ("SIFT", [10.0, 20.0, 1.0, 1.0], failed),
            ("RL-LME-MC", [1.0, 2.0, 3.0, 6.0], limited),
        )
    ]


def table(paths: list[Path], folder: Path, methods: list[str] = METHODS) -> dict[str, str]:
    outputs = {suffix: folder / f"table2.{suffix}" for suffix in ("csv", "md", "tex", "html")}
    make_table2(paths, REFERENCE, methods, *outputs.values())
    return {suffix: path.read_text(encoding="utf-8") for suffix, path in outputs.items()}


def row_of(markdown: str, method: str) -> list[str]:
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {method} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_numbers_by_hand(paths, tmp_path):
    table(paths, tmp_path)
    frame = read_table(tmp_path / "table2.csv")
    assert frame["method"].tolist() == METHODS * 2 and frame["set"].tolist() == ["E1"] * 3 + ["E2"] * 3
    row = frame.iloc[2]
    assert row["mean_px"] == 3.0 and row["mean_mm"] == 4.5 and row["p50_px"] == 2.5
    assert row["std_px"] == pytest.approx(3.5**0.5, abs=1e-6)  # deviations 2, 1, 0, 3
    assert row["p90_px"] == pytest.approx(5.1)  # 3 + 0.7 · (6 - 3)
    assert (row["n_cases"], row["n_patients"], row["seeds"]) == (4, 2, 1)
    assert row["seconds_per_case"] == 0.25 and row["paper_mean"] == 1.39


def test_failures_and_refusals_are_counted_and_failures_count_in_the_error(paths, tmp_path):
    written = table(paths, tmp_path)
    frame = read_table(tmp_path / "table2.csv").set_index(["method", "set"])
    assert frame["failures"].tolist() == [0, 2, 0] * 2 and frame["refused"].tolist() == [0, 0, 1] * 2
    assert frame.loc[("SIFT", "E1"), "mean_px"] == 8.0
    assert frame["accepted_mean_px"].tolist() == pytest.approx([0.5, 1.0, 11 / 3] * 2, abs=1e-6)
    rows = [row_of(written["md"], name) for name in ("Initial", "SIFT", "RL-LME-MC")]
    assert [[cell for cell in row if cell in ("1.00", "3.67")] for row in rows] == [[], ["1.00"], ["3.67"]]


def bold_cells(html: str) -> list[str]:
    """Return the text of the cells that the page's style names as bold."""
    styles = re.findall(r"((?:#\w+[,\s]+)+)\{\s*font-weight: bold;\s*\}", html)
    names = re.findall(r"#(\w+)", " ".join(styles))
    return [re.search(rf'<td id="{name}" [^>]*>([^<]*)</td>', html).group(1) for name in names]


def test_the_best_of_each_column_is_bold_and_the_initial_pose_does_not_compete(paths, tmp_path):
    texts = table(paths, tmp_path)
    assert row_of(texts["md"], "RL-LME-MC")[1:4] == ["**3.00 ± 1.87**", "**2.50**", "**5.10**"]
    assert not any("**" in cell for cell in row_of(texts["md"], "Initial") + row_of(texts["md"], "SIFT"))
    assert bold_cells(texts["html"]) == ["3.00 ± 1.87", "2.50", "5.10"] * 2
    assert re.findall(r"\\textbf\{(.*?)\}", texts["tex"]) == [r"3.00 $\pm$ 1.87", "2.50", "5.10"] * 2


def test_equal_looking_bests_are_all_bold(tmp_path):
    paths = [write(tmp_path, "SIFT", [1.001, 1.001]), write(tmp_path, "RL-LME-MC", [1.002, 1.002])]
    text = table(paths, tmp_path, ["SIFT", "RL-LME-MC"])["md"]
    assert text.count("**1.00 ± 0.00**") == 2


def test_the_papers_numbers_stand_beside_ours(paths, tmp_path):
    text = table(paths, tmp_path)["md"]
    assert row_of(text, "RL-LME-MC")[-3:] == ["1.39 ± 1.45", "0.98", "2.59"]
    assert row_of(text, "Initial")[-3:] == ["–", "–", "–"]


def test_several_seeds_are_averaged_and_their_spread_is_shown(tmp_path):
    paths = [write(tmp_path, "SIFT", [4.0, 4.0])]
    paths += [write(tmp_path, "RL-LME", errors, seed) for seed, errors in ((1, [1.0, 3.0]), (2, [3.0, 5.0]))]
    text = table(paths, tmp_path, ["SIFT", "RL-LME"])["md"]
    row = read_table(tmp_path / "table2.csv").iloc[1]
    assert (row["seeds"], row["mean_px"], row["std_px"], row["n_cases"]) == (2, 3.0, 1.0, 2)
    assert row["mean_px_seed_spread"] == pytest.approx(2**0.5, abs=1e-6)
    assert row_of(text, "RL-LME")[2] == "1.41" and row_of(text, "SIFT")[2] == "–"
    assert "mean over seeds" in text


def test_latex_is_balanced_and_every_row_has_every_column(paths, tmp_path):
    text = table(paths, tmp_path)["tex"]
    body = re.sub(r"(?m)^%.*$", "", text)
    assert body.count("{") == body.count("}") and body.count("$") % 2 == 0
    assert re.findall(r"\\begin\{(.*?)\}", body) == re.findall(r"\\end\{(.*?)\}", body)[::-1]
    columns = len(re.search(r"\\begin\{tabular\}\{(l?r+)\}", body).group(1))
    for line in body.splitlines():
        if line.endswith(r"\\"):
            spanned = sum(int(width) - 1 for width in re.findall(r"\\multicolumn\{(\d+)\}", line))
            assert len(re.split(r"(?<!\\)&", line)) + spanned == columns, line
    assert body.isascii()


def test_names_are_escaped(tmp_path):
    texts = table([write(tmp_path, "my_agent&<b>", [1.0])], tmp_path, ["my_agent&<b>"])
    assert r"my\_agent\&$<$b$>$" in texts["tex"] and "my_agent&amp;&lt;b&gt;" in texts["html"]


def test_html_stands_alone(paths, tmp_path):
    text = table(paths, tmp_path)["html"]
    assert (
        not re.search("src=|href=|url\\(|<script", text)
        and text.count("<table ") == text.count("</table>") == 2
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tre_px": [1.0, float("nan")]}, "not finite"),
        ({"status": "lost"}, "status lost, expected registered, refused, failed"),
        ({"case": [0, 7]}, "2 cases, expected the 2 cases of"),
    ],
)
def test_a_faulty_table_is_named(tmp_path, columns, message):
    paths = [write(tmp_path, "SIFT", [1.0, 2.0]), write(tmp_path, "RL-LME", [1.0, 2.0], 1, **columns)]
    with pytest.raises(UserError, match=f"RL-LME/seed1/E1.csv.*{message}"):
        table(paths, tmp_path, ["SIFT", "RL-LME"])


def test_the_small_table_has_both_sets_side_by_side(paths, tmp_path):
    table(paths, tmp_path)
    short = lay_out_short(read_table(tmp_path / "table2.csv"))
    assert short.title == "4 cases of 2 patients in each set, 1 seed"
    assert short.cells.index.tolist() == ["Initial", "RL-LME-MC"]  # SIFT is none of its rows
    row = short.cells.loc["RL-LME-MC"]
    assert row.tolist() == ["3.00", "5.10", "1.39", "3.00", "5.10", "1.66", "0.25"]
    assert short.bold.loc["RL-LME-MC"].tolist() == [True, True, False, True, True, False, False]
    assert not short.bold.loc["Initial"].any() and short.cells.loc["Initial", "E1 paper's mean"] == "–"


def test_slow_methods_may_have_a_part_of_the_cases(tmp_path):
    paths = [write(tmp_path, "SIFT", [1.0, 2.0, 3.0]), write(tmp_path, "Elastix", [4.0, 5.0])]
    text = table(paths, tmp_path, ["SIFT", "Elastix"])["md"]
    assert "E1: 3 cases of 2 patients" in text and "slow methods registered the first" in text
    assert [row_of(text, method)[1] for method in ("SIFT", "Elastix")] == ["3", "2"]
    other = write(tmp_path, "RL-LME", [4.0], 1)
    with pytest.raises(UserError, match="cases, expected the 3 cases of .*SIFT"):
        table([*paths, other], tmp_path, ["SIFT", "Elastix", "RL-LME"])


def test_a_method_without_registrations_is_named(paths, tmp_path):
    with pytest.raises(UserError, match="no registrations of Elastix on E1"):
        table(paths, tmp_path, ["Elastix"])


def test_reference_cells_of_the_paper():
    frame = read_table(REFERENCE).set_index(["method", "set"])
    assert len(frame) == 24 and frame.index.is_unique
    assert frame.loc[("RL-LME-MC", "E2")].tolist() == [1.66, 2.30, 1.08, 3.17]
    assert frame.loc[("SL-LME-MC", "E1")].tolist() == [3.10, 41.67, 1.09, 3.03]
    assert frame.loc[("Elastix", "E2")].tolist() == [2.33, 1.86, 1.07, 5.33]
    assert frame.loc[("SIFT", "E1")].tolist() == [11.79, 9.81, 9.04, 19.99]
    assert frame.loc[("CNN-LME-MC", "E2"), ["mean", "std"]].tolist() == [3.52, 5.70]
    assert frame["p50"].isna().sum() == 2
    assert (frame["p90"].dropna() > frame["p50"].dropna()).all()
