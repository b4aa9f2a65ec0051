"""Folders in the shape of the public data sets become sample sheets whose volumes can be read."""

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from heads import head
from workflow import ROOT

from regagent.command.main import main, parser
from regagent.files import UserError
from regagent.patients.datasets import DIRECTIONS, write_rire_header, write_sheet
from regagent.patients.importing import import_patient
from regagent.patients.layouts import LAYOUTS
from regagent.patients.sheet import read_sheet

SOURCE = "data 'of' a \"set\""

FILES = {
    "synthrad2023": ("1BA001", "mr.nii.gz", "ct.nii.gz"),
    "synthrad2025": ("1HNA001", "mr.mha", "ct.mha"),
    "han-seg": ("case_01", "case_01_IMG_MR_T1.nrrd", "case_01_IMG_CT.nrrd"),
}
HEADER = """Modality := {modality}
Slice thickness := {spacing[2]:.6f}
Pixel size := {spacing[0]:.6f} : {spacing[1]:.6f}
Rows := {size[1]}
Columns := {size[0]}
Slices := {size[2]}
Patient orientation := L : P : {slices}
"""


@pytest.fixture(scope="module")
def scans():
    return dict(zip(("mr", "ct"), head(shape=(20, 30, 25), spacing=(8.0, 8.0, 8.0))[:2], strict=True))


def write_rire(folder, scans, slices="H", mr="mr_T1"):
    for modality, name in (("mr", mr), ("ct", "ct")):
        place = folder / "patient_001" / name
        place.mkdir(parents=True)
        image = scans[modality]
        text = HEADER.format(
            modality=modality, spacing=image.GetSpacing(), size=image.GetSize(), slices=slices
        )
        (place / "header.ascii").write_text(text)
        (place / "image.bin").write_bytes(sitk.GetArrayFromImage(image).astype(">i2").tobytes())


def brought(folder, sheet):
    (row,) = read_sheet(sheet)
    outputs = [folder / "brought" / f"{name}.nii.gz" for name in ("mr", "ct")]
    import_patient(row.patient, row.mr, row.ct, *outputs, folder / "voxels.json", sheet)
    return [sitk.ReadImage(str(path)) for path in outputs]


@pytest.mark.parametrize("kind", FILES)
def test_a_sheet_of_files_as_they_are(tmp_path, scans, kind):
    patient, mr, ct = FILES[kind]
    place = tmp_path / SOURCE / patient
    place.mkdir(parents=True)
    (tmp_path / SOURCE / "overview").mkdir()
    sitk.WriteImage(scans["mr"], str(place / mr))
    sitk.WriteImage(scans["ct"], str(place / ct))
    write_sheet(kind, tmp_path / SOURCE, tmp_path / "patients.tsv")
    assert [row.patient for row in read_sheet(tmp_path / "patients.tsv")] == [patient]
    for image, original in zip(brought(tmp_path, tmp_path / "patients.tsv"), scans.values(), strict=True):
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(original))


@pytest.mark.parametrize("slices", "HF")
def test_rire(tmp_path, scans, slices):
    source = tmp_path / "the source"
    write_rire(source, scans, slices)
    before = sorted(source.rglob("*"))
    write_sheet("rire", source, tmp_path / "patients.tsv")
    assert sorted(source.rglob("*")) == before
    for image, original in zip(brought(tmp_path, tmp_path / "patients.tsv"), scans.values(), strict=True):
        values = sitk.GetArrayFromImage(image)
        assert np.array_equal(values[::-1] if slices == "F" else values, sitk.GetArrayFromImage(original))
        assert np.allclose(image.GetSpacing(), original.GetSpacing())
        assert np.allclose(image.GetOrigin()[:2], 0)
        assert np.allclose(image.GetDirection(), np.eye(3).ravel())


def test_rire_cut_off_or_strange(tmp_path, scans):
    write_rire(tmp_path / "rire", scans)
    image = tmp_path / "rire" / "patient_001" / "ct" / "image.bin"
    image.write_bytes(image.read_bytes()[:-2])
    with pytest.raises(UserError, match="image.bin: holds .* bytes, expected .* for 90 x 100 x 70 voxels"):
        write_sheet("rire", tmp_path / "rire", tmp_path / "patients.tsv")
    image.rename(image.with_name("image.bin.Z"))
    with pytest.raises(UserError, match="image.bin: no such file; unpack it"):
        write_sheet("rire", tmp_path / "rire", tmp_path / "patients.tsv")
    header = tmp_path / "rire" / "patient_001" / "mr_T1" / "header.ascii"
    header.write_text("Rows := many\nColumns := 3\n")
    with pytest.raises(UserError, match="header.ascii: rows is 'many'"):
        write_sheet("rire", tmp_path / "rire", tmp_path / "patients.tsv")
    header.write_text("Rows := 3\n")
    with pytest.raises(UserError, match="header.ascii: no 'columns'"):
        write_sheet("rire", tmp_path / "rire", tmp_path / "patients.tsv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Rows := 5", "Rows := 5\nRows := 4", "rows is both '5' and '4', expected one value"),
        ("Columns := 4", "Columns := 5\nColumns := 4", "columns is both '5' and '4'"),
        (
            "thickness := 4.0",
            "thickness := 4.0\nSlice thickness := 3",
            "slice thickness is both '4.0' and '3'",
        ),
        ("Columns := 4", "Columns := 4.9", "columns is '4.9', expected a whole number"),
        ("Columns := 4", "Columns := inf", "columns is 'inf', expected a whole number"),
        ("Columns := 4", "Columns := 0_4", "columns is '0_4', expected a number"),
        ("Rows := 5", "Rows := 5:4", "rows is '5:4', expected a number"),
        (":= 4.0", ":= 4.0 : 5.0", "slice thickness is '4.0 : 5.0', expected a number"),
        ("1.25 : 1.25", "1.25", "pixel size is '1.25', expected two numbers"),
        ("Rows := 5", "Rows := 5\nRows := 5", None),
        ("Rows := 5", "Rows := 5.0\nModality := a\nModality := b", None),
    ],
)
def test_a_rire_header_states_each_number_once(tmp_path, old, new, message):
    text = HEADER.format(modality="ct", spacing=(1.25, 1.25, 4.0), size=(4, 5, 3), slices="H")
    text = text.replace("1.250000", "1.25").replace("4.000000", "4.0")
    assert old in text
    header = tmp_path / "header.ascii"
    header.write_text(text.replace(old, new))
    voxels = np.arange(60, dtype=">i2").reshape(3, 5, 4)
    voxels.tofile(tmp_path / "image.bin")
    if message:
        with pytest.raises(UserError, match=re.escape(f"{header}: {message}")):
            write_rire_header(header, tmp_path / "ct.mhd")
        return
    image = sitk.ReadImage(str(write_rire_header(header, tmp_path / "ct.mhd")))
    assert image.GetSpacing() == (1.25, 1.25, 4.0)
    assert np.array_equal(sitk.GetArrayFromImage(image), voxels)


def test_incomplete_patients_are_named(tmp_path, scans, caplog):
    write_rire(tmp_path / "rire", scans)
    (tmp_path / "rire" / "patient_002" / "ct").mkdir(parents=True)
    with caplog.at_level(logging.WARNING, "regagent"):
        write_sheet("rire", tmp_path / "rire", tmp_path / "patients.tsv")
    assert "patient_002 is left out" in caplog.text
    assert [row.patient for row in read_sheet(tmp_path / "patients.tsv")] == ["patient_001"]


@pytest.mark.parametrize(
    ("text", "axes"),
    [("L : F", ("L", "F", "P")), ("P : F", ("P", "F", "R")), ("R : A : H", ("R", "A", "H"))],
)
def test_rire_in_other_planes(tmp_path, scans, text, axes):
    write_rire(tmp_path / "rire", scans)
    header = tmp_path / "rire" / "patient_001" / "ct" / "header.ascii"
    header.write_text(header.read_text().replace("L : P : H", text))
    image = sitk.ReadImage(str(write_rire_header(header, tmp_path / "ct.mhd")))
    columns = np.reshape(image.GetDirection(), (3, 3)).T
    assert columns.tolist() == [list(DIRECTIONS[axis]) for axis in axes]


@pytest.mark.parametrize("text", ["L : P : L", "L : R", "L : P : H : F", "L"])
def test_rire_with_a_strange_orientation_is_named(tmp_path, scans, text):
    write_rire(tmp_path / "rire", scans)
    header = tmp_path / "rire" / "patient_001" / "ct" / "header.ascii"
    header.write_text(header.read_text().replace("L : P : H", text))
    with pytest.raises(UserError, match=f"header.ascii: patient orientation is '{text}', expected three of"):
        write_rire_header(header, tmp_path / "ct.mhd")


def test_places_that_are_no_good(tmp_path, scans):
    write_rire(tmp_path / "100% rire", scans)
    with pytest.raises(UserError, match="patients.csv: a sample sheet is tab-separated"):
        write_sheet("rire", tmp_path / "100% rire", tmp_path / "patients.csv")
    with pytest.raises(UserError, match="rire.tsv: lies in .*100% rire"):
        write_sheet("rire", tmp_path / "100% rire", tmp_path / "100% rire" / "rire.tsv")
    with pytest.raises(UserError, match="image.bin: ITK cannot follow a path with a %"):
        write_sheet("rire", tmp_path / "100% rire", tmp_path / "rire.tsv")
    assert [path.name for path in tmp_path.iterdir()] == ["100% rire"]


def test_files_that_cannot_be_read_are_named(tmp_path, scans, caplog):
    write_rire(tmp_path / "rire", scans)
    place = tmp_path / "rire" / "patient_001"
    header = place / "ct" / "header.ascii"
    header.rename(place / "ct" / "kept")
    header.symlink_to("/proc/self/mem")  # its first bytes cannot be read, as of a bad disk
    with pytest.raises(UserError, match=f"^{header}: Input/output error$"):
        write_sheet("rire", tmp_path / "rire", tmp_path / "patients.tsv")
    header.unlink()
    header.mkdir()
    with pytest.raises(UserError, match=f"^{header}: Is a directory$"):
        write_sheet("rire", tmp_path / "rire", tmp_path / "patients.tsv")
    header.rmdir()
    (place / "ct" / "kept").rename(header)
    (place / "ct" / "image.bin").unlink()
    (place / "ct" / "image.bin").symlink_to("image.bin")
    with pytest.raises(UserError, match="image.bin: no such file"):
        write_sheet("rire", tmp_path / "rire", tmp_path / "patients.tsv")
    header.unlink()
    header.symlink_to("../.git/annex/objects/a")
    with pytest.raises(UserError, match="no patients of rire"):
        write_sheet("rire", tmp_path / "rire", tmp_path / "patients.tsv")
    assert f"{header} is a link to ../.git/annex/objects/a, which does not exist" in caplog.text


def test_folders_that_are_none_are_named(tmp_path, scans):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="loop: no such folder"):
        write_sheet("rire", tmp_path / "loop", tmp_path / "patients.tsv")
    write_rire(tmp_path / "rire", scans)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="mr.mhd: cannot be written: Not a directory"):
        write_sheet("rire", tmp_path / "rire", tmp_path / "file" / "patients.tsv")
    unreadable = os.fsencode(tmp_path / "rire") + b"/patient_J\xf6rg"
    shutil.copytree(tmp_path / "rire" / "patient_001", os.fsdecode(unreadable))
    with pytest.raises(UserError, match="its path is not UTF-8 text; rename the folder"):
        write_sheet("rire", tmp_path / "rire", tmp_path / "patients.tsv")


#: As root one may do everything: the rights of the superuser are taken away.
ORDINARY = [] if os.geteuid() else ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.mark.skipif(bool(ORDINARY) and not shutil.which("setpriv"), reason="needs setpriv to run as root")
@pytest.mark.parametrize(
    ("place", "rights", "message"),
    [
        ("rire", 0, "{}: Permission denied"),
        ("rire/patient_001/ct/header.ascii", 0, "{}: Permission denied"),
        ("rire/patient_001/ct", 0, "{}/../../../rire: no patients of rire in it"),
        ("sheets", 0o500, "{}/rire_headers/patient_001/mr.mhd: cannot be written: Permission denied"),
    ],
)
def test_what_is_not_allowed_is_one_line(tmp_path, scans, place, rights, message):
    write_rire(tmp_path / "rire", scans)
    (tmp_path / "sheets").mkdir()
    (tmp_path / place).chmod(rights)
    command = [
        *ORDINARY,
        sys.executable,
        "-m",
        "regagent",
        "datasets",
        "rire",
        "rire",
        "--out",
        "sheets/rire.tsv",
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    (tmp_path / place).chmod(0o700)
    said = result.stderr.splitlines()
    expected = os.path.normpath(message.format(tmp_path / place))
    assert result.returncode == 1 and said[-1].startswith(f"error: {expected}"), said
    # A patient whose folder is closed is left out, in a line before the last.
    assert said[:-1] == [] or f"patient_001 is left out: {tmp_path / place}" in said[0] and len(said) == 2


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_folder_of_another_shape(tmp_path, kind):
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=f"no patients of {kind} in it, expected "):
        write_sheet(kind, tmp_path / "data", tmp_path / "patients.tsv")


def test_the_command(tmp_path, scans, capsys):
    write_rire(tmp_path / "data", scans)
    sheet = tmp_path / "sheets" / "rire.tsv"
    assert main(["datasets", "rire", str(tmp_path / "data"), "--out", str(sheet)]) == 0
    assert sheet.exists() and (tmp_path / "sheets" / "rire_headers" / "patient_001" / "ct.mhd").exists()
    assert capsys.readouterr().err == ""
    assert main(["datasets", "rire", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/nowhere: no such folder\n"
    assert main(["datasets", "rire", str(tmp_path / "data"), "--out=~/rire.tsv"]) == 2
    assert "~/rire.tsv: the shell did not replace ~ by your home folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["datasets", "another", str(tmp_path / "data")])
    assert end.value.code == 2


def test_the_page_shows_the_command_of_every_data_set():
    lines = re.findall(r"^regagent (.*)$", (ROOT / "docs" / "data.md").read_text("utf-8"), flags=re.MULTILINE)
    assert [parser().parse_args(shlex.split(line)).kind for line in lines] == list(LAYOUTS)


def test_a_sheet_that_is_there_is_not_replaced(tmp_path, scans, capsys):
    write_rire(tmp_path / "rire", scans)
    sheet = tmp_path / "patients.tsv"
    sheet.write_text("my own")
    assert main(["datasets", "rire", str(tmp_path / "rire"), "--out", str(sheet)]) == 1
    assert capsys.readouterr().err == f"error: {sheet}: exists already; remove it, or name another file\n"
    assert sheet.read_text() == "my own" and not (tmp_path / "patients_headers").exists()
