"""An agent in one file: what another cohort, or ``regagent register``, needs of a training (§3.6).

The file holds weights and plain facts, and is read without unpickling anything else. Every fact that gives
the numbers their meaning is checked on loading: an agent never runs under another meaning than its own.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from torch import nn

from regagent.agent.checkpoints import Finisher, load_finisher, load_model, save, save_model, weights_of
from regagent.agent.matching_network import SliceMatchingNetwork
from regagent.agent.networks import AgentNetwork, ResidualNetwork
from regagent.agent.stopping import Thresholds
from regagent.evaluation.registrations import SUCCESS_PX
from regagent.evaluation.run_tables import read_registrations
from regagent.files import OWN, UserError, naming, read_table
from regagent.geometry import PAPER_SIZES, actions
from regagent.methods import FINE
from regagent.pairs.slices import read_cohort
from regagent.reproduction.provenance import commit, package_versions
from regagent.settings import Inference, Slices

FORMAT = "regagent agent"
VERSION = 5

#: What a file begins with in whose place Git LFS has put its pointer.
LFS_POINTER = b"version https://git-lfs"

#: What must be equal for two slices to look alike to an agent.
SAME_LOOK = ("size", "ct_window_hu", "mr_percentiles")


class Fact(BaseModel):
    """A part of an agent file: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(Fact):
    """The arguments of ``AgentNetwork``."""

    kind: Literal["CNN-LSTM", "CNN"]
    values: Literal[1, 2]
    size: int
    rescaled: bool
    action_sizes: tuple[FiniteFloat, ...] = PAPER_SIZES


class Residual(Fact):
    """The arguments of the ``ResidualNetwork`` that finishes the agent."""

    size: int
    width: int


class Matching(Fact):
    """The arguments of the ``SliceMatchingNetwork`` that finishes the agent."""

    size: int
    channels: int
    features: int
    reach: int


FINISHERS: dict[type[Finisher], type[Residual] | type[Matching]] = {
    ResidualNetwork: Residual,
    SliceMatchingNetwork: Matching,
}


class Evaluation(Fact):
    """How often the agent ended within ``success_px`` of the truth on its run's test cases.

    It was finished, or looked ahead if nothing finishes it. Counted apart for the cases that it took for
    registered and for those that it refused.
    """

    success_px: FiniteFloat
    patients: int
    stopped: int
    stopped_within: int
    refused: int
    refused_within: int


class AgentFacts(Fact):
    """All that an agent file says beside the weights."""

    network: Network
    finisher: Residual | Matching | None = None
    actions: list[list[FiniteFloat]]
    slices: Slices
    inference: Inference
    thresholds: Thresholds
    evaluation: Evaluation
    training: dict[str, Any]
    cohort: dict[str, Any]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class TrainedAgent:
    """A network that is ready for inference, what finishes it if anything does, and what its file says."""

    network: AgentNetwork
    finisher: Finisher | None
    facts: AgentFacts


def export_agent(
    model: str | Path,
    threshold: str | Path,
    slices: Iterable[str | Path],
    split: str | Path,
    registrations: Iterable[str | Path],
    run: Mapping[str, Any],
    code: Mapping[str, str],
    slice_settings: Slices,
    inference: Inference,
    output: str | Path,
    finisher: str | Path | None = None,
) -> None:
    """Write the agent file of a trained and calibrated model.

    ``finisher`` is the model that finishes it, if one does. ``registrations`` are the agent's own of the
    run's test sets, finished, or with look-ahead. ``run`` are plain facts about the run, ``code`` the hashes
    of what trained and calibrated the agent. Patients are counted, not named.
    """
    network, training = load_model(model, "agent")
    looking = load_finisher(finisher)[0] if finisher else None
    members = set(read_table(split).query("set == 'train'").patient)
    cohort = [pairs for pairs in read_cohort(slices).values() if pairs.patient in members]
    widths = [pairs.mm_per_px for pairs in cohort]
    facts = AgentFacts(
        network=Network.model_validate(network.arguments),
        finisher=FINISHERS[type(looking)].model_validate(looking.arguments) if looking else None,
        actions=actions(network.action_sizes).tolist(),
        slices=slice_settings,
        inference=inference,
        thresholds=Thresholds.read(threshold),
        evaluation=_evaluation(registrations),
        training=training,
        cohort={
            **run,
            "patients": len(cohort),
            "pairs": sum(len(pairs.mr) for pairs in cohort),
            "mm_per_px": [min(widths), max(widths)],
        },
        provenance={"code": dict(code), "packages": package_versions(), **commit()},
    )
    content = {
        "format": FORMAT,
        "version": VERSION,
        "weights": weights_of(network),
        "finisher": weights_of(looking) if looking else {},
        "facts": facts.model_dump(),
    }
    save(content, output)


def _evaluation(registrations: Iterable[str | Path]) -> Evaluation:
    table = read_registrations(registrations)
    within, stopped = table.tre_px <= SUCCESS_PX, table.status == "registered"
    return Evaluation(
        success_px=SUCCESS_PX,
        patients=table.patient.nunique(),
        stopped=int(stopped.sum()),
        stopped_within=int((stopped & within).sum()),
        refused=int((~stopped).sum()),
        refused_within=int((~stopped & within).sum()),
    )


def load_agent(path: str | Path) -> TrainedAgent:
    """Return the agent of a file, or of the ``agent.pt`` in a folder or beside a training's ``model.pt``.

    Raises ``UserError`` when it is no agent file, or one that means something else than this software does.
    """
    path = Path(path)
    path = path / "agent.pt" if path.is_dir() else path
    if path.name == "model.pt" and path.with_name("agent.pt").exists():
        path = path.with_name("agent.pt")
    if not path.exists():
        hint = "; `make agent` makes it, or give another one" if path == OWN else ""
        raise UserError(f"{path}: no such file, expected an agent (agent.pt){hint}")
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's own words advise to load it without a check
        raise UserError(f"{path}: not an agent file ({_unreadable(path)})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        hint = ""
        if isinstance(content, dict) and {"kind", "weights"} <= content.keys():
            hint = ": it is a training's model, without its threshold; agent.pt beside it is made from it"
        raise UserError(f"{path}: not an agent file{hint}")
    if content.get("version") != VERSION:
        raise UserError(
            f"{path}: an agent file of version {content.get('version')}, expected version {VERSION};"
            " run its configuration again to export it again"
        )
    try:
        facts = AgentFacts.model_validate(content.get("facts"))
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"])) or "facts"
        raise UserError(f"{path}: {key}: {fault['msg']} (found {fault['input']!r:.80})") from error
    expected = actions(facts.network.action_sizes)
    if np.shape(facts.actions) != expected.shape or not np.allclose(facts.actions, expected):
        raise UserError(
            f"{path}: its actions are {facts.actions}, expected those of this software, {expected.tolist()}"
        )
    for part in (facts.network, facts.finisher):
        if part and part.size != facts.slices.size:
            raise UserError(
                f"{path}: a network for slices of {part.size} px, but slices of {facts.slices.size} px"
            )
    network, finisher = AgentNetwork(**facts.network.model_dump()), None
    _fill(network, content.get("weights"), facts.network.kind, path)
    if facts.finisher:
        kind = next(kind for kind, fact in FINISHERS.items() if isinstance(facts.finisher, fact))
        finisher = kind(**facts.finisher.model_dump())
        _fill(finisher, content.get("finisher"), kind.__name__, path)
    return TrainedAgent(network, finisher, facts)


def _fill(network: nn.Module, weights: Any, kind: str, path: Path) -> None:
    """Load the weights of a file into a network of a kind, for inference. Raises ``UserError``."""
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: its weights are not those of a {kind}") from error
    if not all(torch.isfinite(tensor).all() for tensor in network.state_dict().values()):
        raise UserError(f"{path}: holds weights that are not finite")
    network.eval()


def _unreadable(path: Path) -> str:
    """Return why PyTorch cannot read a file, and what to do."""
    with naming(path), path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        return "a pointer of Git LFS to it; fetch the file itself by git lfs pull"
    return "it is damaged, or does not hold weights and plain facts alone; copy or export it again"


def import_agent(
    agent: str | Path, slices: Slices, output_model: str | Path, output_threshold: str | Path
) -> None:
    """Lay an agent file into a run, as the model and the thresholds of a variant that was not trained there.

    Raises ``UserError`` when the run's slices would look different from those that the agent was trained on.
    """
    trained = load_for(agent, slices)
    inference = trained.facts.inference.model_dump()
    save_model(trained.network, output_model, **trained.facts.training, inference=inference)
    trained.facts.thresholds.write(output_threshold)


def import_finisher(agent: str | Path, slices: Slices, output_model: str | Path) -> None:
    """Lay the network that finishes an agent into a run. Raises ``UserError`` as ``import_agent``.

    Also where nothing finishes the agent of the file.
    """
    trained = load_for(agent, slices)
    if not trained.finisher:
        raise UserError(f"{agent}: no network finishes this agent; leave out its row that ends in {FINE}")
    save_model(trained.finisher, output_model, **trained.facts.training)


def load_for(agent: str | Path, slices: Slices) -> TrainedAgent:
    """Return the agent of a file. Raises ``UserError`` when the slices would look different to it."""
    trained = load_agent(agent)
    for key in SAME_LOOK:
        own, here = getattr(trained.facts.slices, key), getattr(slices, key)
        if own != here:
            raise UserError(f"{agent}: trained with slices.{key} {own}, but in the config it is {here}")
    return trained
