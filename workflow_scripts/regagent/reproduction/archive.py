"""A finished run in one file that others can read: its code, its small results and where they come from.

It is a Workflow Run RO-Crate (https://w3id.org/ro/wfrun/workflow/0.5). Unpacked, `make tables` makes the
tables and figures anew from the registrations in it.
"""

import json
import mimetypes
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from regagent.files import UserError, write_whole
from regagent.reproduction.provenance import commit

#: What of a run is large, or is there to go on with a training.
LEFT_OUT = ("volumes/*", "preregistered/*/ct.nii.gz", "state/*")

#: What the crate keeps to: address, name, version.
PROFILES = (
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
)
LICENCE = "https://spdx.org/licenses/Apache-2.0"


def archive_run(run: Path, root: Path, output: Path) -> None:
    """Write the run in ``root``/``run`` (results/{name}), with the code in ``root``, as ``output`` (.tar.gz).

    All files in it have one time, so that Snakemake finds none older than what it is made from. Raises
    ``UserError`` for a run that is not finished, or that another state of the code has made.
    """
    record = _record(root / run, root)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder, output.name.removesuffix(".tar.gz"))
        for path in (*_code(root), *_small(root / run)):
            place = top / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        _describe(top, run, record)
        time = datetime.fromisoformat(record["written"]).timestamp()
        for path in sorted(top.rglob("*")):
            os.utime(path, (time, time))
        with write_whole(output) as temporary, tarfile.open(temporary, "w:gz") as archive:
            archive.add(top, top.name)


def _record(run: Path, root: Path) -> dict[str, Any]:
    path = run / "provenance.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file, expected a finished run")
    record = json.loads(path.read_text(encoding="utf-8"))
    states = record, commit(root)
    then, now = (
        f"{state['commit']}{', with changes' if state['uncommitted_changes'] else ''}" for state in states
    )
    if then != now or any(state["uncommitted_changes"] for state in states):
        raise UserError(
            f"{path}: the run is of commit {then}, the code here is of {now}; expected one commit"
        )
    return record


def _code(root: Path) -> Iterator[Path]:
    """Yield the files that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    yield from (root / name for name in listed.stdout.split("\0") if name)


def _small(run: Path) -> Iterator[Path]:
    """Yield the files of a run that others need, the large ones left out."""
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file() and not any(fnmatch(name, pattern) for pattern in LEFT_OUT):
            yield path


def _describe(top: Path, run: Path, record: Mapping[str, Any]) -> None:
    """Write ro-crate-metadata.json of the folder ``top``."""
    crate = ROCrate(top, init=True, version="1.1")  # the one that the profiles below build on
    crate.name = f"MR-CT registration by a reinforcement-learning agent: the run {run.name}"
    crate.description = (
        "Code, tables, figures, registrations and models of a reproduction of Sun et al., ACCV 2018; without"
        " its volumes."
    )
    crate.license, crate.datePublished = LICENCE, datetime.fromisoformat(record["written"])
    for entity in crate.data_entities:
        if entity.type == "File":
            entity["encodingFormat"] = mimetypes.guess_type(entity.id)[0] or "application/octet-stream"
    packages = record["packages"]
    workflow = crate.add_workflow(
        top / "Snakefile", "Snakefile", main=True, lang="snakemake", lang_version=packages["snakemake"]
    )
    software = []
    for name, version in packages.items():
        if version:
            page = f"https://pypi.org/project/{name}/{version}/"
            about = _entity(crate, page, "SoftwareApplication", name=name, version=version, url=page)
            software.append(crate.add(about))
    workflow["softwareRequirements"], workflow["version"] = software, record["commit"]
    action = crate.add(
        _entity(
            crate, "#run", "CreateAction", name=f"snakemake, the run {run.name}", endTime=record["written"],
            description=f"commit {record['commit']}; {record['machine']['processor']}",
        )
    )  # fmt: skip
    used = ("config/config.yaml", *record["sha256"])
    action["instrument"] = workflow
    action["object"] = [found for name in used if (found := crate.get(name))]
    action["result"] = [found for name in record["results"] if (found := crate.get(name))]
    crate.root_dataset["mentions"] = action
    crate.root_dataset["conformsTo"] = [
        crate.add(_entity(crate, address, "CreativeWork", name=name, version=version))
        for address, name, version in PROFILES
    ]
    crate.metadata.write(top)


def _entity(crate: ROCrate, address: str, kind: str, **facts: str) -> ContextEntity:
    return ContextEntity(crate, address, properties={"@type": kind, **facts})


if __name__ == "__main__":
    try:
        archive_run(Path(sys.argv[1]), Path.cwd(), Path(sys.argv[2]))
    except UserError as error:
        sys.exit(f"error: {error}")
