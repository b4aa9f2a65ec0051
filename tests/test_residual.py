"""The residual regressor: what it learns from, its looks, its starts, and the agents that it finishes."""

import numpy as np
import pytest
import torch
from agents import PLAIN, RANGES, make_pairs

from regagent.agent import inference, regression, residual, settling
from regagent.agent.checkpoints import load_model, save_model
from regagent.agent.distance import SCALE_STEP
from regagent.agent.inference import register_finely
from regagent.agent.networks import BLOCK, AgentNetwork, ResidualNetwork, Seen, to_blocks
from regagent.agent.residual import Residuals, look, look_closely
from regagent.agent.settling import register_alone, settle
from regagent.agent.starts import UNLIKE_LEARNED, draw_starts
from regagent.geometry import IDENTITY, MIRROR, compose, displacement, invert
from regagent.images import warp
from regagent.settings import Augmentation, Inference, ResidualRegressor

#: Pairs as they are.
STILL = Augmentation(**PLAIN["augmentation"])

#: The truth of three pairs: near, farther off, and turned too far to be seen from the identity.
TRUTH = np.array([[2.0, -1.0, 3.0, 1.02], [12.0, -7.0, 20.0, 1.1], [3.0, 2.0, 75.0, 1.0]])
POINTS = np.random.default_rng(0).uniform(-40, 40, (3, 30, 2))


@pytest.fixture
def sighted(monkeypatch):
    """Let a look see nine tenths of the way to the truth, and D, unless the pair is turned by 50° or more."""
    seen = []

    def look(network, fixed, moving, pose):
        numbers = moving[:, 0, [0, -1]].sum(1).long().numpy() - 1
        mirrored = (moving[:, 0, -1] > 0).numpy()
        assert (mirrored == (fixed[:, 0, -1, BLOCK - 1] > 0).numpy()).all()
        turn = np.where(mirrored[:, None], MIRROR, 1.0)
        pose = pose * turn
        seen.append(len(pose))
        rest = compose(TRUTH[numbers], invert(pose))
        far = np.abs(rest[:, 2]) > 50
        step = np.where(far[:, None], IDENTITY, IDENTITY + 0.9 * (rest - IDENTITY))
        return compose(step, pose) * turn, np.where(far, 30.0, displacement(rest, POINTS[numbers]) + 1e-6)

    monkeypatch.setattr(residual, "look", look)
    return seen


@pytest.fixture
def images():
    """Pairs of images; the first pixel of each is its number, counted from 1."""
    moving = torch.zeros(3, 168, 168)
    moving[:, 0, 0] = torch.arange(1.0, 4.0)
    return moving.numpy().copy(), moving.numpy()


def error_of(pose):
    count = len(pose)
    return displacement(compose(pose, invert(TRUTH[:count])), POINTS[:count])


def test_starts_lie_near_the_truth_or_on_the_way_to_it():
    settings = ResidualRegressor(learner="residual", batch=400, near=0.5, exploring_starts=0.0, **PLAIN)
    pairs = make_pairs()
    task = Residuals(pairs, settings, torch.Generator().manual_seed(0))
    starts = task.draw()
    error = compose(starts.pose, starts.perturbation)
    near = (error[:, :2].abs() <= 3).all(1) & (error[:, 2].abs() <= 3) & ((error[:, 3] - 1).abs() <= 0.05)
    assert 0.4 < near.float().mean() < 0.6
    assert torch.equal(starts.pose[~near], torch.tensor(IDENTITY).expand((~near).sum(), 4))
    for i in range(0, 400, 40):
        which = (to_blocks(task.pool.mr) == starts.fixed[i]).flatten(1).all(1).int().argmax()
        perturbed = warp(pairs.ct[which], starts.perturbation[i])
        assert np.abs(starts.moving[i].numpy() - perturbed).mean() < 1e-3


def test_some_pairs_are_images_that_do_not_belong_together():
    pool, generator = make_pairs(8).tensors("cpu"), torch.Generator().manual_seed(0)
    starts = draw_starts(pool, STILL, RANGES, 402, 4, generator, unlike=0.4, kinds=UNLIKE_LEARNED)
    assert 0.3 < (~starts.like).float().mean() < 0.5
    groups = starts.like[:400].view(-1, 4)
    assert (groups == groups[:, :1]).all()  # a pair's starts share its fate
    mr, ct = to_blocks(pool.mr), to_blocks(pool.ct)
    kinds = dict.fromkeys(("another", "mirrored", "upside down", "CT", "noise"), 0)
    for row in range(0, 400, 4):
        fixed, moving = starts.fixed[row], starts.moving[row]
        own = [
            np.abs(moving.numpy() - warp(image.numpy(), starts.perturbation[row])).mean() < 1e-3
            for image in pool.ct
        ].index(True)
        assert torch.equal(fixed, mr[own]) == bool(starts.like[row]) or not starts.like[row]
        if starts.like[row]:
            continue
        same = {
            "another": any(torch.equal(fixed, one) for k, one in enumerate(mr) if k != own),
            "mirrored": torch.equal(fixed, to_blocks(pool.mr[own].flip(-1)[None])[0]),
            "upside down": torch.equal(fixed, to_blocks(pool.mr[own].flip(-2)[None])[0]),
            "CT": torch.equal(fixed, ct[own]),
        }
        kinds[next((kind for kind, found in same.items() if found), "noise")] += 1
    assert all(kinds.values()) and kinds["another"] == max(kinds.values())
    assert kinds["noise"] < 0.25 * sum(kinds.values())  # and nothing else that is not known


def test_a_pair_of_its_own_is_not_taken_for_another():
    pool, generator = make_pairs(3).tensors("cpu"), torch.Generator().manual_seed(0)
    mr, seen = to_blocks(pool.mr), []
    for _ in range(40):  # one pair alone: there is no other
        starts = draw_starts(pool, STILL, RANGES, 4, 4, generator, unlike=1.0, kinds=UNLIKE_LEARNED)
        own = any(torch.equal(starts.fixed[0], one) for one in mr)
        assert bool(starts.like[0]) == own
        seen.append(own)
    assert any(seen) and not all(seen)


def test_it_learns_from_where_its_looks_lead(monkeypatch):
    """The loss is that of the rest and D of each look; a look that sees the truth leads there."""
    settings = ResidualRegressor(learner="residual", batch=8, looks=3, **PLAIN)
    task = Residuals(make_pairs(), settings, torch.Generator().manual_seed(0))
    starts, seen = task.draw(), []
    monkeypatch.setattr(task, "draw", lambda: starts)

    def observe(fixed, moving, pose):
        seen.append(pose)
        return pose

    def sighted(pose):
        rest = invert(compose(pose, starts.perturbation))
        rest = torch.cat([rest[:, :3], (rest[:, 3:] - 1) / SCALE_STEP], 1).float()
        return Seen(torch.zeros(8, 24), rest)

    monkeypatch.setattr(residual, "observe", observe)
    task.network = sighted
    distances = []
    monkeypatch.setattr(
        residual, "distance_loss", lambda logits, distance: distances.append(distance) or distance * 0
    )
    assert task.loss().item() == pytest.approx(0, abs=1e-6)
    assert torch.equal(seen[0], starts.pose) and len(seen) == 3
    for pose, distance in zip(seen[1:], distances[1:], strict=True):
        assert torch.allclose(pose, invert(starts.perturbation), atol=1e-3) and distance.max() < 1e-3
    assert distances[0].min() > 0.01


def test_a_training_brings_it_nearer(monkeypatch, tmp_path):
    pairs = make_pairs(2)
    monkeypatch.setattr(regression, "read_pairs", lambda slices, split, subset: pairs)
    keys = {"steps": 150, "batch": 16, "looks": 2, "width": 1, "near": 1.0}
    settings = ResidualRegressor(learner="residual", **keys, **PLAIN)
    model = tmp_path / "model.pt"
    regression.train_regressor(
        [], "", RANGES, settings, 1, "test", tmp_path / "state", "1", model, tmp_path / "training.csv"
    )
    network, facts = load_model(model, "residual")
    assert network.arguments == {"size": 168, "width": 1} and facts["settings"]["near"] == 1.0
    task = Residuals(pairs, settings.model_copy(update={"batch": 64}), torch.Generator().manual_seed(9))
    starts = task.draw()
    seen, _ = look_closely(network, starts.fixed, starts.moving, starts.pose.numpy(), 2)
    before, after = (
        displacement(compose(pose, starts.perturbation), starts.points).mean()
        for pose in (starts.pose, torch.tensor(seen))
    )
    assert after < 0.8 * before


def test_a_look_is_of_the_pair_at_its_pose():
    torch.manual_seed(0)
    pairs, network = make_pairs(3), ResidualNetwork().eval()
    fixed, moving = to_blocks(torch.tensor(pairs.mr)), torch.tensor(pairs.ct)
    pose, distance = look(network, fixed, moving, TRUTH)
    alone = [look(network, fixed[i : i + 1], moving[i : i + 1], TRUTH[i : i + 1]) for i in range(3)]
    assert np.allclose(pose, np.concatenate([one[0] for one in alone]), atol=1e-3)
    assert (
        np.allclose(distance, np.concatenate([one[1] for one in alone]), rtol=1e-3) and (distance > 0).all()
    )


def test_looks_go_on_from_where_the_truth_was_seen(sighted, images):
    moving = torch.tensor(images[1][:2])
    first, _ = look_closely(None, to_blocks(moving), moving, np.tile(IDENTITY, (2, 1)), 1)
    fourth, nearest = look_closely(None, to_blocks(moving), moving, np.tile(IDENTITY, (2, 1)), 4)
    assert (error_of(fourth) < 0.1 * error_of(first)).all() and (nearest < 0.1).all()


def test_a_lost_pair_is_found_from_another_start(sighted, images):
    fixed, moving = images
    pose, distance, steps = register_alone(ResidualNetwork(), fixed, moving, Inference(batch=2, looks=4))
    assert error_of(pose).max() < 0.2 and distance.max() < 0.2 and steps.tolist() == [4, 4, 8]
    assert sighted[:6] == [2] * 6 and set(sighted[6:]) == {1}  # only the lost one starts again
    pose, distance, _ = register_alone(ResidualNetwork(), fixed, moving, Inference(restarts_deg=[]))
    assert error_of(pose)[:2].max() < 0.2 and distance[2] == 30 and np.allclose(pose[2], IDENTITY)


def test_the_distance_returned_is_that_at_the_pose_and_at_its_mirror(monkeypatch):
    asked = []

    def look(network, fixed, moving, pose):
        asked.append((moving, pose))
        return pose, np.full(len(pose), 4.0 if len(asked) == 1 else 1.0)

    monkeypatch.setattr(residual, "look", look)
    moving = torch.rand(2, 168, 168)
    assert residual.distance_at(None, to_blocks(moving), moving, TRUTH[:2]).tolist() == [2.0, 2.0]
    (here, pose), (there, turned) = asked
    assert torch.equal(here, moving) and torch.equal(there, moving.flip(-1))
    assert np.array_equal(pose, TRUTH[:2]) and np.array_equal(turned, TRUTH[:2] * MIRROR)


def test_an_agent_leads_near_and_is_finished(sighted, images, monkeypatch):
    fixed, moving = images
    starts = []

    def walk(walk, thresholds, settings, watch):
        starts.append(walk.pose[0].tolist())
        nothing = np.zeros(len(walk.pose))
        found = inference.Registrations(
            walk.pose.copy(), np.full(len(walk.pose), 7), nothing, walk.case > 9, nothing
        )
        return [(found, walk) for _ in thresholds]

    monkeypatch.setattr(inference, "_walk_to", walk)
    agent, finisher = AgentNetwork("CNN"), ResidualNetwork()
    found = register_finely(agent, finisher, fixed, moving, 0.0, Inference(looks=4))
    assert error_of(found.pose).max() < 0.2 and found.stopped.all() and (found.value > -0.2).all()
    assert found.steps.tolist() == [
        11,
        11,
        22,
    ]  # its way and four looks; again for a lost one
    assert starts[0] == IDENTITY.tolist() and starts[1] == [0, 0, 30, 1]
    lost = register_finely(agent, finisher, fixed, moving, 0.0, Inference(restarts_deg=[]))
    assert lost.stopped.tolist() == [True, True, False] and lost.value[2] == -30


@pytest.mark.parametrize(("least", "accepted"), [(0.4, True), (0.7, False)])
def test_a_case_is_refused_by_what_its_distance_is_worth(monkeypatch, tmp_path, least, accepted):
    """And not by the distance itself: here 0.1 px are worth a chance of 0.6, and 30 px too."""
    network, pairs, settings = ResidualNetwork(width=1), make_pairs(2), Inference()
    network.trust[0] = 0.6
    network.least.fill_(least)
    for module in (settling, inference):
        monkeypatch.setattr(
            module, "settle", lambda *_: (np.tile(IDENTITY, (2, 1)), np.array([0.1, 30.0]), np.zeros(2, int))
        )
    agent = AgentNetwork("CNN").eval()
    found = register_finely(agent, network, pairs.mr, pairs.ct, 0.0, settings)
    assert found.stopped.tolist() == [accepted] * 2
    written = []
    save_model(network, tmp_path / "trusted.pt")
    monkeypatch.setattr(regression, "read_table", lambda path: [0, 1])
    monkeypatch.setattr(regression, "read_cohort", lambda paths: None)
    monkeypatch.setattr(regression, "perturbed_pairs", lambda cases, cohort: (pairs.mr, pairs.ct))
    monkeypatch.setattr(regression, "registration_table", lambda *columns: columns[-1])
    monkeypatch.setattr(regression, "write_table", lambda table, path: written.extend(table))
    regression.register_regressor("", [], tmp_path / "trusted.pt", "residual", settings, "")
    assert written == ["registered" if accepted else "refused"] * 2


def test_a_further_start_goes_its_own_way_to_the_end(monkeypatch):
    """What an earlier start has seen is new to the next one, which would else seem to go in circles."""
    agent, pairs, walked = AgentNetwork("CNN").eval(), make_pairs(1), []
    monkeypatch.setattr(inference.Walk, "move", lambda walk: walk._act(np.zeros(len(walk.pose), int)))

    def settle(network, fixed, moving, approach, settings):
        for angle in (0.0, 0.0):
            _, steps = approach(np.arange(1), np.array([0.0, 0.0, angle, 1.0]), fixed, moving)
            walked.append(int(steps[0]))
        return np.tile(IDENTITY, (1, 1)), np.ones(1), steps

    monkeypatch.setattr(inference, "settle", settle)
    settings = Inference(maximum_steps=12, idle_steps=4)
    register_finely(agent, ResidualNetwork(width=1), pairs.mr, pairs.ct, 1e9, settings)
    assert walked == [12, 12]


def test_the_nearest_start_wins(sighted, images):
    fixed, moving = (torch.tensor(array) for array in images)
    far = Inference(looks=4, lost_px=1e-9, restarts_deg=[1.0, 2.0])
    tried = []

    def approach(cases, start, fixed, moving):
        tried.append(start[2])
        off = TRUTH[cases] + np.array([start[2] - 2.0, 0, 0, 0])  # the third start is the truth itself
        return off, np.full(len(cases), int(start[2]))

    pose, _, steps = settle(ResidualNetwork(width=1), to_blocks(fixed), moving, approach, far)
    assert tried == [0, 1, 2] and error_of(pose).max() < 1e-9
    assert steps.tolist() == [4 + 5 + 6] * 3
