"""Rigid transforms of space: the same group in NumPy, PyTorch and ITK."""

import numpy as np
import pytest
import torch

from regagent.pairs.rigid import (
    IDENTITY,
    MIRROR,
    compose,
    covering,
    displacement,
    from_itk,
    from_motion,
    invert,
    mean_pose,
    motion,
    rotation,
    to_itk,
    transform,
)

RNG = np.random.default_rng(0)
POSES = from_motion(RNG.uniform(-1, 1, (50, 6)) * [60, 60, 60, 100, 100, 100])
POINTS = RNG.uniform(-80, 80, (50, 7, 3))


def test_poses_are_a_group():
    there = transform(compose(POSES, POSES[::-1]), POINTS)
    assert np.allclose(there, transform(POSES, transform(POSES[::-1], POINTS)))
    assert np.allclose(transform(compose(invert(POSES), POSES), POINTS), POINTS)
    assert np.allclose(compose(POSES, IDENTITY), POSES)
    assert np.allclose(np.linalg.det(rotation(POSES)), 1)


def test_arrays_and_tensors_agree():
    tensors = torch.tensor(POSES), torch.tensor(POINTS)
    for function in (transform, displacement):
        assert np.allclose(function(*tensors).numpy(), function(POSES, POINTS))
    for function in (rotation, invert, motion):
        assert np.allclose(function(tensors[0]).numpy(), function(POSES))
    assert np.allclose(compose(tensors[0], tensors[0].flip(0)).numpy(), compose(POSES, POSES[::-1]))


def test_a_motion_is_a_shift_and_a_turn_about_its_vector():
    turned = transform(from_motion(np.array([1.0, 2, 3, 0, 0, 90])), np.array([[10.0, 0, 0]]))
    assert np.allclose(turned, [[1, 12, 3]])
    assert np.allclose(from_motion(np.zeros(6)), IDENTITY)
    again = motion(POSES)
    assert np.linalg.norm(again[:, 3:], axis=1).max() <= 180
    assert np.allclose(rotation(from_motion(again)), rotation(POSES))
    tiny = np.array([0, 0, 0, 1e-9, 0, 0])
    assert np.allclose(motion(from_motion(tiny)), tiny)
    assert np.allclose(
        motion(-np.array([0, 0, 0, 1, 1e-3, 0, 0.0]))[3:], motion(np.array([0, 0, 0, 1, 1e-3, 0, 0.0]))[3:]
    )


def test_the_displacement_leaves_padding_out():
    points = np.array([[[10.0, 0, 0], [np.nan] * 3]])
    assert displacement(from_motion(np.array([[3.0, 4, 0, 0, 0, 0]])), points) == pytest.approx(5)
    assert displacement(IDENTITY[None], points) == pytest.approx(0)


def test_mirrored_volumes_have_the_mirrored_pose():
    mirrored = POINTS * [-1, 1, 1]
    assert np.allclose(transform(POSES * MIRROR, mirrored), transform(POSES, POINTS) * [-1, 1, 1])


def test_a_mean_does_not_mind_the_sign_of_a_quaternion():
    near = np.stack([from_motion(np.array([x, 0, 0, 0, 0, 10.0 + x])) for x in (-1.0, 1.0)])
    near[1, 3:] *= -1
    mean = mean_pose(near[None], np.ones((1, 2)))
    assert np.allclose(motion(mean)[0], [0, 0, 0, 0, 0, 10])
    assert np.allclose(motion(mean_pose(near[None], np.array([[0.0, 3.0]])))[0], [1, 0, 0, 0, 0, 11])


def test_one_of_24_rotations_is_near_any():
    starts = covering()
    assert starts.shape == (24, 7) and np.allclose(starts[0], IDENTITY)
    random = RNG.standard_normal((3000, 4))
    random /= np.linalg.norm(random, axis=1)[:, None]
    nearest = np.abs(random @ starts[:, 3:].T).max(1)
    assert np.rad2deg(2 * np.arccos(nearest)).max() < 63
    between = np.abs(starts[:, 3:] @ starts[:, 3:].T) - np.eye(24)
    assert between.max() < 0.75  # all different


def test_itk_maps_points_alike():
    centre = np.array([5.0, -20, 30])
    for pose in POSES[:10]:
        rigid = to_itk(pose, centre)
        point = [12.0, 7, -40]
        expected = transform(pose, (np.array(point) - centre)[None])[0] + centre
        assert np.allclose(rigid.TransformPoint(point), expected, atol=1e-6)
        again = to_itk(from_itk(rigid), np.zeros(3))
        assert np.allclose(again.TransformPoint(point), expected, atol=1e-6)
