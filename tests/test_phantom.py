"""The simulated patients: repeatable, different, aligned by their truth, and seen as the two scanners see."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import binary_closing, binary_erosion, binary_fill_holes

from regagent.figures.cohort import draw_cohort
from regagent.files import STYLE, UserError
from regagent.phantom.head import build_head
from regagent.phantom.scanners import METAL_HU, averaged, draw_pose, simulate_patient
from regagent.phantom.scanners import truth as truth_of
from regagent.phantom.tissues import LABELS
from regagent.settings import Phantom

COARSE = Phantom(spacing_mr_mm=3.0, mr_noise=0.03, metal_fraction=0.0)


def simulate(folder: Path, patient: str, seed: int = 1, settings: Phantom = COARSE) -> list[Path]:
    paths = [folder / name for name in ("mr.nii.gz", "ct.nii.gz", "truth.tfm", "tissue.nii.gz")]
    simulate_patient(patient, seed, *paths, settings)
    return paths


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.fixture(scope="module")
def patient(tmp_path_factory) -> list[Path]:
    return simulate(tmp_path_factory.mktemp("P001"), "P001")


@pytest.fixture(scope="module")
def aligned(patient) -> tuple[np.ndarray, np.ndarray]:
    """The MR, and the CT resampled onto it by the truth."""
    mr, ct = (sitk.ReadImage(str(path)) for path in patient[:2])
    moved = sitk.Resample(ct, mr, sitk.ReadTransform(str(patient[2])), sitk.sitkLinear, -1000.0)
    return sitk.GetArrayFromImage(mr), sitk.GetArrayFromImage(moved)


def head_of(mask: np.ndarray) -> np.ndarray:
    return np.stack([binary_fill_holes(binary_closing(layer, iterations=2)) for layer in mask])


def test_one_seed_gives_one_patient(patient, tmp_path):
    again = simulate(tmp_path, "P001")
    for path, other in zip(patient[:2], again[:2], strict=True):
        np.testing.assert_array_equal(voxels(path), voxels(other))
    assert patient[2].read_text() == again[2].read_text()
    np.testing.assert_array_equal(voxels(patient[3]), voxels(again[3]))


def test_the_tissues_are_those_that_mr_and_ct_show(patient, aligned):
    tissue, (mr, ct) = voxels(patient[3]), aligned
    assert tissue.dtype == np.uint8 and tissue.shape == mr.shape
    assert sitk.ReadImage(str(patient[3])).GetOrigin() == sitk.ReadImage(str(patient[0])).GetOrigin()
    assert set(np.unique(tissue)) <= set(LABELS.values())

    def seen(volume, name):
        inside = binary_erosion(tissue == LABELS[name])
        assert inside.sum() > 20, name
        return np.median(volume[inside])

    assert seen(mr, "air") < seen(mr, "csf") < seen(mr, "muscle") < seen(mr, "white matter") < seen(mr, "fat")
    assert seen(ct, "air") < -900 and -150 < seen(ct, "fat") < -50 and 0 < seen(ct, "white matter") < 60
    assert seen(ct, "diploe") > 300


@pytest.mark.parametrize(("name", "seed"), [("P002", 1), ("P001", 2)])
def test_patients_and_cohorts_differ(patient, tmp_path, name, seed):
    other = simulate(tmp_path, name, seed)
    assert patient[2].read_text() != other[2].read_text()
    assert (np.abs(voxels(patient[1]) - voxels(other[1])) > 200).mean() > 0.05


def test_heads_differ_in_shape_and_are_not_symmetric():
    first, second = (build_head(np.random.default_rng(seed), 4.0, metal=False).ct > -300 for seed in (1, 2))
    assert (first ^ second).sum() > 0.03 * first.sum()
    assert (first ^ first[:, :, ::-1]).sum() > 0.03 * first.sum()


def test_volumes_are_written_as_the_scanners_would(patient):
    mr, ct = (sitk.ReadImage(str(path)) for path in patient[:2])
    assert mr.GetPixelID() == ct.GetPixelID() == sitk.sitkInt16
    np.testing.assert_allclose(mr.GetSpacing(), (3.0, 3.0, 3.0), rtol=1e-5)
    np.testing.assert_allclose(ct.GetSpacing(), (2.52, 2.52, 9.0), rtol=1e-5)
    np.testing.assert_allclose(mr.GetDirection(), np.eye(3).ravel(), atol=1e-6)


def test_truth_lays_the_ct_head_on_the_mr_head(aligned):
    mr, ct = aligned
    inner = slice(8, -8)
    in_mr, in_ct = head_of(mr > 110)[inner], head_of(ct > -400)[inner]
    dice = 2 * (in_mr & in_ct).sum() / (in_mr.sum() + in_ct.sum())
    assert dice > 0.95


def test_without_the_truth_the_heads_lie_apart(patient, aligned):
    mr, ct = (sitk.ReadImage(str(path)) for path in patient[:2])
    laid = sitk.GetArrayFromImage(sitk.Resample(ct, mr, sitk.Transform(), sitk.sitkLinear, -1000.0))
    assert (np.abs(laid - aligned[1]) > 200).mean() > 0.05


def test_cortical_bone_is_dark_in_mr(aligned):
    mr, ct = aligned
    brain_like = mr[(ct > 10) & (ct < 60)]
    assert np.median(mr[ct > 1000]) < 0.5 * np.median(brain_like)


def test_fat_is_bright_in_mr(aligned):
    mr, ct = aligned
    assert np.median(mr[(ct > -120) & (ct < -80)]) > np.median(mr[(ct > 45) & (ct < 65)])


def test_hu_lie_in_the_range_of_a_ct(patient):
    ct = voxels(patient[1])
    assert ct.min() >= -1024 and ct.max() <= 3071
    assert np.median(ct) < -900  # most of the field of view is air
    assert (ct > 700).mean() > 0.005


def test_tissues_have_the_contrast_of_t1_and_of_ct():
    values = build_head(np.random.default_rng(3), 8.0, metal=False).values
    mr = {tissue: value[0] for tissue, value in values.items()}
    ct = {tissue: value[1] for tissue, value in values.items()}
    assert mr["fat"] > mr["white matter"] > mr["grey matter"] > mr["csf"] > mr["bone"] > mr["air"]
    assert ct["bone"] > ct["diploe"] > ct["muscle"] > ct["grey matter"] > ct["white matter"] > ct["csf"]
    assert ct["csf"] > ct["fat"] > ct["air"]


def test_metal_saturates_the_ct_and_throws_streaks(tmp_path):
    plain = voxels(simulate(tmp_path / "plain", "P001")[1])
    metal = voxels(
        simulate(tmp_path / "metal", "P001", settings=COARSE.model_copy(update={"metal_fraction": 1}))[1]
    )
    assert metal.max() > METAL_HU > plain.max()
    changed = np.abs(metal.astype(int) - plain) > 100
    assert 0 < changed.any((1, 2)).sum() < 0.4 * len(metal)


def test_the_truth_composes_the_two_poses():
    rng = np.random.default_rng(0)
    mr_pose, ct_pose = draw_pose(rng, COARSE), draw_pose(rng, COARSE)
    for point in ((0.0, 0.0, 0.0), (40.0, -70.0, 30.0)):
        mapped = ct_pose.TransformPoint(truth_of(mr_pose, ct_pose).TransformPoint(point))
        np.testing.assert_allclose(mapped, mr_pose.TransformPoint(point), atol=1e-6)


def test_poses_stay_within_their_limits():
    rng = np.random.default_rng(0)
    for _ in range(50):
        pose = draw_pose(rng, COARSE)
        angle = np.rad2deg(np.arccos((np.trace(np.reshape(pose.GetMatrix(), (3, 3))) - 1) / 2))
        assert angle <= COARSE.max_rotation_deg + 1e-6
        assert np.abs(pose.GetTranslation()).max() <= COARSE.max_translation_mm


def test_the_cohort_is_drawn_from_volumes_on_one_grid(patient, tmp_path):
    mr, ct, truth = map(str, patient[:3])
    fixed = sitk.ReadImage(mr)
    on_grid = sitk.Resample(sitk.ReadImage(ct), fixed, sitk.ReadTransform(truth), sitk.sitkLinear, -1000.0)
    sitk.WriteImage(on_grid, str(tmp_path / "ct.nii.gz"))
    outputs = [tmp_path / "cohort.pdf", tmp_path / "cohort.png"]
    draw_cohort([mr, mr], [tmp_path / "ct.nii.gz"] * 2, STYLE, outputs)
    assert all(path.stat().st_size > 10_000 for path in outputs)
    with pytest.raises(UserError, match="pre-register"):
        draw_cohort([mr], [ct], STYLE, outputs)


def varied(folder, **more) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MR, CT and tissue of P001 with other settings."""
    mr, ct, _, tissue = simulate(folder, "P001", settings=COARSE.model_copy(update=more))
    return voxels(mr), voxels(ct), voxels(tissue)


def test_a_warp_makes_other_shapes_of_the_same_tissues(patient, tmp_path):
    usual, warped = voxels(patient[3]), varied(tmp_path, warp_mm=12.0)[2]
    head, other = usual != LABELS["air"], warped != LABELS["air"]
    assert 0.03 < (head ^ other).sum() / head.sum() < 0.5
    assert set(np.unique(warped)) >= {LABELS[name] for name in ("bone", "csf", "white matter", "tooth")}


def test_ventricles_from_slits_to_hydrocephalus(tmp_path):
    csf = [
        (varied(tmp_path, ventricles=most)[2] == LABELS["csf"]).sum() for most in (-1.0, 0.0, 1.0)
    ]  # one random factor, once upside down
    assert csf[0] != csf[1] != csf[2] and (csf[0] - csf[1]) * (csf[2] - csf[1]) < 0


def test_lesions_lie_in_the_brain(patient, tmp_path):
    usual, diseased = voxels(patient[3]), varied(tmp_path, diseased=1.0)[2]
    changed = usual != diseased
    brain = np.isin(
        usual, [LABELS[name] for name in ("white matter", "grey matter", "deep grey", "csf", "dura")]
    )
    assert changed.sum() > 20 and (changed & brain).sum() > 0.9 * changed.sum()


def test_an_opened_skull_and_a_mouth_without_teeth(patient, tmp_path):
    usual, opened = voxels(patient[3]), varied(tmp_path, craniotomy=1.0)[2]
    bone = np.isin(usual, [LABELS["bone"], LABELS["diploe"]])
    assert 5 < (bone & (usual != opened)).sum() < 0.2 * bone.sum()
    assert (usual == LABELS["tooth"]).any()
    assert not (varied(tmp_path, toothless=1.0)[2] == LABELS["tooth"]).any()


def test_thick_slices_mix_their_neighbours(patient, tmp_path):
    thick = varied(tmp_path, mr_slice_mm=30.0, ct_slice_mm=60.0)
    for one, other in zip((patient[0], patient[1]), thick[:2], strict=True):
        steps = [np.abs(np.diff(volume.astype(float), axis=0)).mean() for volume in (voxels(one), other)]
        assert steps[1] < 0.8 * steps[0]
    np.testing.assert_array_equal(voxels(patient[3]), thick[2])


@pytest.mark.parametrize("voxels", [0.5, 1.0, 1.4, 2.0, 3.0, 4.7])
def test_an_average_over_voxels_is_as_wide_as_it_says_and_in_the_middle(voxels):
    point = np.zeros((15, 1, 1), np.float32)
    point[7] = 1.0
    spread = averaged(point, voxels)[:, 0, 0]
    np.testing.assert_allclose(spread, spread[::-1], atol=1e-7)
    assert spread.sum() == pytest.approx(1) and spread.max() == pytest.approx(1 / max(voxels, 1))
