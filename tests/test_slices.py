import logging

import numpy as np
import pytest
import SimpleITK as sitk
from heads import head

from regagent.anatomy import head_mask
from regagent.files import UserError
from regagent.images import square, warp
from regagent.pairs.selection import select_slices
from regagent.pairs.slices import choose_slices, read_slices
from regagent.settings import Slices

SETTINGS = Slices()


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    mr, ct, _ = head()
    aligned = sitk.Resample(ct, mr, sitk.Transform(), sitk.sitkLinear, -1000.0)
    sitk.WriteImage(mr, str(folder / "mr.nii.gz"))
    sitk.WriteImage(sitk.Cast(aligned, sitk.sitkInt16), str(folder / "ct.nii.gz"))
    sitk.WriteImage(ct, str(folder / "unaligned.nii.gz"))
    return folder


def select(volumes, tmp_path, mr="mr.nii.gz", ct="ct.nii.gz", **keys):
    output = tmp_path / "P004.npz"
    select_slices("P004", volumes / mr, volumes / ct, output, Slices(**keys))
    return read_slices(output)


def test_six_pairs_of_a_head(volumes, tmp_path):
    pairs = select(volumes, tmp_path)
    assert pairs.patient == "P004"
    assert pairs.mr.shape == pairs.ct.shape == pairs.head.shape == (6, 168, 168)
    assert pairs.mr.dtype == pairs.ct.dtype == np.float32
    assert pairs.head.dtype == bool
    assert pairs.mr.min() == pairs.ct.min() == 0
    assert pairs.mr.max() <= 1 and pairs.ct.max() <= 1 and pairs.ct.max() > 0.85
    assert pairs.mm_per_px == pytest.approx(76 * 3.0 / 168)
    assert (np.diff(pairs.slice_index) * 3.0 >= SETTINGS.minimum_gap_mm).all()
    assert set(pairs.landmark_source) <= {"sift", "grid"}
    for k in range(6):
        # bone is dark in MR and bright in CT, so that an aligned pair shows it at one place
        bone = pairs.ct[k] > 0.7
        assert pairs.mr[k][bone].mean() < 0.6 * pairs.mr[k][pairs.head[k] & ~bone].mean()
        for points in (pairs.landmarks[k], pairs.evaluation_points[k]):
            points = points[~np.isnan(points[:, 0])]
            columns, rows = np.rint(points + 83.5).astype(int).T
            assert len(points) >= SETTINGS.landmarks_minimum
            assert pairs.head[k][rows, columns].all()


def test_the_tissues_are_cut_as_the_images_are(volumes, tmp_path):
    mr = sitk.ReadImage(str(volumes / "mr.nii.gz"))
    bright = sitk.GetArrayFromImage(mr) > 0.5 * sitk.GetArrayFromImage(mr).max()
    labels = sitk.GetImageFromArray(np.where(bright, 7, 3).astype(np.uint8))
    labels.CopyInformation(mr)
    sitk.WriteImage(labels, str(tmp_path / "tissue.nii.gz"))
    settings = {"mr_percentiles": (0.0, 100.0)}
    assert not select(volumes, tmp_path, **settings).tissue.any()  # unknown
    files = volumes / "mr.nii.gz", volumes / "ct.nii.gz", tmp_path / "P004.npz"
    select_slices("P004", *files, Slices(**settings), tmp_path / "tissue.nii.gz")
    pairs = read_slices(tmp_path / "P004.npz")
    assert pairs.tissue.dtype == np.uint8 and pairs.tissue.shape == pairs.mr.shape
    assert set(np.unique(pairs.tissue)) <= {0, 3, 7}
    seen, labelled = pairs.mr > 0.5, pairs.tissue == 7
    agree = (seen == labelled).mean()
    assert agree > 0.95
    for shift in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        assert agree > (seen == np.roll(labelled, shift, (1, 2))).mean()


def test_the_archive_holds_no_pickles_and_repeats(volumes, tmp_path):
    first = select(volumes, tmp_path)
    again = select(volumes, tmp_path)
    assert np.array_equal(first.ct, again.ct)
    assert np.array_equal(first.landmarks, again.landmarks, equal_nan=True)
    with np.load(tmp_path / "P004.npz", allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)


def test_fewer_slices_than_asked_for(volumes, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "regagent"):
        pairs = select(volumes, tmp_path, minimum_gap_mm=60.0)
    assert 1 <= len(pairs.mr) < 6
    assert "patient P004: only" in caplog.text


def test_few_landmarks_give_a_grid(volumes, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "regagent"):
        pairs = select(volumes, tmp_path, landmarks_minimum=60, landmarks_maximum=64)
    assert "grid" in pairs.landmark_source
    assert "a grid is used" in caplog.text


def test_no_head(volumes, tmp_path):
    with pytest.raises(UserError, match="patient P004: no head in the slices: the head covers at most"):
        select(volumes, tmp_path, minimum_head_fraction=0.99)


def test_noise_is_no_head(volumes, tmp_path):
    noise = np.random.default_rng(0).rayleigh(30, (40, 60, 60)).astype(np.float32)
    image = sitk.GetImageFromArray(noise)
    sitk.WriteImage(image, str(tmp_path / "noise.nii.gz"))
    with pytest.raises(UserError, match="patient P009: no head in the slices"):
        select_slices(
            "P009", tmp_path / "noise.nii.gz", tmp_path / "noise.nii.gz", tmp_path / "x.npz", SETTINGS
        )


def test_a_ct_that_is_not_on_the_grid(volumes, tmp_path):
    with pytest.raises(UserError, match="patient P004: .*not on the grid"):
        select(volumes, tmp_path, ct="unaligned.nii.gz")


def test_slices_beyond_the_ct_are_not_used():
    head_there = np.zeros((60, 20, 20), bool)
    head_there[5:55, 2:18, 2:18] = True
    tissue = head_there.copy()
    tissue[:25] = False
    chosen = choose_slices(head_there, tissue, (3.0, 3.0, 3.0), SETTINGS)
    assert len(chosen) == 6 and min(chosen) >= 25 and max(chosen) < 55
    assert len(choose_slices(head_there, head_there, (3.0, 3.0, 1.0), Slices(count=2))) == 2
    with pytest.raises(ValueError, match="in none of the slices"):
        choose_slices(head_there, np.zeros_like(tissue), (3.0, 3.0, 3.0), SETTINGS)


@pytest.mark.parametrize("factor", [0.1, 2, 6])
def test_a_head_whose_spacing_is_not_in_mm_is_refused(volumes, tmp_path, factor):
    for name in ("mr", "ct"):
        image = sitk.ReadImage(volumes / f"{name}.nii.gz")
        image.SetSpacing([factor * step for step in image.GetSpacing()])
        sitk.WriteImage(image, tmp_path / f"{name}.nii.gz")
    with pytest.raises(UserError, match="the head fills .* cm² .*; is the spacing stated in mm"):
        select_slices("P1", tmp_path / "mr.nii.gz", tmp_path / "ct.nii.gz", tmp_path / "o.npz", Slices())


def test_a_few_voxels_that_are_much_too_bright_do_not_hide_the_head():
    mr, _, _ = head()
    values = sitk.GetArrayFromImage(mr).astype(np.float32)
    clean = head_mask(values, mr.GetSpacing())
    values[20, 30, 30:33] = 1e9
    mask = head_mask(values, mr.GetSpacing())
    assert 2 * (mask & clean).sum() / (mask.sum() + clean.sum()) > 0.99


def test_chosen_slices_are_never_neighbours():
    whole = np.ones((9, 10, 10), bool)
    chosen = choose_slices(whole, whole, (9.0, 9.0, 1.0), Slices(minimum_gap_mm=0.0))
    assert np.diff(chosen).min() >= 2


def test_the_head_mask_holds_against_noise():
    mr, _, _ = head()
    values = sitk.GetArrayFromImage(mr).astype(np.float32)
    clean = head_mask(values, mr.GetSpacing())
    noisy = np.hypot(values, np.random.default_rng(1).rayleigh(60, values.shape)).astype(np.float32)
    mask = head_mask(noisy, mr.GetSpacing())
    assert 2 * (mask & clean).sum() / (mask.sum() + clean.sum()) > 0.95
    assert not clean[:, 0].any()


def test_resampling_keeps_the_centre_and_the_shape():
    image = np.zeros((40, 60), np.float32)
    image[15:25, 20:40] = 1.0
    out = square(image, (2.0, 4.0), 120, 0.0)  # 120 mm by 160 mm: a pixel is 4/3 mm
    assert out.shape == (120, 120)
    assert np.allclose(out, out[::-1], atol=1e-5) and np.allclose(out, out[:, ::-1], atol=1e-5)
    assert out.sum() * (4 / 3) ** 2 == pytest.approx(40 * 40, rel=0.05)
    assert (out[60] > 0.5).sum() == pytest.approx(30, abs=1)
    assert (out[:, 60] > 0.5).sum() == pytest.approx(30, abs=1)


def test_resampling_does_not_alias():
    stripes = np.tile([0.0, 1.0], (300, 150)).astype(np.float32)
    out = square(stripes, (1.0, 1.0), 100, 0.5)
    assert np.abs(out[20:80, 20:80] - 0.5).max() < 0.2


def test_a_damaged_archive(tmp_path):
    path = tmp_path / "P004.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(UserError, match="not a file of slice pairs"):
        read_slices(path)


def test_a_slice_can_be_warped(volumes, tmp_path):
    pairs = select(volumes, tmp_path, count=1)
    assert warp(pairs.ct[0], [3.0, 0.0, 0.0, 1.0])[80, 90] == pytest.approx(pairs.ct[0][80, 87], abs=1e-6)
