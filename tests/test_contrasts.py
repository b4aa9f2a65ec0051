"""Contrasts drawn anew: by tissue, repeatable, only where asked for, and never where the anatomy is."""

import numpy as np
import pytest
import torch

from regagent.pairs.contrasts import BRAIN, redraw
from regagent.pairs.draws import Draw
from regagent.phantom.tissues import AIR, LABELS, TISSUES, UNKNOWN
from regagent.settings import Augmentation

COUNT, SIZE = 40, 48
#: Air around a skull of fat, bone, grey and white matter, each a square within the last.
LAYERS = (AIR, "fat", "bone", "grey matter", "white matter")


@pytest.fixture(scope="module")
def pairs():
    tissue = torch.zeros(COUNT, SIZE, SIZE, dtype=torch.uint8)
    for edge, name in zip((0, 5, 9, 13, 19), LAYERS, strict=True):
        tissue[:, edge : SIZE - edge, edge : SIZE - edge] = LABELS[name]
    t1 = torch.tensor([0.0] + [one.t1 for one in TISSUES.values()])[tissue.long()].clamp(0, 1)
    ct = torch.tensor([0.0] + [(one.hu + 200) / 1200 for one in TISSUES.values()])[tissue.long()].clamp(0, 1)
    return t1, ct, tissue


def drawn(pairs, seed=0, **settings):
    draw = Draw(torch.Generator().manual_seed(seed), len(pairs[0]))
    return redraw(*pairs, Augmentation(**settings), draw), draw


def middle(images, layer):
    """Return the images' values (B,) in the middle of a layer."""
    return images[:, {"air": 2, "fat": 6, "bone": 10, "grey matter": 15, "white matter": 24}[layer], 24]


def test_nothing_is_drawn_where_nothing_is_asked_for(pairs):
    (mr, ct), draw = drawn(pairs)
    assert mr is pairs[0] and ct is pairs[1]
    assert (draw.generator.get_state() == torch.Generator().manual_seed(0).get_state()).all()


def test_each_tissue_has_one_signal_of_its_own(pairs):
    (mr, ct), _ = drawn(pairs, contrast=1.0)
    assert ct is pairs[1] and mr.dtype == torch.float32 and mr.min() >= 0 and mr.max() <= 1
    inner = mr[:, 21:27, 21:27].flatten(1)
    assert (inner.std(1) < 0.12 * inner.mean(1)).all() and (inner.std(1) > 0).all()  # texture alone
    white, grey, bone, air = (middle(mr, name) for name in ("white matter", "grey matter", "bone", AIR))
    assert (air < 0.1).all()
    assert (white > grey + 0.05).sum() > 5 and (grey > white + 0.05).sum() > 5  # either may be brighter
    assert (bone > 0.3).any()  # no scanner shows it so
    assert (white - pairs[0][0, 24, 24]).abs().mean() > 0.1


def test_the_edges_stay_where_they_are(pairs):
    (mr, _), _ = drawn(pairs, contrast=1.0)
    steps = (mr[:, 24, 1:] - mr[:, 24, :-1]).abs()
    strongest = steps.argmax(1)
    edges = np.array([5, 9, 13, 19])
    near = np.abs(strongest.numpy()[:, None] - np.concatenate([edges, SIZE - edges]) + 0.5).min(1)
    assert (near <= 1.5).all()


def test_a_pair_without_labels_keeps_its_contrast(pairs):
    mr, ct, tissue = pairs[0], pairs[1], pairs[2].clone()
    tissue[::2] = UNKNOWN
    (new, new_ct), _ = drawn((mr, ct, tissue), contrast=1.0, lesions=1.0)
    assert (new[::2] == mr[::2]).all() and (new_ct[::2] == ct[::2]).all()
    assert (new[1::2] != mr[1::2]).flatten(1).any(1).all()


def test_about_the_fraction_asked_for_is_redrawn_and_again_the_same(pairs):
    (mr, _), _ = drawn(pairs, contrast=0.5)
    changed = (mr != pairs[0]).flatten(1).any(1).sum()
    assert 10 <= changed <= 30
    (again, _), _ = drawn(pairs, contrast=0.5)
    (other, _), _ = drawn(pairs, seed=1, contrast=0.5)
    assert torch.equal(mr, again) and not torch.equal(mr, other)


def test_lesions_lie_in_the_brain_of_the_mr_the_ct_or_both(pairs):
    (mr, ct), _ = drawn(pairs, lesions=1.0)
    brain = torch.isin(pairs[2], torch.tensor([LABELS[name] for name in BRAIN], dtype=torch.uint8))
    seen = [(new != old) for new, old in ((mr, pairs[0]), (ct, pairs[1]))]
    assert not any((changed & ~brain).any() for changed in seen)
    in_mr, in_ct = (changed.flatten(1).any(1) for changed in seen)
    assert (in_mr | in_ct).all()
    assert (in_mr & ~in_ct).any() and (in_ct & ~in_mr).any() and (in_mr & in_ct).any()
    share = seen[0].flatten(1).float().mean(1)[in_mr]
    assert share.min() < 0.1 < share.max()


def test_an_mr_may_show_the_brain_alone(pairs):
    (mr, ct), _ = drawn(pairs, stripped=1.0)
    names = (*BRAIN, "csf")
    brain = torch.isin(pairs[2], torch.tensor([LABELS[name] for name in names], dtype=torch.uint8))
    assert ct is pairs[1] and torch.equal(mr, pairs[0] * brain)
    unknown = torch.full_like(pairs[2], UNKNOWN)
    (mr, _), _ = drawn((*pairs[:2], unknown), stripped=1.0)
    assert torch.equal(mr, pairs[0])


def test_a_ghost_is_a_faint_copy_shifted_along_an_axis(pairs):
    mr = torch.zeros(COUNT, SIZE, SIZE)
    mr[:, 24, 24] = 0.5
    (new, ct), _ = drawn((mr, *pairs[1:]), ghosts=1.0)
    assert ct is pairs[1] and torch.equal(new[:, 24, 24], mr[:, 24, 24])
    ghost = new - mr
    number, y, x = ghost.nonzero().T
    assert torch.equal(number, torch.arange(COUNT)) and ((y == 24) != (x == 24)).all()
    assert (y == 24).any() and (x == 24).any()
    brightness = ghost[number, y, x] / 0.5
    assert brightness.min() >= 0.03 and brightness.max() <= 0.2
    assert ((y - 24).abs() + (x - 24).abs() >= 0.1 * SIZE - 1).all()


def test_the_ct_is_seen_in_other_windows(pairs):
    (mr, ct), _ = drawn(pairs, ct_window=1.0)
    assert mr is pairs[0] and ct.min() >= 0 and ct.max() <= 1
    step = middle(ct, "grey matter") - middle(ct, "white matter")
    before = middle(pairs[1], "grey matter") - middle(pairs[1], "white matter")
    assert (step > 3 * before).sum() > 5  # the brain's window
    assert (middle(ct, "bone") > middle(ct, "grey matter")).sum() > COUNT // 2


def test_a_field_of_view_may_end_at_a_line(pairs):
    (mr, ct), _ = drawn(pairs, cut=1.0)
    for new, old in ((mr, pairs[0]), (ct, pairs[1])):
        gone = (new == 0) & (old > 0)
        assert ((new == old) | gone).all() and gone.flatten(1).any(1).sum() > COUNT // 2
        assert not gone[:, SIZE // 2 - 5 : SIZE // 2 + 5, SIZE // 2 - 5 : SIZE // 2 + 5].any()
    lost = [((new == 0) & (old > 0)).flatten(1).sum(1) for new, old in ((mr, pairs[0]), (ct, pairs[1]))]
    assert (lost[0] != lost[1]).any()  # each image by itself


def test_soft_tissue_moves_in_the_ct_alone_and_not_the_brain(pairs):
    mr, ct, tissue = pairs
    textured = ct + 0.05 * torch.rand(ct.shape, generator=torch.Generator().manual_seed(1))
    (same, moved), _ = drawn((mr, textured, tissue), soft_px=4.0)
    assert same is mr
    change = (moved - textured).abs()
    assert change[:, 9:39, 9:39].max() < 1e-4 and change[:, 5:9, 5:43].mean() > 0.005
    assert change.flatten(1).mean(1).std() > 0  # each pair's is another
    (_, still), _ = drawn((mr, textured, torch.full_like(tissue, UNKNOWN)), soft_px=4.0)
    assert (still - textured).abs().max() < 1e-4
