import gzip
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scans import write_frames
from scipy.spatial.transform import Rotation

from regagent.files import UserError
from regagent.geometry import invert, transform
from regagent.images import normalise, to_uint8, warp
from regagent.volumes.reading import read_grid, read_image, read_volume
from regagent.volumes.writing import write_image

SIZE = 65


def blob(where, sigma=2.0):
    x, y = np.meshgrid(np.arange(SIZE) - (SIZE - 1) / 2, np.arange(SIZE) - (SIZE - 1) / 2)
    return np.exp(-((x - where[0]) ** 2 + (y - where[1]) ** 2) / (2 * sigma**2)).astype(np.float32)


def centre_of(image):
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    return np.array([(image.sum(0) * axis).sum(), (image.sum(1) * axis).sum()]) / image.sum()


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.floats(-6, 6), st.floats(-6, 6), st.floats(-40, 40), st.floats(0.8, 1.2)).map(np.array),
    st.tuples(st.floats(-10, 10), st.floats(-10, 10)).map(np.array),
)
def test_warp_moves_content_forward(pose, where):
    moved = centre_of(warp(blob(where), pose))
    assert np.allclose(moved, transform(pose, where[None])[0], atol=0.05)


def test_warp_shifts_to_the_right_and_down():
    image = np.zeros((SIZE, SIZE), np.float32)
    image[20, 30] = 1
    moved = warp(image, [4.0, 7.0, 0.0, 1.0])
    assert moved[27, 34] == pytest.approx(1.0)
    assert moved.sum() == pytest.approx(1.0)


def test_the_inverse_pose_restores_the_image():
    image, pose = blob((3.0, -5.0), 4.0), np.array([5.0, -3.0, 20.0, 1.1])
    assert np.abs(warp(warp(image, pose), invert(pose)) - image).max() < 0.05


def test_outside_is_air():
    assert warp(np.ones((SIZE, SIZE), np.float32), [100.0, 0.0, 0.0, 1.0]).max() == 0


def test_normalise_clips_the_window():
    assert np.allclose(normalise([-300, -200, 400, 1000, 3000], -200, 1000), [0, 0, 0.5, 1, 1])
    assert normalise([1], 0, 2).dtype == np.float32
    assert to_uint8([0.0, 1.0, 2.0, -1.0]).tolist() == [0, 255, 255, 0]


@pytest.fixture
def volume(tmp_path):
    values = np.random.default_rng(0).random((12, 13, 14), dtype=np.float32)

    def write(array=values, name="mr.nii.gz", vector=False):
        path = tmp_path / name
        sitk.WriteImage(sitk.GetImageFromArray(array, isVector=vector), str(path))
        return path

    return write


@pytest.mark.parametrize("name", ["mr.nii.gz", "mr.nii", "mr.mha", "mr.nrrd"])
def test_a_good_volume_is_read(volume, name):
    assert read_volume(volume(name=name), "P001").GetSize() == (14, 13, 12)


def fault(path):
    with pytest.raises(UserError) as caught:
        read_volume(path, "P007")
    message = str(caught.value)
    assert message.startswith(f"patient P007: {path}: ")
    assert "\n" not in message
    return message


def changed(path, offset, layout, value):
    """Change a number in a NIfTI header."""
    header = bytearray(path.read_bytes())
    struct.pack_into(layout, header, offset, value)
    path.write_bytes(header)
    return path


def test_a_missing_file(tmp_path):
    assert "no such file" in fault(tmp_path / "mr.nii.gz")


def test_text_is_no_volume(tmp_path):
    path = tmp_path / "mr.nii.gz"
    path.write_text("hello")
    assert "not a readable volume" in fault(path)


def test_a_single_slice(volume):
    assert "2D image" in fault(volume(np.eye(9, dtype=np.float32), "mr.mha"))


def test_a_series_in_time(volume):
    assert "4D image" in fault(volume(np.random.default_rng(0).random((3, 4, 5, 6))))


def test_colours(volume):
    colours = np.random.default_rng(0).random((4, 5, 6, 3))
    assert "3 values a voxel" in fault(volume(colours, "mr.mha", vector=True))


def test_voxels_that_are_not_numbers(volume):
    values = np.random.default_rng(0).random((4, 5, 6))
    values[1, 2, 3] = np.nan
    assert "NaN" in fault(volume(values))


def test_an_empty_volume(volume):
    assert "every voxel is 3" in fault(volume(np.full((4, 5, 6), 3.0)))


def test_one_layer(volume):
    assert "at least 2 voxels" in fault(volume(np.random.default_rng(0).random((1, 5, 6))))


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan"), 100.0])
@pytest.mark.parametrize("packed", [False, True])
def test_an_impossible_spacing_in_a_nifti_header(volume, spacing, packed, tmp_path):
    header = bytearray(volume(name="mr.nii").read_bytes())
    struct.pack_into("<f", header, 76 + 4 * 3, spacing)
    path = tmp_path / ("bad.nii.gz" if packed else "bad.nii")
    path.write_bytes(gzip.compress(header) if packed else header)
    assert "spacing" in fault(path)


@pytest.mark.parametrize(("unit", "spacing"), [(1, 0.002), (3, 2000.0)])
def test_a_nifti_file_in_metres_or_micrometres(volume, unit, spacing):
    path = changed(volume(name="mr.nii"), 123, "B", unit)
    changed(path, 254, "<h", 0)  # no sform, which would state the spacing once more
    for axis in range(3):
        changed(path, 80 + 4 * axis, "<f", spacing)
    assert read_volume(path).GetSpacing() == pytest.approx([2.0, 2.0, 2.0])


@pytest.mark.parametrize("mark", [b"\0\0\0\0", b"abc\0", b"n+1\1"])
def test_a_header_without_niftis_mark_which_itk_would_read_without_directions(volume, mark):
    assert "no NIfTI header" in fault(changed(volume(name="mr.nii"), 344, "4s", mark))


@pytest.mark.parametrize("bits", [0, 8])
def test_a_cut_off_file_whose_header_counts_too_few_bits(volume, bits):
    path = changed(volume(name="mr.nii"), 72, "<h", bits)
    path.write_bytes(path.read_bytes()[:-4])
    assert "cut off" in fault(path)


def test_a_cut_off_file_whose_voxels_begin_nowhere(volume):
    path = changed(volume(name="mr.nii"), 108, "<f", 0.0)
    path.write_bytes(path.read_bytes()[:-12])  # ITK begins behind the 348 bytes of the header
    assert "cut off" in fault(path)


@pytest.mark.parametrize("end", [b"", b"\0\0\0\0\0\0\0\0"])
def test_a_gzip_without_its_checksum(volume, end):
    path = volume(np.random.default_rng(0).random((30, 40, 50)))
    path.write_bytes(path.read_bytes()[:-8] + end)
    assert "damaged or cut off" in fault(path)


def test_a_nifti_pair_is_refused(volume):
    assert "convert it to .nii.gz" in fault(volume(name="mr.hdr"))


def test_an_impossible_spacing_in_a_metaimage(volume, tmp_path):
    content = volume(name="mr.mha").read_bytes()
    path = tmp_path / "bad.mha"
    path.write_bytes(content.replace(b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 0 1"))
    assert "spacing" in fault(path)


@pytest.mark.parametrize("name", ["mr.nii.gz", "mr.nii", "MR.NII"])
@pytest.mark.parametrize("part", [0.5, 0.99])
def test_a_file_that_is_cut_off(volume, name, part):
    path = volume(name=name.lower())
    path = path.rename(path.with_name(name))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert "cut off" in fault(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha"])
def test_an_image_with_nan_beyond_its_edge_is_written(tmp_path, name):
    values = np.full((4, 5), np.nan, np.float32)
    write_image(sitk.GetImageFromArray(values), tmp_path / name)
    with pytest.raises(UserError, match="NaN"):
        read_image(tmp_path / name)


FLAT = np.arange(20, dtype=np.float32).reshape(4, 5)


@pytest.mark.parametrize(
    ("image", "spacing", "message"),
    [
        (sitk.GetImageFromArray(np.stack([FLAT] * 3, -1), isVector=True), 1.0, "3 values a pixel"),
        (sitk.GetImageFromArray(FLAT), 100.0, r"spacing \(100.0, 100.0\) mm, expected 0.05 to 20.0 mm"),
        (sitk.GetImageFromArray(FLAT[:1]), 1.0, "at least 2 pixels"),
        (sitk.GetImageFromArray(FLAT * 0 + 3), 1.0, "every pixel is 3"),
    ],
)
def test_a_faulty_2d_image_is_refused_as_a_volume_is(tmp_path, image, spacing, message):
    image.SetSpacing((spacing, spacing))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(UserError, match=message):
        read_image(tmp_path / "a.mha")


# A single slice as a 2D image.

SLICE = np.arange(-1000, -1000 + 40 * 50, dtype=np.int16).reshape(40, 50)


def write_single(path, kind, directions):
    """Write one slice of 0.8 x 1.1 mm, whose directions (3, 3) are those of ITK's world, in a format."""
    image = sitk.GetImageFromArray(SLICE[None])
    image.SetSpacing((0.8, 1.1, 3.0))
    image.SetOrigin((12.0, -30.0, 700.0))
    image.SetDirection(np.ravel(directions).tolist())
    if kind == "dcm":
        return write_frames(image, path.with_suffix(".dcm"), "CT")
    if kind != "flat.nii":
        sitk.WriteImage(image, path := path.with_suffix(f".{kind}"))
        return path
    place = np.eye(4)  # the world of NIfTI has x and y the other way
    place[:3, :3] = np.diag([-1, -1, 1]) @ directions * (0.8, 1.1, 3.0)
    place[:3, 3] = -12, 30, 700
    nibabel.save(nibabel.Nifti1Image(SLICE.T, place), path := path.with_suffix(".nii"))
    return path


FORMATS = ["mha", "nrrd", "nii.gz", "flat.nii", "dcm"]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("angles", "turned"),
    [
        ((15, 0, 0), 0),
        ((-30, 0, 0), 0),
        ((0, 20, 0), 0),
        ((0, 0, 25), 25),
        ((0, 20, 25), None),
        ((180, 0, 0), 0),
    ],
)
def test_the_pixels_of_a_tilted_slice_stay_as_far_apart_as_they_are(tmp_path, kind, angles, turned):
    directions = Rotation.from_euler("ZYX", angles[::-1], degrees=True).as_matrix().round(12)
    path = write_single(tmp_path / "a", kind, directions)
    image, grid = read_image(path), read_grid(path)
    assert np.array_equal(sitk.GetArrayFromImage(image), SLICE)
    mirrored = -1 if directions[2, 2] < 0 else 1
    for found in (image, grid):
        axes = np.reshape(found.GetDirection(), (2, 2))
        assert axes @ axes.T == pytest.approx(np.eye(2), abs=1e-9)
        assert np.linalg.det(axes) == pytest.approx(mirrored)
        corners = [found.TransformIndexToPhysicalPoint(index) for index in ((0, 0), (49, 39))]
        assert corners[0] == pytest.approx((12.0, -30.0), abs=1e-4)
        assert np.hypot(*np.subtract(*corners)) == pytest.approx(np.hypot(49 * 0.8, 39 * 1.1), abs=1e-3)
        if turned is not None:
            cos, sin = np.cos(np.deg2rad(turned)), np.sin(np.deg2rad(turned))
            assert axes == pytest.approx(np.array([[cos, -sin * mirrored], [sin, cos * mirrored]]), abs=1e-5)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("directions", "tilt"),
    [
        ([[0, 0, -1], [1, 0, 0], [0, -1, 0]], 90),  # sagittal
        ([[1, 0, 0], [0, 0, 1], [0, -1, 0]], 90),  # coronal
        (Rotation.from_euler("x", 40, degrees=True).as_matrix(), 40),
    ],
)
def test_a_slice_that_is_not_axial_is_no_2d_image(tmp_path, kind, directions, tilt):
    path = write_single(tmp_path / "a", kind, np.array(directions, float))
    for read in (read_image, read_grid):
        with pytest.raises(
            UserError, match=rf"a\..*: a 2D image whose plane is not axial \(tilted by {tilt} d"
        ):
            read(path)
    if kind != "flat.nii":
        volume = read_image(path, constant_too=True, flat=False)
        assert volume.GetDirection() == pytest.approx(np.ravel(directions), abs=1e-6)
