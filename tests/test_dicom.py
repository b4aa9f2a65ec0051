"""DICOM as scanners write it: the right voxels at the right place, or one line that says what is wrong."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from agents import export
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from markers import CENTRE, make_volumes, perfect_register
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.fileset import FileSet
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from scans import edited, groups, write_frames, write_series, write_slice

from regagent.command import pair as registration
from regagent.command.main import main
from regagent.files import UserError
from regagent.patients.importing import import_patient
from regagent.volumes import dicom_files
from regagent.volumes.dicom_pixels import PIXELS
from regagent.volumes.reading import read_grid, read_image, read_volume

SHUFFLED = [3, 0, 5, 1, 4, 2]


def oblique(lowest=-1024, highest=3000):
    """Return a volume of random values, turned about two axes."""
    values = np.random.default_rng(1).integers(lowest, highest, (6, 7, 8), dtype=np.int16)
    image = sitk.GetImageFromArray(values)
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.0)
    image.SetDirection(turn.GetMatrix())
    image.SetSpacing((0.75, 1.25, 2.5))
    image.SetOrigin((-31.25, 12.5, 801.5))
    return image


@pytest.fixture(scope="module")
def truth():
    return oblique()


def check_same(found, truth, places=1e-6):
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(truth))
    check_same_grid(found, truth, places)


def check_same_grid(found, truth, places=1e-6):
    assert found.GetSize() == truth.GetSize()
    for quantity in ("Spacing", "Origin", "Direction"):
        expected = getattr(truth, f"Get{quantity}")()
        assert getattr(found, f"Get{quantity}")() == pytest.approx(expected, abs=places), quantity


def refused(path, message, modality=None):
    with pytest.raises(UserError, match=message) as caught:
        read_image(path, modality)
    said = str(caught.value)
    assert said.startswith(f"{path}") and "\n" not in said
    return said


def per_frame(file):
    return file.PerFrameFunctionalGroupsSequence


def position(file, number):
    return per_frame(file)[number].PlanePositionSequence[0]


# Multi-frame files that are right ---------------------------------------------------------------------


@pytest.mark.parametrize("order", [range(6), range(5, -1, -1), SHUFFLED])
def test_frames_lie_where_their_positions_say(tmp_path, truth, order):
    found = read_volume(write_frames(truth, tmp_path / "ct.dcm", "CT", order), modality="CT")
    assert found.GetPixelID() == sitk.sitkInt16
    check_same(found, truth)


def test_a_file_a_folder_with_it_a_series_and_nifti_are_one_volume(tmp_path, truth):
    (tmp_path / "folder").mkdir()
    sitk.WriteImage(truth, tmp_path / "ct.nii.gz")
    for path in (
        write_frames(truth, tmp_path / "ct.dcm", "CT", SHUFFLED),
        write_frames(truth, tmp_path / "folder" / "ct.dcm", "CT", SHUFFLED).parent,
        write_series(truth, tmp_path / "series", "CT"),
        tmp_path / "ct.nii.gz",
    ):
        check_same(read_volume(path, modality="CT"), truth, 1e-5)  # NIfTI has single precision
        check_same_grid(read_grid(path), truth, 1e-5)


def test_an_mr_keeps_its_values(tmp_path):
    mr = oblique(0, 900)
    check_same(read_volume(write_frames(mr, tmp_path / "mr.dcm", "MR", SHUFFLED), modality="MR"), mr)


def of_the_legacy_class(file):
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = LegacyConvertedEnhancedCTImageStorage


def all_stated_per_frame(file):
    (shared,) = file.SharedFunctionalGroupsSequence
    for frame in per_frame(file):
        frame.update(shared)
    del file.SharedFunctionalGroupsSequence


def of_one_echo(file):
    for frame in per_frame(file):
        frame.MREchoSequence = groups(MREchoSequence={"EffectiveEchoTime": 4.6}).MREchoSequence


def inverted_when_shown(file):
    file.PhotometricInterpretation = "MONOCHROME1"


def implicit(file):
    file.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def deflated(file):
    file.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def rounded(file):
    """Positions of 12.5 mm as 12.51 mm; they misplace nothing by more."""
    place = position(file, 2)
    place.ImagePositionPatient = [place.ImagePositionPatient[0] + 0.01, *place.ImagePositionPatient[1:]]


SOUND_FILES = [
    of_the_legacy_class,
    all_stated_per_frame,
    of_one_echo,
    inverted_when_shown,
    implicit,
    deflated,
    rounded,
    lambda file: file.compress(RLELossless),
]


@pytest.mark.parametrize("change", SOUND_FILES)
def test_a_file_is_read_however_it_is_written(tmp_path, truth, change):
    path = write_frames(truth, tmp_path / "ct.dcm", "CT", SHUFFLED)
    with edited(path) as file:
        change(file)
    check_same(read_volume(path), truth, 0.01 if change is rounded else 1e-6)


@pytest.mark.parametrize("name", ["IM0001", "ct.ima", "1.2.840.10008", "ct.nii", "ct.nii.gz", "ct.mha"])
def test_a_file_is_known_by_its_content(tmp_path, truth, name):
    check_same(read_volume(write_frames(truth, tmp_path / name, "CT", SHUFFLED)), truth)


@pytest.mark.parametrize("implicit_vr", [True, False])
def test_a_file_without_preamble(tmp_path, truth, implicit_vr):
    path = write_frames(truth, tmp_path / "ct", "CT", SHUFFLED)
    file = dcmread(path)
    del file.file_meta
    file.preamble = None
    file.save_as(path, implicit_vr=implicit_vr, little_endian=True)
    assert path.read_bytes()[128:132] != b"DICM"
    check_same(read_volume(path), truth)


def test_each_frame_has_its_own_scale(tmp_path):
    mr = oblique(0, 900)
    path = write_frames(mr, tmp_path / "mr.dcm", "MR", SHUFFLED)
    slopes, intercepts = (
        np.linspace(0.5, 1.7, 6),
        np.linspace(-3.25, 8, 6),
    )  # of the frames as they are stored
    with edited(path) as file:
        del file.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
        for frame, slope, intercept in zip(per_frame(file), slopes, intercepts, strict=True):
            scale = {"RescaleSlope": f"{slope:.8f}", "RescaleIntercept": f"{intercept:.8f}"}
            frame.update(groups(PixelValueTransformationSequence=scale))
    found = read_volume(path)
    assert found.GetPixelID() == sitk.sitkFloat32
    stored = sitk.GetArrayFromImage(mr)
    for frame, z in enumerate(SHUFFLED):
        expected = stored[z] * slopes[frame] + intercepts[frame]
        assert sitk.GetArrayFromImage(found)[z] == pytest.approx(expected, rel=1e-6, abs=1e-5)


def test_parts_of_one_volume_in_two_files(tmp_path, truth):
    for number, order in enumerate(([5, 1, 3], [0, 4, 2])):
        write_frames(truth, tmp_path / f"{number}.dcm", "CT", order)
    check_same(read_volume(tmp_path), truth)


# Multi-frame files that are wrong ---------------------------------------------------------------------


def old_class(file):
    """A CT of one slice by its class, of six by its number of frames."""
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = CTImageStorage
    for sequence in ("PixelMeasuresSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence"):
        file.update(file.SharedFunctionalGroupsSequence[0][sequence][0])
    file.update(position(file, 0))
    del file.SharedFunctionalGroupsSequence, file.PerFrameFunctionalGroupsSequence


def without_positions(file):
    for frame in per_frame(file):
        del frame.PlanePositionSequence


def without_one_position(file):
    del position(file, 3).ImagePositionPatient


def without_directions(file):
    del file.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence


def without_spacing(file):
    del file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def lose_a_frame(file):
    size = file.Rows * file.Columns * 2
    file.PixelData = file.PixelData[: 2 * size] + file.PixelData[3 * size :]
    file.NumberOfFrames = 5
    del per_frame(file)[2]


def lose_a_description(file):
    del per_frame(file)[2]


def two_volumes(file):
    """Every place is there twice, as with two echoes."""
    file.NumberOfFrames = 12
    file.PixelData *= 2
    file.PerFrameFunctionalGroupsSequence = [*per_frame(file), *per_frame(file)]


def turn_a_frame(file):
    turned = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    per_frame(file)[4].update(groups(PlaneOrientationSequence=turned))


def drift(file):
    along = np.array(oblique().GetDirection()).reshape(3, 3)[:, 1]
    for number in range(6):
        place = position(file, number)
        moved = np.array(place.ImagePositionPatient) + 0.5 * number * along
        place.ImagePositionPatient = list(np.round(moved, 9))


def respace_a_frame(file):
    per_frame(file)[1].update(groups(PixelMeasuresSequence={"PixelSpacing": [1.5, 0.75]}))


def stretch(file):
    """The distances grow from 2 mm to 3.2 mm; they are 2.5 mm in the file."""
    across = np.array(oblique().GetDirection()).reshape(3, 3)[:, 2]
    moved = np.cumsum([0, 2.0, 2.0, 2.6, 3.2, 3.2]) - 2.5 * np.arange(6)
    for number, by in enumerate(moved):
        place = position(file, number)
        place.ImagePositionPatient = list(np.round(np.array(place.ImagePositionPatient) + by * across, 9))


def coloured(file):
    file.PhotometricInterpretation = "RGB"
    file.SamplesPerPixel = 3


def without_pixels(file):
    del file.PixelData


def without_rows(file):
    del file.Rows


def cut_pixels(file):
    file.PixelData = file.PixelData[:-100]


def not_a_number(file):
    position(file, 3)["ImagePositionPatient"]._value = ["1", "2", "nan"]


def not_directions(file):
    file.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [0] * 6


def mosaic(file):
    file.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]


def dose(file):
    """A file of one frame, whose values are a fraction of what is stored."""
    file.NumberOfFrames, file.DoseGridScaling = 1, "2.5e-5"
    file.PixelData = file.PixelData[: file.Rows * file.Columns * 2]
    del per_frame(file)[1:]


def unknown_syntax(file):
    file.compress(RLELossless)
    file.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"  # HTJ2K


WRONG_FILES = {
    old_class: "holds 6 frames, but states no position of each frame; export it as a series",
    without_positions: "holds 6 frames, but states no position of each frame",
    without_one_position: "frame 4 does not state its ImagePositionPatient and",
    without_directions: "frame 1 does not state its ImagePositionPatient and ImageOrientationPatient",
    without_spacing: "frame 1 states no PixelSpacing, so that its size in mm is unknown",
    lose_a_frame: "missing or unevenly spaced: frame 2 and frame 3 are 5.00 mm apart, the others 2.50 mm",
    lose_a_description: "holds 6 frames, but describes 5",
    two_volumes: "frame 1 and frame 7 lie at one place; are these several volumes, as of several echoes",
    turn_a_frame: "frame 5 is turned against frame 1",
    drift: r"slices are shifted against each other by up to 2\.5 mm",
    respace_a_frame: "frame 2 has 8 x 7 pixels of 0.75 x 1.5 mm, but frame 1 has .* of 0.75 x 1.25 mm",
    stretch: r"unevenly spaced: frame 3 lies 1\.2 mm from where equal distances",
    coloured: "its pixels are RGB, expected grey values",
    without_pixels: "its pixels are not stored as whole numbers",
    without_rows: "its header is damaged or cut off",
    cut_pixels: "cut off: 572 bytes of pixels, expected 672",
    not_a_number: r"ImagePositionPatient of frame 4 is \[.*nan.*\], expected 3 numbers",
    not_directions: "ImageOrientationPatient of frame 1 is .*, expected two directions at right angles",
    mosaic: "a mosaic, many slices in one image",
    dose: "a radiation dose, which is not read here; convert it to NIfTI first",
    unknown_syntax: r"its pixels \(High-Throughput JPEG 2000 .*\) cannot be decoded; copy or convert",
}


@pytest.mark.parametrize("change", WRONG_FILES)
def test_a_file_is_refused(tmp_path, truth, capfd, change):
    path = write_frames(truth, tmp_path / "ct.dcm", "CT")
    with edited(path) as file:
        change(file)
    refused(path, WRONG_FILES[change])
    assert change is unknown_syntax or capfd.readouterr() == ("", "")


@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_that_is_cut_off(tmp_path, truth, compressed):
    path = write_frames(truth, tmp_path / "ct.dcm", "CT")
    if compressed:
        with edited(path) as file:
            file.compress(RLELossless)
    content = path.read_bytes()
    for lost in (50, 400, len(content) - 140, len(content) - 500):
        path.write_bytes(content[:-lost])
        refused(path, "cut off|not a readable DICOM file|no PixelSpacing|states no position")


def test_another_modality(tmp_path, truth):
    path = write_frames(truth, tmp_path / "ct.dcm", "CT")
    refused(path, "is of modality CT, expected MR", "MR")


#: Elements whose change may change the voxels or their place.
TELLING = {
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ImagePositionPatient"),
    *("ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", *PIXELS),
}


def telling(path):
    """Return those elements as pydicom reads them, and how the pixels are coded; None if it fails."""
    try:
        file = dcmread(path, force=True)
        return file.file_meta.TransferSyntaxUID, [element for element in file if element.keyword in TELLING]
    except Exception:  # a damaged file makes pydicom raise errors of every kind
        return None


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1), st.integers(128, 1500), st.integers(0, 255))
def test_a_header_with_one_wrong_byte_is_the_same_volume_or_refused(tmp_path, truth, kind, place, value):
    path = write_frames(truth, tmp_path / "ct.dcm", "CT")
    if kind:
        path = write_series(truth, tmp_path / "series", "CT") / "1-003.dcm"
    content, right = bytearray(path.read_bytes()), telling(path)
    assume(place < len(content) and content[place] != value)
    content[place] = value
    path.write_bytes(content)
    given_path = path.parent if kind else path
    try:
        found = read_volume(given_path)
    except UserError as error:
        assert str(error).startswith(str(given_path)) and "\n" not in str(error)
        return
    if telling(path) == right:
        check_same(found, truth)
    else:
        assert found.GetDimension() == 3 and np.isfinite(sitk.GetArrayViewFromImage(found)).all()


def test_an_unknown_kind_of_a_series_number_is_refused(tmp_path, truth):
    path = write_frames(truth, tmp_path / "ct.dcm", "CT")
    path.write_bytes(path.read_bytes().replace(b"\x20\0\x0e\0UI", b"\x20\0\x0e\0U\0"))
    refused(path, "ct.dcm: not a readable DICOM file .* copy or export it again")
    refused(tmp_path, "not a readable DICOM file .* copy or export it again")


# Series ---------------------------------------------------------------------------------------------


@pytest.fixture
def series(tmp_path, truth):
    return write_series(truth, tmp_path / "scan", "CT")


def all_files(folder):
    return sorted(folder.glob("1-*.dcm"))


def each(change):
    """Return a change of a series that changes each of its files."""

    def change_all(folder):
        for number, path in enumerate(all_files(folder)):
            with edited(path) as file:
                change(file, number)

    return change_all


def one(change, number=3):
    """Return a change of a series that changes one of its files."""

    def change_it(folder):
        with edited(all_files(folder)[number]) as file:
            change(file)

    return change_it


def contradict(file, number):
    file.SliceThickness, file.SpacingBetweenSlices, file.InstanceNumber = 7, -1.5, (number * 5) % 7


def of_the_other_byte_order(folder):
    for path in all_files(folder):
        file = dcmread(path)
        values = np.frombuffer(file.PixelData, "<u2").astype(">u2")
        other = Dataset()
        other.update(file)
        other.file_meta = file.file_meta
        other.add_new("PixelData", "OW", values.tobytes())
        other.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        other.save_as(path, enforce_file_format=True)


def big_endian_file(path, values, vr="OW"):
    """Write values as one file in big-endian order: of 8 bits in OW, two bytes are exchanged."""
    file = dcmread(write_frames(sitk.GetImageFromArray(values), path, "MR"))
    file.BitsAllocated = file.BitsStored = 8 * values.dtype.itemsize
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(values.dtype.kind == "i")
    content = values.astype(values.dtype.newbyteorder(">")).tobytes()
    if values.itemsize == 1 and vr == "OW":
        content = np.frombuffer(content, "<u2").astype(">u2").tobytes()
    other = Dataset()
    other.update(file)
    other.file_meta = file.file_meta
    other.add_new("PixelData", vr, content)
    other.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    other.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("kind", "vr"), [("uint8", "OW"), ("uint8", "OB"), ("uint16", "OW"), ("int16", "OW")]
)
def test_short_pixels_of_the_other_byte_order_are_read(tmp_path, kind, vr):
    values = (np.arange(6 * 7 * 8).reshape(6, 7, 8) % 250).astype(kind)
    found = read_volume(big_endian_file(tmp_path / "mr.dcm", values, vr))
    assert np.array_equal(sitk.GetArrayFromImage(found), values)


@pytest.mark.parametrize("kind", ["int32", "uint32", "int64"])
def test_long_pixels_of_the_other_byte_order_are_refused(tmp_path, kind):
    """Programs differ in whether they exchange the bytes of 16 bits or of a pixel."""
    path = big_endian_file(tmp_path / "mr.dcm", np.arange(336).reshape(6, 7, 8).astype(kind))
    said = refused(path, f"pixels of {kind[-2:]} bits in Explicit VR Big Endian, whose order of bytes is not")
    assert "convert it to Explicit VR Little Endian" in said


def test_bits_of_the_other_byte_order_are_refused(tmp_path):
    path = big_endian_file(tmp_path / "mr.dcm", np.arange(112, dtype=np.uint8).reshape(2, 7, 8))
    with edited(path) as file:
        file.BitsAllocated = file.BitsStored = 1
        file.HighBit = 0
    refused(path, "pixels of 1 bits in Explicit VR Big Endian")


def other_files(folder):
    (folder / "readme.txt").write_text("hello")
    (folder / "._1-000.dcm").write_bytes(b"\0\5\x16\7" + bytes(200))
    (folder / "inside").mkdir()
    for name, kind in (("plan.dcm", RTStructureSetStorage), ("inside/plan.dcm", RTStructureSetStorage)):
        other = Dataset()
        other.SOPClassUID, other.SOPInstanceUID = kind, "1.2.3"
        other.SeriesInstanceUID, other.Modality = "1.2.3.4", "RTSTRUCT"
        other.file_meta = dcmread(all_files(folder)[0]).file_meta
        other.file_meta.MediaStorageSOPClassUID = kind
        other.save_as(folder / name, enforce_file_format=True)


def with_dicomdir(folder):
    files, copy = FileSet(), folder.parent / "disk"
    for path in all_files(folder):
        with edited(path) as file:
            file.PatientID = file.StudyID = "1"
            file.PatientName, file.StudyDate, file.StudyTime, file.SeriesNumber = "A", "20200101", "1200", 1
        files.add(path)
    files.write(copy)
    shutil.copy(copy / "DICOMDIR", folder / "DICOMDIR")


def round_positions(file, number):
    """As scanners round them: not 0.8 mm, but 1 mm; the axes are those of the patient."""
    file.ImagePositionPatient = [0, 0, round(0.625 * number, 1)]
    file.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


SOUND_SERIES = {
    "with a thickness and a number that contradict": each(contradict),
    "compressed": each(lambda file, number: file.compress(RLELossless)),
    "of the other byte order": of_the_other_byte_order,
    "with other files beside": other_files,
    "with a DICOMDIR": with_dicomdir,
}


@pytest.mark.parametrize("change", SOUND_SERIES)
def test_a_series_is_read(series, truth, change):
    SOUND_SERIES[change](series)
    check_same(read_volume(series, modality="CT"), truth)
    check_same_grid(read_grid(series), truth)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_compressed_series_of_gdcm(tmp_path, compressor):
    values = np.random.default_rng(3).integers(0, 2000, (3, 64, 64), dtype=np.int16)
    writer = sitk.ImageFileWriter()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.KeepOriginalImageUIDOn()
    for z in range(3):
        part = sitk.GetImageFromArray(values[z : z + 1])[:, :, 0]
        for tag, value in {
            "0008|0060": "MR",
            "0020|000e": "1.2.3.4",
            "0008|0018": f"1.2.3.4.{z}",
            "0020|0032": f"0\\0\\{3 * z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():
            part.SetMetaData(tag, value)
        write_slice(writer, part, tmp_path / f"{z}.dcm")
        assert dcmread(tmp_path / f"{z}.dcm").file_meta.TransferSyntaxUID.is_compressed
    found = read_volume(tmp_path, modality="MR")
    assert np.array_equal(sitk.GetArrayFromImage(found), values)
    assert found.GetSpacing() == (1.0, 1.0, 3.0)


def test_rounded_positions_are_no_missing_slices(series, truth):
    each(round_positions)(series)  # distances of 0.6 and 0.7 mm
    found = read_volume(series)
    assert found.GetSpacing() == pytest.approx((0.75, 1.25, 0.62), abs=1e-9)
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(truth))


def test_a_falling_order_of_files_is_turned(tmp_path, truth):
    folder = write_series(truth, tmp_path / "scan", "CT")
    for number, path in enumerate(reversed(all_files(folder))):
        path.rename(folder / f"a{number}.dcm")
    check_same(read_volume(folder), truth)


def test_each_slice_of_a_series_has_its_own_scale(tmp_path):
    mr = oblique(0, 900)
    folder = write_series(mr, tmp_path / "scan", "MR")
    slopes, intercepts = [1.0, 1.37, 2.5, 0.123, 3.0, 0.75], [0, 0.5, -0.25, 0, 2, -1]

    def scale(file, number):
        file.RescaleSlope, file.RescaleIntercept = slopes[number], intercepts[number]

    each(scale)(folder)
    found = read_volume(folder)
    assert found.GetPixelID() == sitk.sitkFloat32
    stored = sitk.GetArrayFromImage(mr)
    for z, values in enumerate(sitk.GetArrayFromImage(found)):
        assert values == pytest.approx(stored[z] * slopes[z] + intercepts[z], rel=1e-6)


def test_whole_scales_that_differ_keep_whole_numbers(series, truth):
    one(lambda file: setattr(file, "RescaleIntercept", -24))(series)
    expected = sitk.GetArrayFromImage(truth)
    expected[3] += 1000
    found = read_volume(series)
    assert found.GetPixelID() == sitk.sitkInt16
    assert np.array_equal(sitk.GetArrayFromImage(found), expected)


@pytest.mark.parametrize("unsigned", [range(2, 5), range(1), range(5, 6)])
def test_signed_and_unsigned_values_in_one_series(series, truth, unsigned):
    """The stored values are signed, 1024 above those in HU; those of some files are none below zero."""
    each(lambda file, number: setattr(file, "PixelRepresentation", int(number not in unsigned)))(series)
    found = read_volume(series)
    assert found.GetPixelID() == sitk.sitkInt16
    check_same(found, truth)


@pytest.mark.parametrize("intercept", [0, -1])
def test_whole_numbers_that_fit_in_no_int16_are_int32(series, intercept):
    def change(file, number):
        large_values(file, number)
        file.RescaleIntercept = intercept

    one(lambda file: change(file, 4), 4)(series)
    expected = sitk.GetArrayFromImage(oblique()).astype(int)
    expected[4] = 60004 + intercept
    found = read_volume(series)
    assert found.GetPixelID() == sitk.sitkInt32
    assert np.array_equal(sitk.GetArrayFromImage(found), expected)


def large_values(file, number):
    file.PixelRepresentation = 0
    file.BitsStored, file.HighBit = 16, 15
    file.PixelData = np.full((file.Rows, file.Columns), 60000 + number, np.uint16).tobytes()


def test_values_beyond_int16(series):
    each(large_values)(series)
    found = sitk.GetArrayFromImage(read_volume(series))
    assert found[:, 0, 0].tolist() == [60000 - 1024 + number for number in range(6)]


def twelve_bits(value, signed=0, overlay=False):
    """Return a change to a file of this value, but for its first pixel, that 12 bits of the 16 count."""

    def change(file, number):
        file.BitsStored, file.HighBit, file.PixelRepresentation = 12, 11, signed
        pixels = np.full((file.Rows, file.Columns), value, "<i4").astype("<u2")
        pixels[0, 0] = 1
        file.PixelData = pixels.tobytes()
        if overlay:
            file.add_new((0x6000, 0x0102), "US", 12)

    return change


def test_bits_that_do_not_count_are_told(series, caplog):
    each(twelve_bits(5000))(series)  # 5000 is 904 in 12 bits
    found = read_volume(series)
    assert (sitk.GetArrayFromImage(found)[:, 1:] == 904 - 1024).all()
    count = found.GetNumberOfPixels() - found.GetDepth()
    assert [message for message in caplog.messages if f"{count} pixels have bits above BitsStored" in message]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (twelve_bits(4000), 4000 - 1024),
        (twelve_bits(-1000, signed=1), -1000 - 1024),  # its sign goes on through the upper bits
        (twelve_bits(4096 - 1000, signed=1), -1000 - 1024),
        (twelve_bits(2**12 + 7, overlay=True), 7 - 1024),
    ],
)
def test_bits_above_a_value_that_are_its_sign_or_an_overlay_are_sound(series, caplog, change, expected):
    each(change)(series)
    assert (sitk.GetArrayFromImage(read_volume(series))[:, 1:] == expected).all()
    assert not [message for message in caplog.messages if "BitsStored" in message]


def lose(keyword):
    return one(lambda file: delattr(file, keyword))


def cut(folder):
    path = all_files(folder)[5]
    path.write_bytes(path.read_bytes()[:-20])


def cut_in_the_header(folder):
    path = all_files(folder)[5]
    path.write_bytes(path.read_bytes()[:400])


def empty_a_file(folder):
    all_files(folder)[5].write_bytes(b"")


def smaller(file):
    file.Rows, file.Columns = 4, 4
    file.PixelData = file.PixelData[:32]


def localizer(file):
    file.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def several_echoes(folder):
    for path in all_files(folder):
        copy = folder / f"echo2-{path.name}"
        shutil.copy(path, copy)
        with edited(copy) as file:
            file.EchoTime, file.SOPInstanceUID = 80, f"{file.SOPInstanceUID}.2"


def another_series(folder):
    for path in all_files(folder)[:2]:
        shutil.copy(path, folder / f"b{path.name}")
        with edited(folder / f"b{path.name}") as file:
            file.SeriesInstanceUID, file.SeriesDescription = "1.2.3.4", "scout"


def only_one(folder):
    for path in all_files(folder)[1:]:
        path.unlink()


def into_folders(folder):
    (folder / "a b").mkdir()
    (folder / "c").mkdir()
    for path in all_files(folder):
        path.rename(folder / "c" / path.name)


def empty(folder):
    for path in all_files(folder):
        path.unlink()


WRONG_SERIES = {
    "no spacing": (lose("PixelSpacing"), "1-003.dcm states no PixelSpacing, so that its size in mm"),
    "no position": (lose("ImagePositionPatient"), "1-003.dcm does not state its ImagePositionPatient"),
    "no direction": (lose("ImageOrientationPatient"), "1-003.dcm does not state its .*ImageOrientation"),
    "a slice cut off": (cut, r"scan/1-005.dcm: cut off: 92 bytes of pixels, expected 112"),
    "a header cut off": (cut_in_the_header, "scan/1-005.dcm: its header is damaged or cut off"),
    "an empty file": (empty_a_file, "scan/1-005.dcm: no DICOM file, in spite of its name"),
    "a smaller slice": (one(smaller), "1-003.dcm has 4 x 4 pixels of .* mm, but 1-000.dcm has 8 x 7 pixels"),
    "another pixel spacing": (
        one(lambda file: setattr(file, "PixelSpacing", [1.25, 1.25])),
        "1-003.dcm has 8 x 7 pixels of 1.25 x 1.25 mm, but 1-000.dcm has 8 x 7 pixels of 0.75 x 1.25 mm",
    ),
    "a localizer": (
        one(localizer),
        r"1-003.dcm is turned against 1-000.dcm \(a localizer among the slices\?",
    ),
    "two echoes": (several_echoes, "1-000.dcm and echo2-1-000.dcm lie at one place; are these several volum"),
    "two series": (another_series, "2 DICOM series in one folder.*CT 1, 6 files.*CT scout, 2 files"),
    "a slice": (only_one, r"one slice only \(1-000.dcm\), .* at least 2; of a 2D image give the file"),
    "a folder of folders": (into_folders, "no DICOM series in .*; give one of its folders: a b, c$"),
    "an empty folder": (empty, "no DICOM series in this folder .*expected the files of one series$"),
}


@pytest.mark.parametrize("fault", WRONG_SERIES)
def test_a_series_is_refused(series, fault):
    break_it, message = WRONG_SERIES[fault]
    break_it(series)
    refused(series, message)


def pad(folder, padding, signed=False):
    """Fill a corner of each slice with a padding value, which may be stated with the other sign."""
    for path in all_files(folder):
        with edited(path) as file:
            kind = np.int16 if signed else np.uint16
            pixels = file.pixel_array.astype(int)
            pixels[:3, :3] = np.array(padding).astype(kind)
            file.PixelRepresentation = int(signed)
            file.PixelData = pixels.astype(kind).tobytes()
            file.add_new("PixelPaddingValue", "US" if padding >= 0 else "SS", padding)
            file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian  # which keeps that it is US or SS


def corner_of(values):
    corner = np.zeros(values.shape, bool)
    corner[:, :3, :3] = True
    return corner


@pytest.mark.parametrize(
    ("padding", "signed", "before"),
    [(63536, False, 62512), (-2000, True, -3024), (63536, True, -3024), (-2000, False, 62512)],
)
def test_padding_that_nobody_measured_becomes_the_lowest_value(
    series, truth, caplog, padding, signed, before
):
    """Beyond the circle of a tube: 63536 is -2000 stored without a sign, which would look like metal."""
    pad(series, padding, signed)
    expected = sitk.GetArrayFromImage(truth).copy()
    corner = corner_of(expected)
    expected[corner] = lowest = expected[~corner].min()
    said, found = told(caplog, series)
    assert np.array_equal(sitk.GetArrayFromImage(found), expected)
    assert said == (
        f"54 voxels only pad the image (PixelPaddingValue): they become {lowest}, the lowest of the others,"
        f" instead of {before}"
    )


@pytest.mark.parametrize(("padding", "signed"), [(0, False), (0, True), (1024, True), (4000, False)])
def test_padding_that_may_be_measured_stays(series, truth, caplog, padding, signed):
    """In HU -1024, which may be air, 0, which may be water, and 2976 among values to 2990."""
    pad(series, padding, signed)
    expected = sitk.GetArrayFromImage(truth).copy()
    expected[corner_of(expected)] = padding - 1024
    said, found = told(caplog, series)
    assert np.array_equal(sitk.GetArrayFromImage(found), expected) and said is None


@pytest.mark.parametrize(
    ("lowest", "padding", "signed", "after"),
    [
        (50, 0, False, 0),
        (-300, 0, True, 0),
        (-900, -950, True, -950),
        (-1100, -1050, True, -1050),
        (50, 32767, False, "lowest"),
        (50, 65535, False, "lowest"),
        (-300, -32768, True, "lowest"),
    ],
)
def test_padding_of_an_mr(tmp_path, caplog, lowest, padding, signed, after):
    """The background stays; a value that is far from all others is none of them."""
    values = np.linspace(lowest, 900, 6 * 7 * 8).round().astype(np.int16).reshape(6, 7, 8)
    values[:, 6, 7] = lowest
    folder = write_series(sitk.GetImageFromArray(values), tmp_path / "scan", "MR")
    pad(folder, padding, signed)
    values[corner_of(values)] = lowest if after == "lowest" else after
    said, found = told(caplog, folder)
    assert np.array_equal(sitk.GetArrayFromImage(found), values)
    assert (said is not None) == (after == "lowest")


@pytest.mark.parametrize("modality", ["SEG", "MR"])
def test_the_background_of_labels_may_be_their_padding(tmp_path, caplog, modality):
    values = np.zeros((4, 6, 7), np.int16)
    values[1:3, 2:5, 2:5], values[2, 3, 3] = 1, 2
    folder = write_series(sitk.GetImageFromArray(values), tmp_path / "scan", modality)
    each(lambda file, number: file.add_new("PixelPaddingValue", "US", 0))(folder)
    said, found = told(caplog, folder)
    assert np.array_equal(sitk.GetArrayFromImage(found), values) and said is None


def test_of_a_range_of_padding_only_what_nobody_measured_is_replaced(series, truth, caplog):
    """Padding from -3024 to -1000 HU: air of -1024 HU stays."""
    expected = sitk.GetArrayFromImage(truth).copy()
    expected[:, 0, 0], expected[:, 1, 1], expected[:, 2, 2] = -3024, -1025, -1024
    for layer, path in zip(expected, all_files(series), strict=True):
        with edited(path) as file:
            file.PixelRepresentation = 1
            file.PixelData = (layer + 1024).astype(np.int16).tobytes()
            file.add_new("PixelPaddingValue", "SS", -2000)
            file.add_new("PixelPaddingRangeLimit", "SS", 24)
            file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    expected[:, 0, 0] = expected[:, 1, 1] = -1024
    said, found = told(caplog, series)
    assert np.array_equal(sitk.GetArrayFromImage(found), expected)
    assert "12 voxels only pad" in said and "instead of -3024 to -1025" in said


@pytest.mark.parametrize("keyword", ["PixelPaddingValue", "PixelPaddingRangeLimit"])
def test_padding_that_is_named_but_not_stated(series, truth, keyword):
    each(lambda file, number: file.add_new(keyword, "US", None))(series)
    check_same(read_volume(series), truth)


def test_padding_of_two_values_is_refused(series):
    one(lambda file: file.add_new("PixelPaddingValue", "US", [0, 1]))(series)
    refused(series, r"scan/1-003.dcm: PixelPaddingValue is \[0, 1\], expected one whole number")


def test_slices_of_two_patients_are_refused(series):
    for number, path in enumerate(all_files(series)):
        with edited(path) as file:
            file.PatientID = "A" if number else "B"
    refused(series, "its slices are of several patients .A, B.")


@pytest.mark.parametrize("identity", ["", "7"])
def test_slices_of_two_names_are_refused(series, truth, identity):
    def name(file, number):
        file.PatientID, file.PatientName = identity + " " * number, ("X^Y", "X^Y^^", "")[number % 3]

    each(name)(series)
    check_same(read_volume(series), truth)
    one(lambda file: setattr(file, "PatientName", "Other^One"))(series)
    refused(series, r"its slices are of several patients \(Other\^One, X\^Y\)")


def test_slices_of_two_frames_of_reference_are_refused(series, truth):
    each(lambda file, number: setattr(file, "FrameOfReferenceUID", "1.2.3" if number else ""))(series)
    check_same(read_volume(series), truth)
    one(lambda file: setattr(file, "FrameOfReferenceUID", "1.2.4"))(series)
    refused(series, r"its slices have several FrameOfReferenceUIDs \(1.2.3, 1.2.4\)")


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_a_slice_without_the_scale_of_the_others(series, truth, keyword):
    each(lambda file, number: setattr(file, "RescaleSlope", 2))(series)
    found = sitk.GetArrayFromImage(read_volume(series))
    assert np.array_equal(found, 2 * (sitk.GetArrayFromImage(truth).astype(int) + 1024) - 1024)
    lose(keyword)(series)
    refused(series, f"1-003.dcm states no {keyword}, but others state")


def test_a_slice_without_a_scale_among_plain_ones(series, truth):
    lose("RescaleSlope")(series)
    check_same(read_volume(series), truth)


def twice_as_long(file):
    file.PixelData += file.PixelData


def half_the_rows(file):
    file.Rows = 3


def of_single_precision(file):
    file.PixelData = file.pixel_array.astype("<f4").tobytes()


def left_aligned(file):
    file.PixelData = (file.pixel_array.astype(np.uint16) << 4).astype("<u2").tobytes()
    file.BitsStored, file.HighBit = 12, 15


def through_a_table(file):
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "HU"
    table.add_new("LUTData", "OW", np.arange(4, dtype="<u2").tobytes())
    file.ModalityLUTSequence = [table]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (twice_as_long, "/1-000.dcm: 224 bytes of pixels, expected 112 of the Rows, Columns, frames and"),
        (half_the_rows, "/1-000.dcm: 112 bytes of pixels, expected 48"),
        (of_single_precision, "/1-000.dcm: 224 bytes of pixels, expected 112"),
        (left_aligned, "/1-000.dcm: BitsStored 12 of 16 and HighBit 15, expected HighBit 11"),
        (lambda file: setattr(file, "RescaleSlope", 0), ": RescaleSlope of 1-000.dcm is 0"),
        (
            lambda file: setattr(file, "AnatomicalOrientationType", "QUADRUPED"),
            "/1-000.dcm: AnatomicalOrientationType is QUADRUPED",
        ),
        (through_a_table, r"/1-000.dcm: its values are stored through a table \(ModalityLUTSequence\)"),
    ],
)
def test_what_pixels_contradict_is_refused(series, change, message):
    each(lambda file, number: change(file))(series)
    refused(series, f"scan{message}")


@pytest.mark.parametrize(("off_mm", "told"), [(0.4, True), (0.05, False)])
def test_positions_that_are_rounded_are_told(series, caplog, off_mm, told):
    def moved(file):
        normal = np.cross(file.ImageOrientationPatient[:3], file.ImageOrientationPatient[3:])
        file.ImagePositionPatient = [f"{x:.6f}" for x in file.ImagePositionPatient + off_mm * normal]

    one(moved)(series)
    read_volume(series)
    assert bool(caplog.messages) == told
    assert not told or "mm from where equal distances of the slices put it (rounded pos" in caplog.messages[0]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (lambda number: 0.9 * (number == 3), "0.90 mm, 1-003.dcm the most"),
        (lambda number: 0.9 * number / 5, "0.90 mm, 1-005.dcm the most"),
        (lambda number: 0.09 * (number == 3), None),
    ],
)
def test_slices_shifted_in_their_plane_are_told(series, truth, caplog, place, said):
    def moved(file, number):
        along = np.array(file.ImageOrientationPatient[:3])
        file.ImagePositionPatient = [f"{x:.6f}" for x in file.ImagePositionPatient + place(number) * along]

    each(moved)(series)
    for read in (read_volume, read_grid):
        line, found = told(caplog, series, read)
        check_same_grid(found, truth, 1e-5)
        assert line is said is None or f"slices are shifted against each other by up to {said}" in line


def test_slices_turned_a_little_are_told(series, caplog):
    """By 0.0009 in their plane; their diagonal is sqrt(6^2 + 7^2) * 20 mm = 184 mm long."""

    def turned(file):
        row, column = np.reshape(file.ImageOrientationPatient, (2, 3)).astype(float)
        axes = (row + 0.0009 * column, column - 0.0009 * row)
        file.ImageOrientationPatient = [f"{x:.9f}" for x in np.ravel(axes)]

    each(lambda file, number: setattr(file, "PixelSpacing", [20, 20]))(series)
    one(turned)(series)
    line, _ = told(caplog, series)
    assert "slices are shifted against each other by up to 0.17 mm, 1-003.dcm the most" in line


def test_pydicom_says_nothing_where_the_values_are_right(series, truth, caplog):
    """The header says explicit VR, but the data set has implicit VR."""
    for path in all_files(series):
        with edited(path) as file:
            file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        explicit = path.read_bytes()
        file.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        file.save_as(path, enforce_file_format=True)
        implicit = path.read_bytes()
        begins = [144 + int.from_bytes(content[140:144], "little") for content in (explicit, implicit)]
        path.write_bytes(explicit[: begins[0]] + implicit[begins[1] :])
    with pytest.warns(UserWarning, match="found implicit VR"):
        dcmread(path)
    assert "found implicit VR" in caplog.text
    said, found = told(caplog, series)
    check_same(found, truth)
    assert said is None


def test_a_pad_byte_is_no_pixel(tmp_path):
    values = np.arange(3 * 3 * 5, dtype=np.int16).reshape(3, 3, 5)
    folder = write_series(sitk.GetImageFromArray(values), tmp_path / "scan", "MR")
    for layer, path in zip(values, all_files(folder), strict=True):
        with edited(path) as file:
            file.BitsAllocated = file.BitsStored = 8
            file.HighBit, file.PixelRepresentation = 7, 0
            file.PixelData = layer.astype(np.uint8).tobytes() + b"\0"
    assert np.array_equal(sitk.GetArrayFromImage(read_volume(folder)), values)


def test_more_frames_than_are_stated(tmp_path, truth):
    path = write_frames(truth, tmp_path / "ct.dcm", "CT")
    with edited(path) as file:
        file.NumberOfFrames = 4
        file.PerFrameFunctionalGroupsSequence = per_frame(file)[:4]
    refused(path, "ct.dcm: 672 bytes of pixels, expected 448")


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_more_compressed_frames_than_are_stated(tmp_path, compressor):
    writer = sitk.ImageFileWriter()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    values = np.random.default_rng(3).integers(0, 2000, (64, 64), dtype=np.int16)
    path = tmp_path / "a.dcm"
    write_slice(writer, sitk.GetImageFromArray(values), path)
    with edited(path) as file:
        (frame,) = generate_frames(file.PixelData, number_of_frames=1)
        file.PixelSpacing = [1, 1]
        file.PixelData = encapsulate([frame], fragments_per_frame=2)
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), values)
    with edited(path) as file:
        file.PixelData = encapsulate([frame, frame])
    refused(path, "a.dcm: 2 frames of pixels, expected 1")


def modality(value):
    def change(file, number=0):
        file.Modality = value
        if value is None:
            del file.Modality

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one(modality("MR"), 2), "scan/1-002.dcm: is of modality MR, expected CT"),
        (one(modality(None), 5), "scan/1-005.dcm: states no modality, expected CT"),
        (each(modality(None)), "scan: states no modality, expected CT"),
        (each(modality("OT")), r"scan: is of modality OT, expected CT \(trust_values takes any\)"),
    ],
)
def test_each_file_must_be_of_the_modality(series, truth, change, message):
    change(series)
    refused(series, message, "CT")
    check_same(read_volume(series), truth)


def numbered(folder):
    """Name the files of a series 0, 1, 2, ... as many exports do."""
    for number, path in enumerate(all_files(folder)):
        path.rename(folder / str(number))


@pytest.mark.parametrize("as_it_stands", [True, False])
def test_a_file_is_named_where_its_folder_ends_alike(tmp_path, truth, monkeypatch, as_it_stands):
    folder = write_series(truth, tmp_path / "scan1", "CT")
    numbered(folder)
    (folder / "1").write_bytes((folder / "1").read_bytes()[:-20])
    monkeypatch.chdir(tmp_path)
    path = folder if as_it_stands else "./scan1"
    assert f"{path}/1: cut off" in refused(path, "cut off")
    assert f"{path}//1: cut off" in refused(f"{path}//1", "cut off")


def test_files_that_are_not_dicom_are_told(series, caplog):
    numbered(series)
    read_volume(series)
    assert caplog.text == ""
    (series / "5").write_bytes(bytes(3000))
    for read in (read_volume, read_grid):
        caplog.clear()
        assert read(series).GetDepth() == 5
        assert "scan: files in it that are not DICOM are left out: 1 (5); is one of them a" in caplog.text


def test_a_file_without_an_image(series):
    other_files(series)
    refused(series / "plan.dcm", "a DICOM file without an image; give the folder of a series")


# What a folder lacks, and what else its headers tell ----------------------------------------------------


def told(caplog, path, read=read_image):
    """Return the one warning of reading an image, or None, and the image."""
    caplog.clear()
    found = read(path)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) <= 1 and all(line.startswith(f"{path}: ") and "\n" not in line for line in lines)
    return (lines[0].removeprefix(f"{path}: ") if lines else None), found


@pytest.mark.parametrize("dead", [range(4, 6), range(6)])
def test_links_to_nothing_are_refused(series, dead):
    files = all_files(series)
    for number in dead:
        files[number].unlink()
        files[number].symlink_to(f"../.git/annex/objects/{number}.dcm")
    first = f"scan/1-00{dead[0]}.dcm: a link to what is not there"
    refused(series, rf"{first} \(such links in this folder: {len(dead)}\); fetch what they link to")


def test_a_series_of_links_is_read(series, truth, tmp_path, caplog):
    (tmp_path / "links").mkdir()
    for path in all_files(series):
        (tmp_path / "links" / path.name).symlink_to(path)
    (tmp_path / "links" / ".#1-000.dcm").symlink_to("somebody@somewhere")  # an editor's lock
    said, found = told(caplog, tmp_path / "links")
    assert said is None
    check_same(found, truth)


def test_slices_in_a_folder_of_the_folder_are_told(series, caplog):
    (series / "notes").mkdir()
    (series / "notes" / "a.txt").write_text("a")
    assert told(caplog, series)[0] is None
    (series / "more").mkdir()
    all_files(series)[5].rename(series / "more" / "5")
    said, found = told(caplog, series)
    assert found.GetDepth() == 5
    assert (
        said == "folders in it are not searched, and hold DICOM too: more; do slices of the series lie there?"
    )


def test_hidden_slices_are_told(series, caplog):
    (series / "._1-000.dcm").write_bytes(b"\0\5\x16\7" + bytes(200))
    assert told(caplog, series)[0] is None
    for path in all_files(series)[4:]:
        path.rename(series / f".{path.name}.Xa3f9Q")
    said, found = told(caplog, series)
    assert found.GetDepth() == 4
    assert said.startswith("hidden DICOM files in it are left out: 2 (.1-004.dcm.Xa3f9Q, .1-005.dcm.Xa3f9Q);")


@pytest.mark.parametrize(("numbers", "lost"), [([8] * 6, True), ([6] * 6, False), ([8] * 5 + [7], False)])
def test_fewer_slices_than_the_acquisition_had(series, caplog, numbers, lost):
    each(lambda file, number: setattr(file, "ImagesInAcquisition", numbers[number]))(series)
    said = "ImagesInAcquisition is 8, but 6 slices are here; are some missing?" if lost else None
    assert told(caplog, series)[0] == said


def test_the_frames_of_a_file_count_as_the_images_of_its_acquisition(tmp_path, truth, caplog):
    path = write_frames(truth, tmp_path / "ct.dcm", "CT")
    with edited(path) as file:
        file.ImagesInAcquisition = 6
    assert told(caplog, path)[0] is None


def test_each_part_of_a_concatenation_must_be_there(tmp_path, truth):
    for number, order in enumerate(([0, 1], [2, 3], [4, 5])):
        with edited(write_frames(truth, tmp_path / f"{number}.dcm", "CT", order)) as file:
            file.ConcatenationUID, file.InConcatenationNumber = "1.2.88", number + 1
            file.InConcatenationTotalNumber = 3
    check_same(read_volume(tmp_path), truth)
    refused(tmp_path / "0.dcm", "0.dcm: 1 of the 3 parts of a volume .*; put all parts into one folder")
    (tmp_path / "2.dcm").unlink()
    refused(tmp_path, r": 2 of the 3 parts of a volume \(InConcatenationTotalNumber\)")


@pytest.mark.parametrize(
    ("keyword", "values", "said"),
    [
        ("EchoTime", (10, 90), "EchoTime (10 in 3, 90 in 3)"),
        ("DiffusionBValue", (0, 1000), "DiffusionBValue (0 in 3, 1000 in 3)"),
        ("InversionTime", (100, 2500), "InversionTime (100 in 3, 2500 in 3)"),
        ("FlipAngle", (15, 90), "FlipAngle (15 in 3, 90 in 3)"),
        ("RescaleType", ("HU", "EDW"), "RescaleType (EDW in 3, HU in 3)"),
        ("KVP", (80, 140), "KVP (80 in 3, 140 in 3)"),
        ("ConvolutionKernel", ("H30s", "H60s"), "ConvolutionKernel (H30s in 3, H60s in 3)"),
        ("ContrastBolusAgent", ("Iomeprol", "none"), "ContrastBolusAgent (Iomeprol in 3, none in 3)"),
        ("SliceThickness", (4.5, 30), "SliceThickness (4.5 in 3, 30 in 3)"),
        (
            "ImageType",
            (["O", "P", "AXIAL"], ["O", "P", "LOCALIZER"]),
            "ImageType (AXIAL in 3, LOCALIZER in 3)",
        ),
        ("ImageType", (["O", "P", "M", "ND"], ["O", "P", "P", "ND"]), "ImageType (M/ND in 3, P/ND in 3)"),
        ("Modality", ("CT", "OT"), "Modality (CT in 3, OT in 3)"),
        (
            "TemporalPositionIdentifier",
            (150, 151),
            "TemporalPositionIdentifier (150 in 3, 151 in 3)",
        ),
        ("TemporalPositionIdentifier", (7, 7), None),
        ("ImageType", (["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL"]), None),
        ("ImageType", ("ORIGINAL", ["DERIVED", "SECONDARY"]), None),
        ("EchoTime", (4.6, 4.6000001), None),
        ("EchoTime", (4.6, None), None),
        ("KVP", ("120", "120.0"), None),
    ],
)
def test_slices_of_two_acquisitions_are_told(series, truth, caplog, keyword, values, said):
    each(lambda file, number: setattr(file, keyword, values[number % 2]))(series)
    expected = said and f"its slices differ in {said}; are they of one volume?"
    for read in (read_image, read_grid):
        line, found = told(caplog, series, read)
        assert line == expected
    check_same_grid(found, truth)
    check_same(read_image(series), truth)


def test_a_number_that_nobody_needs_may_be_none(series, truth):
    each(lambda file, number: file.add_new("EchoTime", "DS", "12345678"))(series)
    for path in all_files(series):
        path.write_bytes(path.read_bytes().replace(b"12345678", b"4,6 ms  "))
    check_same(read_volume(series), truth)


def test_all_that_differs_is_one_line_with_five_values(series, caplog):
    def change(file, number):
        file.EchoTime, file.KVP = 10 * (number + 1), 80 if number else 140
        file.SOPClassUID = SecondaryCaptureImageStorage if number else CTImageStorage

    each(change)(series)
    assert told(caplog, series)[0] == (
        "its slices differ in SOPClassUID (CT Image Storage in 1, Secondary Capture Image Storage in 5) and"
        " EchoTime (10 in 1, 20 in 1, 30 in 1, 40 in 1, 50 in 1, and 1 more) and"
        " KVP (80 in 5, 140 in 1); are they of one volume?"
    )


def test_frames_of_two_kinds_are_told(tmp_path, truth, caplog):
    path = write_frames(truth, tmp_path / "ct.dcm", "CT")
    with edited(path) as file:
        for number, frame in enumerate(per_frame(file)):
            kind = ["DERIVED", "PRIMARY", "MPR", "MAXIMUM"] if number < 2 else ["O", "P", "VOLUME", "NONE"]
            frame.update(groups(CTImageFrameTypeSequence={"FrameType": kind}))
            frame.update(groups(MREchoSequence={"EffectiveEchoTime": 4.6 if number < 5 else 80.0}))
            frame.update(groups(FrameContentSequence={"TemporalPositionIndex": 1 + number % 2}))
    said, found = told(caplog, path)
    assert "FrameType (MPR/MAXIMUM in 2, VOLUME/NONE in 4) and EffectiveEchoTime (4.6 in 5, 80 in 1)" in said
    assert " and TemporalPositionIndex (1 in 3, 2 in 3);" in said
    check_same(found, truth)


@pytest.mark.parametrize(
    ("real", "plain", "warned"),
    [((2, 0), False, True), ((1, -1024), False, True), ((1, 0), False, False), ((1, -1024), True, False)],
)
def test_a_scale_that_is_not_read_is_told(series, truth, caplog, real, plain, warned):
    def map_values(file, number):
        scale = {"RealWorldValueSlope": real[0], "RealWorldValueIntercept": real[1]}
        file.update(groups(RealWorldValueMappingSequence=scale))
        if not plain:
            del file.RescaleSlope, file.RescaleIntercept

    each(map_values)(series)
    said, found = told(caplog, series)
    assert ("a scale in RealWorldValueMappingSequence only" in (said or "")) == warned
    stored = sitk.GetArrayFromImage(truth).astype(int) + 1024 * (not plain)
    assert np.array_equal(sitk.GetArrayFromImage(found), stored)


def test_of_many_series_five_are_named(series, tmp_path):
    (path, *_) = all_files(series)
    (tmp_path / "flat").mkdir()
    for number in range(60):
        shutil.copy(path, tmp_path / "flat" / f"{number:02d}.dcm")
        with edited(tmp_path / "flat" / f"{number:02d}.dcm") as file:
            file.SeriesInstanceUID = f"1.2.3.{number}"
    said = refused(
        tmp_path / "flat", r"60 DICOM series in one folder, .* files, 1.2.3.4; and 55 more\); give"
    )
    assert "1.2.3.5" not in said


@pytest.mark.parametrize("signed_header", [True, False])
@pytest.mark.parametrize("lowest", [-200, 0])
def test_signed_pixels_of_jpeg_2000_need_a_signed_header(tmp_path, signed_header, lowest):
    """SimpleITK writes int16 as signed pixels, and says so in the header and in the codestream."""
    writer = sitk.ImageFileWriter()
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG2000")
    values = np.random.default_rng(3).integers(lowest, 2000, (64, 64), dtype=np.int16)
    path = tmp_path / "a.dcm"
    write_slice(writer, sitk.GetImageFromArray(values), path)
    with edited(path) as file:
        assert file.PixelRepresentation == 1
        file.PixelSpacing, file.PixelRepresentation = [1, 1], int(signed_header)
    if lowest < 0 and not signed_header:
        refused(path, "a.dcm: PixelRepresentation is 0, but its JPEG 2000 pixels have a sign")
    else:
        assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), values)


def test_large_values_of_unsigned_jpeg_2000_are_right(tmp_path):
    writer = sitk.ImageFileWriter()
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG2000")
    values = np.random.default_rng(3).integers(0, 65000, (64, 64), dtype=np.uint16)
    write_slice(writer, sitk.GetImageFromArray(values), tmp_path / "a.dcm")
    with edited(tmp_path / "a.dcm") as file:
        file.PixelSpacing = [1, 1]
    assert np.array_equal(sitk.GetArrayFromImage(read_image(tmp_path / "a.dcm")), values)


def test_signed_values_in_unsigned_pixels_of_jpeg_2000_are_right():
    """pydicom's own file of that kind holds a CT, whose pixels beyond the circle are -2000."""
    path = get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False)
    file = dcmread(path)
    stored = sitk.GetArrayFromImage(read_image(path))
    assert file.PixelRepresentation == 1 and file.pixel_array.min() == -2000
    inside = file.pixel_array > -2000
    assert np.array_equal(
        stored[inside], file.pixel_array[inside] * file.RescaleSlope + file.RescaleIntercept
    )


@pytest.mark.parametrize("frames", [2, 5])
def test_a_bit_is_one_or_zero(tmp_path, frames):
    """A segmentation packs its pixels without a gap between frames: 5 x 9 x 7 bits are 39.4 bytes."""
    mask = np.random.default_rng(5).integers(0, 2, (frames, 9, 7), dtype=np.uint8)
    path = write_frames(sitk.GetImageFromArray(mask), tmp_path / "seg.dcm", "MR")
    packed = np.packbits(mask.ravel(), bitorder="little").tobytes()
    with edited(path) as file:
        file.Modality, file.SOPClassUID = "SEG", SegmentationStorage
        file.BitsAllocated = file.BitsStored = 1
        file.HighBit = 0
        file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = 1
        file.add_new("PixelData", "OB", packed + b"\0" * (len(packed) % 2))
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), mask)
    with edited(path) as file:
        file.PixelData = packed[:-2]
    refused(path, f"seg.dcm: cut off: .* bytes of pixels, expected {len(packed)}")


def segmentation(path, truth, heights, segments, **measures):
    """Write frames of 8 bits at slices of the truth, each of a segment, as highdicom describes them."""
    write_frames(truth, path, "MR", heights)
    with edited(path) as file:
        file.Modality, file.SOPClassUID = "SEG", SegmentationStorage
        file.SegmentationType = "BINARY"
        (of_all,) = file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
        del of_all.SliceThickness
        for keyword, value in measures.items():
            setattr(of_all, keyword, value)
        for frame, segment in zip(per_frame(file), segments, strict=True):
            frame.update(groups(SegmentIdentificationSequence={"ReferencedSegmentNumber": segment}))
    return path


@pytest.fixture(scope="module")
def mask():
    image = oblique(0, 2)
    assert set(np.unique(sitk.GetArrayFromImage(image))) == {0, 1}
    return image


@pytest.mark.parametrize(
    ("heights", "said"),
    [
        ([0, 5], "frame 1 and frame 2 are 12.50 mm apart"),
        ([5, 0, 2], "frame 3 and frame 1 are 7.50 mm apart"),
        ([0, 1, 2, 5], "frame 3 and frame 4 are 7.50 mm apart"),
    ],
)
@pytest.mark.parametrize("keyword", ["SpacingBetweenSlices", "SliceThickness"])
def test_a_segmentation_without_its_empty_frames_is_refused(tmp_path, mask, heights, said, keyword):
    path = segmentation(tmp_path / "seg.dcm", mask, heights, [1] * len(heights), **{keyword: 2.5})
    expected = f"frames of the segmentation are missing: {said}, but {keyword} is 2.5 mm; write all frames"
    assert "(highdicom's omit_empty_frames=False), or convert it to NIfTI" in refused(path, expected)
    with pytest.raises(UserError, match=expected):
        read_grid(path)


@pytest.mark.parametrize(
    "measures",
    [
        {"SpacingBetweenSlices": 2.5, "SliceThickness": 1},
        {"SpacingBetweenSlices": 2.4},
        {"SliceThickness": 2},  # with gaps
        {"SliceThickness": 5},  # overlapping
        {},
    ],
)
def test_a_segmentation_that_has_all_frames_from_first_to_last_is_read(tmp_path, mask, caplog, measures):
    path = segmentation(tmp_path / "seg.dcm", mask, [3, 1, 2, 4], [5] * 4, **measures)
    check_same(read_image(path), mask[:, :, 1:5])
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("heights", "segments"), [(range(6), [1, 1, 1, 2, 2, 2]), ([0, 1, 0, 1], [1, 1, 2, 2])]
)
def test_a_segmentation_of_several_segments_is_refused(tmp_path, mask, heights, segments):
    path = segmentation(tmp_path / "seg.dcm", mask, heights, segments, SpacingBetweenSlices=2.5)
    refused(
        path, r"seg.dcm: a segmentation of 2 segments \(1, 2\), which would become one label; export each"
    )


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_the_values_of_a_fractional_segmentation_are_told(tmp_path, caplog, kind):
    parts = oblique(0, 101)
    path = segmentation(tmp_path / "seg.dcm", parts, range(6), [1] * 6, SpacingBetweenSlices=2.5)
    with edited(path) as file:
        file.SegmentationType, file.MaximumFractionalValue = kind, 100
    said, found = told(caplog, path)
    check_same(found, parts)
    line = "a fractional segmentation: its values are parts of MaximumFractionalValue (100), not labels"
    assert said == (line if kind == "FRACTIONAL" else None)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (1.25, "but SpacingBetweenSlices is 1.25 mm; are some missing?"),
        (5, "but SpacingBetweenSlices is 5 mm; are they of one volume?"),
        *((stated, None) for stated in (2.5, -2.5, 2.3, 2.7, 0, "")),
    ],
)
def test_a_distance_that_is_stated_otherwise_is_told(series, truth, caplog, stated, said):
    each(lambda file, number: setattr(file, "SpacingBetweenSlices", stated))(series)
    for read in (read_image, read_grid):
        line, found = told(caplog, series, read)
        assert line == (said and f"its slices are 2.50 mm apart by their positions, {said}")
        check_same_grid(found, truth)


@pytest.mark.parametrize("program", ["GDCM 3.2.5", "OTHER"])
def test_the_1_mm_that_simpleitk_states_of_every_slice_does_not_count(series, caplog, program):
    (path, *_) = all_files(series)
    assert (
        dcmread(path).SpacingBetweenSlices == 1
        and "GDCM" in dcmread(path).file_meta.ImplementationVersionName
    )
    each(lambda file, number: setattr(file.file_meta, "ImplementationVersionName", program))(series)
    assert (told(caplog, series)[0] is None) == (program != "OTHER")


def test_the_distance_that_frames_state_counts(tmp_path, truth, caplog):
    path = write_frames(truth, tmp_path / "ct.dcm", "CT", [0, 2, 4])
    with edited(path) as file:
        file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 2.5
    said, found = told(caplog, path)
    assert said.endswith(
        "5.00 mm apart by their positions, but SpacingBetweenSlices is 2.5 mm; are some missing?"
    )
    assert found.GetSpacing()[2] == pytest.approx(5)


# Files of one slice -----------------------------------------------------------------------------------


@pytest.fixture
def slice_file(tmp_path):
    image = sitk.GetImageFromArray(np.arange(-1000, -1000 + 2 * 56, dtype=np.int16).reshape(2, 7, 8))
    image.SetSpacing((0.75, 1.25, 2.0))
    image.SetOrigin((-20.0, 30.0, 5.0))
    return write_series(image, tmp_path / "scan", "CT") / "1-001.dcm"


def test_a_slice_is_a_2d_image(slice_file):
    found = read_image(slice_file, "CT")
    assert sitk.GetArrayFromImage(found).tolist() == np.arange(-944, -888).reshape(7, 8).tolist()
    assert found.GetSpacing() == (0.75, 1.25) and found.GetOrigin() == (-20.0, 30.0)


@pytest.mark.parametrize(("stated", "taken"), [(5, 5), (None, 1), (0, 1), (100, 1)])
def test_a_slice_is_as_thick_as_is_stated(slice_file, stated, taken):
    with edited(slice_file) as file:
        file.SliceThickness = stated
    for found in (read_image(slice_file, constant_too=True, flat=False), read_grid(slice_file, flat=False)):
        assert found.GetSpacing() == (0.75, 1.25, taken)


def test_a_frame_is_as_thick_as_is_stated(tmp_path, truth):
    path = write_frames(truth[:, :, 2:3], tmp_path / "ct.dcm", "CT")
    assert read_grid(path, flat=False).GetSpacing() == (0.75, 1.25, 9)


def test_a_slice_of_a_series_is_told(slice_file, caplog, monkeypatch):
    said = "one of 2 files of its series in its folder, and read alone; to read all give the folder"
    (slice_file.parent / "readme").write_text("a")
    for read in (read_image, read_grid):
        assert told(caplog, slice_file, read)[0] == said
    monkeypatch.setattr(dicom_files, "MANY_FILES", 2)
    assert told(caplog, slice_file)[0] is None


def test_a_slice_alone_is_not_told(slice_file, tmp_path, caplog):
    other = slice_file.parent / "1-000.dcm"
    with edited(other) as file:
        file.SeriesInstanceUID = "1.2.3.4"
    assert told(caplog, slice_file)[0] is None
    other.write_bytes(slice_file.read_bytes()[:300])  # cut off before its series
    assert told(caplog, slice_file)[0] is None


def test_a_slice_is_no_volume(slice_file):
    with pytest.raises(UserError, match="a file of one slice, expected a 3D volume; give the folder"):
        read_volume(slice_file)


def test_a_slice_without_spacing_is_refused(slice_file):
    with edited(slice_file) as file:
        del file.PixelSpacing
    refused(slice_file, "1-001.dcm states no PixelSpacing")


def test_a_slice_without_a_place_is_taken_with_a_warning(slice_file, caplog):
    with edited(slice_file) as file:
        del file.ImagePositionPatient
    assert read_image(slice_file).GetOrigin() == (0.0, 0.0)
    assert "its header does not say where it lies" in caplog.text


# The command --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export(tmp_path_factory.mktemp("agent"), lookahead=9.0)


@pytest.fixture
def pair(tmp_path):
    """The folders of a pair of series, and the transform of its points from MR to CT."""
    shift = sitk.TranslationTransform(3, (12.0, -8.0, 0.0))
    mr, ct = make_volumes(shift, np.eye(3))
    write_series(mr, tmp_path / "mr", "MR")
    write_series(ct, tmp_path / "ct", "CT", 2)
    return tmp_path


def register(folder, model, fixed="mr", moving="ct"):
    return main(
        [
            *("register", "--fixed", f"{folder / fixed}", "--moving", f"{folder / moving}"),
            *("--model", f"{model}", "--transform-out", f"{folder / 't.tfm'}"),
            *("--warped-out", f"{folder / 'w.nii.gz'}"),
        ]
    )


def test_a_pair_of_folders_is_registered_and_the_transform_applied(pair, model, monkeypatch, capsys):
    monkeypatch.setattr(registration, "register", perfect_register)
    assert register(pair, model) == 0, capsys.readouterr().err
    found = sitk.ReadTransform(pair / "t.tfm")
    assert found.TransformPoint(CENTRE) == pytest.approx((42.0, -28.0, 700.0), abs=1.0)
    applied = [
        *("apply", "--transform", f"{pair / 't.tfm'}", "--image", f"{pair / 'ct'}"),
        *("--reference", f"{pair / 'mr'}", "--out", f"{pair / 'w2.nii.gz'}", "--outside", "-1000"),
    ]
    assert main(applied) == 0, capsys.readouterr().err
    one, other = (sitk.ReadImage(pair / name) for name in ("w.nii.gz", "w2.nii.gz"))
    assert np.abs(sitk.GetArrayFromImage(one) - sitk.GetArrayFromImage(other)).max() <= 1
    assert other.GetSize() == (90, 80, 10) and other.GetPixelID() == sitk.sitkInt16
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("fixed", "moving", "message"),
    [
        ("mr", "mr2", "mr2: is of modality MR, expected CT"),
        ("ct", "mr", "ct: is of modality CT, expected MR"),
        ("mr", "empty", "empty: no DICOM series in this folder"),
        (".", "ct", "give one of its folders: ct, empty, mr, mr2"),
    ],
)
def test_a_wrong_folder_is_one_line(pair, model, capsys, fixed, moving, message):
    shutil.copytree(pair / "mr", pair / "mr2")
    (pair / "empty").mkdir()
    assert register(pair, model, fixed, moving) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and message in said[0]
    assert not (pair / "t.tfm").exists()


def test_secondary_captures_are_taken_where_values_are_trusted(pair, tmp_path):
    for name in ("mr", "ct"):
        for path in (pair / name).iterdir():
            with edited(path) as file:
                file.Modality = "OT"
    with pytest.raises(UserError, match="mr: is of modality OT, expected MR"):
        registration.read_pair(pair / "mr", pair / "ct")
    mr, _ = registration.read_pair(pair / "mr", pair / "ct", trust_values=True)
    outputs = [tmp_path / "out" / name for name in ("mr.nii.gz", "ct.nii.gz", "voxels.json")]
    with pytest.raises(UserError, match="mr: is of modality OT, expected MR"):
        import_patient("P1", pair / "mr", pair / "ct", *outputs)
    import_patient("P1", pair / "mr", pair / "ct", *outputs, trust_values=True)
    assert np.array_equal(*(sitk.GetArrayFromImage(image) for image in (mr, sitk.ReadImage(outputs[0]))))
