"""The files of a scan, and its fingerprint, by which a run notices that one of them is another."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from regagent.files import UserError
from regagent.volumes.metaimage import is_metaimage, metaimage_data_files
from regagent.volumes.nrrd import is_nrrd, nrrd_data_files


def scan_files(scan: str | Path) -> list[Path]:
    """Return a file with the data files that its header names, or the files directly in a folder.

    A name that is no scan's, or whose header cannot be read, is returned alone.
    """
    scan = Path(scan)
    with suppress(OSError, UserError):
        if scan.is_dir():
            return sorted(file for file in scan.iterdir() if file.is_file() and not file.name.startswith("."))
        if scan.is_file() and is_metaimage(scan):
            return [scan, *metaimage_data_files(scan, f"{scan}")]
        if scan.is_file() and is_nrrd(scan):
            return [scan, *nrrd_data_files(scan, f"{scan}")]
    return [scan]


def fingerprint(*scans: str | Path) -> str:
    """Return a short hash of the names, sizes and times of change of all files that the scans consist of.

    No voxels are read. Nothing is raised: what is absent or cannot be read counts as that.
    """
    digest = hashlib.sha256()
    for scan in scans:
        for file in scan_files(scan):
            state = "absent"
            with suppress(OSError, ValueError):  # ValueError for a zero in a name of a damaged header
                status = file.stat()
                state = f"{status.st_size} {status.st_mtime_ns}"
            digest.update(os.fsencode(file.name) + f"\0{state}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]
