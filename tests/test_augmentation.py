"""Augmented pairs stay aligned, and their points stay where the anatomy went."""

import cv2
import numpy as np
import pytest
from agents import make_pairs, reinforcement

from regagent.augmentation import augment_pair
from regagent.environment import Episodes
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


@pytest.mark.parametrize("seed", range(5))
def test_points_go_where_both_images_go(seed):
    rng = np.random.default_rng(seed)
    points = np.array([[-40.0, -35.0], [38.0, -30.0], [0.0, 2.0], [-33.0, 40.0], [35.0, 36.0]])
    settings = Augmentation(noise=0, bias=0, mirror=seed % 2)
    mr, ct, moved = augment_pair(spots(points), 0.8 * spots(points), points, settings, rng)
    assert np.hypot(*(moved - points).T).max() > 3
    for image in (mr, ct):
        for point in moved:
            assert np.hypot(*(brightest_centre(image, point) - point)) < 1.0


def test_air_stays_air_and_intensities_stay_in_range():
    image = spots(np.zeros((1, 2)))
    rng = np.random.default_rng(0)
    mr, ct, _ = augment_pair(image, image, np.zeros((1, 2)), Augmentation(noise=0.3, gain=1.0), rng)
    assert (mr == 0).mean() > 0.9
    assert min(mr.min(), ct.min()) >= 0 and max(mr.max(), ct.max()) <= 1
    assert np.abs(mr - ct).max() > 0.1  # two scanners


def test_padding_stays_padding_and_nothing_changes_when_switched_off():
    pairs = make_pairs()
    rng = np.random.default_rng(0)
    pair = pairs.mr[0], pairs.ct[0], pairs.landmarks[0]
    moved = augment_pair(*pair, Augmentation(), rng)[2]
    assert (np.isnan(moved) == np.isnan(pair[2])).all() and np.isnan(moved).any()
    for before, after in zip(pair, augment_pair(*pair, Augmentation(enabled=False), rng), strict=True):
        assert after is before


def test_an_episode_measures_by_the_augmented_landmarks():
    pairs = make_pairs()
    still = PerturbationRange(translation_px=0, rotation_deg=0, scale=(1.0, 1.0))
    settings = reinforcement(augmentation={}, exploring_starts=0.0)
    batch = Episodes(pairs, still, settings, 6, np.random.default_rng(3))
    batch.reset()
    assert (batch.distance == 0).all()  # an augmented pair is aligned
    assert np.abs(batch.moving - pairs.ct[batch.index]).mean() > 0.01
    shown = batch.landmarks[0][~np.isnan(batch.landmarks[0, :, 0])]
    assert batch.step(np.zeros(6, int)).distance == pytest.approx(1.0)
    assert not np.allclose(shown, pairs.landmarks[batch.index[0]][: len(shown)], atol=0.5)
