"""The predicted distance D: its loss, and what it gives."""

import pytest
import torch

from regagent.agent.distance import (
    BINS,
    FARTHEST,
    NEAREST,
    SCALE_STEP,
    distance_loss,
    expected_distance,
    rest_loss,
    rest_pose,
)


@pytest.mark.parametrize("distance", [0.1, 0.37, 1.0, 4.2, 31.0, 60.0])
def test_the_lowest_loss_predicts_the_distance(distance):
    logits = torch.zeros(BINS, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = distance_loss(logits, torch.tensor(distance, dtype=torch.float64))
        value.backward()
        return value

    optimiser.step(loss)
    assert expected_distance(logits.detach()).item() == pytest.approx(distance, rel=0.01)


def test_a_distance_beyond_the_bins_is_that_of_the_last():
    logits = torch.randn(3, BINS)
    for beyond, last in ((0.0, NEAREST), (500.0, FARTHEST)):
        losses = (distance_loss(logits, torch.full((3,), value)) for value in (beyond, last))
        assert torch.allclose(*losses)
    assert torch.isfinite(distance_loss(logits, torch.zeros(3))).all()


def test_the_right_rest_leads_to_the_truth_and_costs_nothing():
    pose = torch.tensor([[4.0, -3.0, 12.0, 1.07], [0.1, 0.0, -0.4, 0.98]], dtype=torch.float64)
    predicted = torch.cat([pose[:, :3], (pose[:, 3:] - 1) / SCALE_STEP], 1)
    distance = torch.tensor([9.0, 0.4], dtype=torch.float64)
    assert torch.allclose(rest_pose(predicted), pose)
    assert torch.allclose(rest_loss(predicted, pose, distance), torch.zeros(2, dtype=torch.float64))
    far, near = rest_loss(predicted + 0.1, pose, distance)
    assert far < near  # a tenth of a px counts near the truth
