"""Matching of slices: the places of a CT are found in the MR at two resolutions, and D is known."""

import numpy as np
import pytest
import torch
from agents import PLAIN, RANGES, make_pairs

from regagent.agent import regression, slice_matching, trust
from regagent.agent.checkpoints import load_finisher
from regagent.agent.distance import FARTHEST, expected_distance
from regagent.agent.matching_network import EVIDENCE, LEVELS, SliceMatchingNetwork, evidence
from regagent.agent.networks import to_blocks
from regagent.agent.settling import look_closely, register_alone
from regagent.agent.slice_matching import SliceMatcher, SliceMatches, distance_at
from regagent.files import read_table
from regagent.geometry import IDENTITY, compose, displacement, invert, transform
from regagent.images import warp_images
from regagent.settings import Calibration, Inference, Matching

SMALL = {"channels": 8, "features": 8, "reach": 4}


def learner(**keys) -> Matching:
    return Matching(learner="matching", **{**SMALL, **PLAIN, **keys})


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(2)


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory):
    """The model file of a short training."""
    folder = tmp_path_factory.mktemp("matching")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regression, "read_pairs", lambda *_: pairs)
        rest = 1, "matching", folder / "state", "1", folder / "model.pt", folder / "training.csv"
        regression.train_regressor([], "", RANGES, learner(steps=120, learning_rate=4e-3), *rest)
    return folder / "model.pt"


def cases(pairs, count=6, most=(6, 6, 8, 0.06)):
    """Return pairs (count, H, H) of which the CT is perturbed, by how much, and points."""
    rows = np.arange(count) % len(pairs)
    change = np.random.default_rng(0).uniform(-1, 1, (count, 4)) * most + IDENTITY
    moving = warp_images(torch.from_numpy(pairs.ct[rows]), torch.from_numpy(change))
    return torch.from_numpy(pairs.mr[rows]), moving, change, pairs.evaluation_points[rows]


@pytest.mark.parametrize("level", LEVELS)
def test_a_known_displacement_of_each_place_leads_to_the_truth(pairs, level):
    """The places are those of the images, and a motion that they all tell is undone, in px."""
    network = SliceMatchingNetwork(168, 4, 4, reach=6)
    fixed, moving, change, points = cases(pairs, 2, np.array([3, 3, 4, 0.03]) * level)
    matcher = SliceMatcher(network, fixed, moving, level)
    error = torch.from_numpy(change)
    where = matcher.grid.where.double()
    log_chances, counts = matcher.look(torch.from_numpy(IDENTITY).expand(2, -1))
    assert where.shape == (len(where), 2) and log_chances.shape[:2] == counts.shape == (2, len(where))
    assert where.abs().max() < 84 and counts.any() and not counts.all()
    true = transform(invert(error), where) - where
    told = -0.5 * (matcher.grid.offsets - true[:, :, None]).square().sum(-1) / (2.0 * level) ** 2
    found = matcher.moved(
        torch.from_numpy(IDENTITY).expand(2, -1), told.float().log_softmax(-1), torch.ones_like(counts)
    )
    left = displacement(compose(found, error), torch.from_numpy(points))
    assert (left < 0.1 * displacement(error, torch.from_numpy(points))).all()


def test_several_ct_share_an_mr(pairs):
    network = SliceMatchingNetwork(168, 4, 4, reach=2)
    fixed, moving, change, _ = cases(pairs, 4)
    pose = torch.from_numpy(change)
    shared = SliceMatcher(network, fixed[:2], moving[[0, 2, 1, 3]], 1).look(pose[[0, 2, 1, 3]])
    alone = SliceMatcher(network, fixed, moving, 1).look(pose)
    some = SliceMatcher(network, fixed, moving, 1).look(pose[2:], torch.tensor([2, 3]))
    for one, every, part in zip(shared, alone, some, strict=True):
        assert torch.allclose(one[[0, 2, 1, 3]].double(), every.double(), atol=1e-5)
        assert torch.allclose(part.double(), every[2:].double(), atol=1e-5)


def test_evidence_is_of_the_places_that_count():
    log_chances = torch.full((1, 9, 25), -20.0)
    log_chances[0, :, 12] = 0  # surely here
    log_chances[0, 1] = log_chances[0, 1].roll(1)  # surely a step to the right
    offsets = torch.cartesian_prod(torch.arange(-2.0, 3), torch.arange(-2.0, 3)).flip(-1) * 2
    counts = torch.ones(1, 9, dtype=torch.bool)
    counts[0, 5] = False
    seen = evidence(log_chances.log_softmax(-1), counts, offsets)
    assert seen.shape == (1, EVIDENCE, 9) and (seen[0, :, 5] == 0).all()
    here, likeliest, gap, unsure, mass, x, y, spread, there = seen[0, :, :2].T.unbind(1)
    assert here[0] > -1e-3 and here[1] < -4 and likeliest.min() > -1e-3 and gap[1] > 9 > 1 > gap[0]
    assert unsure.max() < 1e-3 and mass.tolist() == pytest.approx([2, 2], abs=1e-3)
    assert x.tolist() == pytest.approx([0, 0.5], abs=1e-3) and y.abs().max() < 1e-3
    assert (spread < -2).all() and there.tolist() == [1, 1]


def test_it_learns_where_the_starts_have_to_go(pairs, monkeypatch):
    """The displacements whose cross-entropy counts undo the error, at either resolution."""
    task = SliceMatches(pairs, learner(), torch.Generator().manual_seed(0))
    asked, count = [], slice_matching.cross_entropy
    monkeypatch.setattr(slice_matching, "cross_entropy", lambda *given: asked.append(given) or count(*given))
    drawn, draw = [], task.draw
    monkeypatch.setattr(task, "draw", lambda level: drawn.append((level, draw(level))) or drawn[-1][1])
    for seed in range(8):
        task.generator.manual_seed(seed)
        assert task.loss() > 0
    assert {level for level, _ in drawn} == set(LEVELS)
    for number, (level, starts) in enumerate(drawn):
        error = compose(starts.pose, starts.perturbation)
        assert len(error) == 8 * level and (error[:, :2].abs() <= 8 * level).all() and starts.like.all()
        where = task.network.grid(level).where.double()
        cells = (transform(invert(error), where) - where) / (2 * level)
        assert torch.allclose(asked[2 * number][1].double(), cells, atol=1e-4)


def test_where_its_looks_end_it_learns_how_far_off_that_is(pairs, monkeypatch):
    """It tells ends near the truth from farther ones, and images that do not belong together count as far."""
    network, asked = SliceMatchingNetwork(168, 4, 4, reach=2).eval(), []
    learned, ends = slice_matching.distance_loss, slice_matching.end_of

    def knowing(*given):
        """Let the first number of a place tell whether it ends within 10 px."""
        end = ends(*given)
        near = displacement(compose(end.pose, drawn[-1].perturbation), drawn[-1].points) < 10
        seen = end.seen.clone()
        seen[:, 0] = torch.where(near & drawn[-1].like, 1.0, -1.0)[:, None]
        return end._replace(seen=seen)

    drawn, draw = [], slice_matching.draw_starts
    monkeypatch.setattr(
        slice_matching, "draw_starts", lambda *given, **keys: drawn.append(draw(*given, **keys)) or drawn[-1]
    )
    monkeypatch.setattr(slice_matching, "end_of", knowing)
    monkeypatch.setattr(
        slice_matching, "distance_loss", lambda said, d: asked.append((said, d)) or learned(said, d)
    )
    slice_matching.learn_distance(
        network, pairs.tensors("cpu"), learner(), 64, torch.Generator().manual_seed(0)
    )
    assert not network.distance.training and network.matching.log_sharpness.grad is None
    farthest = torch.cat([d for _, d in asked[:2]]) == FARTHEST
    assert farthest.sum() >= (~torch.cat([starts.like for starts in drawn])).sum() > 15
    said, distance = (torch.cat(column) for column in zip(*asked[-2:], strict=True))
    near = distance < 10
    assert near.any() and expected_distance(said)[near].max() < expected_distance(said)[~near].min()


def test_a_training_leads_to_the_truth(pairs, trained, monkeypatch):
    network, facts = load_finisher(trained)
    assert facts["settings"]["features"] == 8 and network.arguments == {"size": 168, **SMALL}
    fixed, moving, change, points = cases(pairs)
    start = np.tile(IDENTITY, (len(change), 1))
    pose, distance = look_closely(network, to_blocks(fixed), moving, start, 6)
    after = displacement(compose(pose, change), points)
    assert after.mean() < 0.6 * displacement(change, points).mean()
    assert (distance > 0).all()
    assert np.allclose(distance_at(network, to_blocks(fixed), moving, pose), distance, rtol=1e-4)
    # A pair is registered alike whatever else is, and a look that moves little ends it.
    alone, _ = look_closely(network, to_blocks(fixed[3:4]), moving[3:4], start[:1], 6)
    assert np.allclose(alone, pose[3:4], atol=1e-3)
    monkeypatch.setattr(slice_matching, "SETTLED", 1e3)
    looked = []
    look = SliceMatcher.look
    monkeypatch.setattr(SliceMatcher, "look", lambda *given: looked.append(given) or look(*given))
    look_closely(network, to_blocks(fixed), moving, start, 6)
    assert len(looked) == len(LEVELS) + 1
    registered, judged, steps = register_alone(
        network, fixed.numpy(), moving.numpy(), Inference(lost_px=100, looks=3)
    )
    assert registered.shape == pose.shape and judged.shape == (6,) and (steps == 3).all()


def test_it_keeps_what_its_distances_are_worth(pairs, trained, monkeypatch, tmp_path):
    monkeypatch.setattr(trust, "read_pairs", lambda *_: pairs)
    files, inference = (tmp_path / "trusted.pt", tmp_path / "cases.csv"), Inference(looks=2, restarts_deg=[])
    calibration = Calibration(distance_cases=32, trust_cases=50)
    trust.calibrate_trust([], "", trained, calibration, inference, *files)
    network, facts = load_finisher(files[0])
    assert isinstance(network, SliceMatchingNetwork) and facts["variant"] == "matching"
    assert len(read_table(files[1])) == 50 and not torch.equal(network.trust, load_finisher(trained)[0].trust)
    again = tmp_path / "again.pt", tmp_path / "again.csv"
    trust.calibrate_trust([], "", trained, calibration, inference, *again)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in files]
