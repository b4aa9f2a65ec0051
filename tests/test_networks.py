"""Table 1, layer by layer."""

import pytest
import torch
import torch.nn.functional as F
from agents import random_states
from torch import nn

from regagent.agent import networks
from regagent.agent.networks import AgentNetwork, RegressionNetwork, to_blocks, to_states


def shapes(network, states):
    seen = []
    hooks = [
        layer.register_forward_hook(
            lambda layer, _, out: seen.append((type(layer).__name__, tuple(out.shape[1:])))
        )
        for layer in network.features
        if not isinstance(layer, nn.ELU)
    ]
    network.features(states)
    for hook in hooks:
        hook.remove()
    return seen


def test_the_convolutions_are_those_of_table_1():
    network = AgentNetwork("CNN-LSTM")
    assert shapes(network, random_states(2)) == [
        ("BlockConvolution", (16, 41, 41)),
        ("Conv2d", (16, 19, 19)),
        ("Conv2d", (32, 16, 16)),
        ("MaxPool2d", (32, 8, 8)),
        ("Flatten", (2048,)),
        ("Linear", (256,)),
    ]
    linear = [layer for layer in network.features if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert sum(isinstance(layer, nn.ELU) for layer in network.features) == len(linear)


def test_layer_1_on_blocks_is_the_convolution_of_table_1(monkeypatch):
    monkeypatch.setattr(networks, "precision", lambda _: torch.float32)
    layer, (moving, fixed) = AgentNetwork("CNN").features[0], torch.rand(2, 3, 168, 168)
    found = layer(to_states(to_blocks(moving), to_blocks(fixed)))
    expected = F.conv2d(torch.stack([moving, fixed], 1), layer.weight, layer.bias, stride=4)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # conv 2·16·8² + 16, 16·16·4² + 16, 16·32·4² + 32; FC 2048·256 + 256; LSTM 4·256·(256 + 256 + 2);
        # policy 256·8 + 8; value 256 + 1
        ("CNN-LSTM", 2064 + 4112 + 8224 + 524544 + 526336 + 2056 + 257),
        # FC128 256·128 + 128 in the LSTM's place; policy 128·8 + 8; value 128 + 1
        ("CNN", 2064 + 4112 + 8224 + 524544 + 32896 + 1032 + 129),
    ],
)
def test_parameter_counts(kind, expected):
    assert sum(p.numel() for p in AgentNetwork(kind).parameters()) == expected


@pytest.mark.parametrize("kind", ["CNN-LSTM", "CNN"])
def test_outputs_and_memory(kind):
    network = AgentNetwork(kind, values=2, action_sizes=(1.0, 0.25))
    memory = network.initial_memory(3)
    states = random_states(3)
    logits, values, after = network(states, memory)
    assert logits.shape == (3, 16) and values.shape == (3, 2) and after.shape == memory.shape
    again = network(states, after)[1]
    assert torch.equal(values, again) == (kind == "CNN")  # only the LSTM remembers


def test_one_episode_does_not_see_another():
    network = AgentNetwork("CNN-LSTM")
    states = random_states(4)
    whole = network(states, network.initial_memory(4))[0]
    alone = network(states[2:3], network.initial_memory(1))[0]
    assert torch.allclose(whole[2:3], alone, atol=1e-6)


def test_the_regressor_shares_the_convolutions():
    network = RegressionNetwork()
    assert network(random_states(2)).shape == (2, 4)
    agent = AgentNetwork("CNN-LSTM")
    assert [p.shape for p in network.features.parameters()] == [p.shape for p in agent.features.parameters()]


def test_lower_precision_changes_features_less_than_another_state_does(monkeypatch):
    network, (moving, fixed) = AgentNetwork("CNN-LSTM"), torch.rand(2, 8, 168, 168)
    found = {}
    for kind in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(networks, "precision", lambda _, kind=kind: kind)
        found[kind] = network.features(to_states(to_blocks(moving), to_blocks(fixed)))
        assert found[kind].dtype == torch.float32
    error = (found[torch.bfloat16] - found[torch.float32]).abs().mean()
    assert 0 < error < 0.05 * found[torch.float32].std(0).mean()
