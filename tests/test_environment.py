"""The episode: directions, ends, seeds, Gymnasium's contract, and the rewards."""

from contextlib import nullcontext

import gymnasium
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from agents import RANGES, make_pairs, reinforcement, supervised
from gymnasium.utils.env_checker import check_env
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from regagent import images
from regagent.agent import environment, rewards
from regagent.agent.environment import Episodes
from regagent.agent.networks import BLOCK, AgentNetwork, to_blocks
from regagent.agent.registration_environment import ID, RegistrationEnvironment
from regagent.agent.rollout import Actor
from regagent.geometry import (
    IDENTITY,
    act,
    frobenius_distance,
    invert,
    landmark_distance,
    matrix,
    matrix_distance,
)
from regagent.pairs.training_pairs import Pool


@pytest.fixture(scope="module")
def pairs():
    return make_pairs()


def episodes(pairs, count=4, **keys):
    settings = reinforcement(**{"exploring_starts": 0.0, **keys})
    made = Episodes(pairs, RANGES, settings, count, torch.Generator().manual_seed(5))
    made.reset()
    return made


def put(batch, pose):
    batch.pose = pose
    batch.distance, batch.candidates = batch.measure()


def everywhere(action, count=4):
    return torch.full((count,), action)


def test_gymnasium_accepts_the_environment(pairs):
    made = gymnasium.make(ID, pairs=pairs, ranges=RANGES, settings=reinforcement(), render_mode="rgb_array")
    check_env(made.unwrapped)


def test_a_frame_shows_the_mr_in_green_and_the_ct_in_magenta(pairs):
    made = RegistrationEnvironment(pairs, RANGES, reinforcement(), render_mode="rgb_array")
    state, _ = made.reset(seed=1)
    frame = made.render()
    assert frame.shape == (168, 168, 3) and frame.dtype == np.uint8
    np.testing.assert_allclose(frame[..., [0, 1, 2]] / 255, state[..., [0, 1, 0]], atol=1 / 255)
    assert RegistrationEnvironment(pairs, RANGES, reinforcement()).render() is None


def test_without_pairs_it_paints_a_head():
    made = RegistrationEnvironment()
    state, info = made.reset(seed=3)
    assert len(made.episodes.pool.mr) == 6 and state[..., 1].mean() > 0.1 and info["distance"] > 1


def test_the_inverse_of_the_perturbation_ends_the_episode(pairs):
    for kind in ("LME", "matrix", "Frobenius"):
        batch = episodes(pairs, distance=kind)
        assert (batch.distance > 1).all()
        put(batch, act(invert(batch.perturbation), 0))  # one pixel to the right of the truth
        step = batch.step(everywhere(1))  # and one to the left
        assert np.allclose(step.distance, 0, atol=1e-6)
        assert step.terminated.all() and not step.truncated.any()


def test_an_episode_may_go_on_at_the_goal(pairs):
    batch = episodes(pairs, count=400, goal_steps=4, terminal_distance=0.5)
    put(batch, invert(batch.perturbation))
    ended = [batch.step(everywhere(step % 2, 400)).terminated for step in range(8)]  # to and fro
    assert not any(flags.any() for flags in ended[::2])  # one px from the truth
    assert np.mean([flags.float().mean() for flags in ended[1::2]]) == pytest.approx(1 / 4, abs=0.05)


def test_an_expert_that_is_stuck_ends_the_episode(pairs):
    settings = supervised(exploring_starts=0.0, ends_when_stuck=True, terminal_distance=0.01)
    batch = Episodes(pairs, RANGES, settings, 4, torch.Generator().manual_seed(5))
    batch.reset()
    ended = torch.zeros(4, dtype=torch.bool)
    for _ in range(90):
        step = batch.step(batch.candidates.argmin(1))
        stuck = batch.candidates.min(1).values >= step.distance
        assert torch.equal(step.terminated, stuck | (step.distance < 0.01))
        ended |= stuck
    assert ended.all()


def test_the_step_limit_truncates_and_does_not_terminate(pairs):
    batch = episodes(pairs, episode_steps=2)
    assert not batch.step(everywhere(0)).truncated.any()
    last = batch.step(everywhere(0))
    assert last.truncated.all() and not last.terminated.any()


def test_what_a_step_told_stays_when_the_next_episode_starts(pairs):
    batch = episodes(pairs)
    step = batch.step(everywhere(0))
    before, after = step.before.clone(), step.distance.clone()
    batch.reset()
    assert (step.before == before).all() and (step.distance == after).all()
    assert (batch.distance != after).all()


def test_the_true_pose_shows_the_aligned_image(pairs):
    batch = episodes(pairs)
    batch.pose = invert(batch.perturbation)
    aligned = pairs.ct[batch.index]
    centre = slice(50, 118)

    def difference():
        shown = F.pixel_shuffle(batch.states().float(), BLOCK)[:, 0].numpy()
        return np.abs(shown - aligned)[:, centre, centre].mean()

    at_the_truth = difference()
    batch.pose = torch.tensor(IDENTITY).repeat(4, 1)
    assert at_the_truth < 0.25 * difference()


def test_a_pair_stays_for_two_episodes_with_another_perturbation(pairs):
    batch = episodes(pairs, count=32)
    first, perturbation = batch.index.clone(), batch.perturbation.clone()
    batch.reset()
    assert (batch.index == first).all() and (batch.perturbation != perturbation).any(1).all()
    batch.reset()
    assert (batch.index != first).any()


def test_exploring_starts_lie_on_the_way_to_the_truth(pairs):
    far = episodes(pairs, count=64).distance
    exploring = episodes(pairs, count=64, exploring_starts=1.0)
    assert (exploring.pose.numpy() != IDENTITY).any(1).mean() > 0.9
    truth = invert(exploring.perturbation)
    assert (exploring.pose[:, :3].abs() <= truth[:, :3].abs()).all()
    assert exploring.distance.mean() < 0.75 * far.mean()


def test_a_step_knows_what_every_action_would_have_given(pairs):
    batch = episodes(pairs)
    start = batch.pose.clone()
    candidates = batch.step(everywhere(0)).candidates
    for action in range(8):
        put(batch, start)
        assert np.allclose(batch.step(everywhere(action)).distance, candidates[:, action])


def test_following_the_best_actions_reaches_the_terminal(pairs):
    batch = episodes(pairs, count=16)
    reached = torch.zeros(16, dtype=bool)
    for _ in range(150):
        reached |= batch.step(batch.candidates.argmin(1)).terminated
    assert reached.float().mean() > 0.9


def test_one_seed_gives_one_episode(pairs):
    one, two = (RegistrationEnvironment(pairs, RANGES, reinforcement()) for _ in range(2))
    for seed in (1, 2):
        (state, info), (other, other_info) = one.reset(seed=seed), two.reset(seed=seed)
        assert (state == other).all() and (info["perturbation"] == other_info["perturbation"]).all()
        one.step(3)


def both_rewards(step):
    steps = step.distance, step.terminated, 10.0
    return rewards.paper_reward(*steps), rewards.potential_reward(step.before, *steps)


def test_the_two_rewards_differ_by_the_shaping_term_alone(pairs):
    """The potential is -D/(1-γ), and the whole is taken times 1-γ."""
    batch, discount = episodes(pairs, count=8), 0.9
    for _ in range(20):
        step = batch.step(torch.randint(8, (8,), generator=batch.generator))
        going = ~step.terminated
        paper, shaped = both_rewards(step)
        potential, next_potential = (-d / (1 - discount) for d in (step.before, step.distance))
        expected = (1 - discount) * (paper + discount * next_potential - potential)
        assert np.allclose(shaped[going], expected[going])
        assert np.allclose((shaped - paper)[going], step.before[going])
        assert (paper[step.terminated] == 10).all()
        batch.reset(step.terminated)


def test_both_rewards_hold_the_terminals(pairs):
    batch = episodes(pairs, count=8)
    put(batch, act(invert(batch.perturbation), torch.arange(8)))  # one action from the truth
    step = batch.step(batch.candidates.argmin(1))
    assert step.terminated.all()
    paper, shaped = both_rewards(step)
    assert (paper == 10).all() and np.allclose(shaped, step.before - step.distance + 10)


@pytest.mark.parametrize("reward", ["paper", "potential"])
def test_gymnasium_gives_the_reward_that_was_asked_for(pairs, reward):
    made = RegistrationEnvironment(pairs, RANGES, reinforcement(exploring_starts=0.0), reward)
    before = made.reset(seed=1)[1]["distance"]
    _, given, terminated, _, info = made.step(0)
    assert not terminated
    after = info["distance"]
    assert given == pytest.approx(-after if reward == "paper" else before - after)


def test_in_the_matrix_distance_one_action_of_any_kind_is_one_unit():
    truth = np.array([4.0, -3.0, 10.0, 1.1])
    perturbation = invert(truth)
    assert matrix_distance(truth, perturbation, 20.0) == pytest.approx(0, abs=1e-9)
    for unit in ([1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, -1.0, 0], [0, 0, 0, 0.05]):
        assert matrix_distance(truth + unit, perturbation, 20.0) == pytest.approx(1)
    turned = truth + [0, 0, 360.0, 0]
    assert matrix_distance(turned, perturbation, 20.0) == pytest.approx(0, abs=1e-9)


def test_the_frobenius_distance_is_the_norm_of_the_matrices_difference():
    truth, pose = (
        np.array([4.0, -3.0, 10.0, 1.1]),
        np.array([[2.0, 1.0, -20.0, 0.9], [4.0, -3.0, 370.0, 1.1]]),
    )
    found = frobenius_distance(pose, invert(truth))
    assert found.tolist() == pytest.approx([np.linalg.norm(matrix(pose[0]) - matrix(truth)), 0.0], abs=1e-9)
    # A px is one unit, a turn by 30 degrees and a scale of 1.3 are half of one: 2 √2 sin 15°, 0.3 √2.
    units = np.array([[1.0, 0, 0, 1], [0, 0, 30.0, 1], [0, 0, 0, 1.3]])
    assert frobenius_distance(units, IDENTITY).tolist() == pytest.approx([1, 0.732, 0.424], abs=1e-3)


def test_the_frobenius_distance_of_all_actions_is_that_of_each(pairs):
    batch = episodes(pairs, distance="Frobenius")
    each = [frobenius_distance(act(batch.pose, everywhere(a)), batch.perturbation) for a in range(8)]
    assert torch.allclose(batch.candidates, torch.stack(each, 1))


@pytest.mark.parametrize("distance", ["LME", "matrix"])
def test_following_the_best_actions_registers(pairs, distance):
    """What ends an episode is an alignment: a distance that lets scale or angle go would not do."""
    batch = episodes(pairs, count=64, distance=distance, episode_steps=200)
    error = np.full(64, np.nan)
    for _ in range(120):
        step = batch.step(batch.candidates.argmin(1))
        points = pairs.evaluation_points[batch.index]
        found = landmark_distance(batch.pose, batch.perturbation, points).numpy()
        error = np.where(step.terminated.numpy() & np.isnan(error), found, error)
    assert np.isfinite(error).mean() > 0.8
    assert np.nanmean(error) < 1.6


def test_states_are_the_warped_and_the_fixed_images(pairs):
    fixed, moving = (torch.from_numpy(images) for images in (pairs.mr, pairs.ct))
    pose = torch.tensor([[3.0, -2.0, 10.0, 1.1]]).repeat(len(fixed), 1).double()
    states = environment.observe(to_blocks(fixed), moving, pose)
    expected = torch.stack([images.warp_images(moving, pose), fixed], 1).to(states.dtype)
    assert torch.equal(F.pixel_shuffle(states, BLOCK), expected)
    assert states.is_contiguous(memory_format=torch.channels_last)


def test_the_accelerators_path_gives_what_the_cpus_gives(pairs, monkeypatch):
    """The same episodes with the warp that runs on a GPU: poses, rewards and ends alike, images nearly."""

    def play():
        batch = episodes(pairs, count=16, exploring_starts=0.75)
        images, steps = [], []
        for _ in range(12):
            steps.append(batch.step(torch.randint(8, (16,), generator=batch.generator)))
            batch.reset(steps[-1].ended)
            images.append(batch.states())
        return batch.pose, torch.stack(images), steps

    pose, shown, steps = play()
    monkeypatch.setattr(environment, "warp_images", images.warp_by_grid)
    other_pose, other_shown, other_steps = play()
    assert torch.equal(pose, other_pose)
    for one, other in zip(steps, other_steps, strict=True):
        assert torch.equal(one.distance, other.distance) and torch.equal(one.terminated, other.terminated)
        assert torch.equal(one.candidates, other.candidates) and torch.equal(one.truncated, other.truncated)
    fixed, other_fixed = shown[:, :, BLOCK**2 :], other_shown[:, :, BLOCK**2 :]
    assert torch.equal(fixed, other_fixed)  # they are not warped
    difference = (shown.float() - other_shown.float()).abs()
    assert 0 < difference.mean() < 1e-3 and np.quantile(difference, 0.99) < 0.02


def on_an_accelerator(monkeypatch):
    """Let the CPU take the accelerator's path: the grid's warp, and nobody asks what a tensor holds."""
    monkeypatch.setattr(environment, "host_knows", lambda tensor: False)
    monkeypatch.setattr(environment, "warp_images", images.warp_by_grid)


def test_an_accelerator_starts_an_eighth_of_the_episodes_anew_and_leaves_the_others(pairs, monkeypatch):
    batch = episodes(pairs, count=32)
    on_an_accelerator(monkeypatch)
    batch.elapsed += 7
    before = {name: value.clone() for name, value in batch.state().items() if name != "generator"}
    ended = torch.zeros(32, dtype=torch.bool)
    ended[[3, 4, 30]] = True
    fresh = batch.reset(ended)
    assert torch.equal(fresh, ended)
    assert (batch.elapsed[ended] == 0).all() and (batch.moving != before["moving"])[ended].any((1, 2)).all()
    for name, value in before.items():
        assert torch.equal(getattr(batch, name)[~ended].nan_to_num(), value[~ended].nan_to_num()), name
    expected = rewards.distance(batch.settings, batch.pose, batch.perturbation, batch.landmarks)
    assert torch.allclose(batch.distance, expected)
    assert batch.reset(torch.ones(32, dtype=torch.bool)).sum() == 4  # the rest waits for the next step


def test_an_accelerator_lets_the_truncations_wait_that_it_has_no_room_for(pairs, monkeypatch):
    batch = episodes(pairs, count=32, episode_steps=7)
    on_an_accelerator(monkeypatch)
    batch.elapsed += 6
    step = batch.step(everywhere(0, 32))
    assert step.truncated.sum() == 4
    assert torch.equal(batch.reset(step.ended), step.truncated)


def test_a_step_on_an_accelerator_gives_what_it_gives_on_the_cpu(pairs, monkeypatch):
    """One episode of sixteen terminates, one is truncated: the network sees both where they ended."""

    def collect():
        batch = episodes(pairs, count=16, terminal_value_weight=0.25)
        torch.manual_seed(0)
        actor = Actor(AgentNetwork("CNN-LSTM", 2), batch)
        pose = batch.pose.clone()
        pose[3] = act(invert(batch.perturbation[3:4]), everywhere(0, 1))[0]
        put(batch, pose)
        batch.elapsed[:], batch.elapsed[5] = 0, batch.settings.episode_steps - 1
        actor.states = batch.states()
        best = batch.candidates.argmin(1)
        memory = actor.network(actor.states, actor.memory)[2]
        reached = environment.observe(batch.fixed, batch.moving, act(batch.pose, best))
        return actor.collect(1, lambda logits: best), actor.network(reached, memory)[1]

    cpu, values = collect()
    monkeypatch.setattr(environment, "host_knows", lambda tensor: False)
    accelerator, _ = collect()
    for name in ("candidates", "after", "terminated", "truncated"):
        assert torch.equal(getattr(cpu, name), getattr(accelerator, name)), name
    assert cpu.terminated[0].nonzero().tolist() == [[3]] and cpu.truncated[0].nonzero().tolist() == [[5]]
    for one in (cpu, accelerator):
        assert one.truncation_values[0].any(1).tolist() == one.truncated[0].tolist()
        assert torch.allclose(one.truncation_values[0, 5], values[5], atol=1e-3)
        assert torch.allclose(one.terminal_values[one.terminal], values[3:4], atol=1e-3)


@pytest.mark.parametrize("knows", [False, True])
def test_an_accelerator_is_not_waited_for_inside_a_rollout(pairs, monkeypatch, knows):
    """Fake tensors have no values: whatever would fetch one, or a size that hangs on one, raises."""
    on_an_accelerator(monkeypatch)
    settings = reinforcement(augmentation={"enabled": True}, exploring_starts=0.75)
    batch = Episodes(pairs, RANGES, settings, 16, torch.Generator().manual_seed(5))
    actor = Actor(AgentNetwork("CNN-LSTM", 2), batch)
    monkeypatch.setattr(Actor, "_record", lambda *_: None)  # after the rollout
    monkeypatch.setattr(environment, "host_knows", lambda tensor: knows)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for owner in (batch, actor):
            for name, value in vars(owner).items():
                if torch.is_tensor(value):
                    setattr(owner, name, mode.from_tensor(value))
        batch.pool = Pool(*(mode.from_tensor(array) for array in batch.pool))
        with pytest.raises(DynamicOutputShapeException) if knows else nullcontext():
            rollout = actor.collect(5, actor.sample)
            assert rollout.terminal_values.shape == (5 * 2, 2)
