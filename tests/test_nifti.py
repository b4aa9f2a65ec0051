"""NIfTI files as other programs write them, made by nibabel: each voxel's value and place, or one line."""

import gzip
import itertools
import logging
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from regagent.files import UserError
from regagent.volumes.reading import read_grid, read_image, read_volume
from regagent.volumes.writing import write_image

VALUES = np.random.default_rng(0).integers(-1000, 2000, (7, 8, 9)).astype(np.int16)
SPACING = (0.8, 1.1, 2.5)
OFFSET = (12.0, -30.0, 700.0)


def affine(angles=(5, -8, 20), spacing=SPACING, offset=OFFSET, mirror=1):
    """Return the place (4, 4) of voxels in NIfTI's world, RAS; ``angles`` in degrees."""
    made = np.eye(4)
    turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.array([mirror, 1, 1])
    made[:3, :3] = turned * np.array(spacing)
    made[:3, 3] = offset
    return made


def write(path, values=VALUES, place=None, kind=nibabel.Nifti1Image, codes=(1, 1), qform=None):
    """Write a NIfTI file; ``codes`` are those of its qform and its sform, ``qform`` another place for it."""
    place = affine() if place is None else place
    image = kind(values, place)
    image.set_qform(place if qform is None else qform, codes[0])
    image.set_sform(place, codes[1])
    nibabel.save(image, path)
    return path


def assert_read(path, values=VALUES, place=None, atol=1e-3):
    """Assert that each voxel has its value, and that its place in ITK's world is that of NIfTI's."""
    place = affine() if place is None else place
    volume = read_volume(path)
    assert np.array_equal(sitk.GetArrayFromImage(volume), np.transpose(values))
    for index in ((0, 0, 0), (6, 0, 0), (0, 7, 0), (3, 4, 8)):
        right, front, head = (place @ [*index, 1])[:3]
        assert volume.TransformIndexToPhysicalPoint(index) == pytest.approx((-right, -front, head), abs=atol)
    return volume


def refusal(path):
    with pytest.raises(UserError) as caught:
        read_volume(path, "P1")
    assert str(caught.value).startswith(f"patient P1: {path}: ") and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("read", [read_volume, read_grid])
def test_a_damaged_start_of_gzip_is_one_line(tmp_path, read):
    path = write(tmp_path / "a.nii.gz")
    content = bytearray(path.read_bytes())
    content[2] = 7  # the method of compression
    path.write_bytes(content)
    with pytest.raises(UserError, match="a.nii.gz: damaged or cut off .Unknown compression method"):
        read(path)


angles = st.tuples(*3 * [st.floats(-180, 180)])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(
    angles=(0.0, 0.0, 2.5),
    spacing=(1.0, 1.0, 1.0),
    offset=(0.0, 0.0, 0.0),
    mirror=-1,
    codes=(1, 0),
    kind=nibabel.Nifti1Image,
    dtype="i2",
    suffix=".nii",
)
@given(
    angles=angles,
    spacing=st.tuples(*3 * [st.floats(0.2, 8)]),
    offset=st.tuples(*3 * [st.floats(-900, 900)]),
    mirror=st.sampled_from([1, -1]),
    codes=st.sampled_from([(1, 1), (1, 0), (0, 1), (1, 4), (2, 0)]),
    kind=st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]),
    dtype=st.sampled_from(["i2", "u1", "u2", "i4", "f4", "f8", ">i2", ">f4", "i8"]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
def test_every_voxel_is_where_nibabel_says(
    tmp_path, angles, spacing, offset, mirror, codes, kind, dtype, suffix
):
    place, values = affine(angles, spacing, offset, mirror), np.abs(VALUES % 200).astype(dtype)
    path = tmp_path / f"a{suffix}"
    image = kind(values, place, dtype=values.dtype)
    if dtype.startswith(">"):
        image = kind(values, place, image.header.as_byteswapped(">"))
    image.set_qform(place, codes[0])
    image.set_sform(place, codes[1])
    nibabel.save(image, path)
    assert_read(path, values, nibabel.load(path).affine)
    assert np.allclose(nibabel.load(path).affine, place, atol=0.1)  # a qform near 180 degrees is rounded so


def test_the_header_s_slope_and_intercept_are_applied(tmp_path):
    image = nibabel.Nifti1Image(VALUES, affine())
    image.header.set_slope_inter(0.5, -1024)
    nibabel.save(image, tmp_path / "a.nii")
    expected = nibabel.load(tmp_path / "a.nii").get_fdata()
    assert np.ptp(expected) > 100
    assert np.allclose(sitk.GetArrayFromImage(read_volume(tmp_path / "a.nii")), expected.T, atol=1e-2)


# A twin beside the named file (ITK #2243, nifti_clib #129).


@pytest.mark.parametrize(("named", "twin"), [("a.nii.gz", "a.nii"), ("a.nii", "a.nii.gz")])
def test_the_named_file_is_read_and_not_its_twin(tmp_path, named, twin):
    write(tmp_path / twin, VALUES[::-1] + 1, affine((0, 0, 0), (3, 3, 3)))
    assert_read(write(tmp_path / named))


@pytest.mark.parametrize("named", ["a.nii.gz", "a.nii"])
def test_a_file_is_read_beside_a_pair_of_its_name(tmp_path, named):
    write(tmp_path / "a.hdr", VALUES + 1, kind=nibabel.Nifti1Pair)
    assert (tmp_path / "a.img").exists()
    assert_read(write(tmp_path / named))


@pytest.mark.parametrize("named", ["a.hdr", "a.img"])
def test_a_pair_is_refused_whatever_stands_beside_it(tmp_path, named):
    write(tmp_path / "a.hdr", kind=nibabel.Nifti1Pair)
    write(tmp_path / "a.nii.gz")
    assert "a pair of .hdr and .img cannot be checked here; convert it" in refusal(tmp_path / named)


def test_the_header_of_a_pair_under_another_name_is_refused(tmp_path):
    write(tmp_path / "a.hdr", kind=nibabel.Nifti1Pair)
    assert "a pair of" in refusal((tmp_path / "a.hdr").rename(tmp_path / "b.nii"))


# A name that does not tell how the file is packed.


def test_a_plain_file_named_gz_is_read(tmp_path):
    assert_read(write(tmp_path / "a.nii").rename(tmp_path / "b.nii.gz"))


def test_a_packed_file_named_as_a_plain_one_is_read(tmp_path):
    assert_read(write(tmp_path / "a.nii.gz").rename(tmp_path / "b.nii"))


@pytest.mark.parametrize("name", ["scan", "scan.nifti", "SCAN.NII.GZ", "scan.gz"])
def test_a_nifti_file_of_any_name_is_read(tmp_path, name):
    assert_read(write(tmp_path / "a.nii.gz").rename(tmp_path / name))


# Sheared axes (heudiconv #409, dcm2niix #697).


def tilted(degrees):
    """A CT of a tilted gantry: each slice lies further back than the one before."""
    place = affine((0, 0, 0))
    place[1, 2] = SPACING[2] * np.tan(np.deg2rad(degrees))
    return place


@pytest.mark.parametrize("degrees", [5, 15, 25, -15])
@pytest.mark.parametrize("qform_code", [0, 1])
def test_sheared_axes_are_refused(tmp_path, degrees, qform_code):
    values = np.zeros((40, 40, 30), np.int16) + np.arange(30, dtype=np.int16)
    codes, straight = (qform_code, 1), affine((0, 0, 0))
    path = write(tmp_path / "a.nii.gz", values, tilted(degrees), codes=codes, qform=straight)
    assert "sheared: " in (said := refusal(path)) and "resample it to right angles first" in said
    with pytest.raises(UserError, match="sheared"):
        read_grid(path)


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize(("degrees", "told"), [(1.4, True), (0.1, False)])
def test_a_small_shear_is_told_with_its_mm(tmp_path, caplog, suffix, degrees, told):
    """The number is the distance of the corner that lies farthest from its place in the sform."""
    place, path = tilted(degrees), tmp_path / f"a{suffix}"
    if suffix == ".nii":
        write(path, place=place, codes=(0, 1))
    else:
        image = sitk.GetImageFromArray(VALUES.T)
        steps = np.diag([-1, -1, 1]) @ place[:3, :3]
        image.SetDirection((steps / np.linalg.norm(steps, axis=0)).ravel())
        image.SetSpacing(np.linalg.norm(steps, axis=0).tolist())
        image.SetOrigin((np.diag([-1, -1, 1]) @ place[:3, 3]).tolist())
        sitk.WriteImage(image, path)
    for read in (read_volume, read_grid):
        caplog.clear()
        volume = read(path)
        corners = list(itertools.product(*((0, count - 1) for count in VALUES.shape)))
        off = max(
            np.linalg.norm(
                np.diag([-1, -1, 1]) @ (place[:3, :3] @ corner + place[:3, 3])
                - volume.TransformIndexToPhysicalPoint(corner)
            )
            for corner in corners
        )
        expected = "do not stand at right angles (a tilted gantry?): taken as if they did, which misplaces"
        expected += f" voxels by up to {off:.2f} mm"
        assert [expected in line for line in caplog.messages] == [True] * told
        assert told == (off > 0.1)


def test_axes_that_are_sheared_by_less_than_can_be_seen_are_taken_as_right_angles(tmp_path):
    place = tilted(0.3)
    volume = assert_read(write(tmp_path / "a.nii", place=place, codes=(0, 1)), place=place, atol=0.15)
    directions = np.reshape(volume.GetDirection(), (3, 3))
    assert np.allclose(directions @ directions.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_other_formats_are_straightened_as_nifti_is(tmp_path, suffix):
    """And as the same file is when it was written by ITK, which straightens by another rule."""
    place = tilted(0.3)
    expected = read_volume(write(tmp_path / "a.nii", place=place, codes=(0, 1)))
    image = sitk.GetImageFromArray(VALUES.T)
    steps = np.diag([-1, -1, 1]) @ place[:3, :3]
    image.SetDirection((steps / np.linalg.norm(steps, axis=0)).ravel())
    image.SetSpacing(np.linalg.norm(steps, axis=0).tolist())
    image.SetOrigin((-OFFSET[0], -OFFSET[1], OFFSET[2]))
    sitk.WriteImage(image, tmp_path / f"b{suffix}")
    write_image(read_volume(tmp_path / f"b{suffix}"), tmp_path / "c.nii.gz")
    for found in (
        read_volume(tmp_path / f"b{suffix}"),
        read_grid(tmp_path / f"b{suffix}"),
        read_volume(tmp_path / "c.nii.gz"),
    ):
        assert found.GetDirection() == pytest.approx(expected.GetDirection(), abs=1e-6)
        assert found.GetOrigin() == pytest.approx(expected.GetOrigin(), abs=1e-4)
        assert found.GetSpacing() == pytest.approx(expected.GetSpacing(), abs=1e-6)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_sheared_axes_are_refused_in_other_formats_too(tmp_path, suffix):
    image = sitk.GetImageFromArray(np.zeros((30, 40, 40), np.int16) + np.arange(40, dtype=np.int16))
    place = tilted(15)[:3, :3]
    image.SetDirection((place / np.linalg.norm(place, axis=0)).ravel())
    sitk.WriteImage(image, tmp_path / f"a{suffix}")
    assert "sheared: " in refusal(tmp_path / f"a{suffix}")


# Two statements of one header (FastSurfer #36, nifti_clib #127, ANTs #1337).


@pytest.mark.parametrize(("codes", "apart"), [((1, 1), 32), ((1, 2), 3), ((2, 1), 1.5), ((4, 4), 32)])
def test_a_qform_that_places_voxels_elsewhere_is_refused(tmp_path, codes, apart):
    moved = affine(offset=np.add(OFFSET, (0, apart, 0)))
    said = refusal(write(tmp_path / "a.nii.gz", codes=codes, qform=moved))
    assert f"sform and qform place voxels up to {apart:.1f} mm apart" in said


def test_a_qform_that_is_turned_is_refused(tmp_path):
    said = refusal(write(tmp_path / "a.nii.gz", np.zeros((60, 60, 60), np.int8), qform=affine((5, -8, 25))))
    assert "sform and qform place voxels up to " in said


def test_a_small_difference_is_told_and_the_sform_is_taken(tmp_path, caplog):
    moved = affine(offset=np.add(OFFSET, (0, 0.5, 0)))
    with caplog.at_level(logging.WARNING, "regagent"):
        assert_read(write(tmp_path / "a.nii.gz", qform=moved))
    assert "sform and qform place voxels up to 0.5 mm apart; the sform is taken" in caplog.text


def test_equal_statements_are_not_worth_a_line(tmp_path, caplog):
    assert_read(write(tmp_path / "a.nii.gz"))
    assert caplog.text == ""


@pytest.mark.parametrize("qform_code", [0, 1])
def test_a_spacing_that_is_not_the_sform_s_is_refused(tmp_path, qform_code):
    image = nibabel.Nifti1Image(VALUES, affine())
    image.set_sform(affine(), 1)
    image.set_qform(affine(spacing=(0.8, 1.1, 3.0)), qform_code, update_affine=False)
    image.header["pixdim"][3] = 3.0
    nibabel.save(image, tmp_path / "a.nii")
    assert "sform and spacing place voxels up to 4.0 mm apart" in refusal(tmp_path / "a.nii")


def test_a_header_without_any_place_is_told(tmp_path, caplog):
    volume = read_volume(write(tmp_path / "a.nii", codes=(0, 0)))
    assert volume.GetSpacing() == pytest.approx(SPACING)
    assert volume.GetOrigin() == (0, 0, 0) and volume.GetDirection() == tuple(np.eye(3).ravel())
    assert "does not say where its axes point" in caplog.text and "left and right" in caplog.text


@pytest.mark.parametrize(
    ("codes", "start", "numbers", "message"),
    [
        ((1, 1), 280, np.zeros(12), "sform: spacing (0.0, 0.0, 0.0) mm"),
        ((1, 1), 280, np.full(12, np.nan), "sform: spacing (nan, nan, nan) mm"),
        ((0, 1), 292, [np.nan], "its header's sform places the first voxel at (nan, -30, 700)"),
        ((1, 0), 268, [np.inf], "its header's qform places the first voxel at (inf, -30, 700)"),
        ((1, 0), 256, [3.0], "its header's qform is no rotation"),
    ],
)
def test_a_place_without_numbers_is_refused(tmp_path, codes, start, numbers, message):
    path = write(tmp_path / "a.nii", codes=codes)
    header = bytearray(path.read_bytes())
    numbers = np.array(numbers, "<f4").tobytes()
    header[start : start + len(numbers)] = numbers
    path.write_bytes(header)
    assert message in refusal(path)


@pytest.mark.parametrize("code", [(1, 0), (1, 1)])
def test_a_rounded_quaternion_is_read(tmp_path, code):
    turn = np.diag([-2.0, -2.0, 2.0, 1.0])  # half a turn about z: b, c, d are 0, 0, 1
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), turn)
    image.set_qform(turn, code[0])
    image.set_sform(turn if code[1] else None, code[1])
    nibabel.save(image, tmp_path / "a.nii")
    patched(tmp_path / "a.nii", 264, "<f", 1.0005)
    volume = read_volume(tmp_path / "a.nii")
    assert volume.GetDirection() == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1))
    assert volume.GetSpacing() == pytest.approx((2, 2, 2))


def test_long_whole_numbers_are_scaled_exactly(tmp_path):
    values = np.arange(60, dtype=np.int32).reshape(3, 4, 5) + 2**30
    image = nibabel.Nifti1Image(values, np.eye(4))
    nibabel.save(image, tmp_path / "a.nii")
    patched(tmp_path / "a.nii", 112, "<f", 1.0)
    patched(tmp_path / "a.nii", 116, "<f", -1024.0)
    assert np.array_equal(sitk.GetArrayFromImage(read_volume(tmp_path / "a.nii")), values.T - 1024)


# Sizes and values.


def patched(path, place, layout, value):
    """Change a number in a header."""
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, place, value)
    path.write_bytes(content)
    return path


def test_a_fourth_size_of_zero_is_one(tmp_path):
    path = write(tmp_path / "a.nii", VALUES.reshape((*VALUES.shape, 1)))
    assert_read(patched(patched(path, 40, "<h", 4), 48, "<h", 0))


def test_voxels_never_begin_within_the_header(tmp_path):
    assert_read(patched(write(tmp_path / "a.nii"), 108, "<f", 0.0))


def test_a_type_that_is_too_small_for_the_file_is_noticed(tmp_path):
    path = write(tmp_path / "a.nii", VALUES.astype(np.float32))
    patched(patched(path, 70, "<h", 4), 72, "<h", 16)  # int16, it says
    assert "bytes, 1008 more than its header says" in refusal(path)


def test_an_extension_in_the_place_of_the_voxels_is_noticed(tmp_path):
    image = nibabel.Nifti1Image(np.where(np.indices(VALUES.shape)[2] > 4, 0, VALUES), affine())
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"of another program"))
    nibabel.save(image, tmp_path / "a.nii")
    assert_read(tmp_path / "a.nii", np.asarray(image.dataobj))
    assert "more than its header says" in refusal(patched(tmp_path / "a.nii", 108, "<f", 352.0))


def test_zeros_behind_the_voxels_are_padding(tmp_path):
    path = write(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes() + bytes(100))
    assert_read(path)


@pytest.mark.parametrize("shape", [(7, 8, 9, 1), (7, 8, 9, 1, 1)])
def test_dimensions_of_one_are_left_out(tmp_path, shape):
    assert_read(write(tmp_path / "a.nii", VALUES.reshape(shape)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 5, 6, 3), np.float32), "4D image, expected a 3D volume"),
        (np.zeros((4, 5, 6, 1, 3), np.float32), "3 values a voxel, expected one"),
        (np.zeros((4, 5, 6), np.complex64), "2 values a voxel, expected one"),
        (np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "3 values a voxel, expected one"),
        (np.full((4, 5, 6), np.nan, np.float32), "NaN or infinite"),
        (np.zeros((4, 5, 6), np.float32), "every voxel is 0"),
        (np.zeros((4, 5), np.float32), "2D image, expected a 3D volume"),
    ],
)
def test_what_is_no_volume_is_told(tmp_path, values, message):
    assert message in refusal(write(tmp_path / "a.nii.gz", values))


@pytest.mark.parametrize("shape", [(7, 8), (7, 8, 1)])
def test_a_flat_image_is_read_where_images_may_be_flat(tmp_path, shape):
    values = VALUES[:, :, 0].reshape(shape)
    image = read_image(write(tmp_path / "a.nii", values, affine((0, 0, 0), mirror=-1)))
    assert image.GetSize() == (7, 8) and image.GetSpacing() == pytest.approx(SPACING[:2])
    assert np.array_equal(sitk.GetArrayFromImage(image), VALUES[:, :, 0].T)
    assert image.TransformIndexToPhysicalPoint((1, 1)) == pytest.approx((-12 + 0.8, 30 - 1.1))


@pytest.mark.parametrize("values", [VALUES * 0, np.full((7, 8, 9, 4), np.nan), np.zeros((7, 8, 9, 1, 3))])
def test_of_a_grid_only_the_place_matters(tmp_path, values):
    grid = read_grid(write(tmp_path / "a.nii.gz", values))
    expected = assert_read(write(tmp_path / "b.nii.gz"))
    assert grid.GetSize() == expected.GetSize() and grid.GetOrigin() == expected.GetOrigin()
    assert grid.GetSpacing() == expected.GetSpacing() and grid.GetDirection() == expected.GetDirection()


def test_a_header_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(write(tmp_path / "b.nii").read_bytes())[:40])
    for read in (read_volume, read_grid):
        with pytest.raises(UserError, match="a.nii.gz: "):
            read(path)


@pytest.mark.parametrize("slope", [1e-40, -1e-35])
def test_a_slope_that_makes_all_voxels_zero_is_refused(tmp_path, slope):
    path = write(tmp_path / "a.nii")
    patched(path, 112, "<f", slope)
    assert "its header states a slope (scl_slope) of" in refusal(path)
    patched(path, 112, "<f", 1e-12)  # of another unit
    assert np.allclose(sitk.GetArrayFromImage(read_volume(path)).T, VALUES * 1e-12, atol=0, rtol=1e-6)
