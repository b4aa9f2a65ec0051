"""``regagent apply``: images, points and transforms as other programs write them."""

import base64
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from markers import make_volumes, turned
from scans import write_series

from regagent.command.main import main
from regagent.files import UserError
from regagent.process import silent_stderr
from regagent.volumes.transforms import read_transform

#: Of a voxel (i, j, k): 2, 3 and 4 mm to the patient's left, back and head, from (10, 20, 30) mm on.
TO_RAS = np.array([[-2.0, 0, 0, -10], [0, -3.0, 0, -20], [0, 0, 4.0, 30], [0, 0, 0, 1]])
HEADER = "#Insight Transform File V1.0\n#Transform 0\n"


def itk_text(kind, parameters, fixed="0 0 0"):
    return f"{HEADER}Transform: {kind}_double_3_3\nParameters: {parameters}\nFixedParameters: {fixed}\n"


#: Points of the fixed image to points of the moving one: 2 mm to the left, 3 to the back, 4 to the head.
SHIFT = itk_text("TranslationTransform", "2 3 4", "")
NOT_SHIFTED = itk_text("TranslationTransform", "0 0 0", "")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function that runs ``regagent apply`` in an empty folder and returns its exit code and messages."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shift.tfm").write_text(SHIFT)
    (tmp_path / "same.tfm").write_text(NOT_SHIFTED)

    def call(words):
        code = main(["apply", *words.split()])
        return code, capsys.readouterr().err.splitlines()

    return call


@pytest.fixture
def said(caplog):
    return lambda: [record.getMessage() for record in caplog.records]


def nifti(name, values, to_ras=TO_RAS):
    nibabel.save(nibabel.Nifti1Image(values, to_ras), name)


def voxels(name):
    """The voxels (x, y, z) as nibabel reads them."""
    return np.asanyarray(nibabel.load(name).dataobj)


def labels(kind=np.uint8):
    values = np.zeros((6, 5, 4), kind)
    values[2:4, 1:3, 1:3] = 41
    values[4, 1:3, 1:3] = 2
    return values


def moved_labels(kind=np.uint8):
    """The labels as they lie on the same grid, one voxel earlier along each axis."""
    expected = np.zeros((6, 5, 4), kind)
    expected[:-1, :-1, :-1] = labels(kind)[1:, 1:, 1:]
    return expected


IMAGE = "--transform shift.tfm --image i.nii.gz --reference r.nii.gz --out o.nii.gz"


def test_an_empty_mask_stays_empty(run, said):
    nifti("i.nii.gz", np.zeros((6, 5, 4), np.uint8))
    nifti("r.nii.gz", labels())
    assert run(IMAGE) == (0, []) and said() == []
    assert voxels("o.nii.gz").dtype == np.uint8 and not voxels("o.nii.gz").any()
    nifti("i.nii.gz", np.ones((6, 5, 4), np.uint8))  # all of the image is 1: what is beyond it is 1 too
    assert run(f"{IMAGE} --outside 0") == (0, [])
    assert voxels("o.nii.gz").sum() == 5 * 4 * 3


def reference_of(kind, folder):
    """Write a reference on the grid of ``TO_RAS``, whose voxels are of one kind, and return its name."""
    size = (6, 5, 4)
    if kind == "dicom":
        image = sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6))
        image.SetSpacing((2, 3, 4))
        image.SetOrigin((10, 20, 30))
        write_series(image, folder / "series", "MR")
        return "series"
    if kind in ("vector", "rgb"):
        image = sitk.Image(size, {"vector": sitk.sitkVectorFloat32, "rgb": sitk.sitkVectorUInt8}[kind], 3)
        image.SetSpacing((2, 3, 4))
        image.SetOrigin((10, 20, 30))
        sitk.WriteImage(image, "r.nrrd")
        return "r.nrrd"
    values = {
        "blank": np.zeros(size, np.float32),
        "nan": np.full(size, np.nan, np.float32),
        "4D": np.zeros((*size, 7), np.int16),
        "integer": np.arange(120, dtype=np.int32).reshape(size),
    }[kind]
    nifti("r.nii.gz", values)
    return "r.nii.gz"


@pytest.mark.parametrize("kind", ["blank", "nan", "4D", "integer", "vector", "rgb", "dicom"])
def test_only_the_grid_of_the_reference_counts(run, said, tmp_path, kind):
    nifti("i.nii.gz", labels())
    reference = reference_of(kind, tmp_path)
    assert run(IMAGE.replace("r.nii.gz", reference)) == (0, []) and said() == []
    assert np.array_equal(voxels("o.nii.gz"), moved_labels())
    assert nibabel.load("o.nii.gz").affine == pytest.approx(TO_RAS)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int64, np.float32, np.float64])
def test_labels_and_their_type_stay(run, kind):
    values = labels(kind)
    if kind == np.int64:
        values[2, 1, 1] = 2**53 - 1
    nifti("r.nii.gz", labels())
    nibabel.save(nibabel.Nifti1Image(values, TO_RAS, dtype=kind), "i.nii.gz")
    half = itk_text("TranslationTransform", "0.7 0 0", "")
    with open("shift.tfm", "w") as file:
        file.write(half)
    assert run(f"{IMAGE} --nearest") == (0, [])
    assert voxels("o.nii.gz").dtype == kind
    assert np.array_equal(voxels("o.nii.gz"), values)


@pytest.mark.parametrize(("kind", "value"), [(np.int64, 2**53 + 1), (np.int64, -(2**60)), (np.uint64, 2**63)])
@pytest.mark.parametrize("how", ["", "--nearest"])
def test_whole_numbers_that_resampling_would_change_are_refused(run, kind, value, how):
    values = labels().astype(kind)
    values[2, 1, 1] = value
    nifti("r.nii.gz", labels())
    nibabel.save(nibabel.Nifti1Image(values, TO_RAS, dtype=kind), "i.nii.gz")
    half = itk_text("TranslationTransform", "0.7 0 0", "")
    with open("shift.tfm", "w") as file:
        file.write(half)
    code, (line,) = run(f"{IMAGE} {how}")
    assert code == 1 and "i.nii.gz: holds whole numbers beyond 2^53" in line


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_labels_that_are_interpolated_are_told(run, said, kind):
    nifti("i.nii.gz", labels(kind))
    nifti("r.nii.gz", labels())
    with open("shift.tfm", "w") as file:
        file.write(itk_text("TranslationTransform", "1 0 0", ""))
    assert run(IMAGE)[0] == 0
    (line,) = said()
    assert line.startswith("i.nii.gz: has few different values") and line.endswith("take --nearest")
    assert voxels("o.nii.gz")[3, 1, 1] == pytest.approx((41 + 2) / 2, abs=0.5)


@pytest.mark.parametrize(("count", "told"), [(3, True), (30, True), (31, False), (200, True), (300, False)])
def test_labels_that_follow_each_other_are_told(run, said, count, told):
    """Of 0, 1, 2 no new label appears, but a 1 between 0 and 2; of 200 labels the odd ones are new."""
    step = 2 if count == 200 else 1
    kind = np.uint8 if count < 100 else np.int16
    values = np.zeros((40, 30, 4), kind)
    values[::2] = step * (np.arange(600) % count).astype(kind).reshape(20, 30, 1)
    nifti("i.nii.gz", values)
    nifti("r.nii.gz", values)
    with open("shift.tfm", "w") as file:
        file.write(itk_text("TranslationTransform", "1 0 0", ""))
    assert run(IMAGE) == (0, [])
    assert voxels("o.nii.gz")[0, 2, 0] == step  # half of the way from 2 to 0
    line = "i.nii.gz: has few different values, which interpolation mixes; for a map of labels take --nearest"
    assert said() == [line] * told


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 3, 60])
def test_labels_moved_by_whole_voxels_are_not_told(run, said, kind, count):
    """Steps of 0.7 mm are rounded in the header, so that interpolation leaves 2.0000001 for 2."""
    to_ras = np.diag([-0.7, -0.7, 0.7, 1.0])
    values = (3 + np.arange(1200) % count).astype(kind).reshape(20, 15, 4)
    nifti("i.nii.gz", values, to_ras)
    nifti("r.nii.gz", values, to_ras)
    with open("shift.tfm", "w") as file:
        file.write(itk_text("TranslationTransform", "2.1 1.4 0", ""))
    assert run(f"{IMAGE} --outside 0") == (0, [])
    assert voxels("o.nii.gz")[:-3, :-2] == pytest.approx(values[3:, 2:], abs=1e-4)
    assert said() == []


def test_a_mask_that_is_rounded_is_not_told(run, said):
    """Its corners become 0, unlike those of the nearest voxels, but no label is mistaken for another."""
    mask = (labels() > 0).astype(np.uint8)
    nifti("i.nii.gz", mask)
    nifti("r.nii.gz", mask)
    with open("shift.tfm", "w") as file:
        file.write(itk_text("TranslationTransform", "0.9 1.3 1.7", ""))
    assert run(IMAGE) == (0, []) and said() == []
    rounded = voxels("o.nii.gz")
    assert run(f"{IMAGE} --nearest") == (0, []) and (voxels("o.nii.gz") != rounded).any()


@pytest.mark.parametrize("what", ["a mask of 0 and 1", "a CT", "labels that fall on voxels", "an 8-bit MR"])
def test_what_is_no_blend_of_labels_is_not_told(run, said, what):
    random = np.random.default_rng(1)
    values = {
        "a mask of 0 and 1": (labels() > 0).astype(np.uint8),
        "a CT": random.integers(-1000, 2000, (16, 15, 14)).astype(np.int16),
        "labels that fall on voxels": labels(),
        "an 8-bit MR": random.integers(0, 256, (16, 15, 14)).astype(np.uint8),
    }[what]
    nifti("i.nii.gz", values)
    nifti("r.nii.gz", values)
    if "fall" not in what:
        with open("shift.tfm", "w") as file:
            file.write(itk_text("TranslationTransform", "0.7 0 0", ""))
    assert run(IMAGE) == (0, []) and said() == []


def test_a_float_image_has_its_lowest_value_outside_and_its_type(run):
    values = np.linspace(-0.25, 1, 120, dtype=np.float32).reshape(6, 5, 4)
    nifti("i.nii.gz", values)
    nifti("r.nii.gz", labels())
    assert run(IMAGE) == (0, [])
    found = voxels("o.nii.gz")
    assert found.dtype == np.float32 and np.array_equal(found[:-1, :-1, :-1], values[1:, 1:, 1:])
    assert (found[-1] == -0.25).all() and (found[:, :, -1] == -0.25).all()
    code, (line,) = run(f"{IMAGE} --outside 1e300")
    assert code == 1 and "i.nii.gz: its pixels are float32, which cannot hold 1e+300 for" in line
    assert run(f"{IMAGE} --outside nan") == (0, [])
    assert np.isnan(voxels("o.nii.gz")[-1]).all() and np.isfinite(voxels("o.nii.gz")[:-1, :-1, :-1]).all()


@pytest.mark.parametrize("outside", ["", " --outside nan"])
def test_an_image_that_the_reference_does_not_meet_is_told(run, said, outside):
    nifti("i.nii.gz", labels(np.float32) - 3)
    far = TO_RAS.copy()
    far[0, 3] = 900
    nifti("r.nii.gz", labels(), far)
    assert run(IMAGE + outside)[0] == 0
    (line,) = said()
    value = "nan" if outside else "-3"
    assert "i.nii.gz: this transform takes no voxel of r.nii.gz into it" in line
    assert f"the result is {value} everywhere" in line
    assert np.array_equal(voxels("o.nii.gz"), np.full((6, 5, 4), float(value)), equal_nan=True)


@pytest.mark.parametrize("name", ["o.NII.GZ", "o.NII", "o.MHA", "o.NRRD", "o.Nii.Gz"])
def test_suffixes_may_be_capitals(run, tmp_path, name):
    nifti("i.nii.gz", labels())
    nifti("r.nii.gz", labels())
    assert run(IMAGE.replace("o.nii.gz", name)) == (0, [])
    (tmp_path / name).rename(lower := str(tmp_path / name).lower())
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(lower)).T, moved_labels())


def test_images_that_are_not_scalar_volumes_are_one_line(run):
    nifti("r.nii.gz", labels())
    nifti("i.nii.gz", np.zeros((6, 5, 4, 7), np.int16))
    assert run(IMAGE) == (1, ["error: i.nii.gz: 4D image, expected a 3D volume"])
    sitk.WriteImage(sitk.Image([6, 5], sitk.sitkVectorUInt8, 3), "v.mha")
    code, (line,) = run(IMAGE.replace("i.nii.gz", "v.mha"))
    assert code == 1 and line == "error: v.mha: 3 values a pixel, expected one"
    nifti("i.nii.gz", np.full((6, 5, 4), np.nan, np.float32))
    code, (line,) = run(IMAGE)
    assert code == 1 and line.startswith("error: i.nii.gz: holds NaN or infinite voxels")


@pytest.mark.parametrize("suffix", ["nii.gz", "mha"])
def test_one_slice_is_2d_for_a_2d_transform_and_3d_for_a_3d_one(run, suffix):
    """5 mm thick: a voxel of the volume 2 mm above it lies in it, one 3 mm above lies outside."""
    values = np.arange(30, dtype=np.int16).reshape(6, 5, 1) + 100
    to_ras = np.diag([-2.0, -3.0, 5.0, 1.0])
    nifti("i.nii.gz", values, to_ras)
    sitk.WriteImage(sitk.ReadImage("i.nii.gz"), f"i.{suffix}")
    flat = SHIFT.replace("_3_3", "_2_2").replace("2 3 4", "2 3")
    with open("flat.tfm", "w") as file:
        file.write(flat)
    words = f"--image i.{suffix} --reference i.{suffix} --outside 0 --out o.nii.gz"
    assert run(f"--transform flat.tfm {words}") == (0, [])
    found = voxels("o.nii.gz").reshape(6, 5)
    assert np.array_equal(found[:-1, :-1], values[1:, 1:, 0])
    nifti("r.nii.gz", np.zeros((6, 5, 6), np.uint8), np.diag([-2.0, -3.0, 1.0, 1.0]))
    assert run(
        f"--transform same.tfm {words.replace(f'--reference i.{suffix}', '--reference r.nii.gz')}"
    ) == (0, [])
    found = voxels("o.nii.gz")
    for height in range(6):
        assert np.array_equal(found[..., height], values[..., 0] if height < 3 else 0 * values[..., 0])
    assert run(f"--transform same.tfm {words}") == (0, [])
    assert voxels("o.nii.gz").shape == (6, 5, 1) and np.array_equal(voxels("o.nii.gz"), values)
    assert nibabel.load("o.nii.gz").affine == pytest.approx(to_ras)


def test_a_slice_of_any_thickness_is_a_2d_image(run):
    image = sitk.GetImageFromArray(np.arange(30, dtype=np.int16).reshape(1, 5, 6))
    image.SetSpacing((2, 3, 25))
    sitk.WriteImage(image, "i.mha")
    with open("flat.tfm", "w") as file:
        file.write(NOT_SHIFTED.replace("_3_3", "_2_2").replace("0 0 0", "0 0"))
    assert run("--transform flat.tfm --image i.mha --reference i.mha --out o.mha") == (0, [])
    found = sitk.GetArrayFromImage(sitk.ReadImage("o.mha"))
    assert np.array_equal(found, np.arange(30).reshape(5, 6))


def test_a_sagittal_slice_has_its_place_as_a_volume_alone(run):
    to_ras = np.array([[0, 0, 5.0, 7], [2, 0, 0, 8], [0, 3, 0, 9], [0, 0, 0, 1]])
    values = np.arange(30, dtype=np.int16).reshape(6, 5, 1)
    nifti("i.nii.gz", values, to_ras)
    assert run("--transform same.tfm --image i.nii.gz --reference i.nii.gz --out o.nii") == (0, [])
    assert np.array_equal(voxels("o.nii"), values) and nibabel.load("o.nii").affine == pytest.approx(to_ras)
    nifti("i.nii.gz", values[..., 0], to_ras)
    code, (line,) = run("--transform same.tfm --image i.nii.gz --reference i.nii.gz --out o.nii")
    assert code == 1 and line.startswith("error: i.nii.gz: a 2D image whose plane is not axial")


def test_images_of_another_dimension_are_one_line(run):
    nifti("i.nii.gz", labels())
    sitk.WriteImage(sitk.ReadImage("i.nii.gz")[:, :, 2], "flat.mha")
    code, (line,) = run("--transform shift.tfm --image flat.mha --reference i.nii.gz --out o.nii")
    assert code == 1 and line == "error: flat.mha: a 2D image, but the transform is 3D"
    code, (line,) = run("--transform shift.tfm --image i.nii.gz --reference flat.mha --out o.nii")
    assert code == 1 and line == "error: flat.mha: a 2D image, but the transform is 3D"


def test_a_reference_too_large_for_the_memory_is_one_line(run, tmp_path):
    nifti("i.nii.gz", labels())
    nifti("r.nii", labels())
    content = bytearray((tmp_path / "r.nii").read_bytes())
    content[42:48] = struct.pack("<3h", *3 * [32000])
    (tmp_path / "r.nii").write_bytes(content)
    code, lines = run(IMAGE.replace("r.nii.gz", "r.nii"))
    assert (code, lines) == (1, ["error: r.nii: 32000 x 32000 x 32000 voxels, which the memory cannot hold"])


@pytest.mark.parametrize("name", ["i.nii.gz", "r.nii.gz", "shift.tfm", "p.csv", "p.fcsv", "p.mrk.json"])
@pytest.mark.parametrize("content", [None, b"", bytes(range(256)) * 20, b"no more than text\n"])
def test_any_faulty_file_is_one_line_with_its_name(run, tmp_path, name, content):
    nifti("i.nii.gz", labels())
    nifti("r.nii.gz", labels())
    words = f"--transform shift.tfm --points {name} --out o.csv" if name.startswith("p") else IMAGE
    (tmp_path / name).unlink(missing_ok=True)
    for folder in (False, True) if content is None else (False,):
        if folder:
            (tmp_path / name).mkdir()
        elif content is not None:
            (tmp_path / name).write_bytes(content)
        code, lines = run(words)
        assert code == 1 and len(lines) == 1 and lines[0].startswith(f"error: {name}: ")
        assert not list(tmp_path.glob("o.*"))


# Points


POINTS = "--transform shift.tfm --points {} --out {}"


@pytest.mark.parametrize(
    "text",
    [
        "x,y,z\n1,2,3\n-4.5,0,60\n",
        "x,y,z\r\n1,2,3\r\n-4.5,0,60\r\n",
        "\ufeffx,y,z\n1,2,3\n-4.5,0,60",
        "x,y,z,\n1,2,3,\n-4.5,0,60,\n",
        "x,y,z\n1,2,3,\n-4.5,0,60,,\n",
        "x,y,z,,\n1,2,3\n-4.5,0,60\n",
        "x,y,z\n1,2,3\n-4.5,0,60\n,,\n\n",
        " x , y , z \n 1, 2 , 3\n-4.5, 0,6e1\n",
        '"x","y","z"\n"1","2","3"\n"-4.5","0","60"\n',
    ],
)
def test_tables_as_spreadsheets_write_them(run, tmp_path, text):
    (tmp_path / "p.csv").write_text(text, encoding="utf-8", newline="")
    assert run(POINTS.format("p.csv", "o.csv")) == (0, [])
    assert (tmp_path / "o.csv").read_text() == "x,y,z\n3.0,5.0,7.0\n-2.5,3.0,64.0\n"


def test_names_in_capitals_and_the_columns_of_ants(run, tmp_path):
    (tmp_path / "p.csv").write_text("Z,Y,X,t,label,comment\n3,2,1,0,007,NA\n60,0,-4.5,0,,\n")
    assert run(POINTS.format("p.csv", "o.TSV")) == (0, [])
    expected = "Z\tY\tX\tt\tlabel\tcomment\n7.0\t5.0\t3.0\t0\t007\tNA\n64.0\t3.0\t-2.5\t0\t\t\n"
    assert (tmp_path / "o.TSV").read_text() == expected
    (tmp_path / "o.TSV").rename(tmp_path / "q.TSV")
    assert run(POINTS.format("q.TSV", "b.csv") + " --inverse") == (0, [])
    assert pd.read_csv(tmp_path / "b.csv").loc[:, ["X", "Y", "Z"]].to_numpy() == pytest.approx(
        np.array([[1, 2, 3], [-4.5, 0, 60]])
    )


def test_a_table_with_a_nameless_column_as_pandas_writes_it(run, tmp_path):
    (tmp_path / "p.csv").write_text(",x,y,z,xy\n0,1,2,3,7\n")
    assert run(POINTS.format("p.csv", "o.csv")) == (0, [])
    assert (tmp_path / "o.csv").read_text().splitlines()[1] == "0,3.0,5.0,7.0,7"


@pytest.mark.parametrize(
    ("columns", "given", "expected"),
    [("r,a,s", "-1,-2,3", [-3, -5, 7]), ("l,p,s", "1,2,3", [3, 5, 7]), ("R,A,S", "-1,-2,3", [-3, -5, 7])],
)
def test_a_table_of_slicer_states_its_system_by_its_columns(run, tmp_path, columns, given, expected):
    """The same point, in the columns that Slicer's export of a table has."""
    more = "defined,selected,visible,locked,description"
    (tmp_path / "p.csv").write_text(f"label,{columns},{more}\nF-1,{given},1,1,1,0,\n")
    assert run(POINTS.format("p.csv", "o.csv")) == (0, [])
    head, row = (tmp_path / "o.csv").read_text().splitlines()
    assert head == f"label,{columns},{more}" and row.startswith("F-1,") and row.endswith(",1,1,1,0,")
    assert [float(cell) for cell in row.split(",")[1:4]] == expected


@pytest.mark.parametrize(("columns", "given"), [("l,p,s", "1,2,3"), ("r,a,s", "-1,-2,3")])
@pytest.mark.parametrize("nowhere", [",,", "0,0,0"])
def test_points_that_are_not_placed_yet_stay_as_they_are(run, tmp_path, columns, given, nowhere):
    more = "defined,selected,visible,locked,description"
    text = f"label,{columns},{more}\nF-1,{nowhere},0,1,1,0,\nF-2,{{}},1,1,1,0,\nF-3,{nowhere},0,1,1,0,\n"
    (tmp_path / "p.csv").write_text(text.format(given))
    assert run(POINTS.format("p.csv", "o.csv")) == (0, [])
    expected = {"l,p,s": "3.0,5.0,7.0", "r,a,s": "-3.0,-5.0,7.0"}[columns]
    assert (tmp_path / "o.csv").read_text() == text.format(expected)
    (tmp_path / "p.csv").write_text(text.format(",,"))
    code, (line,) = run(POINTS.format("p.csv", "o.csv"))
    assert code == 1 and "p.csv, row 3: coordinates nothing, nothing, nothing" in line


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        *(
            ("coordinateSystem", value, "LPS")
            for value in ("RAS+", "scanner RAS", "R-A-S", "tkRAS", "IJK", "3")
        ),
        *(
            (name, "RAS", "LPS")
            for name in ("coordsys", "Coord_System", "coordinate-space", "frame", "system")
        ),
        *((name, "RAS", "LPS") for name in ("orientation", "Reference", "referenceFrame")),
        ("space", "MNI", "LPS"),
        *(("unit", value, "mm") for value in ("cm", "m", "um", "voxel")),
        *((name, "cm", "mm") for name in ("Units", "coordinateUnits", "coordinate_unit")),
    ],
)
def test_a_column_that_states_another_system_or_unit_refuses_the_table(
    run, tmp_path, column, value, expected
):
    (tmp_path / "p.csv").write_text(f"x,y,z,{column}\n1,2,3,\n1,2,3,{value}\n")
    code, (line,) = run(POINTS.format("p.csv", "o.csv"))
    assert code == 1 and f"p.csv, row 3: column '{column}' states {value}, expected {expected}" in line
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("coordinateSystem,unit", "LPS,mm"),
        ("space,units", "lps+,Millimeter"),
        ("coordsys,coordinateUnits", ","),
        ("space,unit", "n/a,n/a"),
        ("CoordinateSystem,Unit", "1, mm "),
        ("frame,orientation", "0,axial"),
        ("reference,system", "A1,10-20"),
    ],
)
def test_a_column_that_states_lps_and_mm_or_is_about_something_else_stays(run, tmp_path, columns, values):
    (tmp_path / "p.csv").write_text(f"x,y,z,{columns}\n1,2,3,{values}\n")
    assert run(POINTS.format("p.csv", "o.csv")) == (0, [])
    assert (tmp_path / "o.csv").read_text() == f"x,y,z,{columns}\n3.0,5.0,7.0,{values}\n"


@pytest.mark.parametrize("name", ["coords", "convention", "remark", "orientation"])
def test_ras_in_any_column_beside_x_y_z_is_refused(run, tmp_path, name):
    (tmp_path / "p.csv").write_text(f"x,y,z,{name}\n1,2,3,RAS\n")
    code, (line,) = run(POINTS.format("p.csv", "o.csv"))
    assert code == 1 and f"p.csv, row 2: column '{name}' states RAS, expected LPS as x, y, z are read" in line


@pytest.mark.parametrize("system", ["RAS", "ras+", "0", ""])
def test_columns_r_a_s_may_state_ras(run, tmp_path, system):
    (tmp_path / "p.csv").write_text(f"r,a,s,space\n-1,-2,3,{system}\n")
    assert run(POINTS.format("p.csv", "o.csv")) == (0, [])
    assert (tmp_path / "o.csv").read_text() == f"r,a,s,space\n-3.0,-5.0,7.0,{system}\n"


@pytest.mark.parametrize("name", ["p.csv", "p.fcsv", "p.mrk.json"])
def test_no_points_are_an_empty_table(run, tmp_path, name):
    empty = {"p.csv": "x,y,z,label\n", "p.fcsv": fcsv("LPS"), "p.mrk.json": markups("LPS")}
    (tmp_path / name).write_text(empty[name])
    assert run(POINTS.format(name, "o.csv")) == (0, [])
    table = pd.read_csv(tmp_path / "o.csv")
    assert len(table) == 0 and {"x", "y", "z", "label"} <= set(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x;y;z\n1,5;2,5;3\n",
            "p.csv: its columns are separated by semicolons, expected commas; save it as text",
        ),
        ("x\ty\tz\n1\t2\t3\n", "p.csv: its columns are separated by tabs, expected commas"),
        ("x,y\n1,2\n", "p.csv: column 'z' is missing; found x, y, expected x, y, z in mm (LPS)"),
        ("r,a\n1,2\n", "p.csv: column 'x' is missing; found r, a, expected x, y, z in mm (LPS)"),
        ("x,X,y,z\n1,1,2,3\n", "p.csv: several columns for one coordinate; found x, X, y, z"),
        ("x,y,z,r,a,s\n1,2,3,-1,-2,3\n", "p.csv: several columns for one coordinate"),
        ("x,y,x\n1,2,3\n", "p.csv: two columns have the same name"),
        ("x,y,z\n1,2,3\n4,here,6\n", "p.csv, row 3: coordinates 4, here, 6, expected numbers in mm"),
        ('x,y,z\n"1,5",2,3\n', "p.csv, row 2: coordinates 1,5, 2, 3, expected numbers in mm"),
        ("x,y,z\n1,,3\n", "p.csv, row 2: coordinates 1, nothing, 3"),
        ("x,y,z\n1,inf,3\n", "p.csv, row 2: coordinates 1, inf, 3"),
        ("x,y,z\n1,nan,3\n", "p.csv, row 2: coordinates 1, nan, 3"),
        ("x,y,z\n1,2,3\n\n4,5,6\n", "p.csv, row 3: 0 cells, expected 3 as in the header"),
        ("x,y,z\n10,20,30,40\n", "p.csv, row 2: 4 cells, expected 3 as in the header"),
        ("x,y,z,\n10,20,30,40\n", "p.csv, row 2: 4 cells, expected 3 as in the header"),
        ("x,y,z\n1_0,2,3\n", "p.csv, row 2: coordinates 1_0, 2, 3, expected numbers in mm"),
        ("x,y,z,space\n1,2,3,LPS\n1,2,3,RAS\n", "p.csv, row 3: column 'space' states RAS, expected LPS as"),
        (
            "x,y,z,coordinateSystem\n1,2,3,0\n",
            "p.csv, row 2: column 'coordinateSystem' states 0, expected LPS",
        ),
        ("r,a,s,space\n1,2,3,lps\n", "p.csv, row 2: column 'space' states lps, expected RAS as r, a, s"),
        (",,\n1,2,3\n", "p.csv, row 2: 3 cells, expected 0"),
        (",,\n", "p.csv: not a readable table (it is empty)"),
    ],
)
def test_faulty_tables_are_named(run, tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    code, (line,) = run(POINTS.format("p.csv", "o.csv"))
    assert code == 1 and message in line and not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x,y,z,Größe\n1,2,3,4\n".encode("cp1252"), "not a text in UTF-8 (byte 8); save it as text in UTF-8"),
        ("x,y,z\n1,2,3\n".encode("utf-16-le"), "not a text in UTF-8 (it holds zeros); save it as text"),
        (b"PK\x03\x04\x14\0", "a spreadsheet itself, expected text; save it as text in UTF-8, its columns"),
        (b"x y z\n1 2 3\n", "its columns are separated by spaces, expected commas"),
        (b'x,y,z,label\n1,2,3,"nasion\n4,5,6,inion\n', "row 2: not readable (unexpected end of data)"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(run, tmp_path, content, message):
    (tmp_path / "p.csv").write_bytes(content)
    code, (line,) = run(POINTS.format("p.csv", "o.csv"))
    assert code == 1 and line.startswith("error: p.csv") and message in line


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.fcsv", "p.mrk.json"])
def test_points_in_utf_16_are_read(run, tmp_path, name):
    text = {
        "p.csv": "label,x,y,z\nÉva,1.5,2,3\n",
        "p.tsv": "label\tx\ty\tz\nÉva\t1.5\t2\t3\n",
        "p.fcsv": fcsv("LPS", "0,1.5,2,3,0,0,0,1,1,1,0,Éva,,"),
        "p.mrk.json": markups("LPS", point("Éva", LPS)),
    }[name]
    (tmp_path / name).write_text(text, encoding="utf-16", newline="\r\n")
    assert run(POINTS.format(name, "o.csv")) == (0, [])
    table = pd.read_csv(tmp_path / "o.csv")
    assert table[["label", "x", "y", "z"]].to_numpy().tolist() == [["Éva", 3.5, 5.0, 7.0]]


FLAT = SHIFT.replace("_3_3", "_2_2").replace("2 3 4", "2 3")


def test_columns_r_and_a_beside_x_and_y_are_no_coordinates(run, tmp_path):
    """As those of a table of circles, with radius and area."""
    (tmp_path / "flat.tfm").write_text(FLAT)
    (tmp_path / "p.csv").write_text("x,y,r,a\n1,2,5,78.5\n")
    assert run("--transform flat.tfm --points p.csv --out o.csv") == (0, [])
    assert (tmp_path / "o.csv").read_text() == "x,y,r,a\n3.0,5.0,5,78.5\n"
    for text in ("x,y,r,a,s\n1,2,-1,-2,3\n", "l,p,r,a\n1,2,-1,-2\n"):
        (tmp_path / "p.csv").write_text(text)
        code, (line,) = run("--transform flat.tfm --points p.csv --out o.csv")
        assert code == 1 and "several columns for one coordinate" in line


@pytest.mark.parametrize("name", ["p.csv", "i.mha", "r.mha", "shift.tfm", "o.csv"])
def test_a_link_to_itself_is_one_line(run, tmp_path, name):
    image = sitk.GetImageFromArray(labels())
    for other in {"i.mha", "r.mha"} - {name}:
        sitk.WriteImage(image, other)
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to(name)
    words = "--image i.mha --reference r.mha --out o.mha" if "mha" in name else "--points p.csv --out o.csv"
    code, lines = run(f"--transform shift.tfm {words}")
    if name == "o.csv":  # what is written takes the link's place
        assert (code, lines) == (0, []) and (tmp_path / name).read_text() == "x,y,z\n3.0,5.0,7.0\n"
    else:
        assert code == 1 and len(lines) == 1 and lines[0].startswith(f"error: {name}: ")


def test_a_fault_of_the_program_is_not_told_as_one_of_the_file(run, tmp_path, monkeypatch):
    def fail(*arguments):
        raise ValueError("our own mistake")

    monkeypatch.setattr("regagent.command.apply.map_points", fail)
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    code, (line,) = run(POINTS.format("p.csv", "o.csv"))
    assert code == 1 and line.startswith("error: ValueError: our own mistake (the traceback is in ")


#: One point in both systems: at the left, the back and the head.
LPS, RAS = (1.5, 2.0, 3.0), (-1.5, -2.0, 3.0)


def fcsv(system, *rows):
    header = f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n"
    columns = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    return header + columns + "".join(f"{row}\n" for row in rows)


@pytest.mark.parametrize(
    ("system", "given", "expected"),
    [
        ("LPS", LPS, "3.5,5.0,7.0"),
        ("1", LPS, "3.5,5.0,7.0"),
        ("RAS", RAS, "-3.5,-5.0,7.0"),
        ("0", RAS, "-3.5,-5.0,7.0"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_fcsv_is_mapped_in_lps_and_kept_in_its_system(run, tmp_path, system, given, expected, newline):
    x, y, z = given
    rows = [
        f"vtkMRMLMarkupsFiducialNode_0,{x},{y},{z},0,0,0,1,1,1,0,nasion,,",
        f'vtkMRMLMarkupsFiducialNode_1,{x},{y},{z},0,0,0,1,1,0,0,"left, ear",a note,vtkMRMLScalarVolumeNode1',
    ]
    (tmp_path / "p.fcsv").write_text(fcsv(system, *rows), newline=newline)
    assert run(POINTS.format("p.fcsv", "o.fcsv")) == (0, [])
    mapped = [row.replace(f",{x},{y},{z},", f",{expected},") for row in rows]
    assert (tmp_path / "o.fcsv").read_text() == fcsv(system, *mapped)
    assert run(POINTS.format("p.fcsv", "o.csv")) == (0, [])
    table = pd.read_csv(tmp_path / "o.csv")
    assert table[["x", "y", "z"]].to_numpy().tolist() == 2 * [[3.5, 5.0, 7.0]]  # a table is in LPS
    assert table["label"].tolist() == ["nasion", "left, ear"] and table.columns[0] == "id"


def test_a_fcsv_of_slicer_5_has_two_nameless_cells(run, tmp_path):
    """The first of them states whether the point is placed: 2; 0, 1 and 3 are of points that are not."""
    rows = [f"{n},-1.5,-2,3,0,0,0,1,1,1,0,F-{n},,,{status},0" for n, status in enumerate((2, 0, 2, 1, 3))]
    (tmp_path / "p.fcsv").write_text(fcsv("RAS", *rows))
    assert run(POINTS.format("p.fcsv", "o.fcsv")) == (0, [])
    mapped = [row.replace("-1.5,-2,3", "-3.5,-5.0,7.0") if row.endswith("2,0") else row for row in rows]
    assert (tmp_path / "o.fcsv").read_text() == fcsv("RAS", *mapped)
    assert run(POINTS.format("p.fcsv", "o.csv")) == (0, [])
    table = pd.read_csv(tmp_path / "o.csv")
    assert table[["x", "y", "z"]].to_numpy().tolist() == 2 * [[3.5, 5.0, 7.0]]
    assert table["label"].tolist() == ["F-0", "F-2"] and table.columns[-1] == "associatedNodeID"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "# CoordinateSystem = LPS\n",
            "",
            "p.fcsv: its coordinate system is not stated, expected LPS or RAS",
        ),
        ("= LPS", "= 2", "p.fcsv: its coordinate system is 2, expected LPS or RAS"),
        ("= LPS", "= IJK", "p.fcsv: its coordinate system is IJK, expected LPS or RAS"),
        ("id,x,y,z", "id,x,y", "p.fcsv: its columns are id, x, y, ow"),
        ("1,2,3", "1,here,3", "p.fcsv, line 4: coordinates 1, here, 3, expected three numbers in mm"),
        ("1,2,3", "1_0,2,3", "p.fcsv, line 4: coordinates 1_0, 2, 3, expected three numbers in mm"),
        ("1,2,3", "1,nan,3", "p.fcsv, line 4: coordinates 1, nan, 3"),
        ("0,1,2,3,0,0,0,1,1,1,0,F,,", "0,1,2", "p.fcsv, line 4: coordinates 1, 2, nothing"),
        ("1,2,3", "1,5,2,5,3,5", "p.fcsv, line 4: 17 cells, expected 14 (decimal commas?)"),
        ("1,2,3", "1,5,2,5,3", "p.fcsv, line 4: 16 cells, expected 14 (decimal commas?)"),
        ("F,,", "F,,,2", "p.fcsv, line 4: 15 cells, expected 14"),
        ("F,,", "F,,,4,0", "p.fcsv, line 4: 16 cells, expected 14"),
        ("F,,", "F,,,2,0,0", "p.fcsv, line 4: 17 cells, expected 14"),
        ("# columns", "# CoordinateSystem = RAS\n# columns", "p.fcsv: states two coordinate systems"),
        (
            "# columns",
            "# columns = id,z,y,x\n# columns",
            "p.fcsv: names its columns twice, differently; keep",
        ),
    ],
)
def test_faulty_fcsv_files_are_named(run, tmp_path, old, new, message):
    (tmp_path / "p.fcsv").write_text(fcsv("LPS", "0,1,2,3,0,0,0,1,1,1,0,F,,").replace(old, new))
    code, (line,) = run(POINTS.format("p.fcsv", "o.fcsv"))
    assert code == 1 and message in line and not (tmp_path / "o.fcsv").exists()


def markups(system, *points, **keys):
    markup = {"type": "Fiducial", "coordinateSystem": system, "coordinateUnits": "mm", "locked": False}
    display = {"display": {"opacity": 1.0, "color": [0.4, 1.0, 1.0]}}
    return json.dumps(
        {"@schema": "s#", "markups": [{**markup, "controlPoints": list(points), **display, **keys}]}
    )


def point(label, position, status="defined"):
    turned = [-1.0, -0.0, -0.0, -0.0, -1.0, -0.0, 0.0, 0.0, 1.0]
    return {"label": label, "position": position, "orientation": turned, "positionStatus": status}


@pytest.mark.parametrize(("system", "given"), [("LPS", LPS), ("RAS", RAS)])
@pytest.mark.parametrize("name", ["p.mrk.json", "p.json"])
def test_markups_are_mapped_in_lps_and_kept_in_their_system(run, tmp_path, system, given, name):
    left_out = [point("none", None, "undefined"), point("old", [7, 7, 7], "undefined")]
    text = markups(system, point("nasion", list(given)), *left_out)
    (tmp_path / name).write_text(text)
    output = f"o{name[1:]}"
    assert run(POINTS.format(name, output)) == (0, [])
    expected = json.loads(text)
    expected["markups"][0]["controlPoints"][0]["position"] = {"LPS": [3.5, 5, 7], "RAS": [-3.5, -5, 7]}[
        system
    ]
    assert json.loads((tmp_path / output).read_text()) == expected
    assert run(POINTS.format(name, "o.csv")) == (0, [])
    assert (tmp_path / "o.csv").read_text() == "label,x,y,z,description\nnasion,3.5,5.0,7.0,\n"


def test_each_of_several_markups_has_its_own_system(run, tmp_path):
    one, other = (json.loads(markups("LPS", point("a", LPS))), json.loads(markups("RAS", point("b", RAS))))
    del one["markups"][0]["coordinateSystem"]  # LPS by Slicer's schema
    other["markups"][0]["coordinateUnits"] = ["mm", "UCUM", "millimeter"]
    one["markups"] += other["markups"]
    (tmp_path / "p.mrk.json").write_text(json.dumps(one))
    assert run(POINTS.format("p.mrk.json", "o.mrk.json")) == (0, [])
    written = json.loads((tmp_path / "o.mrk.json").read_text())
    found = [markup["controlPoints"][0]["position"] for markup in written["markups"]]
    assert found == [[3.5, 5.0, 7.0], [-3.5, -5.0, 7.0]]


def test_measurements_that_are_not_mapped_are_told(run, said, tmp_path):
    measured = [{"name": "length", "enabled": True, "value": 5.0, "units": "mm"}]
    text = markups("LPS", point("a", LPS), point("b", (0, 0, 0)), type="Line", measurements=measured)
    (tmp_path / "p.mrk.json").write_text(text)
    assert run(POINTS.format("p.mrk.json", "o.mrk.json"))[0] == 0
    assert said() == ["p.mrk.json: its measurements, as lengths and angles, stay those of before"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (markups("IJK", point("a", LPS)), "its coordinate system is IJK, expected LPS or RAS"),
        (markups("LPS", point("a", LPS), type="ROI"), "holds a ROI, expected points only"),
        (markups("LPS", point("a", LPS), type="Plane"), "holds a Plane, expected points only"),
        (markups("LPS", point("a", LPS), coordinateUnits="um"), "its unit is um, expected mm"),
        (markups("LPS", point("a", [1, 2])), "point 'a': coordinates 1, 2, expected three numbers in mm"),
        (
            markups("LPS", point("a", [1, 2, float("nan")])),
            "point 'a': coordinates 1, 2, nan, expected three",
        ),
        (markups("LPS", point("a", [1, "b", 3])), "point 'a': coordinates 1, b, 3, expected three"),
        (
            markups("LPS", point("a", [True, 10, -20, 30])),
            "point 'a': coordinates True, 10, -20, 30, expected",
        ),
        (markups("LPS", point("a", [True, 2, 3])), "point 'a': coordinates True, 2, 3, expected three"),
        (markups("LPS", point("a", ["1_0", 2, 3])), "point 'a': coordinates 1_0, 2, 3, expected three"),
        (markups("LPS", point("a", "left")), "coordinates l, e, f, t, expected three"),
        (markups("LPS", coordinateUnits=[]), "not the markups of 3D Slicer"),
        (markups("LPS", 7), "not the markups of 3D Slicer"),
        ('{"markups": 3}', "not the markups of 3D Slicer"),
        ("[1, 2, 3]", "not the markups of 3D Slicer"),
        ('{"a": 1}', "not the markups of 3D Slicer"),
        ("{", "not the markups of 3D Slicer"),
    ],
)
def test_faulty_markups_are_named(run, tmp_path, text, message):
    (tmp_path / "p.mrk.json").write_text(text)
    code, (line,) = run(POINTS.format("p.mrk.json", "o.mrk.json"))
    assert code == 1 and line.startswith("error: p.mrk.json") and message in line
    assert not (tmp_path / "o.mrk.json").exists()


def test_a_2d_transform_changes_x_and_y_of_markups(run, tmp_path):
    (tmp_path / "flat.tfm").write_text(FLAT)
    (tmp_path / "p.fcsv").write_text(fcsv("RAS", "0,-1.5,-2,3,0,0,0,1,1,1,0,F,,"))
    assert run("--transform flat.tfm --points p.fcsv --out o.fcsv") == (0, [])
    assert ",-3.5,-5.0,3.0," in (tmp_path / "o.fcsv").read_text()


@pytest.mark.parametrize(
    ("points", "out"),
    [("p.fcsv", "o.json"), ("p.mrk.json", "o.fcsv"), ("p.csv", "o.fcsv"), ("p.csv", "o.mrk.json")],
)
def test_one_format_of_markups_is_not_written_as_another(run, points, out):
    code, (line,) = run(POINTS.format(points, out))
    assert code == 2 and line.startswith(f"error: {out}: expected a name that ends in .csv, .tsv")


# Transforms


FLIRT = "1 0 0 5  \n0 1 0 6  \n0 0 1 7  \n0 0 0 1  \n"
ELASTIX = '(Transform "EulerTransform")\n(NumberOfParameters 6)\n(TransformParameters 0 0 0 1 2 3)\n'
LTA = "type      = 1 # LINEAR_RAS_TO_RAS\nnxforms   = 1\nmean      = 0 0 0\nsigma     = 1\n1 4 4\n" + FLIRT
XFM = "MNI Transform File\nTransform_Type = Linear;\nLinear_Transform =\n1 0 0 5\n0 1 0 6\n0 0 1 7;\n"
AFNI = "# 3dAllineate matrices (DICOM-to-DICOM, row-by-row):\n 1 0 0 5 0 1 0 6 0 0 1 7\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.mat", FLIRT, "a matrix (4, 4) in text, which does not say what it maps; one of FSL's FLIRT"),
        ("t.txt", FLIRT, "`c3d_affine_tool -ref FIXED -src MOVING MATRIX -fsl2ras -oitk OUT.txt`"),
        ("TransformParameters.0.txt", ELASTIX, 'with (ITKTransformOutputFileNameExtension "tfm")'),
        ("t.lta", LTA, "a FreeSurfer .lta, which ITK does not read; `lta_convert --inlta"),
        ("t.xfm", XFM, "an MNI .xfm, whose coordinates run to the patient's right and front (RAS)"),
        ("t.txt", XFM, "an MNI .xfm"),
        ("t.aff12.1D", AFNI, "a matrix (3, 4) in text, as AFNI's .1D"),
        ("t.json", '{"a": 1}', "a JSON file, expected a transform"),
        ("t.tfm", "", "empty, expected a transform"),
        ("t.h5", "", "empty, expected a transform"),
        ("t.tfm", "no transform", "not a transform that ITK reads: it has no line 'Transform: ...'"),
        ("t.tfm", HEADER, "not a transform that ITK reads: it has no line"),
        ("t.mat", "no transform", "not a transform that ITK reads (.tfm, .txt, .h5, or a .mat of ANTs)"),
        ("t.tfm", itk_text("FooTransform", "1"), 'ITK knows no "FooTransform_double_3_3"'),
    ],
)
def test_transforms_of_other_programs_say_what_they_are(run, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    code, (line,) = run(f"--transform {name} --points p.csv --out o.csv")
    assert code == 1 and line.startswith(f"error: {name}: ") and message in line
    assert not (tmp_path / "o.csv").exists()


def test_images_and_arrays_are_no_transforms(run, tmp_path):
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    warp = nibabel.Nifti1Image(np.zeros((4, 4, 4, 1, 3), np.float32), TO_RAS)
    warp.header.set_intent("vector")  # as ANTs does
    nibabel.save(warp, "warp.nii.gz")
    nifti("image.nii.gz", labels())
    np.save("matrix.npy", np.eye(4))
    for name, message in (
        ("warp.nii.gz", "an image of 3 values a voxel, expected a transform; of a displacement field"),
        ("image.nii.gz", "an image, expected a transform"),
        ("matrix.npy", "an array of NumPy, which does not say what it maps"),
    ):
        code, (line,) = run(f"--transform {name} --points p.csv --out o.csv")
        assert code == 1 and line.startswith(f"error: {name}: {message}")


#: Two translations that are not joined, as ITK's own writer writes them; SimpleITK writes none such.
TWO = {
    "t.h5": (
        "c-rgqaB<`1lHy|G;9!7(|4=YN0m3(cikGjhIOy-;62zpiSB5Ja8CNg~A!~#IE+z&>1_m}!1|Y@d8R8w5T2!2wpLZB)9#jJ80;t"
        "4&Mu>!f00YA_RtVdQ0U>4#6;psa^}b(A6WB?L=uTo_WE5dwU}6LUs9G4!EW*Gj3FHVcKrlp{gMk(3T4p8=pih_?8K9vd0JCTV!"
        ";k}2l7~cS5jFx6LqBXX!)7j~Mc60|gRqe(u41G`*cc3hu-UWE#?s%}!<$V6<VQ~bU}(uD&H|A)S(4I7P7%oiGLF$efel(RLimO"
        "qQc!y>$anJW*+<O5P8I~2$>tyImzbOSn+a->BuJ1iq$n}3I4!>@*S#pev>+H-%zg{3yGxE|BtT~J!p#h+EJ)o9^O!P7P696HmR"
        "XUS5|CH~bW#a0Bm*Q6h5dPU2wRH*DXne1`0Xn#(x$^ONSl+b)*6E&S`Oq#VR#rLf;UGJqOw>ueF{_)D5?cG5CP`y?C-;f6cUU`"
        ">OjC$&qU80NJG;PgA9}gR^p}#IhjdCiA9wPWspo^rC_LMXryNdjs!Gwd@}P&D}XdK-!Sk)X)`@T3q2DP-Lz!gGBZ<ixO#ag4fa"
        "(|VhPZAxCi4?@=KF)Qsa%|jTzWTR1X6J{0yUD6pVsVFbYP&C>RB!U=)mkQ7{Td!H5AeNaF!aXyXIS(0)3M&jRgd!}uVzga&8O?"
        "E?+Y2rAe^$J-qkOt=|L{sS!n56*Bw24`TyOK?p?aB!y8SXGKp*ucg}m`Mnm00oFzi6I;|8L~$vP-&b|S{h;`fpJE2=&%)NoH1V"
        "x!bTZq43WGhOp9^G3}|!><#EQHhK}n;vpIdUdBrfu=IL*jq~RZ*4wi+etk=1hF<KQ5Ver8o%5Z>C91h6s1U7_12Xu7+e$8`y"
    ),
    "t.mat": (
        "c-muNU|?VdVnzlCPyphPqQt!7oWzpM{5&u-Ex#x?J|(|2DJM1FINlhl@`F8;;Q*mHpftiPHXu&RtVm4(^T@LWW;!vp004bHABX"
    ),
}


@pytest.mark.parametrize("name", TWO)
def test_several_transforms_in_a_binary_file_are_refused(run, tmp_path, name):
    (tmp_path / name).write_bytes(zlib.decompress(base64.b85decode(TWO[name])))
    assert sitk.ReadTransform(name).GetDimension() == 3  # the first, without an error
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    code, (line,) = run(f"--transform {name} --points p.csv --out o.csv")
    assert code == 1 and line.startswith(f"error: {name}: holds several transforms that are not joined")


AFFINE = itk_text("AffineTransform", "1 0 0 0 1 0 0 0 1 1 2 3")
EULER_2D = itk_text("Euler2DTransform", ".1 5 6", "0 0").replace("3_3", "2_2")


def composite(dimension, *parts):
    """The text of a composite as ITK writes it, of texts of other transforms."""
    head = itk_text("CompositeTransform", "", "").replace("3_3", f"{dimension}_{dimension}")
    return head + "".join(part.replace(HEADER, "#Transform 1\n") for part in parts)


@pytest.mark.parametrize(
    "text",
    [
        composite(3, EULER_2D),  # ITK maps to what lies in memory
        composite(2, EULER_2D, AFFINE),  # and crashes
        composite(2, AFFINE),
        composite(3, AFFINE.replace("AffineTransform", "MatrixOffsetTransformBase"), EULER_2D),
    ],
)
def test_a_transform_of_several_dimensions_is_refused(run, tmp_path, text):
    (tmp_path / "t.tfm").write_text(text)
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    code, (line,) = run("--transform t.tfm --points p.csv --out o.csv")
    assert code == 1 and not (tmp_path / "o.csv").exists()
    assert line.startswith("error: t.tfm: holds transforms of 2D and 3D, expected one dimension; write all")


def test_parts_of_another_dimension_in_hdf5_are_refused(tmp_path):
    path = tmp_path / "c.h5"
    shift = sitk.TranslationTransform(3, (1.0, 2.0, 3.0))
    sitk.WriteTransform(sitk.CompositeTransform([sitk.Euler3DTransform(), shift]), path)
    assert read_transform(path).TransformPoint((0.0, 0.0, 0.0)) == (1, 2, 3)
    content = path.read_bytes()
    assert content.count(b"TranslationTransform_double_3_3") == 1
    path.write_bytes(content.replace(b"TranslationTransform_double_3_3", b"TranslationTransform_double_2_2"))
    with pytest.raises(UserError, match="c.h5: holds transforms of 2D and 3D, expected one dimension"):
        read_transform(path)


def test_a_composite_in_text_is_applied_from_its_last_part(run, tmp_path):
    turn = itk_text("AffineTransform", "0 -1 0 1 0 0 0 0 1 0 0 0")  # (3, 5, 7) to (-5, 3, 7)
    (tmp_path / "t.tfm").write_text(composite(3, turn, SHIFT))
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    assert run("--transform t.tfm --points p.csv --out o.csv") == (0, [])
    assert (tmp_path / "o.csv").read_text() == "x,y,z\n-5.0,3.0,7.0\n"


def test_a_point_that_is_mapped_to_no_number_is_refused(run, tmp_path):
    (tmp_path / "t.tfm").write_text(itk_text("AffineTransform", "1e308 0 0 0 1e308 0 0 0 1e308 0 0 0"))
    (tmp_path / "p.csv").write_text("x,y,z\n0.5,0.5,0.5\n10,20,30\n")
    code, (line,) = run("--transform t.tfm --points p.csv --out o.csv")
    assert code == 1 and not (tmp_path / "o.csv").exists()
    assert line == "error: p.csv: the transform maps the point 10, 20, 30 to inf, inf, inf; is it damaged?"


@pytest.mark.parametrize("keep", [100, 3000, 6000])
def test_hdf5_that_is_cut_off_is_one_line_also_from_c(tmp_path, capfd, keep):
    path = tmp_path / "t.h5"
    sitk.WriteTransform(
        sitk.CompositeTransform([sitk.Euler3DTransform(), sitk.TranslationTransform(3)]), path
    )
    path.write_bytes(path.read_bytes()[:keep])
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    words = [f"--transform={path}", f"--points={tmp_path / 'p.csv'}", f"--out={tmp_path / 'o.csv'}"]
    assert main(["apply", *words]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: not a transform that ITK reads") and "or a damaged one" in line


def test_the_standard_error_is_silent_for_the_body_alone(capfd):
    with pytest.raises(ValueError, match="of the body"), silent_stderr():
        os.write(2, b"from C")
        raise ValueError("of the body")
    os.write(2, b"after it")
    assert capfd.readouterr().err == "after it"


def test_a_closed_standard_error_stays_closed():
    body = "import os; from regagent.process import silent_stderr\nos.close(2)\nwith silent_stderr(): pass\n"
    body += "try: os.fstat(2)\nexcept OSError: print('closed')"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "workflow_scripts")}
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, env=environment)
    assert done.stdout == "closed\n"


EULER = "0 0 0.1 2 3 4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (itk_text("Euler3DTransform", "0 0 0 2 nan 4"), "Parameters of Euler3DTransform hold 'nan'"),
        (itk_text("Euler3DTransform", "0 0 0 2 inf 4"), "Parameters of Euler3DTransform hold 'inf'"),
        (itk_text("Euler3DTransform", "0 0 0 2,5 3 4"), "Parameters of Euler3DTransform hold '2,5'"),
        (itk_text("Euler3DTransform", EULER, "0 nan 0"), "FixedParameters of Euler3DTransform hold 'nan'"),
        (itk_text("Euler3DTransform", "0 0 0 1_0 3 4"), "Parameters of Euler3DTransform hold '1_0'"),
        (itk_text("Euler3DTransform", "0 0 0 2 3"), "Euler3DTransform with 5 Parameters, expected 6"),
        (itk_text("Euler3DTransform", f"{EULER} 5"), "Euler3DTransform with 7 Parameters, expected 6"),
        (itk_text("Euler3DTransform", EULER, "0 0"), "not a transform that ITK reads"),
        (itk_text("Euler3DTransform", EULER).split("Fixed")[0], "cut off: Euler3DTransform without Fixed"),
        (itk_text("Euler3DTransform", EULER).split("Param")[0], "cut off: Euler3DTransform without Param"),
        (itk_text("AffineTransform", "0 0 0 0 0 0 0 0 0 2 3 4"), "its AffineTransform is singular"),
        (itk_text("AffineTransform", "1 0 0 0 1 0 0 0 0 2 3 4"), "its AffineTransform is singular"),
        (itk_text("Similarity3DTransform", f"{EULER} 0"), "its Similarity3DTransform is singular"),
        (itk_text("AffineTransform", "1 0 0 0 1 0 0 0 1 2 3"), "AffineTransform with 11 Parameters"),
        (itk_text("QuaternionRigidTransform", "0 0 0 1 2 3"), "QuaternionRigidTransform with 6 Parameters"),
        (f"{HEADER}Transform: CompositeTransform_double_3_3\n", "cut off: a CompositeTransform of nothing"),
        (itk_text("Euler3DTransform", EULER) + f"Parameters: {EULER}\n", "Parameters stands twice"),
        (itk_text("QuaternionRigidTransform", "0.6 0 0 1.9 2 3 4"), "a quaternion of norm 1.992, expected 1"),
        (itk_text("QuaternionRigidTransform", "0 0 0 0 2 3 4"), "a quaternion of norm 0, expected 1"),
        (itk_text("VersorRigid3DTransform", "1.05 0 0 2 3 4"), "a versor of norm 1.05, expected 1 at most"),
        (itk_text("VersorTransform", "0.9 0.8 0"), "VersorTransform with a versor of norm 1.204"),
        (itk_text("Similarity3DTransform", "0 1.1 0 2 3 4 1"), "a versor of norm 1.1, expected 1 at most"),
        (itk_text("Euler3DTransform", "0 0 30 2 3 4"), "an angle of 30; degrees? expected radians"),
        (itk_text("Euler2DTransform", "-30 2 3", "0 0").replace("3_3", "2_2"), "an angle of -30; degrees?"),
        (itk_text("Similarity2DTransform", "1 30 2 3", "0 0").replace("3_3", "2_2"), "an angle of 30; degr"),
        (SHIFT + SHIFT.replace(HEADER, "#Transform 1\n"), "holds several transforms that are not joined"),
        (SHIFT.replace("_double_3_3", ""), "its transform is 'TranslationTransform', expected a class with"),
        (HEADER + "Transform:\nParameters: 1\nFixedParameters:\n", "its transform is '', expected a class"),
    ],
)
def test_a_damaged_transform_is_refused(run, tmp_path, text, message):
    """ITK reads most of them as another transform without a word."""
    (tmp_path / "t.tfm").write_text(text)
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    code, (line,) = run("--transform t.tfm --points p.csv --out o.csv")
    assert code == 1 and line.startswith("error: t.tfm: ") and message in line


def test_a_class_that_simpleitk_lacks_is_one_line(run, tmp_path):
    (tmp_path / "t.tfm").write_text(
        itk_text("ComposeScaleSkewVersor3DTransform", "0 0 0 2 3 4 1 1 1 0 0 0", "0 0 0")
    )
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    code, (line,) = run("--transform t.tfm --points p.csv --out o.csv")
    assert code == 1 and line == (
        "error: t.tfm: SimpleITK cannot read a transform of this class; write it as an affine one"
    )


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("QuaternionRigidTransform", "0.29552 0 0 0.95534 2 3 4"),  # rounded
        ("VersorRigid3DTransform", "0.6 0.8000004 0 2 3 4"),  # half a turn, rounded
        ("Euler3DTransform", "0 6.28 -6.28 2 3 4"),
    ],
)
def test_rounded_rotations_are_read(tmp_path, kind, parameters):
    (tmp_path / "t.tfm").write_text(itk_text(kind, parameters))
    corners = [read_transform(tmp_path / "t.tfm").TransformPoint(p) for p in np.eye(4, 3, -1).tolist()]
    turn = np.subtract(corners[1:], corners[0])
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-4) and corners[0] == pytest.approx((2, 3, 4))


def affine():
    transform = sitk.AffineTransform(3)
    transform.SetMatrix([1, 0.1, 0.2, 0, 0.9, 0.1, 0.05, 0, 1.1])
    transform.SetTranslation((3, 4, 5))
    transform.SetCenter((10, 20, 30))
    return transform


@pytest.mark.parametrize("name", ["M", "", "M_x", "a_b_c"])
def test_a_mat_of_other_matrices_is_one_line(run, tmp_path, name):
    parts = []
    for title, numbers in ((name, np.eye(4).ravel()), ("fixed", [0.0, 0.0, 0.0])):
        parts.append(struct.pack("<5i", 0, len(numbers), 1, 0, len(title) + 1))
        parts.append(title.encode() + b"\0" + struct.pack(f"<{len(numbers)}d", *numbers))
    (tmp_path / "t.mat").write_bytes(b"".join(parts))
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    code, (line,) = run(POINTS.format("p.csv", "o.csv").replace("shift.tfm", "t.mat"))
    assert code == 1 and line.startswith(
        f"error: t.mat: its matrix is named {name!r}, expected a class of ITK"
    )


def test_a_mat_that_is_cut_off_is_refused(tmp_path):
    """ITK reads one without its last bytes, and takes any numbers for the centre."""
    path = tmp_path / "t.mat"
    sitk.WriteTransform(affine(), str(path))
    content = path.read_bytes()
    assert read_transform(path).TransformPoint((1.0, 2.0, 3.0)) == affine().TransformPoint((1.0, 2.0, 3.0))
    path.write_bytes(content[:-40])
    assert sitk.ReadTransform(str(path)).GetFixedParameters() != affine().GetFixedParameters()
    for damaged in (*(content[:-count] for count in range(1, len(content))), content + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(
            UserError, match=r"t\.mat: (cut off or damaged|empty|not a transform that ITK reads)"
        ):
            read_transform(path)


@pytest.mark.parametrize(("order", "code"), [("<", 0), (">", 1000)])
@pytest.mark.parametrize(("letter", "single"), [("d", 0), ("f", 10)])
def test_a_mat_of_any_byte_order_and_precision_is_told_apart(tmp_path, order, code, letter, single):
    parts = []
    for name, numbers in (("Euler3DTransform_double_3_3", [0, 0, 30, 2, 3, 4]), ("fixed", [0, 0, 0])):
        parts.append(struct.pack(f"{order}5i", code + single, len(numbers), 1, 0, len(name) + 1))
        parts.append(name.encode() + b"\0" + struct.pack(f"{order}{len(numbers)}{letter}", *numbers))
    (tmp_path / "t.mat").write_bytes(b"".join(parts))
    with pytest.raises(UserError, match="an angle of 30; degrees"):
        read_transform(tmp_path / "t.mat")


def test_a_turn_in_degrees_in_hdf5_is_refused(tmp_path):
    sitk.WriteTransform(sitk.Euler3DTransform((0, 0, 0), 0, 0, 30), str(tmp_path / "t.h5"))
    with pytest.raises(UserError, match="an angle of 30; degrees"):
        read_transform(tmp_path / "t.h5")


def field(value=0.0):
    image = sitk.Image([5, 5, 5], sitk.sitkVectorFloat64, 3) + value
    image.SetSpacing((100, 100, 100))
    image.SetOrigin((-200, -200, -200))
    return sitk.DisplacementFieldTransform(image)


def test_numbers_in_binary_files_are_checked(run, tmp_path):
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    broken = sitk.TranslationTransform(3, (1.0, np.nan, 3.0))
    flat = sitk.AffineTransform(3)
    flat.SetMatrix([1, 0, 0, 0, 1, 0, 0, 0, 0])
    shift = sitk.TranslationTransform(3, (1.0, 2.0, 3.0))
    for name, transform, message in (
        ("a.h5", broken, "its TranslationTransform holds NaN or infinite numbers"),
        ("b.h5", sitk.CompositeTransform([shift, field(np.nan)]), "its DisplacementFieldTransform holds NaN"),
        ("c.h5", sitk.CompositeTransform([shift, flat]), "its AffineTransform is singular"),
        ("d.mat", flat, "its AffineTransform is singular"),
    ):
        sitk.WriteTransform(transform, name)
        code, (line,) = run(f"--transform {name} --points p.csv --out o.csv")
        assert code == 1 and line.startswith(f"error: {name}: {message}")


def test_a_composite_with_a_displacement_field_is_applied_but_has_no_inverse(run, tmp_path):
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
    shift = sitk.TranslationTransform(3, (1.0, 2.0, 3.0))
    sitk.WriteTransform(sitk.CompositeTransform([shift, field(0.5)]), "c.h5")
    assert run("--transform c.h5 --points p.csv --out o.csv") == (0, [])
    assert (tmp_path / "o.csv").read_text() == "x,y,z\n2.5,4.5,6.5\n"
    code, (line,) = run("--transform c.h5 --points p.csv --out o.csv --inverse")
    assert code == 1 and line.startswith("error: c.h5: its DisplacementFieldTransform has no inverse; give")


def test_points_beyond_a_displacement_field_are_counted(run, said, tmp_path):
    """The field lies from -250 to 250 mm. The shift, which is applied first, takes one point beyond."""
    shift = sitk.TranslationTransform(3, (100.0, 0.0, 0.0))
    sitk.WriteTransform(sitk.CompositeTransform([field(0.5), shift]), "c.h5")
    (tmp_path / "p.csv").write_text("x,y,z\n149,249,-249\n151,0,0\n-320,0,0\n0,0,251\n")
    assert run("--transform c.h5 --points p.csv --out o.csv")[0] == 0
    found = pd.read_csv(tmp_path / "o.csv").to_numpy().tolist()
    assert found == [[249.5, 249.5, -248.5], [251, 0, 0], [-219.5, 0.5, 0.5], [100, 0, 251]]
    (line,) = said()
    assert (
        line
        == "p.csv: 2 of its points lie beyond the transform's displacement field, which was taken for 0 there"
    )


def test_a_displacement_field_that_holds_all_points_is_not_told(run, said, tmp_path):
    sitk.WriteTransform(field(0.5), "c.h5")
    for text in ("x,y,z\n1,2,3\n", "x,y,z\n"):
        (tmp_path / "p.csv").write_text(text)
        assert run("--transform c.h5 --points p.csv --out o.csv") == (0, []) and said() == []


def test_transforms_are_known_by_their_content(tmp_path):
    """Turned by 90 degrees about (10, 0, 0): (11, 0, 0) to (10, 1, 0). C3D's class, and other names, too."""
    turn = itk_text("AffineTransform", "0 -1 0 1 0 0 0 0 1 0 0 0", "10 0 0")
    known = tmp_path / "t.tfm"
    known.write_text(turn)
    affine = sitk.ReadTransform(str(known))
    for name in ("t.h5", "0GenericAffine.mat"):
        sitk.WriteTransform(affine, str(tmp_path / name))
    (tmp_path / "t.h5").rename(tmp_path / "t.HDF")
    for name, text in {
        "c3d.txt": turn.replace("AffineTransform", "MatrixOffsetTransformBase"),
        "float.tfm": turn.replace("_double_", "_float_"),
        "windows.tfm": "\ufeff" + turn.replace("\n", "\r\n"),
        "t.TFM": turn,
        "t.dat": turn,
        "bare.tfm": turn.replace(HEADER, ""),
    }.items():
        (tmp_path / name).write_text(text, newline="")
    composite = sitk.CompositeTransform([affine, sitk.TranslationTransform(3)])
    sitk.WriteTransform(composite, str(tmp_path / "composite.tfm"))
    sitk.WriteTransform(composite, str(tmp_path / "composite.h5"))
    for path in tmp_path.iterdir():
        assert read_transform(path).TransformPoint((11, 0, 0)) == pytest.approx((10, 1, 0)), path.name
        back = read_transform(path, inverse=True)
        assert back.TransformPoint((10, 1, 0)) == pytest.approx((11, 0, 0)), path.name


# Against SimpleITK


@pytest.fixture
def truth():
    """Points of the MR to points of the CT, in mm."""
    return turned(1.1)


@pytest.fixture
def pair(tmp_path, truth):
    """The folder with a pair of volumes."""
    mr, ct = make_volumes(truth, np.diag([-1.0, -1.0, 1.0]))
    sitk.WriteImage(mr, tmp_path / "mr.nii.gz")
    sitk.WriteImage(ct, tmp_path / "ct.nii.gz")
    return tmp_path


@pytest.fixture
def transform(tmp_path, truth):
    sitk.WriteTransform(truth, tmp_path / "t.tfm")
    flat = sitk.Similarity2DTransform()
    flat.SetParameters([1.2, 0.3, 5.0, -7.0])
    sitk.WriteTransform(flat, tmp_path / "flat.tfm")
    return tmp_path


def points(folder, text):
    (folder / "p.csv").write_text(text)
    return [f"--points={folder / 'p.csv'}", f"--out={folder / 'o.csv'}"]


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("name", ["t", "flat"])
def test_points_are_mapped_as_simpleitk_does(transform, name, inverse):
    path = transform / f"{name}.tfm"
    more = ["--inverse"] if inverse else []
    table = "name,x,y,z\nnasion,1.5,-70,12\ninion,0,95.25,8\n"
    assert main(["apply", f"--transform={path}", *points(transform, table), *more]) == 0
    known = sitk.ReadTransform(path)
    known = known.GetInverse() if inverse else known
    found = pd.read_csv(transform / "o.csv")
    assert found.columns.tolist() == ["name", "x", "y", "z"] and found.name.tolist() == ["nasion", "inion"]
    size = known.GetDimension()
    for row, point in zip(found[["x", "y", "z"]].to_numpy(), ((1.5, -70, 12), (0, 95.25, 8)), strict=True):
        expected = [*known.TransformPoint([float(value) for value in point[:size]]), *point[size:]]
        assert row == pytest.approx(expected)


def test_there_and_back_again(transform):
    there = ["apply", f"--transform={transform / 't.tfm'}"]
    assert main([*there, *points(transform, "x,y,z\n1,2,3\n-40,5,700\n")]) == 0
    back = [f"--points={transform / 'o.csv'}", f"--out={transform / 'b.csv'}", "--inverse"]
    assert main([*there, *back]) == 0
    assert pd.read_csv(transform / "b.csv").to_numpy() == pytest.approx(np.array([[1, 2, 3], [-40, 5, 700]]))


def test_an_image_is_laid_on_the_reference_as_simpleitk_does(pair, truth):
    sitk.WriteTransform(truth, pair / "t.tfm")
    mr, ct = (sitk.ReadImage(pair / f"{name}.nii.gz") for name in ("mr", "ct"))
    images = [f"--image={pair / 'ct.nii.gz'}", f"--reference={pair / 'mr.nii.gz'}"]
    there = ["apply", f"--transform={pair / 't.tfm'}", f"--out={pair / 'o.nrrd'}"]

    def laid(*more):
        assert main([*there, *more]) == 0
        return sitk.GetArrayFromImage(sitk.ReadImage(pair / "o.nrrd"))

    linear = sitk.Resample(ct, mr, truth, sitk.sitkLinear, -1000.0, sitk.sitkFloat64)
    assert np.array_equal(laid(*images), np.round(sitk.GetArrayFromImage(linear)))
    nearest = sitk.Resample(ct, mr, truth, sitk.sitkNearestNeighbor, 7.0)
    assert np.array_equal(laid(*images, "--nearest", "--outside=7"), sitk.GetArrayFromImage(nearest))
    back = sitk.Resample(sitk.Cast(mr, sitk.sitkFloat64), ct, truth.GetInverse(), sitk.sitkLinear, 0.0)
    images = [f"--image={pair / 'mr.nii.gz'}", f"--reference={pair / 'ct.nii.gz'}"]
    assert np.array_equal(laid(*images, "--inverse"), np.round(sitk.GetArrayFromImage(back)))


@pytest.mark.parametrize("outside", ["-1000", "0.5", "256"])
def test_a_value_that_the_pixels_cannot_hold_is_named(transform, capsys, outside):
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(64, dtype=np.uint8).reshape(8, 8)), transform / "i.mha")
    files = [f"--image={transform / 'i.mha'}", f"--reference={transform / 'i.mha'}"]
    options = [*files, f"--out={transform / 'o.mha'}", f"--outside={outside}"]
    assert main(["apply", f"--transform={transform / 'flat.tfm'}", *options]) == 1
    assert f"its pixels are uint8, which cannot hold {outside} for" in capsys.readouterr().err
    assert not (transform / "o.mha").exists()


def test_a_place_that_cannot_be_written_to_is_one_line(transform, capsys):
    (transform / "file").write_text("")
    words = ["apply", f"--transform={transform / 'flat.tfm'}", *points(transform, "x,y\n1,2\n")]
    assert main([*words, f"--out={transform / 'file' / 'o.csv'}"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "file" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--image=i.nii", "--out=o.nii"], "--image needs --reference"),
        (["--points=p.csv", "--out=o.csv", "--nearest"], "go with --image, not with --points"),
        (["--points=p.csv", "--out=p.csv"], "p.csv: is named twice"),
        (["--points=p.csv", "--out=~/o.csv"], "~/o.csv: the shell did not replace ~ by your home folder"),
        (["--points=p.csv", "--out=o.nii"], "o.nii: expected a name that ends in .csv, .tsv"),
        (["--image=i.nii", "--reference=r.nii", "--out=o.csv"], "o.csv: expected a name that ends in .nii"),
    ],
)
def test_options_that_do_not_go_together_are_named(transform, capsys, more, message):
    assert main(["apply", f"--transform={transform / 't.tfm'}", *more]) == 2
    assert message in capsys.readouterr().err


def test_the_data_file_of_an_input_is_no_output(transform, capsys):
    header, voxels = transform / "i.mhd", transform / "voxels.nrrd"  # a header may call it as it likes
    sitk.WriteImage(sitk.Image(4, 4, sitk.sitkUInt8), header)
    (transform / "i.raw").rename(voxels)
    header.write_text(header.read_text().replace("i.raw", voxels.name))
    before = voxels.read_bytes()
    files = [f"--image={header}", f"--reference={header}", f"--out={voxels}"]
    assert main(["apply", f"--transform={transform / 'flat.tfm'}", *files]) == 2
    assert "voxels.nrrd: is named twice, or holds an input's voxels" in capsys.readouterr().err
    assert voxels.read_bytes() == before
