"""The archive of a run: code and small files of one time, and what an RO-Crate says of them."""

import json
import subprocess
from pathlib import Path

import pytest

from regagent.files import UserError
from regagent.reproduction.archive import PROFILES, archive_run
from regagent.reproduction.provenance import commit

FILES = {
    "tables/table2.csv": "method\nRL-LME\n",
    "volumes/P001/mr.nii.gz": "large",
    "preregistered/P001/ct.nii.gz": "large",
    "preregistered/P001/quality.json": "{}",
    "state/RL-LME/seed1/training.csv": "to go on with",
    "models/RL-LME/seed1/model.pt": "weights",
}
TABLE, MODEL = "results/own/tables/table2.csv", "results/own/models/RL-LME/seed1/model.pt"


def git(folder, *arguments):
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    """A small checkout with a finished run."""
    root = tmp_path / "checkout"
    (root / "config").mkdir(parents=True)
    for name in ("Snakefile", "config/config.yaml", ".gitignore"):
        (root / name).write_text("results/\n" if name == ".gitignore" else "")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one")
    run = root / "results" / "own"
    for name, text in FILES.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)
    record = {
        "written": "2026-11-28T13:35:10+00:00",
        **commit(root),
        "machine": {"processor": "two cores"},
        "packages": {"snakemake": "9.1", "torch": None},
        "sha256": {"results/own/volumes/P001/mr.nii.gz": "1", MODEL: "2"},
        "results": {TABLE: "3"},
    }
    (run / "provenance.json").write_text(json.dumps(record))
    return root


def unpacked(archive, folder):
    folder.mkdir()
    subprocess.run(["tar", "xzf", archive, "-C", folder], check=True)
    (top,) = folder.iterdir()
    return top


def test_an_archive_has_the_code_and_the_small_files_of_one_time(checkout, tmp_path):
    archive_run(Path("results/own"), checkout, tmp_path / "own.tar.gz")
    top = unpacked(tmp_path / "own.tar.gz", tmp_path / "there")
    files = {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}
    small = {f"results/own/{name}" for name in FILES if "large" not in FILES[name] and "state" not in name}
    code = {"Snakefile", "config/config.yaml", ".gitignore"}
    assert files == small | code | {"results/own/provenance.json", "ro-crate-metadata.json"}
    assert len({path.stat().st_mtime_ns for path in top.rglob("*") if path.is_file()}) == 1


def test_the_crate_tells_what_the_run_used_and_made(checkout, tmp_path):
    archive_run(Path("results/own"), checkout, tmp_path / "own.tar.gz")
    top = unpacked(tmp_path / "own.tar.gz", tmp_path / "there")
    said = json.loads((top / "ro-crate-metadata.json").read_text())["@graph"]
    about = {entity["@id"]: entity for entity in said}
    assert [one["@id"] for one in about["./"]["conformsTo"]] == [address for address, *_ in PROFILES]
    assert about["./"]["mainEntity"] == {"@id": "Snakefile"} and about["./"]["mentions"] == {"@id": "#run"}
    run = about["#run"]
    assert run["@type"] == "CreateAction" and run["instrument"] == {"@id": "Snakefile"}
    assert {one["@id"] for one in run["object"]} == {"config/config.yaml", MODEL}  # the volume is left out
    assert run["result"] == [{"@id": TABLE}] or run["result"] == {"@id": TABLE}
    assert about["https://pypi.org/project/snakemake/9.1/"]["version"] == "9.1" and "torch" not in str(about)
    assert set(about) >= {TABLE, MODEL, "Snakefile"}


def test_a_run_of_another_state_of_the_code_is_refused(checkout, tmp_path):
    (checkout / "Snakefile").write_text("rule all:\n")
    with pytest.raises(UserError, match="with changes; expected one commit"):
        archive_run(Path("results/own"), checkout, tmp_path / "own.tar.gz")
    git(checkout, "commit", "-qam", "two")
    with pytest.raises(UserError, match="the run is of commit .* the code here is of .*expected one commit"):
        archive_run(Path("results/own"), checkout, tmp_path / "own.tar.gz")
    with pytest.raises(
        UserError, match="results/other/provenance.json: no such file, expected a finished run"
    ):
        archive_run(Path("results/other"), checkout, tmp_path / "own.tar.gz")
    assert not (tmp_path / "own.tar.gz").exists()
