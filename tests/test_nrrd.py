"""NRRD files as 3D Slicer, Teem and others write them: the right voxels at their place, or a refusal."""

import bz2
import gzip
import logging

import numpy as np
import pytest
import SimpleITK as sitk

from regagent.files import UserError
from regagent.volumes.fingerprint import scan_files
from regagent.volumes.reading import read_grid, read_image, read_volume

VALUES = np.random.default_rng(0).integers(-1000, 2000, (4, 5, 6)).astype("<i2")
RAW = VALUES.tobytes()
FIELDS = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 5 4",
    "space directions": "(2,0,0) (0,1.5,0) (0,0,2.5)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-11,-12,-8)",
}
SPACINGS = {"spacings": "2 1.5 2.5", "kinds": "domain domain domain"}
NO_SPACE = ("space", "space directions", "space origin")


def write(path, content=RAW, without=(), changes=None, end="\n"):
    fields = {key: value for key, value in (FIELDS | (changes or {})).items() if key not in without}
    text = "".join(f"{key}: {value}{end}" for key, value in fields.items())
    path.write_bytes(
        f"NRRD0004{end}# a comment: with a colon{end}{text}key:=value: x{end}{end}".encode() + content
    )
    return path


def check(path, voxels=VALUES, first=(-11, -12, -8), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)):
    volume = read_volume(path)
    values = sitk.GetArrayFromImage(volume)
    assert values.dtype == voxels.dtype and np.array_equal(values, voxels)
    for image in (volume, read_grid(path)):
        assert image.GetSize() == voxels.shape[::-1]
        assert image.GetSpacing() == pytest.approx((2, 1.5, 2.5)) and image.GetOrigin() == pytest.approx(
            first
        )
        assert image.GetDirection() == pytest.approx(direction)


def refusal(path):
    with pytest.raises(UserError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a"])
def test_a_header_in_text(tmp_path, end, name):
    check(write(tmp_path / name, end=end))


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)),
        ("LAS", (1, -1, 1)),
        ("LPS", (1, 1, 1)),
    ],
)
def test_each_space_is_taken_to_itks_world(tmp_path, caplog, space, signs):
    x, y, _ = signs
    changes = {
        "space": space,
        "space directions": f"({2 * x},0,0) (0,{1.5 * y},0) (0,0,2.5)",
        "space origin": f"({-11 * x},{-12 * y},-8)",
    }
    path = write(tmp_path / "a.nrrd", changes=changes)
    check(path)
    assert sitk.ReadImage(path).GetOrigin() == (-11, -12, -8)
    assert sitk.ReadImage(path).GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    turned = write(
        tmp_path / "b.nrrd", changes={"space": space, "space directions": "(0,1.2,1.6) (1.5,0,0) (0,2,-1.5)"}
    )
    assert read_volume(turned).GetDirection() == pytest.approx(sitk.ReadImage(turned).GetDirection())
    assert read_volume(turned).GetOrigin() == pytest.approx(sitk.ReadImage(turned).GetOrigin())
    assert not caplog.records


@pytest.mark.parametrize(
    ("without", "changes", "first", "said"),
    [
        ([], {"space": "scanner-xyz"}, (-11, -12, -8), "its axes point (space scanner-xyz): taken as to the"),
        (["space"], {"space dimension": "3"}, (-11, -12, -8), "its axes point (no space): taken as to the"),
        (NO_SPACE, SPACINGS, (0, 0, 0), "(no space directions)"),
        (NO_SPACE, SPACINGS | {"axis mins": "nan -12 -8"}, (0, 0, 0), "first voxel is taken to lie at 0 mm"),
        (NO_SPACE, SPACINGS | {"axis mins": "-11 -12 -8"}, (-10, -11.25, -6.75), "may be exchanged"),
        (["space origin"], {}, (0, 0, 0), "its first voxel lies (no space origin): taken as 0 mm"),
    ],
)
def test_what_is_assumed_is_told_in_one_line(tmp_path, caplog, without, changes, first, said):
    path = write(tmp_path / "a.nrrd", without=without, changes=changes)
    with caplog.at_level(logging.WARNING, "regagent"):
        read_volume(path)
    assert [said in record.getMessage() for record in caplog.records] == [True]
    check(path, first=first)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("cm", 10), ("m", 1000), ("um", 0.001), ("µm", 0.001)])
def test_units(tmp_path, unit, mm):
    x, y, z, *first = (value / mm for value in (2, 1.5, 2.5, -11, -12, -8))
    units = f'"{unit}" "{unit}" "{unit}"'
    changes = {"space units": units, "space directions": f"({x},0,0) (0,{y},0) (0,0,{z})"}
    check(write(tmp_path / "a.nrrd", changes=changes | {"space origin": f"({','.join(map(str, first))})"}))
    bare = changes | {"space units": units.replace('"', "")}
    check(write(tmp_path / "c.nrrd", changes=bare | {"space origin": f"({','.join(map(str, first))})"}))
    changes = {"units": units, "spacings": f"{x} {y} {z}"}
    check(write(tmp_path / "b.nrrd", without=NO_SPACE, changes=changes), first=(0, 0, 0))


@pytest.mark.parametrize(
    ("units", "said"),
    [
        ('"inch" "inch" "inch"', "expected mm"),
        ("inch inch inch", "expected mm"),
        ('"mm" "mm" "cm"', "expected mm"),
        ('"cm" "" ""', "expected mm"),
        ('"cm"', "expected 3 of them"),
    ],
)
def test_other_units_are_refused(tmp_path, units, said):
    assert said in refusal(write(tmp_path / "a.nrrd", changes={"space units": units}))


@pytest.mark.parametrize(
    "changes",
    [
        {"units": '"cm" "cm" "cm"'},
        {"units": "cm cm cm"},
        {"spacings": "2 1.5 5"},
        {"spacings": "nan nan 5"},
        {"axis mins": "0 0 0"},
        {"axismaxs": "9 9 9"},
    ],
)
def test_axes_that_have_directions_state_nothing_else(tmp_path, changes):
    (key,) = changes
    said = refusal(write(tmp_path / "a.nrrd", changes=changes))
    assert f"its header states {key.replace('axism', 'axis m')} '{changes[key]}' of axes that have" in said


def test_what_is_named_but_not_stated_is_no_statement(tmp_path):
    nothing = {"spacings": "nan NaN nan", "axis mins": "nan nan nan", "units": '"" "" ""', "old min": "nan"}
    check(write(tmp_path / "a.nrrd", changes=nothing | {"old max": "NaN", "thicknesses": "2 nan 5"}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("space", "left-posterior-superior"),
        ("space", "RAS"),
        ("space origin", "(1,2,3)"),
        ("space units", '"cm" "cm" "cm"'),
        ("space units", "cm cm cm"),
    ],
)
def test_a_space_in_which_no_directions_are_stated(tmp_path, key, value):
    changes = SPACINGS | {key: value}
    path = write(tmp_path / "a.nrrd", without={*NO_SPACE} - {key}, changes=changes)
    assert f"its header states {key} {value!r}, but spacings instead of space directions" in refusal(path)


@pytest.mark.parametrize(
    ("kinds", "without", "changes"),
    [
        ("vector domain domain", (), {}),
        ("domain domain RGB-color", (), {}),
        ("domain domain time", (), {}),
        ("domain domain time", NO_SPACE, {"spacings": "2 1.5 2.5"}),
    ],
)
def test_an_axis_in_space_of_another_kind_is_refused(tmp_path, kinds, without, changes):
    path = write(tmp_path / "a.nrrd", without=without, changes=changes | {"kinds": kinds})
    assert "expected domain or space there" in refusal(path)


@pytest.mark.parametrize(
    "line", ["spacing directions: 1", "space unit: cm", "spacings 4 4 4", "origin: (1,2,3)"]
)
def test_a_line_that_is_no_field_is_refused(tmp_path, line):
    path = write(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"endian", line.encode() + b"\nendian", 1))
    assert f"has a line '{line}', which is no field of NRRD" in refusal(path)


def test_a_key_of_the_owner_is_no_field(tmp_path):
    path = write(tmp_path / "a.nrrd")
    keys = b"DICOM_0008:0020:=1\nspace:=RAS\nsizes:= 1 1 1\nwindow:=1: 2\n"
    path.write_bytes(path.read_bytes().replace(b"endian", keys + b"content: a:=b\nendian", 1))
    check(path)


@pytest.mark.parametrize(
    ("space", "x", "y"),
    [
        ("right-anterior-superior-time", -1, -1),
        ("RAST", -1, -1),
        ("left-anterior-superior-time", 1, -1),
        ("LPST", 1, 1),
    ],
)
def test_a_space_with_time(tmp_path, caplog, space, x, y):
    changes = {
        "dimension": "4",
        "sizes": "6 5 4 1",
        "kinds": "domain domain domain time",
        "space": space,
        "space directions": f"({2 * x},0,0,0) (0,{1.5 * y},0,0) (0,0,2.5,0) (0,0,0,1)",
        "space origin": f"({-11 * x},{-12 * y},-8,0)",
        "space units": '"mm" "mm" "mm" "s"',
    }
    check(write(tmp_path / "a.nrrd", changes=changes))
    assert not caplog.records
    mixed = changes | {"space directions": changes["space directions"].replace("2.5,0", "2.5,1")}
    assert "through space and time at once" in refusal(write(tmp_path / "b.nrrd", changes=mixed))


TEXT = b"\n".join(b"%d" % value for value in VALUES.flat)


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("raw", RAW),
        ("gzip", gzip.compress(RAW)),
        ("gz", gzip.compress(RAW[:50]) + gzip.compress(RAW[50:]) + bytes(100)),
        ("bzip2", bz2.compress(RAW)),
        ("ascii", TEXT),
        ("hex", RAW.hex().encode()),
    ],
)
def test_encodings(tmp_path, encoding, content):
    check(write(tmp_path / "a.nrrd", content, changes={"encoding": encoding}))
    said = refusal(write(tmp_path / "b.nrrd", content[: len(content) // 2], changes={"encoding": encoding}))
    assert "b.nrrd is " in said and "cut off" in said


def test_text_that_holds_no_voxels(tmp_path):
    for text in (b"70000" + TEXT[TEXT.index(b"\n") :], b"1.5" + TEXT[TEXT.index(b"\n") :]):
        assert "damaged" in refusal(write(tmp_path / "a.nrrd", text, changes={"encoding": "ascii"}))


def test_a_wrong_checksum_and_a_wrong_length_are_refused(tmp_path):
    packed = gzip.compress(RAW)
    path = write(tmp_path / "a.nrrd", packed[:-8] + b"1234" + packed[-4:], changes={"encoding": "gzip"})
    assert "a.nrrd is damaged or cut off" in refusal(path)
    path = write(tmp_path / "a.nrrd", gzip.compress(RAW + b"12"), changes={"encoding": "gzip"})
    assert "a.nrrd has 242 bytes of voxels, expected 240" in refusal(path)
    assert "a.nrrd has 340 bytes of voxels" in refusal(write(tmp_path / "a.nrrd", bytes(100) + RAW))


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (RAW, {}),
        (b"x" * 352 + RAW, {"byte skip": "352"}),
        (b"x" * 352 + RAW, {"byte skip": "-1"}),
        (b"one\ntwo\nxx" + RAW, {"line skip": "2", "byteskip": "2"}),
        (RAW, {"byte skip": "0"}),
    ],
)
def test_voxels_in_a_file_of_their_own(tmp_path, content, fields):
    (tmp_path / "v.raw").write_bytes(content)
    path = write(tmp_path / "a.nhdr", b"", changes={**fields, "data file": "v.raw"})
    check(path)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    check(path)
    (tmp_path / "v.raw").write_bytes(content[:-2])
    if fields.get("byte skip") != "-1":
        assert "v.raw is cut off: 238 bytes of voxels, expected 240" in refusal(path)
    (tmp_path / "v.raw").unlink()
    assert f"its data file {tmp_path}/v.raw is absent" in refusal(path)


@pytest.mark.parametrize(
    "file",
    ["s%02d.raw 1 4 1", "s%d.bin 1 4 1 2", "s%u.bin 1 4 1", "LIST\ns01.raw\ns02.raw\ns03.raw\ns04.raw"],
)
def test_one_file_a_slice(tmp_path, file):
    for number, layer in enumerate(VALUES, 1):
        for name in (f"s{number:02d}.raw", f"s{number}.bin"):
            (tmp_path / name).write_bytes(layer.tobytes())
    text = "".join(f"{key}: {value}\n" for key, value in FIELDS.items())
    (tmp_path / "a.nhdr").write_text(f"NRRD0004\n{text}data file: {file}\n")
    check(tmp_path / "a.nhdr")


@pytest.mark.parametrize(
    ("numbers", "file"),
    [((4, 3, 2, 1), "s%d.raw 4 1 -1"), ((6, 4, 2, 0), "s%d.raw 6 -1 -2 2"), ((0, 2, 4, 6), "s%d.raw 0 7 2")],
)
def test_files_whose_numbers_fall(tmp_path, numbers, file):
    for number, layer in zip(numbers, VALUES, strict=True):
        (tmp_path / f"s{number}.raw").write_bytes(layer.tobytes())
    path = write(tmp_path / "a.nhdr", b"", changes={"data file": file})
    check(path)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)), VALUES)
    assert scan_files(path) == [path, *(tmp_path / f"s{number}.raw" for number in numbers)]


@pytest.mark.parametrize("unit", ["mm", "cm"])
@pytest.mark.parametrize("key", ["centerings", "centers"])
@pytest.mark.parametrize(
    ("centred", "first"),
    [
        ("cell cell cell", (-10, -11.25, -6.75)),
        ("node node node", (-11, -12, -8)),
        ("cell node ???", (-10, -12, -6.75)),
        (None, (-10, -11.25, -6.75)),
    ],
)
def test_axis_mins_place_the_first_voxel_as_itk_reads_them(tmp_path, unit, key, centred, first):
    centres = {key: centred} if centred else {}
    path = write(
        tmp_path / "a.nrrd", without=NO_SPACE, changes=SPACINGS | {"axis mins": "-11 -12 -8"} | centres
    )
    assert sitk.ReadImage(path).GetOrigin() == pytest.approx(first)
    if unit == "cm":
        short = {"spacings": "0.2 0.15 0.25", "axis mins": "-1.1 -1.2 -0.8", "units": "cm cm cm"}
        path = write(tmp_path / "b.nrrd", without=NO_SPACE, changes=SPACINGS | centres | short)
    check(path, first=first)


def test_centerings_of_other_axes_are_refused(tmp_path):
    changes = SPACINGS | {"axis mins": "-11 -12 -8", "centerings": "cell cell"}
    assert "centerings are not of 3 axes" in refusal(
        write(tmp_path / "a.nrrd", without=NO_SPACE, changes=changes)
    )


@pytest.mark.parametrize("kind", ["vector", "list", "time", "???"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_fourth_axis_of_one(tmp_path, kind, place):
    def beside(one, three):
        return f"{one} {three}" if place == "first" else f"{three} {one}"

    changes = {
        "dimension": "4",
        "sizes": beside("1", "6 5 4"),
        "kinds": beside(kind, "domain domain domain"),
        "space directions": beside("none", FIELDS["space directions"]),
    }
    check(write(tmp_path / "a.nrrd", changes=changes))
    path = write(tmp_path / "b.nrrd", 3 * RAW, changes=changes | {"sizes": beside("3", "6 5 4")})
    assert "3 values a voxel, expected one" in refusal(path)
    assert read_grid(path).GetSize() == (6, 5, 4)


def test_a_slice_in_a_world_of_three_axes(tmp_path):
    changes = {
        "dimension": "2",
        "sizes": "6 5",
        "space directions": "(2,0,0) (0,1.5,0)",
        "kinds": "domain domain",
    }
    path = write(tmp_path / "a.nrrd", VALUES[0].tobytes(), changes=changes)
    image = read_image(path, constant_too=True, flat=False)
    assert image.GetSize() == (6, 5, 1) and image.GetOrigin() == (-11, -12, -8)
    assert image.GetSpacing() == (2, 1.5, 1) and np.array_equal(sitk.GetArrayFromImage(image)[0], VALUES[0])


@pytest.mark.parametrize(
    ("without", "changes", "said"),
    [
        (NO_SPACE, {}, "states no space directions or spacings, so that its size in mm is unknown"),
        (NO_SPACE, {"spacings": "nan nan nan"}, "spacing (nan, nan, nan) mm"),
        (NO_SPACE, {"spacings": "2 -1.5 2.5"}, "spacing (2.0, -1.5, 2.5) mm"),
        ([], {"space directions": "(2,0,0) (0,nan,0) (0,0,2.5)"}, "spacing (2.0, nan, 2.5) mm"),
        ([], {"space directions": "(2,0,0) (0,1.5,0)"}, "are not of 3 axes"),
        ([], {"space directions": "(2,0,0) (0,1.5,0) 1"}, "expected vectors as (1,0,0)"),
        ([], {"space directions": "(2,0) (0,1.5) (0,2.5)"}, "a space of other axes"),
        ([], {"space directions": "(2,0,0) (2,0,0) (0,0,2.5)"}, "sheared"),
        ([], {"space origin": "(1,2)"}, "do not fit one another"),
        ([], {"space origin": "(1,2,3) (4,5,6)"}, "do not fit one another"),
        ([], {"space": "RAST"}, "vectors of 3 numbers, but a space of other axes"),
        (["space"], {"space dimension": "2"}, "vectors of 3 numbers, but a space of other axes"),
        ([], {"space origin": "(1,nan,2)"}, "places the first voxel at [1.0, nan, 2.0] mm"),
        ([], {"type": "block"}, "unknown type of voxels, 'block'"),
        ([], {"encoding": "zip"}, "encoding 'zip'"),
        (["endian"], {}, "endian ''"),
        ([], {"sizes": "6 5"}, "dimension '3' and sizes (6, 5)"),
        ([], {"old min": "-1000", "old max": "2000"}, "old min to old max"),
        ([], {"byte skip": "x"}, "states byte skip 'x'"),
    ],
)
def test_a_header_that_does_not_say_it_all_is_refused(tmp_path, without, changes, said):
    assert said in refusal(write(tmp_path / "a.nrrd", without=without, changes=changes))


def test_each_name_of_a_type_is_teems(tmp_path):
    from regagent.volumes.nrrd import TYPES

    for kind, names in TYPES.items():
        voxels = VALUES.astype(kind)
        for name in names:
            path = write(tmp_path / "a.nrrd", voxels.tobytes(), changes={"type": name})
            assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)), voxels)
            check(path, voxels)


def test_a_header_without_an_end_is_told(tmp_path):
    path = tmp_path / "a.nrrd"
    fields = "".join(f"{key}: {value}\n" for key, value in FIELDS.items())
    keys = "".join(f"key{number}:={'x' * 1000}\n" for number in range(1100))
    path.write_bytes(f"NRRD0004\n{fields}{keys}\n".encode() + RAW)
    assert "its header does not end within 1000000 bytes, expected a blank line" in refusal(path)


def test_a_grid_too_large_for_the_memory_is_named(tmp_path):
    path = write(tmp_path / "a.nrrd", changes={"sizes": "900000 900000 900000"})
    with pytest.raises(UserError, match=r"a\.nrrd: 900000 x 900000 x 900000 voxels, which the memory cannot"):
        read_grid(path)


def test_a_long_line_of_a_header_is_hardly_quoted(tmp_path):
    for key in ("type", "dimension", "sizes", "encoding", "endian", "space origin", "space directions"):
        assert len(refusal(write(tmp_path / "a.nrrd", changes={key: "m" * 9000}))) < len(f"{tmp_path}") + 200
