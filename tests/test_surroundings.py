"""Odd surroundings: locales, names in other encodings, no home, closed outputs."""

import os
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from agents import export
from heads import head
from workflow import ROOT, copy_workflow

from regagent import __version__
from regagent.command import apply
from regagent.command.main import main
from regagent.elastix import elastix
from regagent.files import UserError, write_text
from regagent.volumes.transforms import write_transform
from regagent.volumes.writing import write_image

#: Python reads the names of files as ASCII, as it reads them as Latin-1 in a locale of that.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
#: Nobody can make these folders, root neither.
HOMELESS = dict.fromkeys(["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"], "/proc/none")
#: A name in Latin-1, which is no UTF-8.
LATIN = os.fsdecode("Jörg".encode("latin-1"))

VALUES = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def environment(**more):
    return os.environ | {"PYTHONPATH": str(ROOT / "workflow_scripts")} | more


def regagent(folder, *arguments, stdout=subprocess.PIPE, **more):
    """Run ``python -m regagent`` in a folder, without a standard input."""
    return subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "regagent", *arguments],
        cwd=folder, env=environment(**more), stdout=stdout, stderr=subprocess.PIPE, timeout=120,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A folder with an image, a table of points, and a shift by (1, 2, 0) mm, in a folder Jörg."""
    place = tmp_path / "Jörg"
    place.mkdir()
    for suffix in ("mha", "nii.gz"):
        sitk.WriteImage(sitk.GetImageFromArray(VALUES), place / f"é.{suffix}")
    sitk.WriteTransform(sitk.TranslationTransform(3, (1.0, 2.0, 0.0)), place / "é.tfm")
    (place / "é.csv").write_text("name,x,y,z\nÉva,10,20,30\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("suffix", ["mha", "nii.gz"])
def test_an_image_is_found_and_written_in_an_ascii_locale(folder, suffix):
    words = [f"--image=Jörg/é.{suffix}", f"--reference=Jörg/é.{suffix}", f"--out=Jörg/ü.{suffix}"]
    done = regagent(folder, "apply", "--transform=Jörg/é.tfm", "--outside=-1", *words, **ASCII)
    assert (done.returncode, done.stderr) == (0, b"")
    expected = np.full(VALUES.shape, -1)
    expected[:, :-2, :-1] = VALUES[:, 2:, 1:]
    found = sitk.GetArrayFromImage(sitk.ReadImage(folder / f"Jörg/ü.{suffix}"))
    assert np.array_equal(found, expected)


def test_points_and_messages_keep_their_letters_in_an_ascii_locale(folder):
    words = ["apply", "--transform=Jörg/é.tfm", "--out=Jörg/ü.csv"]
    done = regagent(folder, *words, "--points=Jörg/é.csv", **ASCII)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (folder / "Jörg/ü.csv").read_text(encoding="utf-8") == "name,x,y,z\nÉva,11.0,22.0,30.0\n"
    done = regagent(folder, *words, "--points=Jörg/ö.csv", **ASCII)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1
    assert done.stderr.decode().startswith("error: Jörg/ö.csv: ")


def test_a_data_set_is_found_in_an_ascii_locale(folder):
    patient = folder / "Jörg" / "case_1"
    patient.mkdir()
    for name in ("MR_T1", "CT"):
        (patient / f"case_1_IMG_{name}.nrrd").touch()
    done = regagent(folder, "datasets", "han-seg", "Jörg", "--out=Jörg/ü.tsv", **ASCII)
    assert done.returncode == 0, done.stderr
    assert "case_1_IMG_CT.nrrd" in (folder / "Jörg/ü.tsv").read_text(encoding="utf-8")


def test_a_pair_is_registered_without_home_and_input_in_an_ascii_locale(folder):
    place = folder / "Jörg"
    for name, image in zip(("mr", "ct"), head((12, 60, 50), (4.0, 4.0, 12.0))[:2], strict=True):
        sitk.WriteImage(image, place / f"{name}é.mha")
    export(place)
    outputs = ["--transform-out=Jörg/ü.tfm", "--warped-out=Jörg/ü.nii.gz", "--report=Jörg/ü.png"]
    words = ["--fixed=Jörg/mré.mha", "--moving=Jörg/cté.mha", "--model=Jörg/agent.pt", "--slice=6", *outputs]
    done = regagent(folder, "register", *words, **ASCII, **HOMELESS)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert b"Success estimate of a slice" in done.stdout
    assert sitk.ReadTransform(place / "ü.tfm").GetDimension() == 3
    assert sitk.ReadImage(place / "ü.nii.gz").GetSize() == (50, 60, 12)
    assert (place / "ü.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_goes_on_without_home_in_a_folder_with_accents_in_an_ascii_locale(folder):
    run = folder / "Läufe"
    run.mkdir()
    copy_workflow(run)
    sheet = "patient\tmr\tct\n"
    for number in (1, 2):
        for name, image in zip(("mr", "ct"), head((30, 30, 25), (8.0, 8.0, 8.0))[:2], strict=True):
            sitk.WriteImage(sitk.Cast(image, sitk.sitkInt16), folder / "Jörg" / f"{name}é{number}.mha")
        sheet += f"P{number}\t{folder}/Jörg/mré{number}.mha\t../Jörg/cté{number}.mha\n"
    (run / "é.tsv").write_text(sheet, encoding="utf-8")
    (run / "é.yaml").write_text("{run: own, cohort: {source: sheet, sheet: é.tsv}}", encoding="utf-8")
    volume = "results/own/volumes/P1/ct.nii.gz"
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", volume, "--configfile", "é.yaml", "--cores", "1"],
        cwd=run, env=environment(**ASCII, **HOMELESS), capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr.decode()
    expected, found = (sitk.ReadImage(path) for path in (folder / "Jörg" / "cté1.mha", run / volume))
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_letters_gets_escapes(folder, encoding):
    words = ["--transform=Jörg/é.tfm", "--points=山/ö.csv", "--out=o.csv"]
    done = regagent(folder, "apply", *words, PYTHONIOENCODING=encoding)
    shown = "ö".encode(encoding, errors="backslashreplace")
    assert done.returncode == 1 and done.stderr.startswith(rb"error: \u5c71/" + shown + b".csv: ")


@pytest.mark.parametrize("option", ["--image", "--reference", "--transform", "--out"])
def test_a_name_that_itk_cannot_take_is_one_line_or_no_matter(folder, option):
    (folder / LATIN).mkdir()
    for suffix in ("mha", "tfm"):
        (folder / LATIN / f"a.{suffix}").write_bytes((folder / f"Jörg/é.{suffix}").read_bytes())
    words = {
        "--image": "Jörg/é.mha",
        "--reference": "Jörg/é.mha",
        "--transform": "Jörg/é.tfm",
        "--out": "o.mha",
    }
    words[option] = f"{LATIN}/a.{'tfm' if option == '--transform' else 'mha'}"
    done = regagent(folder, "apply", *(word for item in words.items() for word in item))
    if option in ("--image", "--reference"):  # these are read without ITK
        assert (done.returncode, done.stderr) == (0, b"")
        return
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1 and done.stderr.startswith(rb"error: J\xf6rg")
    assert done.stderr.endswith(b": this name is not in UTF-8, as ITK needs it; rename it\n")


def test_a_folder_that_itk_cannot_take_is_told_before_anything_is_written(tmp_path):
    for write in (
        lambda: write_image(sitk.GetImageFromArray(VALUES), tmp_path / LATIN / "a.nii.gz"),
        lambda: write_transform(sitk.Euler3DTransform(), tmp_path / LATIN / "a.tfm"),
        lambda: elastix(tmp_path / LATIN / "own.txt"),
    ):
        with pytest.raises(UserError, match=r"J\\xf6rg.*: this name is not in UTF-8"):
            write()
    with pytest.raises(UserError, match=r"a.tsv: a name in it is not in UTF-8: .*J\\udcf6rg"):
        write_text(f"P1\t{LATIN}\n", tmp_path / "a.tsv")
    assert list(tmp_path.iterdir()) == []


def test_nobody_needs_to_read_what_is_printed(folder):
    """A pipe whose reader has gone (``| head -1``), and a closed output, stop nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    done = regagent(folder, "register", "--help", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    closed = 'exec "$@" >&-'
    command = ["/bin/sh", "-c", closed, "sh", sys.executable, "-m", "regagent", "--version"]
    done = subprocess.run(command, env=environment(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, f"regagent {__version__}\n".encode())  # argparse's choice


@pytest.mark.parametrize("unbuffered", [[], ["-u"]])
def test_files_are_written_though_the_reader_of_the_output_has_gone(folder, unbuffered):
    """Also where more is printed than a buffer holds."""
    program = """if True:
        import sys
        from regagent.command import apply, main
        def speak(**options):
            for number in range(100_000):
                print("slice", number)
            open("written", "w").close()
        apply.apply_transform = speak
        sys.argv = ["regagent", "apply", "--transform=t", "--points=p", "--out=o"]
        sys.exit(main.main())
    """
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, *unbuffered, "-c", program], cwd=folder, env=environment(), stdout=writer,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"") and (folder / "written").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_an_output_without_room_is_one_line(folder):
    with open("/dev/full", "w") as full:
        done = regagent(folder, "--help", stdout=full)
    expected = b"error: what was to be printed: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, expected)


POINTS = ["apply", "--transform=t.tfm", "--points=p.csv", "--out=o.csv"]


def test_an_interrupt_ends_with_130(monkeypatch, capsys):
    def interrupt(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr(apply, "apply_transform", interrupt)
    assert main(POINTS) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("Unable to allocate 7 TiB"), "MemoryError: Unable to allocate 7 TiB"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (
            RuntimeError("Exception thrown in SimpleITK X: a.cxx:9:\nsitk::ERROR: none\n"),
            "RuntimeError: none",
        ),
    ],
)
def test_a_fault_of_the_program_is_one_line_and_keeps_its_traceback(
    monkeypatch, capsys, tmp_path, error, message
):
    def fail(**options):
        raise error

    monkeypatch.setattr(apply, "apply_transform", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(POINTS) == 1
    (log,) = tmp_path.iterdir()
    assert capsys.readouterr().err == f"error: {message} (the traceback is in {log})\n"
    assert "in fail\n" in log.read_text() and "Traceback" in log.read_text()
