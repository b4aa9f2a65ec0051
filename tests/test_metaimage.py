"""MetaImage files as ITK and other programs write them: the right voxels at their place, or a refusal."""

import logging
import zlib
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regagent.files import UserError
from regagent.volumes.fingerprint import scan_files
from regagent.volumes.reading import read_grid, read_image, read_volume

VALUES = np.random.default_rng(0).integers(-1000, 2000, (4, 5, 6)).astype("<i2")
RAW = VALUES.tobytes()
PLACE = {
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-11 -12 -8",
    "ElementSpacing": "2 1.5 2.5",
}
HEADER = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    **PLACE,
    "DimSize": "6 5 4",
    "ElementType": "MET_SHORT",
}

same_folder = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(path, content=RAW, file="LOCAL", without=(), separator=" = ", **changes):
    """Write a header in text, with the voxels behind it if they are local."""
    fields = {key: value for key, value in (HEADER | changes).items() if key not in without}
    text = "".join(f"{key}{separator}{value}\n" for key, value in fields.items())
    path.write_bytes(f"{text}ElementDataFile{separator}{file}\n".encode() + content)
    return path


def check(path, voxels=VALUES, spacing=(2, 1.5, 2.5), first=(-11, -12, -8)):
    volume = read_volume(path)
    values = sitk.GetArrayFromImage(volume)
    assert values.dtype == voxels.dtype and np.array_equal(values, voxels)
    for image in (volume, read_grid(path)):
        assert image.GetSize() == voxels.shape[::-1]
        assert image.GetSpacing() == pytest.approx(spacing) and image.GetOrigin() == pytest.approx(first)
        assert image.GetDirection() == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1))


def refusal(path):
    with pytest.raises(UserError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@same_folder
@given(
    kind=st.sampled_from(TYPES),
    packed=st.booleans(),
    turn=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    mirrored=st.booleans(),
    numbers=st.tuples(*[st.floats(0.06, 19)] * 3, *[st.floats(-500, 500)] * 3),
    shape=st.lists(st.integers(2, 5), min_size=2, max_size=3),
)
def test_what_itk_writes_is_read_as_itk_reads_it(
    tmp_path, suffix, kind, packed, turn, mirrored, numbers, shape
):
    voxels = np.random.default_rng(1).integers(0, 256, (*shape, np.dtype(kind).itemsize), np.uint8)
    voxels = voxels.view(kind)[..., 0] if kind[0] != "f" else voxels[..., 0].astype(kind) - 100
    voxels.flat[0] = voxels.flat[1] == 0
    image, dimension = sitk.GetImageFromArray(voxels), len(shape)
    image.SetSpacing(numbers[:dimension])
    image.SetOrigin(numbers[3:][:dimension])
    turned = np.reshape(sitk.Euler3DTransform((0, 0, 0), *turn).GetMatrix(), (3, 3))
    if dimension == 2:
        turned = np.reshape(sitk.Euler2DTransform((0, 0), turn[0]).GetMatrix(), (2, 2))
    turned[:, 0] *= -1 if mirrored else 1
    image.SetDirection(turned.ravel())
    sitk.WriteImage(image, tmp_path / f"a{suffix}", useCompression=packed)
    expected, found = sitk.ReadImage(tmp_path / f"a{suffix}"), read_image(tmp_path / f"a{suffix}")
    assert found.GetPixelID() == expected.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(found), voxels)
    for image in (found, read_grid(tmp_path / f"a{suffix}")):
        assert image.GetSize() == expected.GetSize()
        for get in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(image, get)() == pytest.approx(getattr(expected, get)(), abs=1e-9)


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@same_folder
@given(where=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_one_wrong_byte_of_compressed_voxels(tmp_path, suffix, where, bits):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), path, useCompression=True)
    stored = {".mhd": tmp_path / "a.zraw", ".nhdr": tmp_path / "a.raw.gz"}.get(suffix, path)
    content = bytearray(stored.read_bytes())
    begin = {".mha": content.find(b"LOCAL\n") + 6, ".nrrd": content.find(b"\n\n") + 2}.get(suffix, 0)
    content[begin + int(where * (len(content) - begin))] ^= bits
    stored.write_bytes(content)
    try:
        volume = read_volume(path)
    except UserError as error:
        assert f"{stored.name} is " in str(error)
        return
    assert np.array_equal(sitk.GetArrayFromImage(volume), VALUES)


@pytest.mark.parametrize("separator", [" = ", "=", ": "])
def test_a_header_in_text(tmp_path, separator):
    check(write(tmp_path / "a.mha", separator=separator))


@pytest.mark.parametrize("name", ["a.nrrd", "a", "a.MHA"])
def test_a_file_is_known_by_its_content(tmp_path, name):
    check(write(tmp_path / name))


def test_lines_of_windows_and_other_names_of_keys(tmp_path):
    others = {"Position": PLACE["Offset"], "Orientation": PLACE["TransformMatrix"]}
    others |= {"ElementSize": PLACE["ElementSpacing"], "ElementByteOrderMSB": "False"}
    path = write(tmp_path / "a.mhd", b"", "a.raw", (*PLACE, "BinaryDataByteOrderMSB"), **others)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (tmp_path / "a.raw").write_bytes(RAW)
    check(path)


def test_the_spacing_counts_where_it_differs_from_the_size_of_a_voxel(tmp_path):
    check(write(tmp_path / "a.mha", ElementSize="2 1.5 2"))


@pytest.mark.parametrize("key", ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])
def test_big_endian(tmp_path, key):
    raw = VALUES.astype(">i2").tobytes()
    other = {"BinaryDataByteOrderMSB", "ElementByteOrderMSB"} - {key}
    check(write(tmp_path / "a.mha", raw, without=other, **{key: "True"}))


def test_a_long_has_four_bytes(tmp_path):
    voxels = VALUES.astype("<i4")
    path = write(tmp_path / "a.mha", voxels.tobytes(), ElementType="MET_LONG")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)), voxels)
    check(path, voxels)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("cm", 10), ("um", 0.001)])
def test_units(tmp_path, unit, mm):
    factor = [value / mm for value in (2, 1.5, 2.5, -11, -12, -8)]
    spacing, first = (" ".join(map(str, part)) for part in (factor[:3], factor[3:]))
    check(write(tmp_path / "a.mha", DistanceUnits=unit, ElementSpacing=spacing, Offset=first))


def test_an_unknown_unit_is_refused(tmp_path):
    assert "DistanceUnits 'inch'" in refusal(write(tmp_path / "a.mha", DistanceUnits="inch"))


PACKED = zlib.compress(RAW)


@pytest.mark.parametrize("size", [{}, {"CompressedDataSize": str(len(PACKED))}])
def test_compressed_voxels_with_and_without_their_size(tmp_path, size):
    check(write(tmp_path / "a.mha", PACKED, CompressedData="True", **size))
    said = refusal(write(tmp_path / "b.mha", PACKED[:-8], CompressedData="True", **size))
    assert "b.mha is damaged or cut off" in said
    said = refusal(write(tmp_path / "c.mha", PACKED[:-2] + b"xx", CompressedData="True", **size))
    assert "c.mha is damaged or cut off" in said
    said = refusal(write(tmp_path / "d.mha", zlib.compress(RAW[:-2]), CompressedData="True"))
    assert "238 bytes of voxels, expected 240" in said


@pytest.mark.parametrize(
    ("content", "changes"),
    [
        (b"x" * 352 + RAW, {"HeaderSize": "352"}),
        (b"x" * 352 + RAW, {"HeaderSize": "-1"}),
        (RAW, {"HeaderSize": "0"}),
        (b" ".join(b"%d" % value for value in VALUES.flat), {"BinaryData": "False"}),
    ],
)
def test_raw_files(tmp_path, content, changes):
    (tmp_path / "a.raw").write_bytes(content)
    check(write(tmp_path / "a.mhd", b"", "a.raw", **changes))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (RAW[:-2], "a.raw is cut off: 238 bytes of voxels, expected 240"),
        (b"x" * 352 + RAW, "a.raw has 592 bytes of voxels, expected 240"),
        (VALUES.astype("f4").tobytes(), "a.raw has 480 bytes of voxels, expected 240"),
    ],
)
def test_raw_files_of_another_size_are_refused(tmp_path, content, said):
    (tmp_path / "a.raw").write_bytes(content)
    assert said in refusal(write(tmp_path / "a.mhd", b"", "a.raw"))
    assert said.replace("a.raw", "a.mha") in refusal(write(tmp_path / "a.mha", content))


def test_a_missing_raw_file_is_named(tmp_path):
    path = write(tmp_path / "a.mhd", b"", "gone.raw")
    assert f"its data file {tmp_path}/gone.raw is absent" in refusal(path)


LISTED = "\ns01.raw\ns02.raw\ns03.raw\ns04.raw"


@pytest.mark.parametrize(
    "file",
    ["s%02d.raw 1 4 1", "s%02d.raw 1", "s%02d.raw", "s%02i.raw 1 4 1", "s%02d.raw 1 4"]
    + [f"LIST{dimension}{LISTED}" for dimension in ("", " 2D", " 2", "2D")],
)
def test_one_raw_file_a_slice(tmp_path, file):
    for number, layer in enumerate(VALUES, 1):
        (tmp_path / f"s{number:02d}.raw").write_bytes(layer.tobytes())
    path = write(tmp_path / "a.mhd", b"", file)
    check(path)
    if file != "s%02d.raw 1 4":  # at which ITK crashes
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)), VALUES)
    assert scan_files(path) == [path, *(tmp_path / f"s{number:02d}.raw" for number in range(1, 5))]
    (tmp_path / "s03.raw").unlink()
    assert "s03.raw is absent" in refusal(path)


@pytest.mark.parametrize(
    ("file", "numbers"), [("s%d.raw 6 0 -2", (6, 4, 2, 0)), ("s%d.raw 0 7 2", (0, 2, 4, 6))]
)
def test_a_step_between_the_numbers_of_raw_files(tmp_path, file, numbers):
    """ITK reads no file where the step is below zero, and takes any memory for the voxels."""
    for number, layer in zip(numbers, VALUES, strict=True):
        (tmp_path / f"s{number}.raw").write_bytes(layer.tobytes())
    path = write(tmp_path / "a.mhd", b"", file)
    check(path)
    assert scan_files(path) == [path, *(tmp_path / f"s{number}.raw" for number in numbers)]


def test_all_dimensions_in_one_listed_file(tmp_path):
    (tmp_path / "all.raw").write_bytes(RAW)
    check(write(tmp_path / "a.mhd", b"", "LIST 3D\nall.raw\n"))


def test_a_step_of_zero_is_refused(tmp_path):
    path = write(tmp_path / "a.mhd", b"", "s%d.raw 0 3 0")
    assert "names no data file" in refusal(path)


@pytest.mark.parametrize(
    ("file", "changes"), [("s%d.raw 0 99999999", {}), ("s%d.raw", {"DimSize": "6 5 100000000"})]
)
def test_a_pattern_that_names_too_many_files_is_refused(tmp_path, file, changes):
    path = write(tmp_path / "a.mhd", b"", file, **changes)
    assert "its header names 100000000 data files, expected 100000 at most" in refusal(path)


def test_a_name_with_a_percent_sign_is_one_file(tmp_path):
    (tmp_path / "my%20data.raw").write_bytes(RAW)
    check(write(tmp_path / "a.mhd", b"", "my%20data.raw"))


@pytest.mark.parametrize(
    ("without", "changes", "said"),
    [
        (["ElementSpacing"], {}, "states no ElementSpacing, so that its size in mm is unknown"),
        ([], {"ElementSpacing": "2 1,5 2.5"}, "states ElementSpacing '2 1,5 2.5', expected 3 numbers"),
        ([], {"ElementSpacing": "nan nan nan"}, "spacing (nan, nan, nan) mm"),
        ([], {"ElementSpacing": "-2 1.5 2.5"}, "spacing (-2.0, 1.5, 2.5) mm"),
        ([], {"ElementSpacing": "inf 1.5 2.5"}, "spacing (inf"),
        ([], {"Offset": "1 nan 2"}, "places the first voxel at [1.0, nan, 2.0] mm"),
        ([], {"Position": "1 2 3"}, "by names of Offset"),
        ([], {"TransformMatrix": "2 0 0 0 1 0 0 0 1"}, "directions have lengths [2.0, 1.0, 1.0]"),
        ([], {"TransformMatrix": "0 0 0 0 1 0 0 0 1"}, "directions have lengths [0.0, 1.0, 1.0]"),
        ([], {"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "sheared"),
        ([], {"ElementType": "MET_FOO"}, "unknown type of voxels, 'MET_FOO'"),
        ([], {"ElementToIntensityFunctionOffset": "-1024"}, "ElementToIntensityFunctionOffset -1024"),
        ([], {"DimSize": "6 5"}, "NDims '3' and DimSize (6, 5)"),
        ([], {"DimSize": "6 5 0"}, "states DimSize '6 5 0'"),
        ([], {"ElementNumberOfChannels": "3"}, "3 values a voxel"),
        ([], {"HeaderSize": "many"}, "states HeaderSize 'many'"),
    ],
)
def test_a_header_that_does_not_say_it_all_is_refused(tmp_path, without, changes, said):
    assert said in refusal(write(tmp_path / "a.mha", without=without, **changes))


@pytest.mark.parametrize(
    ("without", "first", "said"),
    [
        (["TransformMatrix"], (-11, -12, -8), "where its axes point (no TransformMatrix): taken as to the"),
        (["Offset"], (0, 0, 0), "where its first voxel lies (no Offset): taken as 0 mm"),
        (["Offset", "TransformMatrix"], (0, 0, 0), "its first voxel is taken to lie at 0 mm"),
        ([], (-11, -12, -8), None),
    ],
)
def test_what_is_assumed_is_told_in_one_line(tmp_path, caplog, without, first, said):
    path = write(tmp_path / "a.mha", without=without)
    with caplog.at_level(logging.WARNING, "regagent"):
        read_volume(path)
    assert [said in record.getMessage() for record in caplog.records] == ([True] if said else [])
    check(path, first=first)


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_one_volume_in_four_dimensions(tmp_path, suffix):
    volume = sitk.GetImageFromArray(VALUES)
    volume.SetSpacing((2, 1.5, 2.5))
    volume.SetOrigin((-11, -12, -8))
    sitk.WriteImage(sitk.JoinSeries([volume]), tmp_path / f"one.{suffix}")
    check(tmp_path / f"one.{suffix}")
    sitk.WriteImage(sitk.JoinSeries([volume] * 2), tmp_path / f"two.{suffix}")
    assert "4D image, expected a 3D volume" in refusal(tmp_path / f"two.{suffix}")
    assert read_grid(tmp_path / f"two.{suffix}").GetSize() == (6, 5, 4)


@pytest.mark.parametrize("suffix", ["vtk", "gipl", "tif", "hdf5"])
def test_another_format_of_itk_is_refused(tmp_path, suffix):
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), tmp_path / f"a.{suffix}")
    said = refusal(tmp_path / f"a.{suffix}")
    assert "not a readable volume by its content; give NIfTI, DICOM, MetaImage or NRRD" in said
    with pytest.raises(UserError, match="give NIfTI"):
        read_grid(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ElementSpacing = 4 1.5 2.5", "ElementSpacing twice, as 2 1.5 2.5 and 4 1.5 2.5"),
        ("Offset = 0 0 0", "Offset twice, as -11 -12 -8 and 0 0 0"),
        ("TransformMatrix = -1 0 0 0 -1 0 0 0 1", "TransformMatrix twice, as 1 0 0 0 1 0 0 0 1 and -1 0"),
        ("DimSize = 5 6 4", "DimSize twice, as 6 5 4 and 5 6 4"),
        ("ElementType = MET_USHORT", "ElementType twice, as MET_SHORT and MET_USHORT"),
        ("ElementDataFile = v.raw", "ElementDataFile twice, as v.raw and other.raw"),
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_a_key_that_is_stated_twice(tmp_path, line, said, first):
    (tmp_path / "v.raw").write_bytes(RAW)
    (tmp_path / "other.raw").write_bytes(RAW[::-1])
    path = write(tmp_path / "a.mhd", b"", file="v.raw")
    text = path.read_text()
    if line.startswith("ElementDataFile"):
        path.write_text(text + ("ElementDataFile = other.raw\n" if first else "\nElementDataFile=other.raw"))
        assert f"states {said}; remove the wrong line" in refusal(path)
        path.write_text(f"{text}{line}\n")
    else:
        path.write_text(
            f"{line}\n{text}" if first else text.replace("ElementDataFile", f"{line}\nElementDataFile")
        )
        assert f"states {line.split()[0]} twice" in refusal(path) and (first or said in refusal(path))
        key = line.split()[0]
        path.write_text(text.replace("ElementDataFile", f"{key} =  {HEADER[key]}\nElementDataFile"))
    check(path)


def test_comments_may_differ(tmp_path):
    path = write(tmp_path / "a.mha", Comment="Offset = 1 1 1")
    path.write_bytes(b"Comment = another\n" + path.read_bytes())
    check(path)


def test_the_size_of_an_element_may_differ_from_its_spacing(tmp_path):
    check(write(tmp_path / "a.mha", ElementSize="1 1 1"))


@pytest.mark.parametrize("allocate", [True, False])
def test_a_grid_too_large_for_the_memory_is_named(tmp_path, monkeypatch, allocate):
    size = 3000 if allocate else 10_000_000
    if allocate:  # as where the memory is there, but not free
        fault = RuntimeError("Failed to allocate memory for image.")
        monkeypatch.setattr(sitk, "Image", lambda *arguments: (_ for _ in ()).throw(fault))
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=10**12))
    path = write(tmp_path / "a.mha", DimSize=f"{size} {size} {size}")
    with pytest.raises(UserError) as caught:
        read_grid(path)
    assert str(caught.value) == f"{path}: {size} x {size} x {size} voxels, which the memory cannot hold"


@pytest.mark.parametrize(("kind", "letter"), [("MET_SHORT", b"x"), ("MET_FLOAT", b"\xc3")])
def test_voxels_taken_for_text_are_hardly_quoted(tmp_path, kind, letter):
    said = refusal(write(tmp_path / "a.mha", letter * 240, BinaryData="False", ElementType=kind))
    assert "a.mha is damaged or cut off (" in said and len(said) < len(f"{tmp_path}") * 2 + 200


def test_a_long_line_of_a_header_is_hardly_quoted(tmp_path):
    for key in ("NDims", "DistanceUnits", "ElementType", "ElementSpacing", "DimSize"):
        assert len(refusal(write(tmp_path / "a.mha", **{key: "m" * 9000}))) < len(f"{tmp_path}") + 200
