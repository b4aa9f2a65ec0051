import os
import re
import unicodedata

import numpy as np
import pytest
import SimpleITK as sitk
from heads import head

from regagent.files import UserError, read_table
from regagent.patients.importing import import_patient
from regagent.patients.sheet import SheetRow, read_sheet
from regagent.patients.split import split_patients
from regagent.settings import Split

HEADER = "patient\tmr\tct\n"
ROW = "P1\tmr.nii.gz\tct.nii.gz\n"
NAMES = [f"P{number:03d}" for number in range(1, 100)]


def split(tmp_path, names, sheet=None, **keys):
    output = tmp_path / "split.tsv"
    split_patients(names, output, Split(**keys), sheet)
    return read_table(output)


def test_the_papers_split(tmp_path):
    frame = split(tmp_path, NAMES)
    assert sorted(frame["patient"]) == NAMES  # everybody once: nobody is in both sets
    assert (frame["set"] == "train").sum() == 79
    assert (frame["set"] == "test").sum() == 20


def test_initials_that_pandas_takes_for_nothing(tmp_path):
    assert sorted(split(tmp_path, ["NA", "None", "nan", "P1"])["patient"]) == ["NA", "None", "P1", "nan"]


def test_the_seed_decides_and_the_order_does_not(tmp_path):
    one = split(tmp_path, NAMES, seed=1)
    assert one.equals(split(tmp_path, NAMES[::-1], seed=1))
    assert not one.equals(split(tmp_path, NAMES, seed=2))


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_both_sets_have_somebody(tmp_path, fraction):
    assert set(split(tmp_path, NAMES[:2], train_fraction=fraction)["set"]) == {"train", "test"}


def test_too_few_patients(tmp_path):
    with pytest.raises(UserError, match="at least 2"):
        split(tmp_path, ["P001"])
    with pytest.raises(UserError, match="twice"):
        split(tmp_path, ["P001", "P001"])


def test_one_image_of_two_patients_without_a_sheet(tmp_path):
    voxels = []
    for name in ("P1", "P2"):
        voxels.append(tmp_path / f"{name}.json")
        voxels[-1].write_text(f'{{"patient": "{name}", "mr": "same", "ct": "of {name}"}}')
    with pytest.raises(UserError, match="^patient P2 has the same MR, voxel by voxel, as patient P1; one"):
        split_patients(["P1", "P2"], tmp_path / "split.tsv", Split(), voxels=voxels)


@pytest.fixture
def sheet(tmp_path):
    for name in ("mr", "ct", *(f"{name}{number}" for name in ("mr", "ct") for number in range(10))):
        (tmp_path / f"{name}.nii.gz").touch()

    def write(text):
        path = tmp_path / "patients.tsv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_good_sheet(sheet, tmp_path):
    path = sheet("patient\tct\tmr\n007\tct.nii.gz\tmr.nii.gz\r\n\nP2\tct2.nii.gz\tmr2.nii.gz\n")
    one, two = str(tmp_path / "mr.nii.gz"), str(tmp_path / "mr2.nii.gz")
    assert read_sheet(path) == [
        SheetRow(row=2, patient="007", mr=one, ct=one.replace("mr.", "ct."), transform="", set=""),
        SheetRow(row=4, patient="P2", mr=two, ct=two.replace("mr2", "ct2"), transform="", set=""),
    ]


TWO = [("P1", "mr1.nii.gz", "ct1.nii.gz", ""), ("P2", "mr2.nii.gz", "ct2.nii.gz", "train")]

# The two patients as programs write them.
SPREADSHEETS = {
    "tabs behind every row": (
        "patient\tmr\tct\tset\t\t\nP1\tmr1.nii.gz\tct1.nii.gz\t\t\t\nP2\tmr2.nii.gz\tct2.nii.gz\ttrain\t\t\n"
    ),
    "tabs behind the header": (
        "patient\tmr\tct\tset\t\t\nP1\tmr1.nii.gz\tct1.nii.gz\t\nP2\tmr2.nii.gz\tct2.nii.gz\ttrain\n"
    ),
    "tabs behind a row": (
        "patient\tmr\tct\tset\nP1\tmr1.nii.gz\tct1.nii.gz\t\t\t\nP2\tmr2.nii.gz\tct2.nii.gz\ttrain\n"
    ),
    "an empty cell dropped": (
        "patient\tmr\tct\tset\nP1\tmr1.nii.gz\tct1.nii.gz\nP2\tmr2.nii.gz\tct2.nii.gz\ttrain\n"
    ),
    "quoted cells": (
        '"patient"\t"mr"\t"ct"\t"set"\n"P1"\t"mr1.nii.gz"\t"ct1.nii.gz"\t""\n'
        '"P2"\t"mr2.nii.gz"\t"ct2.nii.gz"\t"train"\n'
    ),
    "an empty first column": (
        "\tpatient\tmr\tct\tset\n\tP1\tmr1.nii.gz\tct1.nii.gz\n\tP2\tmr2.nii.gz\tct2.nii.gz\ttrain\n"
    ),
    "an empty column between": (
        "patient\tmr\t\tct\tset\nP1\tmr1.nii.gz\t\tct1.nii.gz\t\nP2\tmr2.nii.gz\t\tct2.nii.gz\ttrain\n"
    ),
    "rows of tabs": (
        "\t\t\t\npatient\tmr\tct\tset\n\t\t\t\nP1\tmr1.nii.gz\tct1.nii.gz\t\n\t\t\t\n"
        "P2\tmr2.nii.gz\tct2.nii.gz\ttrain\n\t\t\t\n"
    ),
    "no-break spaces": (
        "patient\u00a0\tmr\tct\tset\nP1\u00a0\t\u00a0mr1.nii.gz\tct1.nii.gz \t\u00a0\n"
        "P2\tmr2.nii.gz\u00a0\tct2.nii.gz\ttrain\u00a0\n"
    ),
    "capitals": (
        "Patient\tMR\tCT\tSet\nP1\tmr1.nii.gz\tct1.nii.gz\t\nP2\tmr2.nii.gz\tct2.nii.gz\tTrain\n"
    ),
    "comments": (
        "# two, or three\npatient\tmr\tct\tset\n# the first\nP1\tmr1.nii.gz\tct1.nii.gz\t\n"
        "#P3\tgone.nii.gz\tct.nii.gz\t\nP2\tmr2.nii.gz\tct2.nii.gz\ttrain\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])  # "Unicode text" is the last one
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", SPREADSHEETS)
def test_a_sheet_as_a_spreadsheet_saves_it(sheet, tmp_path, kind, ends, encoding):
    rows = read_sheet(sheet(SPREADSHEETS[kind].replace("\n", ends).encode(encoding)))
    found = [(row.patient, row.mr, row.ct, row.set) for row in rows]
    assert found == [(name, f"{tmp_path}/{mr}", f"{tmp_path}/{ct}", group) for name, mr, ct, group in TWO]


def test_utf_16_of_the_other_byte_order(sheet):
    path = sheet(b"\xfe\xff" + (HEADER + ROW).encode("utf-16-be"))
    assert [row.patient for row in read_sheet(path)] == ["P1"]


def test_quotes_in_a_path(sheet, tmp_path):
    for name in ('a "b"\'s.nii.gz', '"c".nii.gz'):
        (tmp_path / name).touch()
    row = 'P1\t"a ""b""\'s.nii.gz"\t"""c"".nii.gz"\n'
    (found,) = read_sheet(sheet(HEADER + row))
    assert (found.mr, found.ct) == (f'{tmp_path}/a "b"\'s.nii.gz', f'{tmp_path}/"c".nii.gz')
    (found,) = read_sheet(sheet(HEADER + 'P1\ta "b"\'s.nii.gz\tct.nii.gz\n'))  # as one types it
    assert found.mr == f'{tmp_path}/a "b"\'s.nii.gz'


def refusal(path):
    with pytest.raises(UserError) as caught:
        read_sheet(path)
    where, said = str(path), str(caught.value)
    assert said.startswith(where) and "\n" not in said
    return said.removeprefix(where)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient,mr,ct\nP1,mr.nii.gz,ct.nii.gz\n", "separated by commas, expected tabs; save it as text"),
        ('"patient","mr","ct"\n"P1","mr.nii.gz","ct.nii.gz"\n', "separated by commas, expected tabs"),
        ("Patient;MR;CT\r\nP1;mr.nii.gz;ct.nii.gz\r\n", "separated by semicolons, expected tabs"),
        ("patient  mr  ct\nP1  mr.nii.gz  ct.nii.gz\n", "separated by spaces, expected tabs"),
        (b"PK\x03\x04\x14\0", "a spreadsheet itself, expected text; save it as text in UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "a spreadsheet itself, expected text"),
        ((HEADER + ROW).encode("utf-16-le"), "not a text in UTF-8 (it holds zeros); save it as text"),
        ((HEADER + ROW).encode("utf-16")[:-1], "not a text in UTF-16-LE (byte 74); save it as text"),
        ("Patient\tMR\tCT\tmr\n" + ROW, "column 'mr' stands there twice"),
        ("patient\t\tmr\tct\nP1\tx\tmr.nii.gz\tct.nii.gz\n", "row 2: trailing cell 'x' in column 2"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_sheet(sheet, text, message):
    assert message in refusal(sheet(text))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("P1\tmr.nii.gz\tct.nii.gz\t\tseen", ": trailing cell 'seen' in column 5, which has no name in the"),
        ("P1\t\tmr.nii.gz\tct.nii.gz", ": trailing cell 'ct.nii.gz' in column 4"),
        ('P1\t"mr.nii.gz\tct.nii.gz', ": not readable (unexpected end of data); a cell that begins with a"),
        ('P1\t"my" mr.nii.gz\tct.nii.gz', "; a cell that begins with a quote must end with one, and quotes"),
        ('P1\t"mr1.nii.gz\tct1.nii.gz\nP2\tmr2.nii.gz"\tct2.nii.gz', ": a line break in the cell that"),
        ("P1\t~/mr.nii.gz\tct.nii.gz", "/~/mr.nii.gz does not exist; ~ is not replaced by your home folder;"),
        ("P1\t~ann/mr.nii.gz\tct.nii.gz", "/~ann/mr.nii.gz does not exist; ~ is not replaced by your home f"),
        ("P1\tC:\\scans\\mr.nii.gz\tct.nii.gz", "does not exist; it looks like a path in Windows; write it"),
        ("P1\tD:/scans/mr.nii.gz\tct.nii.gz", "does not exist; it looks like a path in Windows; write it"),
        ("P1\tscans\\mr.nii.gz\tct.nii.gz", "does not exist; it looks like a path in Windows; write it"),
        ("P1\t\\\\server\\mr.nii.gz\tct.nii.gz", "does not exist; it looks like a path in Windows; write it"),
        ("P1\tloop\tct.nii.gz", "loop cannot be read: Too many levels of symbolic links"),
        ("P1\tlost\tct.nii.gz", "lost is a link to nowhere, which does not exist"),
        (f"P1\t{'x' * 300}\tct.nii.gz", "cannot be read: File name too long"),
        ("P1\tmr.nii.gz/more\tct.nii.gz", "mr.nii.gz/more does not exist"),
    ],
)  # fmt: skip
def test_a_row_that_needs_its_user(sheet, tmp_path, cells, message):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "lost").symlink_to("nowhere")
    said = refusal(sheet(f"{HEADER}{cells}\n"))
    assert said.startswith(", row 2: ") and message in said


def test_what_looks_like_another_systems_path_may_be_a_file(sheet, tmp_path):
    for name in ("~mr.nii.gz", "C:\\ct.nii.gz"):
        (tmp_path / name).touch()
    (row,) = read_sheet(sheet(f"{HEADER}P1\t~mr.nii.gz\tC:\\ct.nii.gz\n"))
    assert (row.mr, row.ct) == (f"{tmp_path}/~mr.nii.gz", f"{tmp_path}/C:\\ct.nii.gz")


def test_a_folder_is_no_transform(sheet):
    said = refusal(sheet("patient\tmr\tct\ttransform\nP1\tmr.nii.gz\tct.nii.gz\t.\n"))
    assert said.startswith(", row 2: patient P1: transform file ") and "is a folder, expected a file" in said


def test_a_sheet_that_cannot_be_read(tmp_path):
    path = tmp_path / "patients.tsv"
    path.symlink_to("/proc/self/mem")  # its first bytes cannot be read, as of a bad disk
    assert refusal(path) == ": Input/output error"


def link_to(path, way):
    """Make a second name of a file or folder and return it."""
    other = path.with_name("other")
    match way:
        case "symbolic link":
            other.symlink_to(path.name)
        case "hard link":
            other.hardlink_to(path)
        case "dots":
            return f"../{path.parent.name}/{path.name}"
        case "same":
            return path.name
    return other.name


@pytest.mark.parametrize("columns", [("mr", "mr"), ("ct", "ct"), ("mr", "ct")])
@pytest.mark.parametrize("way", ["same", "symbolic link", "hard link", "dots", "folder"])
def test_one_file_of_two_patients(sheet, tmp_path, way, columns):
    first = tmp_path / "mr.nii.gz"
    if way == "folder":  # of a DICOM series
        (first := tmp_path / "series").mkdir()
        way = "symbolic link"
    second = link_to(first, way)
    one, two = ({"mr": f"mr{k}.nii.gz", "ct": f"ct{k}.nii.gz"} for k in (1, 2))
    one[columns[0]], two[columns[1]] = first.name, second
    path = sheet(f"{HEADER}P1\t{one['mr']}\t{one['ct']}\n\nP2\t{two['mr']}\t{two['ct']}\n")
    message = r"row 4: patient P2: .* is also a file of patient P1 in row 2; one image .* delete one"
    with pytest.raises(UserError, match=message):
        read_sheet(path)


@pytest.mark.parametrize("way", ["same", "symbolic link", "hard link", "dots"])
def test_one_transform_of_two_patients(sheet, tmp_path, way):
    (tmp_path / "t.tfm").touch()
    names = ("t.tfm", link_to(tmp_path / "t.tfm", way))
    rows = "".join(f"P{k}\tmr{k}.nii.gz\tct{k}.nii.gz\t{names[k - 1]}\n" for k in (1, 2))
    message = r"row 3: patient P2: .* is also a file of patient P1 in row 2; each patient has a transform of"
    with pytest.raises(UserError, match=message):
        read_sheet(sheet(HEADER[:-1] + "\ttransform\n" + rows))
    (tmp_path / "copy.tfm").touch()
    rows = "P1\tmr1.nii.gz\tct1.nii.gz\tt.tfm\nP2\tmr2.nii.gz\tct2.nii.gz\tcopy.tfm\n"
    assert len(read_sheet(sheet(HEADER[:-1] + "\ttransform\n" + rows))) == 2


def test_absolute_paths_and_a_byte_order_mark(sheet, tmp_path):
    path = sheet(f"\ufeffpatient\tmr\tct\nP1\t{tmp_path}/mr.nii.gz\tct.nii.gz\n")
    assert read_sheet(path)[0].mr == str(tmp_path / "mr.nii.gz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("patient\tmr\tct\n", "no patients"),
        ("patient\tmr\nP1\tmr.nii.gz\n", "column 'ct' is missing"),
        ("patient\tmr\tct\nP1\tmr.nii.gz\n", "row 2: column 'ct' is empty"),
        ("patient\tmr\tct\nP1\tmr.nii.gz\t\n", "row 2: column 'ct' is empty"),
        (f"{HEADER}{ROW}\n{ROW}", "row 4: patient P1 again.*row 2$"),
        (
            f"{HEADER}a01\tmr1.nii.gz\tct1.nii.gz\nA01\tmr2.nii.gz\tct2.nii.gz\n",
            "row 3: patient A01 again, first named in row 2 as a01; some disks take both for one folder",
        ),
        (f"{HEADER}P1\tmr.nii.gz\tgone.nii.gz\n", "row 2: patient P1: ct file .*gone.nii.gz does not exist"),
        ("patient\tmr\tct\na/b\tmr.nii.gz\tct.nii.gz\n", "row 2: patient 'a/b' cannot name a folder"),
        (f"{HEADER}{101 * 'p'}\tmr.nii.gz\tct.nii.gz\n", "folder; expected at most 100 letters"),
        ("patient\tmr\tct\tset\nP1\tmr.nii.gz\tct.nii.gz\tvalid\n", "row 2: set is 'valid'"),
        ("patient\tmr\tct\nJörg\tmr.nii.gz\tct.nii.gz\n".encode("latin-1"), "not a text in UTF-8"),
    ],
)  # fmt: skip
def test_a_faulty_sheet(sheet, text, message):
    path = sheet(text)
    with pytest.raises(UserError, match=message) as caught:
        read_sheet(path)
    assert str(caught.value).startswith(str(path))


def test_no_sheet(tmp_path):
    with pytest.raises(UserError, match="patients.tsv: No such file or directory"):
        read_sheet(tmp_path / "patients.tsv")


def test_the_sheet_may_fix_the_set(sheet, tmp_path):
    rows = [f"{name}\tmr{k}.nii.gz\tct{k}.nii.gz\t" for k, name in enumerate(NAMES[:10])]
    rows[0] += "test"
    rows[1] += "train"
    path = sheet("patient\tmr\tct\tset\n" + "\n".join(rows) + "\n")
    for seed in range(8):
        frame = split(tmp_path, NAMES[:10], path, seed=seed, train_fraction=0.8).set_index("patient")
        assert frame.loc["P001", "set"] == "test"
        assert frame.loc["P002", "set"] == "train"
        assert (frame["set"] == "train").sum() == 8


def test_a_sheet_without_test_patients(sheet, tmp_path):
    rows = "".join(f"P{k}\tmr{k}.nii.gz\tct{k}.nii.gz\ttrain\n" for k in (1, 2))
    path = sheet("patient\tmr\tct\tset\n" + rows)
    with pytest.raises(UserError, match="no patient for the test set"):
        split(tmp_path, ["P1", "P2"], path)


@pytest.fixture
def volumes(tmp_path):
    mr, ct, _ = head(shape=(20, 30, 25), spacing=(8.0, 8.0, 8.0))
    sitk.WriteImage(sitk.DICOMOrient(mr, "RAS"), str(tmp_path / "mr.mha"))
    sitk.WriteImage(ct, str(tmp_path / "ct.nrrd"))
    return tmp_path


def bring(folder, mr="mr.mha", ct="ct.nrrd"):
    outputs = [folder / "out" / name for name in ("mr.nii.gz", "ct.nii.gz", "voxels.json")]
    import_patient("P5", folder / mr, folder / ct, *outputs)
    return sitk.ReadImage(str(folder / "out/mr.nii.gz")), sitk.ReadImage(str(folder / "out/ct.nii.gz"))


def test_a_patient_is_brought_into_one_orientation(volumes):
    mr, ct = bring(volumes)
    assert np.allclose(mr.GetDirection(), np.eye(3).ravel())
    before = sitk.DICOMOrient(sitk.ReadImage(str(volumes / "mr.mha")), "LPS")
    assert np.allclose(mr.GetOrigin(), before.GetOrigin())
    assert np.array_equal(sitk.GetArrayFromImage(mr), sitk.GetArrayFromImage(before))
    assert sitk.GetArrayFromImage(ct).min() < -900


def test_exchanged_modalities(volumes):
    with pytest.raises(UserError, match="patient P5: .* MR and CT are exchanged"):
        bring(volumes, mr="ct.nrrd", ct="mr.mha")
    with pytest.raises(UserError, match="patient P5: MR and CT are the same file"):
        bring(volumes, mr="ct.nrrd")
    assert not (volumes / "out/ct.nii.gz").exists()


def test_names_that_look_alike_are_told(sheet, tmp_path):
    name = unicodedata.normalize("NFD", "Ärzte.nii")
    (tmp_path / name).touch()
    (tmp_path / "spaced ").mkdir()
    for written, hint in (
        (
            unicodedata.normalize("NFC", name),
            "does not exist; a file of this name in another form of Unicode",
        ),
        ("mr.nii\u200b.gz", "does not exist; its name has an invisible character"),
        (
            "spaced ",
            "spaced does not exist; one whose name has a space at its end or start does; rename that",
        ),
    ):
        with pytest.raises(UserError, match=hint):
            read_sheet(sheet(f"{HEADER}P1\t{written}\tct.nii.gz\n"))


def test_a_pipe_is_no_volume(sheet, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="mr file .*pipe is neither a file nor a folder"):
        read_sheet(sheet(f"{HEADER}P1\tpipe\tct.nii.gz\n"))


@pytest.mark.parametrize("value", ["#N/A", "#REF!", "#NAME?", "#DIV/0!", "#NV", "#BEZUG!"])
def test_an_error_value_of_a_spreadsheet_is_no_comment(tmp_path, value):
    rows = ["patient\tmr\tct", "P1\ta.nii\tb.nii", f"{value}\tc.nii\td.nii"]
    (tmp_path / "patients.tsv").write_text("\n".join(rows))
    for name in "abcd":
        (tmp_path / f"{name}.nii").touch()
    with pytest.raises(
        UserError, match=f"row 3: patient {re.escape(value)}, an error value of a spreadsheet"
    ):
        read_sheet(tmp_path / "patients.tsv")


@pytest.mark.parametrize("value", ["#P2", "# P2", "#", "#2", "# why?"])
def test_a_row_that_is_commented_out_is_left_out(tmp_path, caplog, value):
    rows = ["patient\tmr\tct", "P1\ta.nii\tb.nii", f"{value}\tc.nii\td.nii"]
    (tmp_path / "patients.tsv").write_text("\n".join(rows))
    for name in "ab":
        (tmp_path / f"{name}.nii").touch()
    assert [row.patient for row in read_sheet(tmp_path / "patients.tsv")] == ["P1"]
    left_out = f"rows whose patient begins with # are left out as comments: row 3 ({value})"
    assert caplog.messages == [f"{tmp_path / 'patients.tsv'}: {left_out}"]


def test_rows_that_count_as_comments_are_told(sheet, caplog):
    """A number sign may belong to the patient's name, or be an error value that nobody knows."""
    rows = [
        "# of\tthe first clinic\t\t", "mr\tct\tpatient", "mr.nii.gz\tct.nii.gz\tP1", "\t\t# a note",
        "mr1.nii.gz\tct1.nii.gz\t#12", "mr2.nii.gz\tct2.nii.gz\t#Н/Д",
        "mr3.nii.gz\tct3.nii.gz\t#GETTING_DATA",
    ]  # fmt: skip
    path = sheet("\n".join(rows))
    assert [row.patient for row in read_sheet(path)] == ["P1"]
    assert caplog.messages == [
        f"{path}: rows whose patient begins with # are left out as comments:"
        " row 5 (#12), row 6 (#Н/Д), row 7 (#GETTING_DATA)"
    ]
    caplog.clear()
    read_sheet(sheet(f"# clinic\tA\n{HEADER}# a note\t\t\n{ROW}#\n"))
    assert caplog.messages == []
    path = sheet(HEADER + ROW + "".join(f"#{number}\tmr1.nii.gz\tct1.nii.gz\n" for number in range(25)))
    read_sheet(path)
    assert caplog.messages[0].endswith("row 21 (#18), row 22 (#19) and 5 more")
