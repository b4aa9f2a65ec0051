"""The report's first page says how many patients, how well it works, and where it fails."""

import re

import pandas as pd
from docutils.core import publish_parts
from test_tables import write

from regagent.evaluation.report_summary import write_summary
from regagent.files import write_table
from regagent.methods import NO_AGENT

FAMILIES = {"Initial": NO_AGENT, "SIFT": NO_AGENT, "SL-LME": "supervised", "RL-LME-MC": "reinforcement"}


def summary(folder, families=FAMILIES, **columns) -> str:
    errors = {
        "Initial": [20.0] * 4,
        "SIFT": [9.0] * 4,
        "SL-LME": [3.0] * 4,
        "RL-LME-MC": [0.5, 1.0, 1.5, 7.0],
    }
    paths = [
        write(folder, method, errors[method], name=name, initial_px=[10.0, 20.0, 30.0, 40.0], **columns)
        for method in families
        for name in ("E1", "E2")
    ]
    write_table(
        pd.DataFrame({"patient": list("ABC"), "set": ["train", "train", "test"]}), folder / "split.tsv"
    )
    write_summary(paths, folder / "split.tsv", families, folder / "summary.rst")
    return (folder / "summary.rst").read_text()


def test_counts_errors_and_failures(tmp_path):
    text = summary(tmp_path)
    assert "2 patients trained the agents, each agent once. All errors are of 2 others (``P000``" in text
    assert "``P001``): 2 slice pairs" in text
    assert "the lowest mean error has on E1 RL-LME-MC (2.50 px) and on E2 RL-LME-MC (2.50 px)." in text
    assert "4 cases of E1 and 4 cases of E2" in text
    assert '"RL-LME-MC","2.50","1.25","75 %","2.50","1.25","75 %"' in text
    assert '"SIFT"' in text and '"SL-LME"' not in text
    assert "1 of 4 cases of E1 (25 %) and in 1 of 4 cases of E2 (25 %)" in text
    assert "0 % of the cases that begin within 25 px and 50 % of those that begin farther off" in text
    assert "0 % (``P000``) to 50 % (``P001``)" in text
    assert "threshold" not in text and "ends 7.0 px off, from 40.0 px at the start" in text


def test_cases_that_the_agent_refuses_are_told(tmp_path):
    text = summary(tmp_path, status=["registered", "registered", "refused", "refused"])
    assert "In 4 of 8 the value never reached the threshold; 50 % of these end that far off." in text


def test_a_run_without_the_papers_method_has_no_word_on_its_failures(tmp_path):
    text = summary(tmp_path, families={"Initial": NO_AGENT, "SIFT": NO_AGENT})
    assert "Where it fails" not in text and '"SIFT"' in text


def test_it_is_sound_markup_with_a_table(tmp_path):
    html = publish_parts(summary(tmp_path), writer="html", settings_overrides={"halt_level": 2})["body"]
    assert len(re.findall("<tr", html)) == 4  # a header, Initial, SIFT and RL-LME-MC
