"""Where results come from: hashes of the code behind each rule, and the record of a run.

Serves the reproduction as such: a job reruns when the code that it runs has changed, and only then.
"""

import ast
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from regagent.files import write_whole

PACKAGE = Path(__file__).parent

#: Modules that no job's hash depends on: the settings' values reach each job as parameters, and this
#: module only describes jobs.
UNHASHED = frozenset({"__init__", "settings", "provenance"})

#: The packages whose versions can change a number.
PACKAGES = (
    "gymnasium",
    "itk-elastix",
    "matplotlib",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pydantic",
    "scipy",
    "SimpleITK",
    "snakemake",
    "torch",
)


def code_hash(script: str | Path) -> str:
    """Return a hash of ``script`` and of the library modules that it imports, directly or not.

    Only what runs counts: comments, layout and docstrings do not change the hash. Nothing is imported.
    """
    digest = hashlib.sha256()
    for path in [Path(script), *_closure(Path(script))]:
        digest.update(path.stem.encode() + _parsed(path)[0].encode())
    return digest.hexdigest()[:16]


def _closure(script: Path) -> list[Path]:
    """Return the library modules behind ``script``, sorted by name."""
    found: set[str] = set()
    new = _parsed(script)[1]
    while new:
        found |= new
        new = {name for known in new for name in _parsed(PACKAGE / f"{known}.py")[1]} - found
    return [PACKAGE / f"{name}.py" for name in sorted(found)]


@cache
def _parsed(path: Path) -> tuple[str, frozenset[str]]:
    """Return the hash of one file's code and the library modules that it names."""
    tree = ast.parse(path.read_text(), filename=str(path))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = ".".join(filter(None, ["regagent" if node.level else None, node.module]))
            imported |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    names = {name.removeprefix("regagent.") for name in imported if name.startswith("regagent.")}
    modules = {name for name in names if (PACKAGE / f"{name}.py").exists()} - UNHASHED
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), frozenset(modules)


def write_provenance(
    output: str | Path,
    config: Mapping,
    code: Mapping[str, str],
    files: Iterable[str | Path],
) -> None:
    """Write the record of a run as JSON.

    ``config`` is the merged configuration, ``code`` the hash of each rule's code, ``files`` what the
    results rest on (volumes, split, perturbations, models); their SHA-256 sums are recorded.
    """
    record = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **_commit(),
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "processor": _processor(),
            "processors": os.cpu_count(),
            "accelerator": _accelerator(),
        },
        "packages": {name: _version(name) for name in PACKAGES},
        "seeds": _seeds(config),
        "config": config,
        "code": dict(code),
        "sha256": {str(path): _checksum(path) for path in files},
    }
    with write_whole(output) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def _seeds(config: Mapping) -> dict:
    """Return every seed of the configuration by its key."""
    seeds = {"training": config.get("seeds", [])}
    for section, values in config.items():
        if isinstance(values, Mapping) and "seed" in values:
            seeds[section] = values["seed"]
    return seeds


def _checksum(path: str | Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> dict:
    """Return the commit of the source tree and whether tracked files differ from it, None if unknown."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=True, timeout=20
            ).stdout
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "uncommitted_changes": None}
    return {"commit": commit.strip(), "uncommitted_changes": bool(changes.strip())}


def _processor() -> str:
    """Return the processor's name as its maker writes it, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _accelerator() -> str | None:
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return listing.strip() or None
