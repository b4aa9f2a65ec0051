import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regagent.geometry import (
    ACTIONS,
    IDENTITY,
    act,
    act_all,
    actions,
    compose,
    corner_matrix,
    invert,
    landmark_distance,
    matrix,
    pose_of,
    transform,
)

poses = st.tuples(st.floats(-60, 60), st.floats(-60, 60), st.floats(-179, 179), st.floats(0.3, 3.0)).map(
    np.array
)
points = st.lists(st.tuples(st.floats(-90, 90), st.floats(-90, 90)), min_size=1, max_size=5).map(np.array)


@given(poses, points)
def test_the_inverse_brings_points_back(pose, points):
    assert np.allclose(transform(invert(pose), transform(pose, points)), points, atol=1e-8)
    assert np.allclose(matrix(compose(invert(pose), pose)), matrix(IDENTITY), atol=1e-8)


@given(poses, poses, points)
def test_composition_is_one_after_the_other(second, first, points):
    together = transform(compose(second, first), points)
    assert np.allclose(together, transform(second, transform(first, points)), atol=1e-7)


@given(poses, poses, poses)
def test_composition_is_associative(a, b, c):
    left, right = compose(compose(a, b), c), compose(a, compose(b, c))
    assert np.allclose(matrix(left), matrix(right), atol=1e-6)


@given(poses)
def test_a_pose_is_read_off_its_matrix(pose):
    assert np.allclose(pose_of(matrix(pose)), pose, atol=1e-8)


@given(poses, points)
def test_corner_coordinates_are_the_centred_ones_shifted(pose, points):
    size, centre = 168, 83.5
    m = corner_matrix(pose, size)
    moved = (points + centre) @ m[:, :2].T + m[:, 2]
    assert np.allclose(moved - centre, transform(pose, points), atol=1e-8)


def test_the_matrix_of_a_known_pose():
    expected = [[0.0, -2.0, 3.0], [2.0, 0.0, -4.0]]
    assert np.allclose(matrix([3.0, -4.0, 90.0, 2.0]), expected)


def test_the_corner_matrix_is_opencvs():
    ours = corner_matrix([0.0, 0.0, 30.0, 1.2], 101)
    # OpenCV counts a rotation with the opposite sign, its y axis pointing up
    assert np.allclose(ours, cv2.getRotationMatrix2D((50.0, 50.0), -30.0, 1.2))


def test_poses_work_in_batches():
    rng = np.random.default_rng(0)
    batch = rng.uniform([-9, -9, -40, 0.7], [9, 9, 40, 1.3], (5, 3, 4))
    where = rng.uniform(-50, 50, (7, 2))
    one_by_one = np.array([[transform(pose, where) for pose in row] for row in batch])
    assert np.allclose(transform(batch, where), one_by_one)
    assert np.allclose(compose(batch, batch)[2, 1], compose(batch[2, 1], batch[2, 1]))
    assert landmark_distance(batch, batch, where).shape == (5, 3)


def test_the_truth_has_no_error_and_padding_counts_for_nothing():
    perturbation = np.array([10.0, -7.0, 22.0, 1.2])
    where = np.array([[1.0, 2.0], [-30.0, 40.0], [np.nan, np.nan]])
    assert landmark_distance(invert(perturbation), perturbation, where) == pytest.approx(0, abs=1e-9)
    shift = np.array([3.0, 4.0, 0.0, 1.0])
    assert landmark_distance(IDENTITY, shift, where) == pytest.approx(5.0)


def test_an_action_is_applied_after_the_pose():
    pose = np.array([5.0, 0.0, 0.0, 1.0])
    assert np.allclose(act(pose, 6), [5.25, 0.0, 0.0, 1.05])  # scaling about the centre moves the shift too
    assert np.allclose(act(pose, 0), [6.0, 0.0, 0.0, 1.0])
    assert np.allclose(act(np.tile(pose, (8, 1)), np.arange(8)), compose(ACTIONS, pose))


def test_smaller_actions_move_by_a_part():
    pose = np.array([5.0, -2.0, 10.0, 1.0])
    sizes = (1.0, 0.25)
    assert np.array_equal(actions(sizes)[:8], ACTIONS)
    assert np.allclose(act(pose, 8, sizes), [5.25, -2.0, 10.0, 1.0])
    assert np.allclose(act(pose, 12, sizes), compose([0.0, 0.0, 0.25, 1.0], pose))
    assert np.allclose(act(pose, 15, sizes), compose([0.0, 0.0, 0.0, 0.9875], pose))
    every = act_all(torch.tensor(pose), sizes)
    assert np.allclose(every, act(np.tile(pose, (16, 1)), np.arange(16), sizes))
