"""The record of where a run's results come from: code, settings, seeds, packages, machine and checksums."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from regagent.files import write_json, write_text

SOURCE = Path(__file__).parent

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


def write_provenance(
    output: str | Path,
    output_footer: str | Path,
    config: Mapping,
    code: Mapping[str, str],
    data: Iterable[str | Path],
    results: Iterable[str | Path],
) -> None:
    """Write the record of a run as JSON, and the report's footer on it as reStructuredText.

    ``config`` is the merged configuration and ``code`` the hash of each rule's code. ``data`` are the files
    that the results are computed from (volumes, split, perturbations, models), and ``results`` are tables and
    figures. The SHA-256 sums of all these files are recorded.
    """
    record = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **commit(),
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "processor": _processor(),
            "processors": os.cpu_count(),
            "accelerator": _accelerator(),
        },
        "packages": package_versions(),
        "seeds": _seeds(config),
        "config": config,
        "code": dict(code),
        "sha256": {str(path): _checksum(path) for path in data},
        "results": {str(path): _checksum(path) for path in results},
    }
    write_json(record, output)
    write_text(_footer(record, output), output_footer)


def _footer(record: Mapping, path: str | Path) -> str:
    """Return the paragraph of the report on the record in the file ``path``, as reStructuredText."""
    machine, checksums = record["machine"], record["sha256"]
    changed = ", with changes that were not committed" if record["uncommitted_changes"] else ""
    commit = f"commit ``{record['commit']}``{changed}" if record["commit"] else "no known commit"
    seeds = ", ".join(
        f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in record["seeds"].items()
    )
    versions = ", ".join(f"{name} {number}" for name, number in record["packages"].items() if number)
    settings = hashlib.sha256(json.dumps(record["config"], sort_keys=True).encode()).hexdigest()
    return (
        f"**Where it comes from.** Written {record['written']} by {commit}."
        f" Python {machine['python']}, {versions}; {machine['processor']},"
        f" {machine['processors']} processors, {machine['accelerator'] or 'no accelerator'}."
        f" Seeds: {seeds}. Settings: SHA-256 ``{settings[:16]}``."
        f" ``{path}`` holds all settings, the hash of each rule's code, and the SHA-256 sums of the"
        f" {len(checksums)} files that the results rest on and of {len(record['results'])} tables and"
        " figures.\n"
    )


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


def package_versions() -> dict[str, str | None]:
    """Return the versions of the packages that can change a number, None for one that is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit(folder: Path = SOURCE) -> dict:
    """Return the commit of a checkout and whether tracked files differ from it; None for the unknown."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=20
            ).stdout
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "uncommitted_changes": None}
    return {"commit": commit.strip(), "uncommitted_changes": bool(changes.strip())}


def _processor() -> str:
    """Return the name of the processor, or its architecture where the system does not name it."""
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
