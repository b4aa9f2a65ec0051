"""The stop rule, the look-ahead and the weights of Eq. 5."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from agents import make_pairs

from regagent.agent import inference
from regagent.agent.environment import mirrored
from regagent.agent.inference import Walk, Way, look_ahead, paper_pose, register, roll_out, weighted_pose
from regagent.agent.networks import AgentNetwork, to_blocks
from regagent.agent.stopping import PAPER, Thresholds, ends
from regagent.files import UserError
from regagent.images import warp_images
from regagent.settings import Inference

POSES = np.array([[[0.0, 0.0, -179.0, 1.0], [4.0, 8.0, 179.0, 1.2]]])
SMALL = Inference(maximum_steps=6, simulations=4, depth=3, batch=4)


@pytest.fixture(scope="module")
def setup():
    torch.manual_seed(0)
    pairs = make_pairs(5)
    return AgentNetwork("CNN-LSTM", values=2, rescaled=True).eval(), pairs.mr, pairs.ct


def test_weights_are_the_values_where_all_are_positive():
    pose = weighted_pose(POSES, np.array([[1.0, 3.0]]))[0]
    assert pose[[0, 1, 3]].tolist() == pytest.approx([3.0, 6.0, 1.15])
    assert abs(pose[2]) > 179  # angles average over the circle


@pytest.mark.parametrize("values", [[-3.0, -1.0], [-2.0, 2.0], [0.0, 1e-3]])
def test_the_better_path_wins_whatever_the_signs(values):
    assert weighted_pose(POSES, np.array([values]))[0][0] == pytest.approx(4.0)


def test_values_whose_sum_is_nothing_weigh_by_how_far_they_are_above_the_lowest():
    poses = np.array([[[9.0, 0, 0, 1], [3.0, 0, 0, 1], [6.0, 0, 0, 1]]])
    assert weighted_pose(poses, np.array([[-1.0, 0.0, 1.0]]))[0][0] == pytest.approx(3 / 3 + 6 * 2 / 3)


def test_equation_5_as_it_stands_weighs_by_the_values_over_their_sum(caplog):
    for values, expected in (([1.0, 3.0], 3.0), ([-3.0, -1.0], 1.0), ([-1.0, 2.0], 8.0)):
        pose = paper_pose(POSES, np.array([values]))[0]
        assert pose[0] == pytest.approx(expected) and pose[1] == pytest.approx(2 * expected)
    assert not caplog.messages


@pytest.mark.parametrize("values", [[0.0, 0.0], [-2.0, 2.0], [0.1 + 0.2, -0.3]])
def test_equation_5_without_a_sum_of_values_is_told(caplog, values):
    pose = paper_pose(np.concatenate([POSES, POSES]), np.array([values, [1.0, 3.0]]))
    assert np.isfinite(pose).all() and pose[:, 0].tolist() == pytest.approx([2.0, 3.0])
    assert caplog.messages == ["look-ahead: the values of 1 cases add up to 0; their paths weigh the same"]


@pytest.mark.parametrize("weights", ["guarded", "paper"])
def test_the_papers_v_counts_the_state_that_the_rollouts_start_from(setup, monkeypatch, weights):
    network, fixed, moving = setup
    seen = []
    for name in ("weighted_pose", "paper_pose"):
        monkeypatch.setattr(inference, name, lambda poses, values, name=name: seen.append((name, values)))
    walk = Walk.start(network, fixed, moving)
    walk.look()
    ones = iter([np.full(20, 1.0 + depth) for depth in range(3)])
    monkeypatch.setattr(Walk, "look", lambda paths: next(ones))
    settings = SMALL.model_copy(update={"weights": weights})
    roll_out(walk, np.arange(5) * 100.0, settings, np.random.default_rng(3))
    ((name, values),) = seen
    first = np.arange(5) * 100.0 * (weights == "paper")
    assert name == ("paper_pose" if weights == "paper" else "weighted_pose")
    assert np.array_equal(values, np.repeat(1.0 + 2 + 3 + first[:, None], 4, 1))


def test_registering_with_the_papers_weights_begins_at_the_value_where_a_case_stopped(setup, monkeypatch):
    network, fixed, moving = setup
    begun = []
    monkeypatch.setattr(inference, "look_ahead", lambda walk, value, *rest: begun.append(value) or walk.pose)
    threshold = float(np.median(Walk.start(network, fixed, moving).look()))
    (found,) = register(network, fixed, moving, [Way(threshold, lookahead=True)], SMALL)
    assert (np.concatenate(begun) == found.value).all() and found.stopped.any()


@pytest.mark.parametrize("value", [-2.0, 0.0, 5.0])
def test_equal_values_weigh_the_same(value):
    pose = weighted_pose(POSES, np.full((1, 2), value))[0]
    assert np.isfinite(pose).all() and pose[0] == pytest.approx(2.0)


def test_a_value_above_the_threshold_stops_at_once(setup):
    network, fixed, moving = setup
    (found,) = register(network, fixed, moving, [Way(-1e9)], SMALL)
    assert found.stopped.all() and (found.steps == 0).all() and (found.pose == [0, 0, 0, 1]).all()


def test_never_stopping_gives_the_pose_of_the_highest_value(setup):
    network, fixed, moving = setup
    (found,) = register(network, fixed, moving, [Way(1e9)], SMALL)
    assert not found.stopped.any() and (found.steps == SMALL.maximum_steps).all()
    walk, values, poses = Walk.start(network, fixed, moving), [], []
    for _ in range(SMALL.maximum_steps + 1):
        values.append(walk.look())
        poses.append(walk.pose)
        walk.move()
    best = np.argmax(values, 0)
    assert np.allclose(found.pose, np.array(poses)[best, np.arange(5)])
    assert np.allclose(found.value, np.max(values, 0), atol=1e-4)


def test_a_walk_that_goes_in_circles_ends_at_its_highest_value(setup, monkeypatch):
    network, fixed, moving = setup
    # Each case goes to the right for a while, then to and fro.
    to_and_fro = lambda walk: walk._act((walk.pose[:, 0] >= 4 + 3 * walk.case).astype(int))  # noqa: E731
    monkeypatch.setattr(Walk, "move", to_and_fro)
    long = SMALL.model_copy(update={"maximum_steps": 80, "idle_steps": 7})
    (found,) = register(network, fixed, moving, [Way(1e9)], long.model_copy(update={"batch": 64}))
    walk, values, poses, met, idle = Walk.start(network, fixed, moving), [], [], set(), np.zeros((81, 5), int)
    for step in range(81):
        values.append(walk.look())
        poses.append(walk.pose)
        for case, pose in enumerate(np.round(walk.pose, 3).tolist()):
            idle[step, case] = 0 if (case, *pose) not in met else idle[step - 1, case] + 1
            met.add((case, *pose))
        walk.move()
    ends = np.where((idle >= 7).any(0), (idle >= 7).argmax(0), 80)
    assert found.steps.tolist() == ends.tolist() == [11, 14, 17, 20, 23] and not found.stopped.any()
    for case, end in enumerate(ends):
        best = np.argmax(np.array(values)[: end + 1, case])
        assert np.allclose(found.pose[case], poses[best][case])
    (on,) = register(network, fixed, moving, [Way(1e9)], long.model_copy(update={"idle_steps": None}))
    assert (on.steps == 80).all()


def test_who_never_stops_looks_ahead_from_the_highest_value(setup, monkeypatch):
    network, fixed, moving = setup
    (best,) = register(network, fixed, moving, [Way(1e9)], SMALL)
    begun = []

    def look(walk, value, *_):
        begun.append((walk.pose.copy(), walk.memory.clone(), value))
        return walk.pose + 1.0

    monkeypatch.setattr(inference, "look_ahead", look)
    (found,) = register(
        network, fixed, moving, [Way(1e9, lookahead=True)], SMALL.model_copy(update={"batch": 64})
    )
    ((pose, memory, value),) = begun
    assert np.allclose(pose, best.pose) and np.allclose(value, best.value, atol=1e-4)
    assert np.allclose(found.pose, pose + 1.0) and not found.stopped.any()
    again = Walk.start(network, fixed, moving)
    walked = [again.look()]
    kept = again.memory.clone()
    for _ in range(SMALL.maximum_steps):
        again.move()
        walked.append(again.look())
        rows = torch.from_numpy(np.argmax(walked, 0) == len(walked) - 1)
        kept[rows] = again.memory[rows]
    assert torch.allclose(memory, kept, atol=1e-5)


def test_ways_that_share_a_walk_give_what_each_gives_alone(setup):
    network, fixed, moving = setup
    walk, values = Walk.start(network, fixed, moving), []
    for _ in range(SMALL.maximum_steps + 1):
        values.append(walk.look())
        walk.move()
    low, high = np.quantile(np.max(values, 0), [0.3, 0.7])
    ways = [Way(low), Way(high, lookahead=True), Way(high)]
    together = register(network, fixed, moving, ways, SMALL, seed=2)
    for way, found in zip(ways, together, strict=True):
        (alone,) = register(network, fixed, moving, [way], SMALL, seed=2)
        assert np.allclose(found.pose, alone.pose, atol=1e-4) and np.allclose(
            found.value, alone.value, atol=1e-4
        )
        assert (found.steps == alone.steps).all() and (found.stopped == alone.stopped).all()
    early, _, late = together
    assert (early.steps <= late.steps).all() and (early.steps < late.steps).any()
    assert early.stopped.sum() > late.stopped.sum()
    assert all((found.seconds > 0).all() for found in together)
    assert (together[1].seconds > late.seconds).all()


def test_batches_do_not_change_the_result(setup):
    network, fixed, moving = setup
    walk = Walk.start(network, fixed, moving)
    threshold = float(np.median(walk.look()))
    (whole,) = register(network, fixed, moving, [Way(threshold)], SMALL.model_copy(update={"batch": 64}))
    (single,) = register(network, fixed, moving, [Way(threshold)], SMALL.model_copy(update={"batch": 1}))
    assert np.allclose(whole.pose, single.pose) and (whole.steps == single.steps).all()
    assert whole.stopped.sum() > 0


def test_the_look_ahead_averages_poses_within_reach_and_repeats(setup):
    network, fixed, moving = setup
    walk = Walk.start(network, fixed, moving)
    value = walk.look()
    one, two = (roll_out(walk, value, SMALL, np.random.default_rng(3)) for _ in range(2))
    assert (one == two).all()
    assert (np.abs(one[:, :2]) <= 1.2 * SMALL.depth).all() and (np.abs(one[:, 2]) <= SMALL.depth).all()
    assert (walk.pose == [0, 0, 0, 1]).all()  # the walk itself stays
    once = look_ahead(walk, value, SMALL.model_copy(update={"rounds": 1}), np.random.default_rng(3))
    assert np.allclose(once, one)


def test_rounds_go_on_from_each_other_and_see_the_mirrored_pair_by_turns(setup, monkeypatch):
    network, fixed, moving = setup
    walk = Walk.start(network, fixed, moving)
    walk.look()
    seen = []

    def rest(walk, value, settings, rng):
        seen.append((walk.fixed, walk.moving, walk.pose, value))
        return walk.pose + np.array([2.0, 1.0, 3.0, 0.1])

    monkeypatch.setattr(inference, "roll_out", rest)
    pose = look_ahead(walk, np.zeros(5), SMALL.model_copy(update={"rounds": 3}), np.random.default_rng(3))
    assert np.allclose([x[2][0] for x in seen], [[0, 0, 0, 1], [-2, 1, -3, 1.1], [0, 2, 0, 1.2]])
    assert np.allclose(pose, [(0 + 2) / 2, (2 + 3) / 2, (0 + 3) / 2, 1.25])
    mirrored = Walk.start(network, fixed[..., ::-1].copy(), moving[..., ::-1].copy())
    for number, view in enumerate([walk, mirrored, walk]):
        assert torch.equal(seen[number][0], view.fixed) and torch.equal(seen[number][1], view.moving)
        view = replace(view, pose=seen[number][2], memory=network.initial_memory(5))
        assert number == 0 or np.allclose(seen[number][3], view.look(), atol=1e-3)


def test_mirrored_images_match_at_mirrored_poses(setup):
    _, fixed, moving = setup
    pose = np.array([[3.0, -2.0, 10.0, 1.1]] * 5)
    still, moved, turned = mirrored(to_blocks(torch.tensor(fixed)), torch.tensor(moving), pose)
    expected = warp_images(torch.tensor(moving), torch.tensor(pose)).flip(-1)
    assert torch.allclose(warp_images(moved, torch.tensor(turned)), expected, atol=1e-4)
    assert torch.equal(still, to_blocks(torch.tensor(fixed).flip(-1)))


def test_an_agent_without_memory_takes_the_actions_of_first_looks(setup):
    network, fixed, moving = setup
    walk, seen = Walk.start(network, fixed, moving, memoryless=True), Walk.start(network, fixed, moving)
    differs = False
    for _ in range(4):
        first = Walk.start(network, fixed, moving)
        first.pose = walk.pose
        assert walk.look() == pytest.approx(first.look(), abs=1e-5)
        assert torch.allclose(walk.logits, first.logits, atol=1e-6)
        seen.pose = walk.pose
        differs = seen.look() != pytest.approx(first.look(), abs=1e-3)
        walk.move()
    assert differs  # a memory would count
    level = float(np.median(walk.look()))
    (found,) = register(network, fixed, moving, [Way(level)], SMALL, memoryless=True)
    (kept,) = register(network, fixed, moving, [Way(level)], SMALL)
    assert not np.allclose(found.value, kept.value, atol=1e-3)
    assert len(walk.select(np.array([0, 0])).look()) == 2 and walk.select(np.array([0])).memoryless


def test_a_pose_goes_through_the_convolutions_once(setup):
    network, fixed, moving = setup
    walk, counts = Walk.start(network, fixed, moving), []
    hook = network.features.register_forward_hook(lambda _, states, __: counts.append(len(states[0])))
    first = walk.look()
    poses = walk.pose
    walk.move()
    walk.look()
    back = walk.select(np.repeat(np.arange(5), 3))
    back.pose, back.memory = poses.repeat(3, 0) - 0.0, network.initial_memory(15)
    assert back.look() == pytest.approx(first.repeat(3), abs=1e-5)
    hook.remove()
    assert sum(counts) == 10


def test_a_walk_ends_where_its_value_first_reaches_the_threshold_else_at_its_highest():
    values = np.array([[0.0, 1.0, -3.0], [2.0, 0.5, -1.0], [5.0, 2.0, -np.inf]])
    step, stopped = ends(values, 2.0)
    assert step.tolist() == [1, 2, 1]
    assert stopped.tolist() == [True, True, False]


def test_thresholds_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "threshold.json"
    Thresholds(greedy=9.5, lookahead=-2.0).write(path)
    assert Thresholds.read(path) == Thresholds(greedy=9.5, lookahead=-2.0)
    Thresholds(greedy=9.5, lookahead=-2.0, paper=PAPER["supervised"]).write(path)
    assert Thresholds.read(path).paper == PAPER["supervised"]
    for content in ("", '{"greedy": 1}', '{"greedy": 1, "lookahead": NaN}', "[]"):
        path.write_text(content)
        with pytest.raises(UserError, match=r"threshold\.json: not a file of thresholds"):
            Thresholds.read(path)
