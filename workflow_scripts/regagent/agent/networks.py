"""The combined policy and value networks: CNN-LSTM (Table 1) and CNN (§5.1)."""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regagent.agent.displacements import DOUBTS, first_outputs, fit, outputs_of
from regagent.agent.distance import BINS
from regagent.agent.judged import Judged
from regagent.agent.matching_network import MatchingNetwork
from regagent.agent.returns import unscale
from regagent.files import UserError
from regagent.geometry import ACTIONS, PAPER_SIZES
from regagent.jobs import DETERMINISTIC

IMAGE_SIZE = 168

#: The environment variable that may name the device to take: 'cpu' or 'cuda'.
DEVICE = "REGAGENT_DEVICE"

#: Layer 1 steps by 4 px: images are given to it in blocks of so many px.
BLOCK = 4


@cache
def precision(device_type: str) -> torch.dtype:
    """Return what the convolutions calculate in: bfloat16 where the hardware has it, else float32."""
    if device_type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if native else torch.float32


def to_blocks(images: Tensor) -> Tensor:
    """Return images (B, H, H) in blocks of 4 × 4 px, (B, H/4, H/4, 16), in the convolutions' precision."""
    images = images.to(precision(images.device.type))
    count, blocks = len(images), images.shape[-1] // BLOCK
    row = torch.complex128 if images.dtype == torch.float32 else torch.float64  # four px at once
    return images.view(row).view(count, blocks, BLOCK, blocks).transpose(2, 3).contiguous().view(images.dtype)


def from_blocks(blocks: Tensor) -> Tensor:
    """Return the images (B, H, H) in float32 that lie in blocks (B, H/4, H/4, 16)."""
    return F.pixel_shuffle(blocks.float().permute(0, 3, 1, 2), BLOCK)[:, 0].contiguous()


def mirror_blocks(images: Tensor) -> Tensor:
    """Return images in blocks (B, H/4, H/4, 16), mirrored left to right."""
    return images.unflatten(-1, (BLOCK, BLOCK)).flip(2, 4).flatten(-2)


def to_states(moving: Tensor, fixed: Tensor) -> Tensor:
    """Return the states (B, 32, H/4, H/4) of two batches of images in blocks (B, H/4, H/4, 16)."""
    return torch.cat([moving, fixed], -1).permute(0, 3, 1, 2)


class BlockConvolution(nn.Conv2d):
    """A convolution whose stride is the blocks' 4 px, of images that lie in such blocks.

    It is the same convolution with the same weights, and reads all of a block at once: in bfloat16 its
    gradient takes half the time.
    """

    def forward(self, states: Tensor) -> Tensor:
        """Return (B, 16, H/4 - 1, H/4 - 1) of states (B, 32, H/4, H/4)."""
        return F.conv2d(states, F.pixel_unshuffle(self.weight, BLOCK), self.bias)


class Features(nn.Sequential):
    """Layers 1 to 4 of Table 1, their weights and what they return in float32."""

    def forward(self, states: Tensor) -> Tensor:
        """Return the features (B, 256) of states (B, 32, H/4, H/4)."""
        kind = states.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=precision(kind) == torch.bfloat16):
            return super().forward(states).float()


def convolutions(size: int, width: int = 1) -> Features:
    """Return layers 1 to 4 of Table 1: states (B, 32, H/4, H/4) to features (B, 256), eLU after each.

    Layers 1 to 3 have ``width`` times the channels of Table 1.

    Orthogonal weights keep what differs between two states visible at the top: under PyTorch's own
    initial weights it shrinks by a factor of twenty on the way, and learning starts much later.
    """
    stem = nn.Sequential(
        BlockConvolution(2, 16 * width, kernel_size=8, stride=BLOCK),
        nn.ELU(inplace=True),
        nn.Conv2d(16 * width, 16 * width, kernel_size=4, stride=2),
        nn.ELU(inplace=True),
        nn.Conv2d(16 * width, 32 * width, kernel_size=4),
        nn.MaxPool2d(2),  # before the eLU, with which it commutes: a quarter of the exponentials
        nn.ELU(inplace=True),
        nn.Flatten(),
    )
    with torch.no_grad():
        count = stem(torch.zeros(1, 2 * BLOCK**2, size // BLOCK, size // BLOCK)).shape[1]
    layers = Features(*stem, nn.Linear(count, 256), nn.ELU(inplace=True))
    _orthogonal(layers)
    return layers


class Outputs(NamedTuple):
    """What an agent's network says of B states."""

    logits: Tensor  # (B, A) of the policy over the actions
    values: Tensor  # (B, V)
    memory: Tensor  # (B, 2, 256) for the next step, (B, 2, 0) without an LSTM


class AgentNetwork(nn.Module):
    """Policy π(a|s) over the A actions of its ``action_sizes``, and state values, with or without an LSTM.

    With ``values=2`` the network has two values: the critic of the training reward, and a value that is
    trained on the paper's return and tells when to stop. The last value is always the one to stop by; a
    ``rescaled`` network holds it on a compressed scale (see ``returns.rescale``).
    """

    def __init__(
        self,
        kind: str,
        values: int = 1,
        size: int = IMAGE_SIZE,
        rescaled: bool = False,
        action_sizes: tuple[float, ...] = PAPER_SIZES,
    ):
        super().__init__()
        self.arguments = {
            "kind": kind,
            "values": values,
            "size": size,
            "rescaled": rescaled,
            "action_sizes": action_sizes,
        }
        self.rescaled, self.action_sizes = rescaled, action_sizes
        self.features = convolutions(size)
        self.lstm = nn.LSTMCell(256, 256) if kind == "CNN-LSTM" else None
        self.hidden = nn.Identity() if self.lstm else nn.Sequential(nn.Linear(256, 128), nn.ELU())
        width = 256 if self.lstm else 128
        self.policy = nn.Linear(width, len(ACTIONS) * len(action_sizes))
        self.value = nn.Linear(width, values)
        for weight in self.lstm.parameters() if self.lstm else ():
            nn.init.orthogonal_(weight) if weight.ndim == 2 else nn.init.zeros_(weight)
        nn.init.orthogonal_(self.policy.weight, 0.01)
        nn.init.zeros_(self.policy.bias)

    def initial_memory(self, count: int) -> Tensor:
        """Return the memory at an episode's start: hidden and cell state (B, 2, 256), (B, 2, 0) for CNN."""
        return self.policy.weight.new_zeros(count, 2, 256 if self.lstm else 0)

    def forward(self, states: Tensor, memory: Tensor) -> Outputs:
        """Return what the network says of states (B, 32, H/4, H/4) with the memory of the last step."""
        return self.decide(self.features(states), memory)

    def decide(self, features: Tensor, memory: Tensor) -> Outputs:
        """Return what ``forward`` returns from the states' features (B, 256), which hold no memory."""
        if self.lstm is None:
            x = self.hidden(features)
        else:
            x, cell = self.lstm(features, memory.unbind(1))
            memory = torch.stack([x, cell], 1)
        return Outputs(self.policy(x), self.value(x), memory)

    def value_to_stop_by(self, outputs: Outputs) -> Tensor:
        """Return the value to stop by (B,) in the paper's units."""
        value = outputs.values[..., -1]
        return unscale(value) if self.rescaled else value


class RegressionNetwork(nn.Module):
    """Pure SL: the same convolutions, then the four transform parameters at once (§4)."""

    #: One unit of the output in px, px, degrees and log scale.
    UNITS = (25.0, 25.0, 30.0, 0.25)

    units: Tensor  # (4,)

    def __init__(self, size: int = IMAGE_SIZE):
        super().__init__()
        self.arguments = {"size": size}
        self.features = convolutions(size)
        self.pose = nn.Linear(256, 4)
        self.register_buffer("units", torch.tensor(self.UNITS))

    def forward(self, states: Tensor) -> Tensor:
        """Return (B, 4): tx px, ty px, angle degrees, log scale of states (B, 32, H/4, H/4)."""
        return self.pose(self.features(states)) * self.units


class Seen(NamedTuple):
    """What a network that looks for the rest of the way says of B states."""

    logits: Tensor  # (B, K) of D, see ``agent.distance``
    rest: Tensor  # (B, P)
    guess: Tensor | None = None  # (B, P) the rest as the whole image alone shows it
    places: Tensor | None = None  # (B, K, S) what it says at each place, see ``agent.displacements``


class Places(NamedTuple):
    """How a network predicts how far off each of S places is, and how a rest of the way moves them."""

    layers: nn.Sequential  # from the features of so many of the network's modules
    modules: int
    where: Tensor  # (S, d) about the middle, in px or mm
    motions: Tensor  # (S, d, P)


class RestNetwork(Judged):
    """Predicts how far a pose is from the truth, and the rest of the way: convolutions, and no memory.

    With ``places`` it also predicts how far off each place is, and the rest of the way is what fits them (see
    ``agent.displacements``).
    """

    features: nn.Sequential
    where: Tensor
    motions: Tensor

    def __init__(self, features: nn.Sequential, parameters: int, places: Places | None = None):
        super().__init__()
        self.features, self.places = features, None
        self.distance = nn.Linear(256 + (DOUBTS if places else 0), BINS)
        self.rest = nn.Linear(256, parameters * (2 if places else 1))  # with places: and how sure it is
        if places:
            self.places, self.modules_to_places = places.layers, places.modules
            self.register_buffer("where", places.where, persistent=False)
            self.register_buffer("motions", places.motions, persistent=False)

    def forward(self, states: Tensor) -> Seen:
        """Return what the network says of states."""
        if self.places is None:
            features = self.features(states)
            return Seen(self.distance(features), self.rest(features))
        local = self.features[: self.modules_to_places](states)
        places, features = self.places(local).flatten(2), self.features[self.modules_to_places :](local)
        guess, sureness = self.rest(features).chunk(2, -1)
        fitted, doubts = fit(places, guess, sureness, self.motions)
        logits = self.distance(torch.cat([features, doubts], -1))
        return Seen(logits, fitted, guess, places)


def _grid(ticks: Tensor, dimension: int) -> Tensor:
    """Return the points (S, d) of a grid, x first, the last axis of an image."""
    axes = torch.meshgrid(*[ticks] * dimension, indexing="ij")
    return torch.stack([axis.flatten() for axis in reversed(axes)], -1)


def _last_layers(layers: nn.Sequential, dimension: int) -> nn.Sequential:
    """Return the layers of places at their random start: as if each were far off and nothing known."""
    _orthogonal(layers)
    outputs = layers[-1]
    assert isinstance(outputs, nn.Conv2d | nn.Conv3d)
    nn.init.orthogonal_(outputs.weight, 0.1)
    outputs.bias = nn.Parameter(first_outputs(dimension))
    return layers


class ResidualNetwork(RestNetwork):
    """That of slices: Table 1's convolutions, wider, of states (B, 32, H/4, H/4); four parameters."""

    def __init__(self, size: int = IMAGE_SIZE, width: int = 2):
        super().__init__(convolutions(size, width), 4)
        self.arguments = {"size": size, "width": width}


#: The D that a network of cubes predicts, and the errors that it counts, are in this part of a voxel's edge.
UNIT = 0.3
#: A rotation of a rest in space counts by how far it moves what lies so many mm away.
LEVER_MM = 80.0
#: The places of cubes are those of their last layer that has at least so many along an edge.
PLACES_ALONG = 12


class CubeNetwork(RestNetwork):
    """That of cubes: convolutions of states (B, 2, N, N, N), N a multiple of 4; six parameters.

    ``spacing_mm`` is the edge of a voxel, ``places`` the number of channels of two further convolutions for
    the places, 0 without.
    """

    def __init__(
        self,
        size: int,
        channels: tuple[int, ...] = (16, 32, 32),
        spacing_mm: float = 8.0,
        places: int = 0,
    ):
        placed = _places_of_cubes(size, spacing_mm, channels, places) if places else None
        super().__init__(cube_convolutions(size, channels), 6, placed)
        self.arguments = {"size": size, "channels": channels, "spacing_mm": spacing_mm, "places": places}
        self.size, self.spacing_mm = size, spacing_mm
        #: D and the rest are predicted in so many mm.
        self.unit_mm = UNIT * spacing_mm


class SpaceNetworks(Judged):
    """The networks that register volumes, by their arguments: of cubes one after the other, then of matching.

    What is kept of trust is of the disagreement that the last one sees (see ``matching``).
    """

    def __init__(self, networks: Sequence[Mapping[str, Any]], matching: Mapping[str, Any]):
        super().__init__()
        self.arguments = {"networks": [dict(one) for one in networks], "matching": dict(matching)}
        self.networks = nn.ModuleList(CubeNetwork(**one) for one in networks)
        self.matching = MatchingNetwork(**matching)


def _places_of_cubes(size: int, spacing_mm: float, channels: tuple[int, ...], places: int) -> Places:
    layers, along = 1, -(-size // 2)
    while layers < len(channels) and along >= 2 * PLACES_ALONG:
        layers, along = layers + 1, -(-along // 2)
    where = _grid((2**layers * torch.arange(along) - (size - 1) / 2) * spacing_mm, 3)
    one = torch.eye(3).expand(len(where), 3, 3)
    # A small turn by w moves x by w × x.
    turned = torch.linalg.cross(one, (where / LEVER_MM)[:, None], dim=-1).mT
    further = nn.Sequential(
        nn.Conv3d(channels[layers - 1], places, 3, padding=1),
        nn.ELU(inplace=True),
        nn.Conv3d(places, outputs_of(3), 1),
    )
    return Places(_last_layers(further, 3), 2 * layers, where, torch.cat([one, turned], -1))


def cube_convolutions(size: int, channels: tuple[int, ...]) -> nn.Sequential:
    """Return convolutions of states (B, 2, N, N, N) to features (B, 256), each of stride 2, eLU after
    each."""
    layers: list[nn.Module] = []
    before = 2
    for number, after in enumerate(channels):
        kernel = 3 if number else 5
        layers += [nn.Conv3d(before, after, kernel, 2, kernel // 2), nn.ELU(inplace=True)]
        before, size = after, -(-size // 2)
    layers += [nn.Flatten(), nn.Linear(before * size**3, 256), nn.ELU(inplace=True)]
    initialised = nn.Sequential(*layers)
    _orthogonal(initialised)
    return initialised


def _orthogonal(layers: nn.Sequential) -> None:
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.orthogonal_(layer.weight, 2**0.5)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type] # every layer here has one


def choose_device() -> torch.device:
    """Return the GPU if there is one, else the CPU, or what the environment variable ``DEVICE`` names.

    In a deterministic run, PyTorch is told to be so too. Raises ``UserError`` if the variable names neither
    'cpu' nor a 'cuda' that is there.
    """
    deterministic = bool(os.environ.get(DETERMINISTIC))
    # PyTorch imports its compiler for this, which takes three seconds.
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)
    there = torch.cuda.is_available()
    name = os.environ.get(DEVICE) or ("cuda" if there else "cpu")
    if name not in ("cpu", "cuda") or (name == "cuda" and not there):
        kinds = "'cpu' or 'cuda'" if there else "'cpu', as PyTorch finds no GPU"
        raise UserError(f"environment variable {DEVICE}: found {name!r}, expected {kinds}")
    return torch.device(name)
