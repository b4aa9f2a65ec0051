"""The predicted distance D: its loss, and what it gives."""

import pytest
import torch

from regagent.agent.distance import BINS, FARTHEST, NEAREST, distance_loss, expected_distance


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
