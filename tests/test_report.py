"""A report shows all its pictures in a real browser, without an error; and the check can tell when not.

`make check_report` opens report.html of a run; without the variable REPORT only a tiny report is opened.
"""

import os
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from browser import CHROMIUM, visit
from workflow import snakemake

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")

SNAKEFILE = """
report: "front.rst"
rule all:
    input: "a.png", "b.html"
rule draw:
    input: "source.png"
    output: report("a.png", caption="caption.rst", category="Figures", labels={"figure": "a"})
    shell: "cp {input} {output}"
rule write:
    input: "source.html"
    output: report("b.html", caption="caption.rst", category="Tables", labels={"table": "b"})
    shell: "cp {input} {output}"
"""
RED_DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """The text of Snakemake's report of a run of one picture and one page that holds another."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "front.rst").write_text("A front page.")
    (folder / "caption.rst").write_text("A caption.")
    (folder / "source.html").write_text(f'<html><body><img src="{RED_DOT}"></body></html>')
    matplotlib.image.imsave(folder / "source.png", np.eye(8))
    for arguments in (["--cores", "1"], ["--report", "report.html"]):
        result = snakemake(folder, *arguments)
        assert result.returncode == 0, result.stdout
    return (folder / "report.html").read_text()


def faults_of(text: str, folder: Path) -> list[str]:
    path = folder / "report.html"
    path.write_text(text)
    return visit(path, folder)[0]


def test_a_sound_report_has_no_faults(tiny, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(tiny)
    assert visit(path, tmp_path) == ([], 2)


def test_a_damaged_picture_is_found(tiny, tmp_path):
    damaged, count = re.subn(r'("data_uri": "data:image/png[^,]*,)[^"]{40}', r"\1", tiny)
    assert count == 1
    (fault,) = faults_of(damaged, tmp_path)[-1:]
    assert fault == "a.png: a picture does not show"


def test_a_missing_caption_is_found(tiny, tmp_path):
    assert '"caption": "' in tiny
    bare = re.sub(r'"caption": "(?:[^"\\]|\\.)*"', '"caption": ""', tiny, count=1)
    (fault,) = faults_of(bare, tmp_path)
    assert fault.endswith(": no caption")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<img src="absent.png">', "IMG not loaded"),
        ('<link rel="stylesheet" href="https://example.org/style.css">', "LINK not loaded"),
        ('<script>console.error("out of order")</script>', "out of order"),
        ("<script>nothing.at.all()</script>", "ReferenceError"),
        ("<script>not a script(</script>", "SyntaxError"),
        ("<script>Promise.reject('broken promise')</script>", "broken promise"),
    ],
)
def test_the_faults_of_a_page_are_found(body, fault, tmp_path):
    faults = faults_of(f"<!doctype html><html><head></head><body>{body}</body></html>", tmp_path)
    assert any(fault in found for found in faults), faults


@pytest.mark.skipif("REPORT" not in os.environ, reason="REPORT names no report.html")
def test_the_report_of_a_run(tmp_path):
    report = Path(os.environ["REPORT"])
    faults, pictures = visit(report, tmp_path)
    assert not faults, "\n".join(faults)
    assert pictures >= 10, f"{report} shows {pictures} pictures; a run has more"
