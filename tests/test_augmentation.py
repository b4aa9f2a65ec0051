"""Augmented pairs stay aligned, and their points stay where the anatomy went."""

import cv2
import numpy as np
import pytest
import torch
from agents import make_pairs, reinforcement

from regagent.agent.environment import Episodes
from regagent.pairs.augmentation import augment_pairs
from regagent.pairs.training_pairs import Pool
from regagent.settings import Augmentation, PerturbationRange

SIZE = 168


def spots(points):
    """Return an image (H, H) with a bright disc at each point (N, 2)."""
    image = np.zeros((SIZE, SIZE), np.float32)
    for point in points + (SIZE - 1) / 2:
        cv2.circle(image, np.rint(point).astype(int).tolist(), 3, 1.0, -1)
    return image


def brightest_centre(image, near):
    """Return the centre of brightness (2,) in centred px within 8 px of a point."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    weight = image * (np.hypot(x - near[0], y - near[1]) < 8)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def augment(mr, ct, points, settings, seed=0):
    """Augment pairs (B, H, H), NumPy to NumPy."""
    generator = torch.Generator().manual_seed(seed)
    pairs = Pool(*map(torch.from_numpy, (mr, ct, points, np.zeros(mr.shape, np.uint8))))
    return [x.numpy() for x in augment_pairs(pairs, settings, generator)]


def test_points_go_where_both_images_go():
    points = np.array([[-40.0, -35.0], [38.0, -30.0], [0.0, 2.0], [-33.0, 40.0], [35.0, 36.0]])
    images = np.tile(spots(points), (12, 1, 1))
    settings = Augmentation(noise=0, bias=0)
    mr, ct, moved = augment(images, 0.8 * images, np.tile(points, (12, 1, 1)), settings)
    mirrored = moved[:, 1, 0] < moved[:, 0, 0]
    assert mirrored.any() and not mirrored.all()
    assert (np.hypot(*np.moveaxis(moved - points, -1, 0)).max(1) > 3).all()
    for pair in range(12):
        for point in moved[pair]:
            for image in (mr[pair], ct[pair]):
                assert np.hypot(*(brightest_centre(image, point) - point)) < 1.0


def test_air_stays_air_and_intensities_stay_in_range():
    images = np.tile(spots(np.zeros((1, 2))), (4, 1, 1))
    mr, ct, _ = augment(images, images, np.zeros((4, 1, 2)), Augmentation(noise=0.3, gain=1.0))
    assert (mr == 0).mean() > 0.9
    assert min(mr.min(), ct.min()) >= 0 and max(mr.max(), ct.max()) <= 1
    assert np.abs(mr - ct).max() > 0.1  # two scanners


def test_padding_stays_padding_and_nothing_changes_when_switched_off():
    pairs = make_pairs()
    arrays = pairs.mr, pairs.ct, pairs.landmarks
    moved = augment(*arrays, Augmentation())[2]
    assert (np.isnan(moved) == np.isnan(pairs.landmarks)).all() and np.isnan(moved).any()
    for before, after in zip(arrays, augment(*arrays, Augmentation(enabled=False)), strict=True):
        assert np.array_equal(after, before, equal_nan=True)


def test_an_episode_measures_by_the_augmented_landmarks():
    pairs = make_pairs()
    still = PerturbationRange(translation_px=0, rotation_deg=0, scale=(1.0, 1.0))
    settings = reinforcement(augmentation={}, exploring_starts=0.0)
    batch = Episodes(pairs, still, settings, 6, torch.Generator().manual_seed(3))
    batch.reset()
    assert batch.distance.numpy() == pytest.approx(0, abs=1e-9)  # an augmented pair is aligned
    assert np.abs(batch.moving.numpy() - pairs.ct[batch.index]).mean() > 0.01
    assert not np.allclose(batch.landmarks, pairs.landmarks[batch.index], atol=0.5)
    assert batch.step(torch.zeros(6, dtype=int)).distance.numpy() == pytest.approx(1.0)
