"""Heads in space: cubes, motions and cases, the regressor that learns of them, registration by it."""

import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from agents import MATCHING, RANGES, STILL, save_networks
from heads import head

from regagent.agent import cube_registration, cube_regressor, regression, residual, volume_trust
from regagent.agent.checkpoints import load_model, save_model
from regagent.agent.cube_registration import (
    Found,
    Pair,
    TrainedNetworks,
    Verdict,
    by_networks,
    place_patient,
    ready_networks,
    register_volumes,
    verdict,
)
from regagent.agent.cube_regressor import CubeResiduals, rest_pose, settle, to_rest
from regagent.agent.matching import NOTHING_SEEN
from regagent.agent.matching_network import MatchingNetwork
from regagent.agent.networks import CubeNetwork, Seen, SpaceNetworks
from regagent.agent.trust import Judgement
from regagent.anatomy import AIR_HU, SKIN_HU
from regagent.conventional.volume_registration import conventional, refined
from regagent.evaluation.volume_registrations import register_volume_cases
from regagent.evaluation.volume_table import make_volume_table
from regagent.figures.volumes import draw_volume_episode, draw_volume_range, started
from regagent.files import SPACE, STYLE, UserError, parameter_map, read_table, write_table
from regagent.images import normalise
from regagent.pairs.cube_augmentation import augment_cubes, move_cubes
from regagent.pairs.cubes import ct_cube, ct_middle, cube_of, cut_cube, middle_of, mr_cube
from regagent.pairs.rigid import (
    IDENTITY,
    compose,
    covering,
    displacement,
    from_motion,
    invert,
    motion,
    to_itk,
    transform,
)
from regagent.pairs.training_pairs import CubePairs, Pool, read_cubes
from regagent.pairs.volume_cases import (
    POSE,
    VolumeCase,
    cases_of_patient,
    cut_off,
    perturb_volumes,
    registration_error,
)
from regagent.phantom.tissues import UNKNOWN
from regagent.settings import Calibration, CubeAugmentation, CubeRegressor, Cubes, Volumes
from regagent.volumes.moving import moved_by

FILES = ("mr.nii.gz", "ct.nii.gz", "truth.tfm")
SMALL = Cubes(size=28, spacing_mm=8.0)
SOMEWHERE = (10.0, -30.0, 20.0)
MOTION = from_motion(np.array([12.0, -8, 5, 10, -20, 15]))


@pytest.fixture(scope="module")
def volumes():
    mr, ct, _ = head()
    return mr, ct


@pytest.fixture(scope="module")
def patient(volumes, tmp_path_factory):
    """The folder of a patient: mr, ct, and truth.tfm, the identity."""
    folder = tmp_path_factory.mktemp("volumes") / "P001"
    folder.mkdir()
    for name, image in zip(("mr", "ct"), volumes, strict=True):
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    sitk.WriteTransform(sitk.Euler3DTransform(), str(folder / "truth.tfm"))
    (folder.parent / "split.tsv").write_text("patient\tset\nP001\ttest\nP002\ttrain\n")
    return folder


@pytest.fixture(scope="module")
def pairs(volumes):
    mr, ct = volumes
    middle = middle_of(mr)
    images = [cube(image, middle, SMALL)[None] for cube, image in ((mr_cube, mr), (ct_cube, ct))]
    points = np.random.default_rng(0).uniform(-60, 60, (1, 40, 3))
    return CubePairs(*images, np.full(images[0].shape, UNKNOWN, np.uint8), points, SMALL.spacing_mm)


def test_the_middle_of_a_head_is_found_in_both_scans(volumes):
    mr, ct = volumes
    assert np.abs(middle_of(mr)).max() < 4 and np.abs(ct_middle(ct)).max() < 4
    with pytest.raises(ValueError, match="stands out"):
        ct_middle(sitk.Image([20, 20, 20], sitk.sitkFloat32) - 1000)


def test_a_head_rest_is_no_part_of_a_ct_s_cube(volumes):
    """A shell 3 mm thick behind the head, as wide as the volume, is not shown; the head is."""
    mr, ct = volumes
    middle = ct_middle(ct)
    plain = ct_cube(ct, middle, SMALL)
    values = sitk.GetArrayFromImage(ct)
    head = (values > SKIN_HU).any((0, 2))
    behind = int(np.flatnonzero(head)[-1]) + 4
    thick = max(1, round(3 / ct.GetSpacing()[1]))
    values[:, behind : behind + thick] = 400
    with_rest = sitk.GetImageFromArray(values)
    with_rest.CopyInformation(ct)
    shown = cube_of(with_rest, middle, AIR_HU, SMALL) - cube_of(ct, middle, AIR_HU, SMALL)
    assert shown.max() > 200
    assert np.abs(ct_cube(with_rest, middle, SMALL) - plain).max() < 0.05
    whole = normalise(cube_of(ct, middle, AIR_HU, SMALL), *SMALL.ct_window_hu)
    assert np.abs(whole - plain).mean() < 0.002 and plain.max() == whole.max()


def test_a_cube_is_the_same_whatever_the_axes_of_its_volume(volumes):
    mr, _ = volumes
    turned = sitk.DICOMOrient(mr, "RAS")
    assert turned.GetDirection() != mr.GetDirection()
    assert np.allclose(mr_cube(mr, np.zeros(3), SMALL), mr_cube(turned, np.zeros(3), SMALL), atol=0.02)


def test_headers_move_volumes_as_poses_move_cubes(volumes):
    """Resampling a volume that its header has moved gives the cube that the pose moves."""
    _, ct = volumes
    moved = ct_cube(moved_by(ct, to_itk(MOTION, np.zeros(3))), np.zeros(3), SMALL)
    cube = torch.from_numpy(ct_cube(ct, np.zeros(3), SMALL))[None]
    same = move_cubes(cube, torch.from_numpy(MOTION)[None], SMALL.spacing_mm)[0].numpy()
    still = np.abs(moved - cube[0].numpy()).mean()
    assert np.abs(moved - same).mean() < 0.25 * still


def test_a_cut_volume_ends_a_third_of_the_head_earlier(volumes):
    _, ct = volumes
    whole = (sitk.GetArrayFromImage(ct) > -300).mean((1, 2)) > 0.01
    for side in "-+":
        short = cut_off(ct, -300.0, 2, side, 1 / 3)
        left = (sitk.GetArrayFromImage(short) > -300).mean((1, 2)) > 0.01
        assert left.sum() == pytest.approx(whole.sum() * 2 / 3, abs=1)
        # What is left lies where it was.
        point = short.TransformIndexToPhysicalPoint((10, 10, 0))
        assert ct.GetPixel(ct.TransformPhysicalPointToIndex(point)) == short.GetPixel(10, 10, 0)


def test_cases_are_repeatable_and_exact(patient, tmp_path):
    settings = Volumes(per_patient=3, cubes=SMALL)
    for name in ("V1", "V3"):
        perturb_volumes(patient.parent / "split.tsv", tmp_path / f"{name}.csv", settings, name)
    first = (tmp_path / "V1.csv").read_bytes()
    perturb_volumes(patient.parent / "split.tsv", tmp_path / "V1.csv", settings, "V1")
    assert (tmp_path / "V1.csv").read_bytes() == first
    whole, short = read_table(tmp_path / "V1.csv"), read_table(tmp_path / "V3.csv")
    assert set(whole.cut) == {"whole"} and set(short.cut.str[:2]) <= {"mr", "ct"} and len(short) == 3
    files = patient / "mr.nii.gz", patient / "ct.nii.gz", patient / "truth.tfm"
    for case in cases_of_patient(whole, *files, SMALL, 0.0):
        assert registration_error(case.truth, case) == pytest.approx(0, abs=1e-6)
        assert registration_error(sitk.Transform(3, sitk.sitkIdentity), case) > 2
        # The truth brings the moved CT back.
        back = sitk.Resample(case.ct, case.mr, case.truth, sitk.sitkLinear, -1000.0)
        straight = sitk.Resample(
            sitk.ReadImage(str(files[1])), case.mr, sitk.Transform(), sitk.sitkLinear, -1000.0
        )
        difference = sitk.GetArrayFromImage(back) - sitk.GetArrayFromImage(straight)
        assert np.abs(difference).max() < 2
    for case in cases_of_patient(short, *files, SMALL, 1 / 3):
        sizes = np.array([case.mr.GetSize(), case.ct.GetSize()])
        assert (sizes != [[64, 76, 52], [90, 100, 70]]).sum() == 1


def test_cubes_are_written_and_read(patient, tmp_path):
    files = patient / "mr.nii.gz", patient / "ct.nii.gz", patient / "truth.tfm"
    cut_cube("P001", *files, tmp_path / "P001.npz", SMALL)
    found = read_cubes([tmp_path / "P001.npz"], patient.parent / "split.tsv", "test")
    assert len(found) == 1 and found.mr.shape == (1, 28, 28, 28) and found.ct.max() > 0.8
    assert (
        found.landmarks.shape[2] == 3 and found.landmarks.shape[1] > 100 and (found.tissue == UNKNOWN).all()
    )
    assert np.abs(found.landmarks).max() < 110
    with pytest.raises(UserError, match="no patient of the set 'train'"):
        read_cubes([tmp_path / "P001.npz"], patient.parent / "split.tsv", "train")
    (tmp_path / "broken.npz").write_text("nothing")
    with pytest.raises(UserError, match="not a file of cubes"):
        read_cubes([tmp_path / "broken.npz"], patient.parent / "split.tsv", "test")


def test_augmented_cubes_stay_aligned():
    """A bright ball moves with the point in its middle, in both cubes, and only where that is asked for."""
    ticks = (torch.arange(28) - 13.5) * 8
    z, y, x = torch.meshgrid(ticks, ticks, ticks, indexing="ij")
    middle = torch.tensor([24.0, -16, 8])
    ball = ((x - middle[0]) ** 2 + (y - middle[1]) ** 2 + (z - middle[2]) ** 2 < 20**2).float()
    count = 12
    pool = Pool(
        ball.expand(count, -1, -1, -1), ball.expand(count, -1, -1, -1) / 2,
        middle.double().expand(count, 1, 3), torch.zeros(count, 28, 28, 28, dtype=torch.uint8),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    mr, ct, points = augment_cubes(pool, 8.0, CubeAugmentation(**STILL), generator)
    assert torch.allclose(mr, pool.mr, atol=1e-5) and torch.allclose(points, pool.points)
    shapes = {"mirror": 0.5, "rotation_deg": 20, "shift_mm": 15, "scale": 0.15, "anisotropy": 0.1}
    mr, ct, points = augment_cubes(pool, 8.0, CubeAugmentation(**{**STILL, **shapes}), generator)
    for cube in (mr, ct):
        mass = cube / cube.sum((1, 2, 3), keepdim=True)
        centre = torch.stack([(mass * axis).sum((1, 2, 3)) for axis in (x, y, z)], -1)
        assert (centre - points[:, 0]).norm(dim=1).max() < 1.5
    assert (points[:, 0] - middle).norm(dim=1).min() > 1
    full = CubeAugmentation()
    mr, ct, _ = augment_cubes(pool, 8.0, full, generator)
    assert torch.isfinite(mr).all() and mr.min() >= 0 and ct.max() <= 1
    again = augment_cubes(pool, 8.0, full, torch.Generator().manual_seed(5))
    assert torch.equal(again[0], augment_cubes(pool, 8.0, full, torch.Generator().manual_seed(5))[0])


def regressor(**keys) -> CubeRegressor:
    small = {"shrink": 1, "channels": [4, 8], "batch": 8, "looks": 2, "turned": 0, "unlike": 0}
    return CubeRegressor(learner="cubes", **{**small, "augmentation": STILL, **keys})


def test_rests_are_poses():
    poses = torch.from_numpy(from_motion(np.random.default_rng(1).uniform(-40, 40, (9, 6))))
    there = rest_pose(to_rest(poses))
    assert torch.allclose(transform(there, torch.eye(3).double()), transform(poses, torch.eye(3).double()))


def test_some_starts_are_turned_further(pairs):
    """By any angle beyond that of the others: so looks end upside down in training, too."""
    settings = regressor(batch=400, near=0.2, turned=0.3, rotation_deg=70, translation_mm=30)
    starts = CubeResiduals(pairs, settings, torch.Generator().manual_seed(0)).draw()
    moved = motion(starts.error)
    angle, shift = moved[:, 3:].norm(dim=1), moved[:, :3].abs()
    assert 0.2 < (angle > 70).double().mean() < 0.4 and angle.max() > 170
    assert 0.1 < ((angle < 0.15 * 70) & (shift < 0.15 * 30).all(1)).double().mean() < 0.3
    assert shift.max() < 30 and shift[angle > 70].max() > 20


def test_it_learns_the_rest_from_where_its_looks_lead(pairs, monkeypatch):
    task = CubeResiduals(pairs, regressor(looks=3), torch.Generator().manual_seed(0))
    starts = task.draw()
    far = displacement(starts.error, starts.points)
    assert (far < 25).any() and (far > 25).any()
    monkeypatch.setattr(task, "draw", lambda: starts)
    seen, distances = [], []

    def states_of(fixed, moving, pose, spacing_mm):
        seen.append(pose)
        return pose

    monkeypatch.setattr(cube_regressor, "states_of", states_of)
    monkeypatch.setattr(residual, "distance_loss", lambda _, d: distances.append(d) or 0 * d)

    def network(pose):
        rest = invert(compose(pose, invert(starts.place)))
        return Seen(torch.zeros(8, 24), (to_rest(rest) / task.unit).float())

    task.network = network
    assert task.loss().item() == pytest.approx(0, abs=1e-6)
    assert torch.equal(seen[0], compose(starts.error, starts.place)) and len(seen) == 3
    there = compose(seen[1], invert(starts.place))
    assert displacement(there, starts.points).max() < 1e-3 and distances[1].max() < 1e-3


def test_cubes_lie_about_the_middle_of_what_they_show(pairs):
    """Where a field of view ends early, that is not the head's; the pair stays known."""
    cut = pairs.mr.copy()
    cut[:, :12] = 0
    half = CubePairs(cut, pairs.ct, pairs.tissue, pairs.landmarks, pairs.spacing_mm)
    task = CubeResiduals(half, regressor(batch=4), torch.Generator().manual_seed(0))
    starts = task.draw()
    mr, ct = (cubes.expand(4, -1, -1, -1) for cubes in (task.pool.mr, task.pool.ct))
    ahead, aside = (-cube_regressor.middles(cubes, 8.0) for cubes in (mr, ct))
    assert ahead[:, 2].max() < -10 and ahead[:, :2].abs().max() < 8 and aside.abs().max() < 8
    assert cube_regressor.middles(starts.fixed, 8.0).abs().max() < 3
    assert cube_regressor.middles(starts.moving, 8.0).abs().max() < 3
    assert torch.allclose(starts.points, task.pool.points + ahead[:, None])
    # At its place, the moving cube lies as the fixed one: both are the whole pair's, moved alike.
    assert torch.allclose(starts.place[:, :3], ahead - aside)
    assert torch.allclose(starts.place[:, 3:], motionless(4)[:, 3:])
    for shown, whole, moved in ((starts.fixed, mr, ahead), (starts.moving, ct, aside)):
        assert torch.allclose(shown, move_cubes(whole, motionless(4, moved), 8.0), atol=1e-4)


def motionless(count: int, shift: torch.Tensor | None = None) -> torch.Tensor:
    """Poses (B, 7) that do not turn, and shift by ``shift`` (B, 3) in mm."""
    shift = torch.zeros(count, 3).double() if shift is None else shift
    return from_motion(torch.cat([shift, 0 * shift], -1))


def test_fields_of_view_end_below():
    """Below a nearly axial plane nothing is shown, of MR and CT by themselves; none is above the middle."""
    full = torch.ones(64, 28, 28, 28)
    pool = Pool(full, full, torch.zeros(64, 1, 3).double(), torch.zeros(64, 28, 28, 28, dtype=torch.uint8))
    settings = CubeAugmentation(**{**STILL, "caudal": 0.5})
    mr, ct, _ = augment_cubes(pool, 8.0, settings, torch.Generator().manual_seed(0))
    for cubes in (mr, ct):
        lost = (cubes == 0).flatten(1).any(1)
        assert 0.25 < lost.float().mean() < 0.75
        for shown in (cubes[:, 15:, 13:15, 13:15], cubes[~lost]):
            assert torch.allclose(shown, torch.ones_like(shown), atol=1e-5)
        # The middle of what is left lies above that of the cube, and hardly to a side.
        middle = cube_regressor.middles(cubes[lost], 8.0)
        assert middle[:, 2].min() > 0 and middle[:, 2].max() > 40
        assert (middle[:, :2].abs() < 0.5 * middle[:, 2:] + 8).all()
    assert not torch.equal(mr, ct)


def test_some_pairs_do_not_belong_together(pairs):
    mr, ct = (
        np.concatenate([one, one[:, ::-1] * 0.5, one[:, :, ::-1] * 0.8]) for one in (pairs.mr, pairs.ct)
    )
    tissue, points = (np.repeat(one, 3, 0) for one in (pairs.tissue, pairs.landmarks))
    many = CubePairs(mr, ct, tissue, points, pairs.spacing_mm)
    task = CubeResiduals(many, regressor(batch=200, unlike=0.5), torch.Generator().manual_seed(0))
    starts = task.draw()
    assert 0.3 < starts.like.double().mean() < 0.8
    assert (starts.like.view(-1, 4) == starts.like.view(-1, 4)[:, :1]).all()
    ahead = motionless(len(task.pool.mr), -cube_regressor.middles(task.pool.mr, SMALL.spacing_mm))
    centred = move_cubes(task.pool.mr, ahead, SMALL.spacing_mm)
    own = [any(torch.allclose(fixed, mr, atol=1e-4) for mr in centred) for fixed in starts.fixed]
    assert all(one for one, like in zip(own, starts.like, strict=True) if like)


def test_a_training_brings_it_nearer(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(regression, "read_cubes", lambda *_: pairs)
    settings = regressor(steps=60, batch=16, translation_mm=30, rotation_deg=20, learning_rate=3e-3)
    model = tmp_path / "model.pt"
    regression.train_regressor(
        [], "", RANGES, settings, 1, "cubes", tmp_path / "state", "1", model, tmp_path / "training.csv"
    )
    network, facts = load_model(model, "cubes")
    assert network.size == 28 and facts["settings"]["translation_mm"] == 30
    starts = CubeResiduals(
        pairs, settings.model_copy(update={"batch": 64}), torch.Generator().manual_seed(9)
    ).draw()
    place, points = starts.place.numpy(), starts.points.numpy()
    begin = compose(starts.error.numpy(), place)
    pose, _ = cube_regressor.look(network, starts.fixed, starts.moving, begin)
    before, after = (displacement(compose(one, invert(place)), points) for one in (begin, pose))
    assert after.mean() < 0.7 * before.mean()


def test_one_of_the_starts_leads_to_the_truth(monkeypatch):
    """A network that sees no farther than 60° finds a head that is turned by a half."""
    truth = from_motion(np.array([5.0, 9, -7, 20, 170, 10]))

    def look(network, fixed, moving, pose):
        rest = compose(truth, invert(pose))
        far = np.abs(rest[:, 3]) < np.cos(np.deg2rad(65) / 2)
        points = np.random.default_rng(0).uniform(-60, 60, (1, 20, 3))
        return np.where(far[:, None], pose, compose(rest, pose)), displacement(rest, points) + 0.01

    monkeypatch.setattr(cube_regressor, "look", look)
    cube = torch.zeros(4, 4, 4)
    pose, distance, path = settle([CubeNetwork(4, (4,))], cube, cube, 1, 1, 2)
    assert pose.shape == (2, 7) and distance[0] < 0.1
    assert path.shape == (2, 3, 7) and np.allclose(path[0, 1:], pose[0])
    assert (path[0, 0] == covering()).all(1).any()
    assert settle([CubeNetwork(4, (4,))], cube, cube, 2, 3, 4)[2].shape == (4, 1 + 2 + 3, 7)
    assert displacement(compose(pose[:1], invert(truth)), np.eye(3)[None] * 80) < 0.1
    assert np.allclose(covering()[0], IDENTITY)


def test_a_pose_becomes_the_transform_that_resamples_the_ct(volumes):
    mr, ct = volumes
    moved = moved_by(ct, to_itk(MOTION, [4.0, 0, -3]))
    fixed_middle, moving_middle = middle_of(mr), ct_middle(moved)
    cube = torch.from_numpy(ct_cube(moved, moving_middle, SMALL))[None]
    pose = from_motion(np.array([3.0, 1, -2, -12, 18, -10]))
    there = move_cubes(cube, torch.from_numpy(pose)[None], SMALL.spacing_mm)[0].numpy()
    pair = Pair(None, None, fixed_middle, moving_middle)
    found = pair.to_transform(pose)
    assert np.allclose(pair.to_pose(found), pose) or np.allclose(pair.to_pose(found)[3:], -pose[3:])
    same = ct_cube(moved, fixed_middle, SMALL, found)
    assert np.abs(there - same).mean() < 0.02


class Matched:
    """In place of the network of matching: it leaves an end where it is, and says how they disagree there."""

    disagreements = [0.15]

    def __init__(self, *_):
        self.asked = []

    def follow(self, pose, looks):
        return pose[None]

    def disagreement(self, pose):
        self.asked.append(pose)
        Matched.last = self.asked
        return self.disagreements[min(len(self.asked), len(self.disagreements)) - 1]


def test_networks_register_volumes_one_after_the_other(volumes, monkeypatch):
    """Looks that see the truth give the transform of the truth, from the first network and the next."""
    mr, ct = volumes
    truth = to_itk(MOTION, np.zeros(3))
    moved = moved_by(ct, truth)
    middles = middle_of(mr), ct_middle(moved)
    asked = []

    def look(network, fixed, moving, pose):
        asked.append((len(pose), network.spacing_mm, fixed.shape[-1]))
        # The CT's middle goes to where the truth maps it, and all turns about it.
        shift = np.array(truth.GetInverse().TransformPoint(middles[1].tolist())) - middles[0]
        right = np.concatenate([shift, invert(MOTION)[3:]])
        return np.tile(right, (len(pose), 1)), np.ones(len(pose))

    monkeypatch.setattr(cube_regressor, "look", look)
    monkeypatch.setattr(cube_registration, "Matcher", Matched)
    networks = SpaceNetworks(
        [CubeNetwork(size, spacing_mm=224 / size).arguments for size in (14, 28)], MATCHING
    )
    trained = TrainedNetworks(networks, Volumes(cubes=SMALL, looks=1, further_looks=1, kept=3))
    found = register_volumes(mr, moved, trained)
    assert [one[0] for one in asked[::2]] == [24, 3, 3, 3]
    assert [one[1:] for one in asked[::4]] == [(16.0, 14), (8.0, 28)]
    assert not found.verdict.refusal and found.verdict.expected_mm == pytest.approx(3.0, rel=0.02)
    networks.trust[0] = 0.127
    refusal = verdict(mr, moved, found.transform, trained).refusal
    assert "a chance of 12% to lie within 4 mm" in (refusal or "")
    assert len(found.path) == 6  # the start, a look of each network and another one, the end
    for point in ([0.0, 0, 0], [50.0, -30, 20]):
        assert np.allclose(found.path[-1].TransformPoint(point), found.transform.TransformPoint(point))
        assert np.allclose(found.transform.TransformPoint(point), truth.TransformPoint(point), atol=0.01)


def test_the_witness_chooses_where_it_refuses_the_first_end(volumes, monkeypatch):
    """Among ends that lie elsewhere that of most agreement counts; an accepted end is not compared."""
    mr, ct = volumes
    poses = from_motion(
        np.array([[0, 0, 0, 180.0, 0, 0], [0, 0, 1, 180, 0, 0], [3, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0]])
    )
    path = np.repeat(poses[:, None], 3, 1)
    monkeypatch.setattr(cube_registration, "settle", lambda *_: (poses, np.arange(4.0), path))
    monkeypatch.setattr(cube_registration, "Matcher", Matched)
    monkeypatch.setattr(Matched, "disagreements", [2.0, 0.1, 0.25])
    networks = SpaceNetworks([CubeNetwork(28, (4,)).arguments], MATCHING)
    trained = TrainedNetworks(networks, Volumes(cubes=SMALL))
    monkeypatch.setattr(cube_registration, "accepted", lambda _, units: units < 2)
    found = register_volumes(mr, ct, trained)
    # The second end lies 1 mm from the first, so three are judged: the first, the third and the fourth.
    assert np.array_equal(Matched.last, poses[[0, 2, 3]])
    assert not found.verdict.refusal and found.verdict.disagreement == pytest.approx(0.1)
    assert found.path[-1] is found.transform and len(found.path) == 4
    pair = Pair(None, None, middle_of(mr), ct_middle(ct))
    for way in (found.path[0], found.transform):
        there = pair.to_transform(poses[2]).TransformPoint(SOMEWHERE)
        assert way.TransformPoint(SOMEWHERE) == pytest.approx(there)
    monkeypatch.setattr(Matched, "disagreements", [0.15])
    register_volumes(mr, ct, trained)
    assert np.array_equal(Matched.last, poses[:1])


def test_a_patient_is_brought_onto_the_mr_or_refused(patient, tmp_path, monkeypatch):
    near = to_itk(MOTION, np.zeros(3))
    found = Found(near, Verdict(2.0, Judgement(0.9, 2.0, 1.0, 3.0), None), [near])
    monkeypatch.setattr(cube_registration, "ready_networks", lambda model: None)
    monkeypatch.setattr(cube_registration, "register_volumes", lambda *_: found)
    files = patient / "mr.nii.gz", patient / "ct.nii.gz", "space.pt"
    place_patient("P1", *files, tmp_path / "t.tfm")
    there = sitk.ReadTransform(tmp_path / "t.tfm").TransformPoint((10.0, 20.0, 30.0))
    assert there == pytest.approx(near.TransformPoint((10.0, 20.0, 30.0)))
    found = Found(near, Verdict(9.0, Judgement(0.1, 9.0, 5.0, 30.0), "two heads"), [near])
    with pytest.raises(UserError, match=r"patient P1: .*mr.nii.gz in .*ct.nii.gz \(two heads\)"):
        place_patient("P1", *files, tmp_path / "u.tfm")
    air = np.random.default_rng(1).integers(-1000, -950, (8, 8, 8))
    sitk.WriteImage(sitk.GetImageFromArray(air.astype(np.int16)), tmp_path / "ct.nii.gz")
    monkeypatch.undo()
    blind = TrainedNetworks(SpaceNetworks([], MATCHING), Volumes(cubes=SMALL))
    monkeypatch.setattr(cube_registration, "ready_networks", lambda model: blind)
    with pytest.raises(UserError, match="stands out from its background"):
        place_patient("P1", files[0], tmp_path / "ct.nii.gz", "space.pt", tmp_path / "u.tfm")
    assert not (tmp_path / "u.tfm").exists()


def test_networks_are_joined_with_what_their_disagreement_is_worth(patient, tmp_path, monkeypatch):
    """They disagree by 0.1 of what belongs together here, and by 2 of what does not."""
    torch.manual_seed(0)
    alone = CubeNetwork(14, (4, 8), 16.0, places=4)
    save_model(alone, tmp_path / "model.pt", settings=regressor(shrink=2).model_dump())
    matching = MatchingNetwork(**MATCHING)
    save_model(matching, tmp_path / "matching.pt", settings={"planes": 3})
    shutil.copytree(patient, patient.parent / "P002", dirs_exist_ok=True)
    files = [tuple(patient.parent / name / f for f in FILES) for name in ("P001", "P002")]
    split = tmp_path / "split.tsv"
    split.write_text("patient\tset\nP001\ttrain\nP002\ttrain\n")
    broken, seen = [], []

    def unlike(case, other_ct, rng):
        assert other_ct.parent.name in {"P001", "P002"}
        broken.append(case.ct)
        return case

    def register_volumes(mr, ct, trained):
        seen.append((mr, ct))
        far = 2.0 if any(ct is one for one in broken) else 0.1
        return Found(sitk.Transform(3, sitk.sitkIdentity), Verdict(far, None, None), [])

    monkeypatch.setattr(volume_trust, "unlike", unlike)
    monkeypatch.setattr(volume_trust, "register_volumes", register_volumes)
    paths, settings = (tmp_path / "space.pt", tmp_path / "cases.csv"), Calibration(trust_cases=50)
    volumes = Volumes(cubes=SMALL)
    models = [tmp_path / "model.pt", tmp_path / "matching.pt"]
    volume_trust.join_networks(files, split, models, settings, volumes, *paths)
    networks, facts = load_model(paths[0], "space")
    assert torch.equal(networks.networks[0].rest.weight, alone.rest.weight)
    assert torch.equal(networks.matching.of_ct.of_far.weight, matching.of_ct.of_far.weight)
    assert [one["settings"].get("shrink") for one in facts["networks"]] == [2, None]
    assert facts["networks"][1]["settings"]["planes"] == 3
    cases = pd.read_csv(paths[1])
    assert len(cases) == len(seen) == 50 and cases.like.sum() == 25
    assert cases.tre_px.isna().equals(~cases.like)
    assert cases.distance_px.equals(pd.Series(np.where(cases.like, 1.0, 20.0)))
    assert cases.tre_px.max() * 2 > 60  # they lie any way
    assert len({ct.GetOrigin() for _, ct in seen}) == 50  # and no two alike
    cut = [mr.GetSize() != (64, 76, 52) or ct.GetSize() != (90, 100, 70) for mr, ct in seen]
    assert 20 <= sum(cut) <= 30  # and half of them have a field of view that ends
    assert float(networks.trust[0, -1]) < 0.2


def test_volumes_that_do_not_belong_together(volumes, patient):
    mr, ct = volumes
    case, kinds = VolumeCase(mr, ct, sitk.Euler3DTransform(), np.zeros((1, 3))), set()
    for seed in range(40):
        broken = volume_trust.unlike(case, patient / "ct.nii.gz", np.random.default_rng(seed))
        fixed, moving = (sitk.GetArrayFromImage(one) for one in (broken.mr, broken.ct))
        if broken.ct is not ct:
            mirrored = np.array_equal(moving, sitk.GetArrayFromImage(ct)[:, :, ::-1])
            kinds.add("mirrored" if mirrored else "other")
            assert mirrored or np.array_equal(moving, sitk.GetArrayFromImage(ct))
        else:
            kinds.add("noise" if fixed.max() <= 1 else "two CTs")
            assert fixed.shape == sitk.GetArrayFromImage(mr).shape
    assert kinds == {"mirrored", "other", "noise", "two CTs"}


def test_the_networks_see_whether_two_heads_agree(volumes):
    """Those that come with the software tell a head that lies right from one that does not."""
    mr, ct = volumes
    trained = ready_networks(SPACE)

    def seen(mr, ct, motion):
        transform = to_itk(from_motion(np.array(motion, float)), np.zeros(3))
        return verdict(mr, ct, transform, trained).disagreement

    right, wrong = seen(mr, ct, [0, 0, 0, 0, 0, 0]), seen(mr, ct, [6, 0, 0, 0, 0, 5])
    assert wrong > 3 * right and seen(mr, ct, [0, 0, 0, 90, 0, 0]) > 3 * right
    # A field of view that ends is no error, whichever of the two it is of.
    half = ct.GetSize()[0] // 2 + 10
    still = [0, 0, 0, 0, 0, 0]
    assert seen(mr, ct[:half], still) < wrong / 2 and seen(mr[:, :50], ct, still) < wrong / 2
    assert seen(mr, ct, [400, 0, 0, 0, 0, 0]) == NOTHING_SEEN


def test_every_case_is_registered_and_measured(patient, tmp_path):
    settings = Volumes(per_patient=2, cubes=SMALL, networks=["coarse"], looks=1, further_looks=1)
    perturb_volumes(patient.parent / "split.tsv", tmp_path / "V1.csv", settings, "V1")
    torch.manual_seed(0)
    networks = SpaceNetworks([CubeNetwork(14, (4, 8)).arguments], MATCHING)
    save_networks(networks, tmp_path / "model.pt", settings)
    files = [tuple(patient / file for file in FILES)]
    maps = {name: parameter_map(name) for name in ("rigid3d", "refine3d")}
    tables = {}
    methods = {
        "Initial": lambda: conventional("Initial", None),
        "Centres": lambda: conventional("Centres", None),
        "Networks": lambda: by_networks(tmp_path / "model.pt"),
        "Centres+Elastix": lambda: refined(tmp_path / "Centres/V1.csv", maps["refine3d"]),
    }
    for method, make in methods.items():
        output = tmp_path / method / "V1.csv"
        output.parent.mkdir()
        register_volume_cases(tmp_path / "V1.csv", files, 2, 0.0, SMALL, make(), output)
        tables[method] = read_table(output)
    initial = tables["Initial"]
    assert np.allclose(initial.initial_mm, initial.tre_mm) and (initial.tre_mm > 2).all()
    assert (tables["Centres"].tre_mm < initial.tre_mm).all()
    assert tables["Networks"].expected_mm.notna().all() and tables["Centres"].expected_mm.isna().all()
    finished = tables["Centres+Elastix"]
    assert (finished.status == "registered").all() and (finished.tre_mm < tables["Centres"].tre_mm).all()
    assert (finished.seconds > tables["Centres"].seconds).all()
    # What judges the other row judges Elastix's result, which is dropped where it alone is not accepted.
    begun = tables["Centres"].assign(expected_mm=5.0)
    for before, judged, error, status, expected in (
        ("registered", 9.0, begun.tre_mm, "registered", 5.0),
        ("registered", 1.0, finished.tre_mm, "registered", 1.0),
        ("refused", 9.0, finished.tre_mm, "refused", 9.0),
    ):
        write_table(begun.assign(status=before), tmp_path / "begun.csv")
        judge = partial(lambda judged, *_: (judged, judged < 5), judged)
        method = refined(tmp_path / "begun.csv", maps["refine3d"], judge)
        register_volume_cases(tmp_path / "V1.csv", files, 2, 0.0, SMALL, method, tmp_path / "end.csv")
        end = read_table(tmp_path / "end.csv")
        assert end.tre_mm.tolist() == pytest.approx(error.tolist()) and (end.status == status).all()
        assert (end.expected_mm == expected).all()
    # The table's poses are the transforms whose errors it has.
    files = patient / "mr.nii.gz", patient / "ct.nii.gz", patient / "truth.tfm"
    cases = cases_of_patient(read_table(tmp_path / "V1.csv"), *files, SMALL, 0.0)
    for row, case in zip(finished.itertuples(), cases, strict=True):
        there = to_itk(np.array([getattr(row, name) for name in POSE]), np.zeros(3))
        assert registration_error(there, case) == pytest.approx(row.tre_mm, abs=1e-3)
    make_volume_table(
        {(method, "V1"): tmp_path / method / "V1.csv" for method in tables},
        {"V1": settings.V1, "V3": settings.V3},
        tmp_path / "t.csv",
        tmp_path / "t.md",
    )
    table = read_table(tmp_path / "t.csv")
    assert table.method.tolist() == list(tables) and (table["n"] == 2).all()
    assert table["mean"][0] == pytest.approx(initial.tre_mm.mean())
    text = (tmp_path / "t.md").read_text()
    assert "V1: 2 cases" in text and "V1: shifts of up to 40 mm along each axis, turns of up to 40°" in text
    assert "33% of the head cut off one volume" in text
    drawn = [tmp_path / "range.png", tmp_path / "range.pdf"]
    tables = {(method, "V1"): tmp_path / method / "V1.csv" for method in methods}
    draw_volume_range(tables, {"V1": tmp_path / "V1.csv"}, STYLE, drawn)
    drawn += [tmp_path / "episode.png", tmp_path / "episode.pdf"]
    draw_volume_episode(tmp_path / "V1.csv", [files], tmp_path / "model.pt", STYLE, drawn[2:])
    assert all(path.stat().st_size > 5000 for path in drawn)


def test_starts_are_told_by_rotation_and_shift(tmp_path):
    pose = from_motion(np.array([[3.0, 4, 0, 0, 0, -150], [0, 0, 12, 20, 0, 0]]))
    cases = pd.DataFrame(pose, columns=POSE).assign(case=[0, 1], cut=["whole", "ct 2 +"])
    write_table(cases, tmp_path / "V9.csv")
    write_table(pd.DataFrame({"case": [1, 0], "tre_mm": [1.0, 2.0]}), tmp_path / "out.csv")
    table = started({("Elastix", "V9"): tmp_path / "out.csv"}, {"V9": tmp_path / "V9.csv"}).set_index("case")
    assert table.rotation_deg.to_dict() == pytest.approx({0: 150, 1: 20})
    assert table.shift_mm.to_dict() == pytest.approx({0: 5, 1: 12})
    assert table.kind.to_dict() == {0: "whole heads", 1: "heads that are cut"}


def test_other_tools_find_a_head_that_was_moved(patient, tmp_path):
    """Each brings the first case of the patient near, from a start that is far off."""
    for package in ("picsl_greedy", "neuroreg"):
        pytest.importorskip(package)
    settings = Volumes(per_patient=2, cubes=SMALL, V1={"translation_mm": 20, "rotation_deg": 25})
    perturb_volumes(patient.parent / "split.tsv", tmp_path / "V1.csv", settings, "V1")
    files = [tuple(patient / file for file in ("mr.nii.gz", "ct.nii.gz", "truth.tfm"))]
    for method in ("Multistart-SimpleITK", "Greedy", "NeuroReg"):
        output = tmp_path / f"{method}.csv"
        register_volume_cases(tmp_path / "V1.csv", files, 1, 0.0, SMALL, conventional(method, None), output)
        (row,) = read_table(output).itertuples(index=False)
        assert row.status == "registered" and row.initial_mm > 8 and row.tre_mm < 4, method


def test_a_pair_without_a_head_fails_and_keeps_its_error(patient, tmp_path, caplog):
    empty = tmp_path / "ct.nii.gz"
    noise = np.random.default_rng(0).normal(-1000, 5, (20, 20, 20)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(empty))
    settings = Volumes(per_patient=1, cubes=SMALL)
    perturb_volumes(patient.parent / "split.tsv", tmp_path / "V1.csv", settings, "V1")
    files = patient / "mr.nii.gz", empty, patient / "truth.tfm"
    register_volume_cases(
        tmp_path / "V1.csv", [files], 1, 0.0, SMALL, conventional("Centres", None), tmp_path / "out.csv"
    )
    (row,) = read_table(tmp_path / "out.csv").itertuples(index=False)
    assert row.status == "failed" and row.tre_mm == row.initial_mm
    assert "patient P001, case 0: nothing in it stands out from its background" in caplog.text
    with pytest.raises(UserError, match="patient P001: nothing in it stands out"):
        perturb_volumes(patient.parent / "split.tsv", tmp_path / "V3.csv", settings, "V3")
        cut = read_table(tmp_path / "V3.csv").assign(cut="ct 2 +")
        list(cases_of_patient(cut, *files, SMALL, 1 / 3))
