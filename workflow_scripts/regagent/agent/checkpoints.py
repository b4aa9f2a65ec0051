"""Model files, and the state from which a killed training goes on."""

import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor, nn

from regagent.agent.matching_network import MatchingNetwork, SliceMatchingNetwork
from regagent.agent.networks import (
    AgentNetwork,
    CubeNetwork,
    RegressionNetwork,
    ResidualNetwork,
    SpaceNetworks,
    precision,
)
from regagent.files import UserError, reason, write_whole
from regagent.pairs.training_pairs import CubePairs, Pairs

logger = logging.getLogger("regagent")

NETWORKS = {
    "agent": AgentNetwork,
    "regression": RegressionNetwork,
    "residual": ResidualNetwork,
    "cubes": CubeNetwork,
    "matching": SliceMatchingNetwork,
    "planes": MatchingNetwork,
    "space": SpaceNetworks,
}
Finisher = ResidualNetwork | SliceMatchingNetwork
Network = AgentNetwork | RegressionNetwork | Finisher | CubeNetwork | MatchingNetwork | SpaceNetworks


def save(content: dict[str, Any], path: str | Path) -> None:
    """Write tensors and plain values whole as PyTorch does. Raises ``UserError``."""
    buffer = io.BytesIO()
    torch.save(content, buffer)  # PyTorch's own writer says nothing clear where the disk is full
    with write_whole(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def save_model(network: Network, path: str | Path, **facts: Any) -> None:
    """Write a model file: the network's kind, arguments and weights, and plain facts about its training."""
    kind = next(name for name, cls in NETWORKS.items() if isinstance(network, cls))
    content = {"kind": kind, "arguments": network.arguments, "weights": weights_of(network), "facts": facts}
    save(content, path)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's weights by name, as a file holds them."""
    return {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}


@overload
def load_model(path: str | Path, kind: Literal["agent"]) -> tuple[AgentNetwork, dict[str, Any]]: ...
@overload
def load_model(path: str | Path, kind: Literal["regression"]) -> tuple[RegressionNetwork, dict[str, Any]]: ...
@overload
def load_model(path: str | Path, kind: Literal["residual"]) -> tuple[ResidualNetwork, dict[str, Any]]: ...
@overload
def load_model(path: str | Path, kind: Literal["cubes"]) -> tuple[CubeNetwork, dict[str, Any]]: ...
@overload
def load_model(
    path: str | Path, kind: Literal["matching"]
) -> tuple[SliceMatchingNetwork, dict[str, Any]]: ...
@overload
def load_model(path: str | Path, kind: Literal["planes"]) -> tuple[MatchingNetwork, dict[str, Any]]: ...
@overload
def load_model(path: str | Path, kind: Literal["space"]) -> tuple[SpaceNetworks, dict[str, Any]]: ...
def load_model(path, kind):
    """Return the network of a model file, ready for inference, and the facts. Raises ``UserError``."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content["kind"]
    except Exception as error:  # whatever a broken file makes the unpickler say
        raise UserError(f"{path}: not a model file of this software ({reason(error)})") from error
    if found != kind:
        raise UserError(f"{path}: holds a model of the kind {found!r}, expected {kind!r}")
    network = NETWORKS[kind](**content["arguments"])
    if network.arguments != content["arguments"] or network.state_dict().keys() != content["weights"].keys():
        raise UserError(f"{path}: a model file of an earlier version; train the model again")
    network.load_state_dict(content["weights"])
    return network.eval(), content["facts"]


def load_finisher(path: str | Path) -> tuple[Finisher, dict[str, Any]]:
    """Return the network in a model file that finishes agents, and the facts, as ``load_model``."""
    return load_model(path, "matching" if holds(path, "matching") else "residual")


def holds(path: str | Path, kind: str) -> bool:
    """Tell whether a file is a model file of a kind."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)["kind"] == kind
    except Exception:  # whatever another file makes the unpickler say
        return False


def fingerprint(pairs: Pairs | CubePairs, device: torch.device, *parts: Any) -> str:
    """Return a digest of the training pairs, of the device and its precision, and of JSON-like values.

    It is what a training's state must agree with to go on from it.
    """
    parts = *parts, device.type, precision(device.type)
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for array in (pairs.mr, pairs.ct, pairs.landmarks, pairs.tissue):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def save_state(folder: str | Path, state: dict[str, Any]) -> None:
    """Write a training's state whole into its folder."""
    save(state, Path(folder) / "state.pt")


def load_state(folder: str | Path, expected: str) -> dict[str, Any] | None:
    """Return the saved state if there is one of the same fingerprint, else None.

    A state that cannot be read is no worse than none: a warning says so.
    """
    path = Path(folder) / "state.pt"
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["fingerprint"]
    except Exception as error:  # whatever a broken file makes the unpickler say
        logger.warning("%s: not a readable checkpoint, training begins anew (%s)", path, reason(error))
        return None
    return state if found == expected else None


def forget_state(folder: str | Path) -> None:
    """Remove a training's state: the next training of this name starts from the beginning."""
    (Path(folder) / "state.pt").unlink(missing_ok=True)
