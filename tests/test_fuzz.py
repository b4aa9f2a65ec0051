"""Whatever stands in a sheet, a table or a header: it is taken as it is meant, or refused in one message."""

import gzip
import math
import shutil
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from regagent.files import UserError, read_table, read_text_table, write_table
from regagent.geometry import compose, corner_matrix, invert, matrix, pose_of, transform
from regagent.pairs.perturbations import perturb_slices, sample_perturbations
from regagent.patients.datasets import write_sheet
from regagent.patients.sheet import read_sheet
from regagent.settings import PerturbationRange, Perturbations
from regagent.volumes.checks import PLAUSIBLE_SPACING_MM
from regagent.volumes.reading import read_volume

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

numbers = st.floats(-60, 60)
poses = st.tuples(numbers, numbers, st.floats(-179, 179), st.floats(0.3, 3.0)).map(np.array)


@given(st.lists(poses, min_size=1, max_size=6))
def test_a_chain_of_poses_is_undone_link_by_link(chain):
    pose = np.array([0.0, 0.0, 0.0, 1.0])
    for link in chain:
        pose = compose(link, pose)
    for link in reversed(chain):
        pose = compose(invert(link), pose)
    assert np.allclose(matrix(pose), matrix([0.0, 0.0, 0.0, 1.0]), atol=1e-6)


@given(poses, st.integers(2, 400))
def test_a_pose_goes_to_a_corner_matrix_and_back(pose, size):
    corner, centre = corner_matrix(pose, size), (size - 1) / 2
    centred = corner.copy()
    centred[:, 2] += corner[:, :2] @ [centre, centre] - centre
    assert np.allclose(pose_of(centred), pose, atol=1e-8)
    assert np.allclose(transform(pose, np.zeros((1, 2))), pose[:2])


ranges = st.builds(
    PerturbationRange,
    translation_px=st.integers(0, 60),
    rotation_deg=st.integers(0, 90),
    scale=st.tuples(st.integers(10, 20), st.integers(20, 30)).map(lambda low: (low[0] / 20, low[1] / 20)),
)


@given(ranges, st.integers(0, 2**31 - 1))
def test_perturbations_stay_in_their_range_and_on_the_lattice(within, seed):
    drawn = sample_perturbations(np.random.default_rng(seed).random((50, 4)), within)
    assert (np.abs(drawn[:, :2]) <= within.translation_px).all()
    assert (np.abs(drawn[:, 2]) <= within.rotation_deg).all()
    assert (drawn[:, 3] >= within.scale[0] - 1e-9).all() and (drawn[:, 3] <= within.scale[1] + 1e-9).all()
    steps = drawn / [1, 1, 1, 0.05]
    assert np.allclose(steps, np.rint(steps), atol=1e-6)


def write_slices(folder: Path, patient: str, count: int) -> Path:
    path = folder / f"{patient}.npz"
    blank, points = np.zeros((count, 8, 8), np.float32), np.zeros((count, 4, 2), np.float32)
    np.savez_compressed(
        path,
        patient=np.array(patient),
        mr=blank,
        ct=blank,
        head=blank == 0,
        tissue=blank.astype(np.uint8),
        slice_index=np.arange(count),
        mm_per_px=np.array(1.5),
        landmarks=points,
        evaluation_points=points,
        landmark_source=np.array(["sift"] * count),
    )
    return path


@settings(same_folder, max_examples=25)
@given(st.data())
def test_a_perturbation_table_holds_every_case_once_and_reads_back(tmp_path, data):
    names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,6}", fullmatch=True)
    patients = data.draw(st.lists(names, min_size=1, max_size=4, unique_by=str.lower))
    counts = {patient: data.draw(st.integers(1, 4)) for patient in patients}
    per_slice = data.draw(st.integers(1, 5))
    slices = [write_slices(tmp_path, patient, count) for patient, count in counts.items()]
    write_table(pd.DataFrame({"patient": patients, "set": "test"}), tmp_path / "split.tsv")
    perturb_slices(
        slices, tmp_path / "split.tsv", tmp_path / "E1.csv", Perturbations(per_slice=per_slice), "E1"
    )
    table = read_table(tmp_path / "E1.csv")
    assert table["case"].tolist() == list(range(per_slice * sum(counts.values())))
    for patient, count in counts.items():
        own = table[table["patient"] == patient]
        assert own.groupby("slice").size().to_dict() == dict.fromkeys(range(count), per_slice)
    write_table(table, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "E1.csv").read_bytes()


cells = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t"), max_size=12)
rows = st.lists(st.lists(cells, min_size=1, max_size=5), max_size=4)


@settings(same_folder, max_examples=200)
@given(
    rows, st.sampled_from(["", "patient\tmr\tct\n", "patient\tmr\tct\tset\n", "mr\tct\tpatient\ttransform\n"])
)
@example([["P1", "mr.nii", "ct.nii"]], "patient\tmr\tct\n")
@example([["P1", "mr.nii", "ct.nii"], ["P1", "mr.nii", "ct.nii"]], "patient\tmr\tct\n")
@example([["NA", "mr.nii", "ct.nii"]], "patient\tmr\tct\n")
def test_any_sheet_is_read_or_refused_by_its_name(tmp_path, table, header):
    for name in ("mr.nii", "ct.nii"):
        (tmp_path / name).touch()
    sheet = tmp_path / "patients.tsv"
    sheet.write_text(header + "\n".join("\t".join(row) for row in table), encoding="utf-8", newline="")
    try:
        patients = read_sheet(sheet)
    except UserError as error:
        assert str(error).startswith(str(sheet)) and "\n" not in str(error).strip(str(sheet))
    else:
        assert len(patients) == len({row.patient for row in patients}) >= 1
        assert all(Path(path).exists() for row in patients for path in (row.mr, row.ct))


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40)


@settings(same_folder, max_examples=100)
@given(names.filter(lambda name: name not in (".", "..")))
@example('"quoted"')
@example('a "quoted" name with a \t tab')
@example("line\nbreak")
@example(" spaces\u00a0")
@example("a\u2028b\x1cc\x85d\ufeff")
def test_any_path_comes_back_from_a_sheet_or_is_refused(tmp_path, name):
    place = tmp_path / name / "1HNA001"
    place.mkdir(parents=True)
    for modality in ("mr", "ct"):
        (place / f"{modality}.mha").touch()
    sheet = tmp_path / "patients.tsv"
    sheet.unlink(missing_ok=True)
    try:
        write_sheet("synthrad2025", tmp_path / name, sheet)
    except UserError as error:
        assert set(name) & set("\n\r{}") and "\n" not in str(error)
    else:
        (row,) = read_sheet(sheet)
        assert (row.mr, row.ct) == (str(place / "mr.mha"), str(place / "ct.mha"))
    finally:
        shutil.rmtree(tmp_path / name)


@settings(same_folder, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_sheet_or_refused(tmp_path, content):
    sheet = tmp_path / "patients.tsv"
    sheet.write_bytes(content)
    for read in (read_sheet, read_text_table):
        try:
            read(sheet)
        except UserError as error:
            assert str(error).startswith(str(sheet))


def header(dimension, sizes, kind, bits, spacing, offset) -> bytes:
    """Return a NIfTI-1 header, right or wrong."""
    content = bytearray(348)
    struct.pack_into("<i", content, 0, 348)
    struct.pack_into("<8h", content, 40, dimension, *sizes)
    struct.pack_into("<2h", content, 70, kind, bits)
    struct.pack_into("<8f", content, 76, 1.0, *spacing)
    struct.pack_into("<f", content, 108, offset)
    content[123] = 2  # mm
    content[344:348] = b"n+1\0"
    return bytes(content)


headers = st.builds(
    header,
    dimension=st.sampled_from([3, 3, 3, 0, 1, 2, 4, 8, -1]),
    sizes=st.lists(st.sampled_from([1, 2, 3, 4, 0, -1, 32767]), min_size=7, max_size=7),
    kind=st.sampled_from([2, 4, 8, 16, 64, 128, 1, 0, 999]),
    bits=st.sampled_from([8, 16, 32, 64, 0, -8]),
    spacing=st.lists(
        st.sampled_from([1.0, 0.5, 0.0, -1.0, 1e9, 1e-9, math.nan, math.inf]), min_size=7, max_size=7
    ),
    offset=st.sampled_from([352.0, 0.0, -1.0, 348.0, 1e9, math.nan, math.inf]),
)


@settings(same_folder, max_examples=150)
@given(headers, st.binary(max_size=300), st.booleans())
@example(header(3, [2] * 7, 2, 8, [1.0] * 7, math.nan), b"", False)
@example(header(3, [2] * 7, 64, 8, [1.0] * 7, 352.0), b"12345678", False)  # eight bits, it says, for doubles
def test_any_header_is_a_sound_volume_or_refused_by_its_name(tmp_path, head, voxels, packed):
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(head + voxels) if packed else head + voxels)
    sound_or_refused(path)


@settings(same_folder, max_examples=100)
@given(st.integers(0, 351), st.integers(0, 255))
@example(40, 200)
def test_a_header_with_one_wrong_byte_is_a_sound_volume_or_refused(tmp_path, place, value):
    path = tmp_path / "a.nii"
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    content = bytearray(path.read_bytes())
    assume(content[place] != value)
    content[place] = value
    path.write_bytes(content)
    sound_or_refused(path)


def sound_or_refused(path):
    try:
        volume = read_volume(path)
    except UserError as error:
        assert str(error).startswith(str(path))
        return
    values = sitk.GetArrayViewFromImage(volume)
    assert values.ndim == 3 and min(values.shape) >= 2
    assert np.isfinite(values).all() and values.min() < values.max()
    assert all(PLAUSIBLE_SPACING_MM[0] <= step <= PLAUSIBLE_SPACING_MM[1] for step in volume.GetSpacing())


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@settings(same_folder, max_examples=40)
@given(data=st.data())
def test_a_text_header_with_one_wrong_byte_is_a_sound_volume_or_refused(tmp_path, suffix, data):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5)), str(path))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 121))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    sound_or_refused(path)
