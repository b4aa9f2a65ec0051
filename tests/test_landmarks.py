import cv2
import numpy as np
import pytest

from regagent.pairs.landmarks import (
    evaluation_grid,
    grid_landmarks,
    masked_grid,
    nearest_distance,
    sift_landmarks,
)

SIZE = 168


@pytest.fixture
def mask():
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.ellipse(mask, (80, 90), (50, 65), 0, 0, 360, 1, -1)
    return mask.astype(bool)


@pytest.fixture
def image(mask):
    image = np.zeros((SIZE, SIZE), np.float32)
    rng = np.random.default_rng(0)
    for centre in rng.uniform(20, 148, (60, 2)).astype(int):
        cv2.circle(image, centre.tolist(), int(rng.integers(2, 6)), float(rng.uniform(0.3, 1)), -1)
    return image


def inside(points, mask):
    columns, rows = np.rint(points + (SIZE - 1) / 2).astype(int).T
    return mask[rows, columns].all()


def test_landmarks_lie_in_the_head_apart_and_on_what_is_there(image, mask):
    found = sift_landmarks(image, mask, 20)
    assert found.shape == (20, 2)
    assert inside(found, mask)
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1) + np.eye(20) * 9
    assert apart.min() >= 1
    assert np.array_equal(found, sift_landmarks(image, mask, 20))
    assert np.array_equal(found[:5], sift_landmarks(image, mask, 5))  # the strongest first


def test_a_single_blob_is_found_where_it_is():
    image = np.zeros((SIZE, SIZE), np.float32)
    cv2.circle(image, (100, 60), 4, 1.0, -1)
    found = sift_landmarks(image, np.ones((SIZE, SIZE), bool), 1)
    assert np.allclose(found[0], [100 - 83.5, 60 - 83.5], atol=0.3)


def test_nothing_to_see(mask):
    assert sift_landmarks(np.zeros((SIZE, SIZE), np.float32), mask, 9).shape == (0, 2)


def test_a_grid_in_place_of_landmarks(mask):
    grid = grid_landmarks(mask, 8, 64)
    assert 8 <= len(grid) <= 64
    assert inside(grid, mask)
    few = np.zeros_like(mask)
    few[40:46, 50:56] = True
    assert len(grid_landmarks(few, 8, 64)) >= 8


def test_evaluation_points_are_no_landmarks(mask):
    grid = masked_grid(mask, 12)
    assert inside(grid, mask)
    steps = np.unique(np.diff(np.unique(grid[:, 0])))
    assert steps.tolist() == [12.0]
    landmarks = np.concatenate([grid[:3] + 0.5, grid[3:5] + 2.0])
    points = evaluation_grid(mask, 12, landmarks)
    assert len(points) == len(grid) - 3
    assert nearest_distance(points, landmarks).min() >= 1
    assert len(evaluation_grid(mask, 12, np.empty((0, 2)))) == len(grid)
