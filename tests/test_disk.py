"""Files written whole or not at all, what a kill leaves of them, and the one message of an error."""

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from matplotlib.figure import Figure
from workflow import ROOT, copy_workflow, snakemake

from regagent.agent.checkpoints import save
from regagent.figures.style import save as save_figure
from regagent.files import (
    MACHINE,
    PARTIAL,
    UserError,
    naming,
    reason,
    write_json,
    write_table,
    write_text,
    write_whole,
)
from regagent.jobs import told
from regagent.volumes.transforms import WRITTEN_SUFFIXES, read_transform, write_transform
from regagent.volumes.writing import write_image, write_png

NOISE = np.random.default_rng(0).integers(0, 255, (20, 20, 20), np.uint8)
VOLUME = sitk.GetImageFromArray(NOISE)

WRITERS = {
    "a.nii.gz": lambda path: write_image(VOLUME, path),
    "a.nii": lambda path: write_image(VOLUME, path),
    "a.mha": lambda path: write_image(VOLUME, path),
    "a.nrrd": lambda path: write_image(VOLUME, path),
    "a.tfm": lambda path: write_transform(sitk.Euler3DTransform((1, 2, 3), 0.1), path),
    "a.txt": lambda path: write_transform(sitk.Euler3DTransform((1, 2, 3), 0.1), path),
    "a.png": lambda path: write_png(NOISE[0], path),
    "a.pt": lambda path: save({"noise": "a" * 1000}, path),
    "a.csv": lambda path: write_table(pd.DataFrame({"noise": NOISE.ravel()}), path),
    "a.json": lambda path: write_json({"noise": "a" * 1000}, path),
}


@contextmanager
def full_disk():
    """Let no file grow beyond 100 bytes, as a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file(tmp_path, name, capfd):
    path = tmp_path / name
    WRITERS[name](path)
    before = path.read_bytes()
    with full_disk(), pytest.raises(UserError, match=f"{name}: cannot be written"):
        WRITERS[name](path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [name]  # nothing half-written beside it
    assert capfd.readouterr() == ("", "")  # the message is the only one


@pytest.mark.parametrize("name", WRITERS)
def test_a_write_protected_file_is_not_replaced(tmp_path, name):
    path = tmp_path / name
    path.write_text("of yesterday")
    path.chmod(0o444)
    with pytest.raises(UserError) as caught:
        WRITERS[name](path)
    assert str(caught.value) == f"{path}: is write-protected; remove it, or name another file"
    assert path.read_text() == "of yesterday" and os.listdir(tmp_path) == [name]
    path.chmod(0o644)
    WRITERS[name](path)
    assert path.read_bytes() != b"of yesterday"


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_a_transform_is_written_and_read_in_each_format(tmp_path, suffix):
    truth = sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (4, 5, 6))
    write_transform(truth, tmp_path / f"t{suffix}")
    for found in (read_transform(tmp_path / f"t{suffix}"), sitk.ReadTransform(tmp_path / f"t{suffix}")):
        assert found.TransformPoint((7, 8, 9)) == pytest.approx(truth.TransformPoint((7, 8, 9)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_what_itk_writes_half_is_told(tmp_path, monkeypatch, suffix):
    """As on a full disk, where it says nothing."""

    def write_half(image, path, **options):
        original(image, path, **options)
        os.truncate(path, os.path.getsize(path) - 8)

    original = sitk.WriteImage
    monkeypatch.setattr(sitk, "WriteImage", write_half)
    with pytest.raises(UserError, match=f"a{suffix}: cannot be written whole; is the disk full"):
        write_image(VOLUME, tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_what_itk_cannot_write_is_no_full_disk(tmp_path):
    with pytest.raises(UserError, match="a.png: cannot be written: ") as caught:
        write_image(sitk.Image([3, 3], sitk.sitkFloat64), tmp_path / "a.png")
    assert "disk" not in str(caught.value) and "\n" not in str(caught.value)
    write_image(sitk.Image([3, 3], sitk.sitkComplexFloat32), tmp_path / "a.nii.gz")
    assert sitk.ReadImage(tmp_path / "a.nii.gz").GetSize() == (3, 3)


def test_a_full_disk_leaves_the_old_figure(tmp_path):
    figure = Figure()
    figure.subplots().plot([1, 2])
    save_figure(figure, [tmp_path / "a.pdf", tmp_path / "a.png"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with full_disk(), pytest.raises(UserError, match="cannot be written"):
        save_figure(figure, [tmp_path / "a.pdf", tmp_path / "a.png"])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_in_a_folders_place_is_named(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="results/a.csv: cannot be written: "):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "results" / "a.csv")


def test_what_the_body_cannot_read_is_not_said_to_be_unwritable(tmp_path):
    with pytest.raises(FileNotFoundError), write_whole(tmp_path / "a.txt"):
        (tmp_path / "elsewhere" / "absent.txt").read_text()


def run_logged(log, body):
    imports = "from regagent.files import UserError\nfrom regagent.jobs import logged\n"
    program = f"{imports}with logged({str(log)!r}):\n    {body}\n"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow_scripts")}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)


def test_a_log_that_cannot_be_written_ends_in_one_message(tmp_path):
    (tmp_path / "logs").write_text("")
    result = run_logged(tmp_path / "logs" / "job.log", "print('done')")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {tmp_path}/logs/job.log: the log cannot be written: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_log_without_room_does_not_hide_the_message():
    result = run_logged("/dev/full", "raise UserError('patient P1: no such file')")
    assert (result.returncode, result.stderr) == (1, "error: patient P1: no such file\n")
    result = run_logged("/dev/full", "raise ValueError('what')")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ValueError: what")


def test_what_the_system_refuses_is_one_message_without_traceback(tmp_path):
    result = run_logged(tmp_path / "job.log", "open('/nowhere/file')")
    assert (result.returncode, result.stderr) == (1, "error: /nowhere/file: No such file or directory\n")
    assert "Traceback" not in (tmp_path / "job.log").read_text()


def test_an_error_of_many_lines_is_told_in_one(tmp_path):
    absent = f"{tmp_path}/absent.nrrd"
    result = run_logged(tmp_path / "job.log", f"import SimpleITK; SimpleITK.ReadImage({absent!r})")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: RuntimeError: ") and absent in result.stderr
    assert "Traceback" in (tmp_path / "job.log").read_text()


def test_what_the_system_refuses_is_told_by_its_file(tmp_path):
    error = FileNotFoundError(2, "No such file or directory", "a.nii")
    assert told(error) == "a.nii: No such file or directory"
    assert told(ValueError("what"), tmp_path / "nowhere" / "log") == "ValueError: what"


def test_of_a_librarys_message_the_reason_is_told(tmp_path):
    for suffix in ("nrrd", "mha"):
        sitk.WriteImage(VOLUME, tmp_path / f"a.{suffix}")
        content = (tmp_path / f"a.{suffix}").read_bytes()
        (tmp_path / f"a.{suffix}").write_bytes(content[:-20])
    (tmp_path / "a.xyz").write_text("hello")
    (tmp_path / "a.tfm").write_text(
        "#Insight Transform File V1.0\nTransform: Warp_double_3_3\nParameters: 1\nFixedParameters: 0\n"
    )
    expected = {
        "a.nrrd": f"Read: Error reading {tmp_path}/a.nrrd: [nrrd] _nrrdEncodingRaw_read: fread got only",
        "a.mha": f"File cannot be read: {tmp_path}/a.mha for reading.",
        "a.xyz": f'Unable to determine ImageIO reader for "{tmp_path}/a.xyz"',
        "a.tfm": 'Could not create an instance of "Warp_double_3_3"',
    }
    for name, message in expected.items():
        read = sitk.ReadTransform if name.endswith("tfm") else sitk.ReadImage
        with pytest.raises(RuntimeError) as caught:
            read(tmp_path / name)
        assert reason(caught.value).startswith(message) and "\n" not in reason(caught.value)
    assert reason(ValueError("")) == "ValueError" and reason(ValueError("one\ntwo")) == "one"


def test_an_error_names_its_file(tmp_path):
    def fault(error, where, *kinds):
        with pytest.raises(UserError) as caught, naming(where, *kinds):
            raise error
        return str(caught.value)

    absent = FileNotFoundError(2, "No such file or directory", "s/1.dcm")
    assert fault(absent, "s") == "s/1.dcm: No such file or directory"
    assert fault(absent, "patient P1: s/1.dcm") == "patient P1: s/1.dcm: No such file or directory"
    assert fault(OSError("Not a gzipped file"), "a.gz") == "a.gz: Not a gzipped file"
    library = RuntimeError("Exception thrown in SimpleITK\nsitk::ERROR: it is bad\n")
    assert fault(library, "a: no volume", RuntimeError) == "a: no volume: it is bad"
    with pytest.raises(ValueError, match="ours"), naming("a", RuntimeError):
        raise ValueError("ours")


WRITE = """if True:
    import sys
    from regagent.files import write_whole
    with write_whole("a.txt") as path:
        path.write_text("whole")
        print("half", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def writer(tmp_path):
    """A process that is writing ``a.txt``."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "workflow_scripts")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline() == b"half\n"
        yield process
        process.kill()


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_there(tmp_path, writer):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(f"{PARTIAL}{MACHINE}-{writer.pid}-")
    others = {f"{PARTIAL}another_machine-{writer.pid}-a", f"{PARTIAL}{MACHINE}-x-a", ".partial"}
    for name in others:
        (tmp_path / name).touch()
    write_text("next", tmp_path / "b.txt")
    assert {path.name for path in tmp_path.iterdir()} == {"b.txt", *others}


def test_what_a_living_process_writes_stays(tmp_path, writer):
    with write_whole(tmp_path / "b.txt") as path:  # nor does a process take its own
        path.write_text("b")
        write_text("c", tmp_path / "c.txt")
    assert len(list(tmp_path.glob(f"{PARTIAL}*"))) == 1
    writer.communicate(b"\n", timeout=60)
    assert writer.returncode == 0
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"a.txt": "whole", "b.txt": "b", "c.txt": "c"}


#: Where a small file system of its own may be mounted, a run is started in it; else these tests are left out.
MOUNTS = subprocess.run(
    ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
).returncode == 0 if shutil.which("unshare") else False  # fmt: skip
VOLUMES = "results/smoke/volumes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the workflow whose results hold the split and one patient."""
    folder = copy_workflow(tmp_path_factory.mktemp("disk"))
    targets = ["results/smoke/split.tsv", f"{VOLUMES}/P001/mr.nii.gz"]
    result = snakemake(folder, *targets, "--configfile", "config/smoke.yaml")
    assert result.returncode == 0, result.stdout
    return folder


def run_mounted(folder, options):
    """Ask for a second patient with results on a small file system; return what is said and what is left."""
    mount = f"""
        cp -a results keep && mount -t tmpfs -o size=4m none results && cp -a keep/. results && rm -r keep
        {options}
        {sys.executable} -m snakemake {VOLUMES}/P00{{1,2}}/mr.nii.gz --configfile config/smoke.yaml
        echo "ended with $?"; find results -type f | sort; cat {VOLUMES}/P001/mr.nii.gz | sha256sum
    """
    command = ["unshare", "--mount", "--map-root-user", "bash", "-c", mount]
    return subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    ).stdout


@pytest.mark.skipif(not MOUNTS, reason="needs file systems of its own (unshare)")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "head -c 3500000 /dev/zero > results/filler",
            "P002/mr.nii.gz: cannot be written whole; is the disk full?",
        ),
        ("mount -o remount,ro results", "error: results/smoke: cannot be written: Read-only file system"),
    ],
)
def test_a_run_without_room_says_so_and_keeps_what_was_there(folder, options, message):
    checksum = hashlib.sha256((folder / VOLUMES / "P001" / "mr.nii.gz").read_bytes()).hexdigest()
    said = run_mounted(folder, options)
    assert message in said and "Traceback" not in said and "ended with 1" in said, said
    assert checksum in said
    left = said.partition("ended with")[2]
    assert f"{VOLUMES}/P002/mr.nii.gz" not in left and PARTIAL not in left


def test_what_a_fault_names_never_breaks_its_line():
    assert (
        str(UserError("a.dcm: is of modality C\r\nT, expected CT"))
        == "a.dcm: is of modality C T, expected CT"
    )
    assert str(UserError("key a: 1", "key b: 2")) == "key a: 1\nkey b: 2"
