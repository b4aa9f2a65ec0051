"""The tests' device: the CPU, also where there is a GPU, but for those that are marked ``accelerator``."""

import os

import pytest
import torch

from regagent.agent.networks import DEVICE

os.environ[DEVICE] = "cpu"  # before any fixture, and for the jobs that tests start


@pytest.fixture(autouse=True)
def accelerator(request, monkeypatch):
    """Let a test that is marked so take the GPU, and skip it where there is none."""
    if request.node.get_closest_marker("accelerator"):
        if not torch.cuda.is_available():
            pytest.skip("there is no GPU")
        monkeypatch.setenv(DEVICE, "cuda")
