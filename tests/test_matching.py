"""Matching: where the places of planes through the CT lie in the MR, and the motion that fits them."""

import numpy as np
import pytest
import torch
from agents import STILL
from heads import head

from regagent.agent import cube_registration, matching, regression
from regagent.agent.checkpoints import load_model
from regagent.agent.cube_registration import TrainedNetworks, register_volumes
from regagent.agent.matching import NOTHING_SEEN, Matcher, Matches, fitting_motion, rigid_moves, still
from regagent.agent.matching_network import AXES, MatchingNetwork
from regagent.agent.networks import CubeNetwork, SpaceNetworks
from regagent.pairs.cube_augmentation import move_cubes, planes_of
from regagent.pairs.cubes import ct_cube, middle_of, mr_cube
from regagent.pairs.draws import Draw
from regagent.pairs.rigid import IDENTITY, compose, displacement, from_motion, invert, to_itk, transform
from regagent.pairs.training_pairs import CubePairs
from regagent.phantom.tissues import UNKNOWN
from regagent.settings import Cubes, PerturbationRange, PlaneMatching, Volumes
from regagent.volumes.moving import moved_by

CUBES = Cubes(size=48, spacing_mm=4.5)


def learner(**keys) -> PlaneMatching:
    return PlaneMatching(learner="planes", **{"channels": 8, "features": 8, "augmentation": STILL, **keys})


@pytest.fixture(scope="module")
def pairs():
    mr, ct, _ = head()
    middle = middle_of(mr)
    images = [cube(image, middle, CUBES)[None] for cube, image in ((mr_cube, mr), (ct_cube, ct))]
    points = np.random.default_rng(0).uniform(-60, 60, (1, 40, 3))
    return CubePairs(*images, np.full(images[0].shape, UNKNOWN, np.uint8), points, CUBES.spacing_mm)


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory):
    """The model file of a short training."""
    folder = tmp_path_factory.mktemp("matching")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regression, "read_cubes", lambda *_: pairs)
        model, ranges = folder / "model.pt", PerturbationRange(translation_px=1, rotation_deg=1)
        rest = 1, "matching", folder / "state", "1", model, folder / "training.csv"
        regression.train_regressor([], "", ranges, learner(steps=150, planes=4, learning_rate=4e-3), *rest)
    return model


def test_planes_show_what_lies_there():
    """A voxel of a moved cube shines where the axes of each orientation say."""
    network = MatchingNetwork(32, 2.0, 4, 4)
    cube = torch.zeros(1, 32, 32, 32)
    cube[0, 20, 12, 25] = 1.0
    point = (torch.tensor([25.0, 12, 20]) - 15.5) * 2.0  # x, y, z in mm
    shift = torch.tensor([[4.0, -2, 6]]).double()
    pose = from_motion(torch.cat([shift, torch.zeros(1, 3).double()], -1))
    there = point + shift[0].float()
    offset = (torch.tensor(AXES)[:, 2] * there).sum(-1)
    planes = network.planes(torch.arange(3), offset)
    images = planes_of(cube, pose, planes.pixels, 2.0)[0]
    for number, (across, down, _) in enumerate(torch.tensor(AXES)):
        brightest = divmod(int(images[number].argmax()), 32)
        expected = (down @ there / 2 + 15.5, across @ there / 2 + 15.5)
        assert brightest == pytest.approx([float(one) for one in expected]), number
        assert images[number].max() == pytest.approx(1.0)


def test_planes_are_spread_over_the_cube():
    network = MatchingNetwork(112, 2.0, 4, 4)
    regular = network.regular_planes(3)
    across = [
        (regular.places[number] @ torch.tensor(AXES[number // 3][2])).unique().tolist() for number in range(9)
    ]
    assert across == [pytest.approx([one]) for one in 3 * [-0.28 * 112 * 4 / 3, 0, 0.28 * 112 * 4 / 3]]
    random = network.random_planes(2, Draw(torch.Generator().manual_seed(0), 1))
    first = random.places[:2] @ torch.tensor(AXES[0][2])
    assert -63 < first[0].mean() < 0 < first[1].mean() < 63


def test_features_that_agree_tell_the_displacement():
    """Content of the CT at a place lies in the MR two cells to the right and one up."""
    network = MatchingNetwork(64, 1.5, 4, 12)
    torch.manual_seed(0)
    ct = 10 * torch.nn.functional.normalize(torch.randn(2, 12, 32, 32), dim=1)
    mr = ct.roll((-1, 2), (2, 3))
    chances = network.log_chances(network.surroundings(mr), ct).exp()
    assert chances.shape == (2, 64, 81) and torch.allclose(chances.sum(-1), torch.ones(2, 64))
    inner = network.where.abs().amax(-1) < 30
    likeliest = network.offsets[chances.argmax(-1)][:, inner]
    assert torch.equal(likeliest, torch.tensor([2 * 3.0, -3.0]).expand_as(likeliest))


def true_displacements(network, planes, error):
    """Where the content at each place has to go, along the axes of its plane (P, S, 2) in mm."""
    gone = transform(invert(error)[None], planes.places.double()) - planes.places.double()
    return torch.einsum("psi,pai->psa", gone.float(), planes.axes)


def test_the_motion_that_fits_the_places_is_found():
    network = MatchingNetwork(112, 2.0, 4, 4, reach=8)
    planes = network.regular_planes(3)
    error = from_motion(torch.tensor([3.0, -5, 4, 2, -3, 1.5]).double())
    true = true_displacements(network, planes, error)
    sharp = -0.5 * (network.offsets - true[:, :, None]).square().sum(-1) / 4.0**2
    counts = torch.ones(1, *sharp.shape[:2], dtype=torch.bool)
    # A third of the places would tell nonsense, and do not count; some are not sure, and hardly do.
    sharp[:, ::3] = -0.5 * (network.offsets - 9.0).square().sum(-1) / 4.0**2
    counts[:, :, ::3] = False
    sharp[:, 1::9] = 0
    seen = sharp.log_softmax(-1)[None].flatten(1, 2), counts.flatten(1)
    rest = fitting_motion(*seen, network.grid, rigid_moves(planes))
    left = compose(matching.rest_pose(rest.double()), error[None])
    points = torch.tensor(np.random.default_rng(0).uniform(-80, 80, (1, 50, 3)))
    before, after = displacement(error[None], points), displacement(left, points)
    assert after < 0.1 * before


def test_the_loss_is_thecross_entropy_of_the_true_displacement():
    chances = torch.rand(3, 25).log_softmax(-1)
    true = torch.tensor([[0.0, 1.0], [-1.5, 0.25], [2.2, 0.0]])  # in cells, x and y, of a reach of 2
    lost, within = matching.cross_entropy(chances, true, 2)
    grid = -chances.view(3, 5, 5)  # y, x
    assert lost[0] == pytest.approx(float(grid[0, 3, 2]))
    low, high = (0.5 * (grid[1, y, 0] + grid[1, y, 1]) for y in (2, 3))
    assert lost[1] == pytest.approx(float(0.75 * low + 0.25 * high))
    assert within.tolist() == [True, True, False]


def test_it_learns_where_the_starts_have_to_go(pairs, monkeypatch):
    """The displacements whose cross-entropy counts are those that undo the error, of the pair's own MR."""
    task = Matches(pairs, learner(batch=8), torch.Generator().manual_seed(0))
    starts = task.draw()
    assert torch.equal(starts.place, still(8, starts.place.device))
    assert displacement(starts.error, starts.points).max() < 40
    monkeypatch.setattr(task, "draw", lambda: starts)
    asked, count = [], matching.cross_entropy
    monkeypatch.setattr(matching, "cross_entropy", lambda *given: asked.append(given) or count(*given))
    drawn = []
    random_planes = task.network.random_planes
    monkeypatch.setattr(
        task.network, "random_planes", lambda *given: drawn.append(random_planes(*given)) or drawn[0]
    )
    assert task.loss() > 0
    (log_chances, true, reach), (planes,) = asked[0], drawn
    assert log_chances.shape[:2] == (8, 6) and reach == 4
    for row, error in enumerate(starts.error):
        cells = true_displacements(task.network, planes, error) / (2 * CUBES.spacing_mm)
        assert torch.allclose(true[row], cells, atol=1e-5)


def test_a_training_leads_to_the_truth(pairs, trained, monkeypatch):
    network, facts = load_model(trained, "planes")
    assert facts["settings"]["features"] == 8
    fixed, moving = (torch.from_numpy(one[0]) for one in (pairs.mr, pairs.ct))
    matcher, rng, errors = Matcher(network, fixed, moving, 4), np.random.default_rng(3), []
    for _ in range(6):
        error = from_motion(rng.uniform(-1, 1, 6) * [6, 6, 6, 5, 5, 5])
        poses = matcher.follow(error, 8)
        assert len(poses) <= 9 and np.allclose(poses[0], error)
        beside = compose(from_motion(np.array([20.0, 0, 0, 0, 0, 0])), poses[-1])
        assert matcher.disagreement(poses[-1]) < matcher.disagreement(beside)
        errors.append(displacement(poses[[0, -1]], pairs.landmarks))
    before, after = np.mean(errors, 0)
    assert after < 0.7 * before
    # A look that moves little ends it.
    monkeypatch.setattr(matching, "SETTLED", 0.3)
    assert len(matcher.follow(poses[-1], 8)) < 9
    far = matcher.disagreement(from_motion(np.array([25.0, 20, 0, 0, 0, 0])))
    assert far > 0.1 + matcher.disagreement(IDENTITY)
    assert matcher.disagreement(from_motion(np.array([400.0, 0, 0, 0, 0, 0]))) == NOTHING_SEEN


def test_it_finishes_what_the_networks_of_cubes_find(trained, monkeypatch):
    mr, ct, _ = head()
    truth = from_motion(np.array([12.0, -8, 5, 10, -20, 15]))
    moved = moved_by(ct, to_itk(truth, np.zeros(3)))
    matched, _ = load_model(trained, "planes")
    networks = SpaceNetworks([CubeNetwork(12, (4,), 18.0).arguments], matched.arguments)
    networks.matching.load_state_dict(matched.state_dict())
    volumes = Volumes(cubes=CUBES, looks=1, further_looks=1, kept=2, matching_looks=7, matching_planes=4)
    ready = TrainedNetworks(networks, volumes)
    near = compose(from_motion(np.array([4.0, -5, 3, 3, -2, 4])), invert(truth))

    def settle(*given):
        # About the middles of the cubes, which are not those of the volumes.
        return np.stack([about_the_middles(near, mr, moved)] * 2), np.ones(2), np.tile(IDENTITY, (2, 3, 1))

    def about_the_middles(pose, mr, ct):
        fixed, moving = middle_of(mr), cube_registration.ct_middle(ct)
        shift = transform(pose, moving[None])[0] - fixed
        return np.concatenate([shift, pose[3:]])

    monkeypatch.setattr(cube_registration, "settle", settle)
    found = register_volumes(mr, moved, ready)
    points = np.random.default_rng(0).uniform(-60, 60, (60, 3))

    def error(one):
        there = [to_itk(truth, np.zeros(3)).TransformPoint(point) for point in points.tolist()]
        return np.linalg.norm(
            [one.TransformPoint(point) for point in points.tolist()] - np.array(there), axis=1
        )

    assert 3 + 2 <= len(found.path) <= 3 + 8
    assert error(found.path[3]).mean() > 6
    assert error(found.transform).mean() < 0.7 * error(found.path[3]).mean()


def test_it_moves_as_cubes_do(pairs):
    """The planes of a moved cube are those of the cube at the pose."""
    cube = torch.from_numpy(pairs.ct)
    pose = from_motion(torch.tensor([[5.0, -8, 3, 10, -6, 8]]).double())
    planes = MatchingNetwork(CUBES.size, CUBES.spacing_mm, 4, 4).regular_planes(2)
    ahead = planes_of(move_cubes(cube, pose, 4.5), still(1, cube.device), planes.pixels, 4.5)
    at_once = planes_of(cube, pose, planes.pixels, 4.5)
    assert (ahead - at_once).abs().mean() < 0.02 < at_once.std()
