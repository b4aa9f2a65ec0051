"""Training on a GPU: what the settings give it, how much an update asks of it, and that it works there."""

from collections import Counter

import pytest
import torch
from agents import PLAIN, RANGES, give_pairs, reinforcement, supervised
from torch.utils._python_dispatch import TorchDispatchMode

from regagent.agent import a3c, environment, regression
from regagent.agent.a3c import train_agent
from regagent.agent.checkpoints import load_model
from regagent.agent.inference import Way, register
from regagent.agent.networks import DEVICE, choose_device
from regagent.files import UserError
from regagent.images import warp_by_grid, warp_images
from regagent.settings import Inference, ResidualRegressor

#: Operators of an update before poses were complex numbers and one draw gave a rollout its pairs.
ONCE = 2481


class Operators(TorchDispatchMode):
    """Counts the operators that a piece of code dispatches, but for those that give another view alone."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function._schema.name.removeprefix("aten::")
        if not function.is_view and name not in ("detach", "empty", "empty_like", "_unsafe_view"):
            self.count[name] += 1
        return function(*arguments, **(keywords or {}))


@pytest.fixture
def pairs(monkeypatch):
    return give_pairs(monkeypatch)


def test_an_update_dispatches_six_tenths_of_the_operators_that_it_once_did(pairs, monkeypatch):
    """On a GPU an update of 64 episodes takes as long as its launches, one or two for each operator."""
    monkeypatch.setattr(environment, "host_knows", lambda tensor: False)
    monkeypatch.setattr(environment, "warp_images", warp_by_grid)
    settings = reinforcement(environments=64, unroll=3, augmentation={"enabled": True})
    worker = a3c.start_training(pairs, RANGES, settings, 1, 64, torch.device("cpu"))[1](0)
    worker.update()
    with Operators() as operators:
        worker.update()
    assert 1000 < operators.count.total() < 0.64 * ONCE
    # The loss and the norm in one, and, once the rollout is over, what is told of its episodes.
    fetched = operators.count["_local_scalar_dense"] + operators.count["nonzero"]
    assert fetched <= 6, operators.count


def test_a_gpu_trains_with_settings_of_its_own_or_as_the_cpu_does():
    agent = reinforcement(workers=8, environments=2, steps=1000)
    there = agent.on_accelerator()
    assert (there.workers, there.environments, there.steps) == (1, 1024, 4000)
    assert there.learning_rate == 2e-3 != agent.learning_rate
    same = agent.model_copy(update={"accelerator": None}).on_accelerator()
    assert (same.workers, same.environments, same.steps) == (1, 16, 1000)
    assert same.learning_rate == agent.learning_rate


@pytest.mark.parametrize("name", ["gpu", "cuda"])
def test_a_device_that_is_not_there_is_told(monkeypatch, name):
    monkeypatch.setenv(DEVICE, name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"{DEVICE}: found '{name}', expected 'cpu', as PyTorch finds no GPU"):
        choose_device()


@pytest.mark.accelerator
@pytest.mark.parametrize("make", [reinforcement, supervised])
def test_an_agent_trains_and_registers_there(pairs, tmp_path, make):
    small = {"accelerator": {"environments": 32, "learning_rate": 1e-3, "steps_factor": 2}}
    settings = make(steps=960, **small)
    paths = tmp_path / "state", "1", tmp_path / "model.pt", tmp_path / "training.csv"
    train_agent([], "", RANGES, settings, 1, "test", *paths)
    network, facts = load_model(tmp_path / "model.pt", "agent")
    assert facts["device"] == "cuda" and facts["environments"] == 32 and facts["steps"] >= 1920
    inference = Inference(maximum_steps=6, simulations=3, depth=2)
    ways = [Way(-1e9), Way(-1e9, lookahead=True)]
    found = register(network.to("cuda"), pairs.mr, pairs.ct, ways, inference)
    assert all(one.stopped.all() for one in found)


@pytest.mark.accelerator
def test_a_residual_regressor_trains_there(pairs, tmp_path):
    settings = ResidualRegressor(learner="residual", steps=3, batch=8, **PLAIN)
    paths = tmp_path / "state", "1", tmp_path / "model.pt", tmp_path / "training.csv"
    regression.train_regressor([], "", RANGES, settings, 1, "test", *paths)
    assert (tmp_path / "model.pt").exists()


@pytest.mark.accelerator
def test_the_images_are_warped_there_as_on_the_cpu(pairs):
    images = torch.from_numpy(pairs.ct)
    pose = torch.tensor([[4.5, -3.0, 20.0, 1.1]], dtype=torch.float64).repeat(len(images), 1)
    difference = warp_images(images, pose) - warp_images(images.cuda(), pose.cuda()).cpu()
    assert difference.abs().mean() < 1e-3
