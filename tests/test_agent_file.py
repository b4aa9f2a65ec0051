"""An agent goes through its file unchanged, and a file that means something else is refused."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from agents import export, random_states

from regagent.agent import agent_file
from regagent.agent.agent_file import import_agent, import_finisher, load_agent
from regagent.agent.checkpoints import load_finisher, load_model
from regagent.agent.inference import ready_agent
from regagent.agent.matching_network import SliceMatchingNetwork
from regagent.agent.networks import ResidualNetwork, to_blocks
from regagent.agent.release import release
from regagent.agent.settling import distance_at
from regagent.agent.stopping import Thresholds
from regagent.files import UserError
from regagent.geometry import ACTIONS, IDENTITY
from regagent.reproduction.provenance import PACKAGES
from regagent.settings import Inference, Slices


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    return export(tmp_path_factory.mktemp("agent"), greedy=9.5, lookahead=9.0)


def test_the_agent_comes_back_as_it_was(agent):
    network, _ = load_model(agent.parent / "model.pt", "agent")
    trained = load_agent(agent)
    states = random_states(2)
    for one, two in zip(
        network(states, network.initial_memory(2))[:3],
        trained.network(states, trained.network.initial_memory(2))[:3],
        strict=True,
    ):
        assert torch.equal(one, two)
    assert trained.network.rescaled and not trained.network.training
    assert trained.facts.thresholds == Thresholds(greedy=9.5, lookahead=9.0)
    assert trained.facts.slices == Slices() and trained.facts.inference.maximum_steps == 2


#: What may finish an agent, small.
FINISHERS = [ResidualNetwork(width=1).eval(), SliceMatchingNetwork(168, 4, 4, 2).eval()]


def said_by(finisher):
    """Return the D that a network predicts of random images."""
    images = torch.rand(2, 3, 168, 168, generator=torch.Generator().manual_seed(0))
    return distance_at(finisher, to_blocks(images[0]), images[1], np.tile(IDENTITY, (3, 1)))


@pytest.mark.parametrize("network", FINISHERS)
def test_what_finishes_it_comes_back_too(agent, tmp_path, network):
    assert load_agent(agent).finisher is None
    finished = export(tmp_path, finisher=network)
    found = load_agent(finished)
    assert found.facts.finisher.model_dump() == network.arguments
    assert type(found.finisher) is type(network) and not found.finisher.training
    assert np.array_equal(said_by(network), said_by(found.finisher))
    with pytest.raises(
        UserError, match=rf"agent\.pt: its weights are not those of a {type(network).__name__}"
    ):
        load_agent(changed(finished, tmp_path, lambda content: content["finisher"].popitem()))


def test_a_model_of_an_earlier_version_is_refused(agent, tmp_path):
    content = torch.load(agent.parent / "model.pt", weights_only=True)
    del content["arguments"]["rescaled"]
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"model\.pt: a model file of an earlier version; train the model"):
        load_model(tmp_path / "model.pt", "agent")


def test_it_says_where_it_comes_from_without_naming_patients(agent):
    facts = load_agent(agent).facts
    assert facts.cohort == {
        "run": "test", "source": "simulated", "patients": 2, "pairs": 4, "mm_per_px": [1.5, 1.5]
    }  # fmt: skip
    assert facts.provenance["code"] == {"train_agent": "0123"}
    assert set(facts.provenance["packages"]) == set(PACKAGES) and "commit" in facts.provenance
    assert facts.training["variant"] == "CNN-LME"


def test_its_success_is_counted_over_its_test_cases(agent):
    counted = load_agent(agent).facts.evaluation
    assert (counted.patients, counted.stopped, counted.stopped_within) == (1, 6, 4)
    assert (counted.refused, counted.refused_within) == (2, 0)


def test_a_folder_stands_for_its_agent(agent):
    assert load_agent(agent.parent).facts == load_agent(agent).facts


def changed(agent, folder, change):
    content = torch.load(agent, weights_only=True)
    change(content)
    torch.save(content, folder / "agent.pt")
    return folder / "agent.pt"


def nan_weights(content):
    content["weights"]["policy.bias"][0] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=1), "an agent file of version 1, expected version 5"),
        (lambda c: c.update(format="else"), "not an agent file"),
        (lambda c: c["facts"].update(actions=(2 * ACTIONS).tolist()), "its actions are"),
        (lambda c: c["facts"].update(actions=ACTIONS[:4].tolist()), "its actions are"),
        (lambda c: c["facts"]["network"].update(size=128), "network for slices of 128 px, but slices of 168"),
        (lambda c: c["facts"]["network"].update(kind="CNN-LSTM"), "weights are not those of a CNN-LSTM"),
        (lambda c: c["facts"]["network"].update(kind="U-Net"), "network.kind: .*'U-Net'"),
        (lambda c: c["facts"]["thresholds"].update(lookahead=float("nan")), "thresholds.lookahead: .*finite"),
        (lambda c: c["facts"]["thresholds"].pop("greedy"), "thresholds.greedy: Field required"),
        (
            lambda c: c["facts"]["network"].pop("rescaled"),
            "network.rescaled: Field required",
        ),
        (lambda c: c["facts"]["slices"].update(ct_window_hu=(5.0, 1.0)), "slices.ct_window_hu"),
        (lambda c: c["facts"].update(deformation=True), "deformation: Extra inputs"),
        (lambda c: c["weights"].pop("policy.bias"), "weights are not those of a CNN"),
        (lambda c: c.pop("weights"), "weights are not those of a CNN"),
        (nan_weights, "weights that are not finite"),
    ],
)
def test_another_meaning_is_refused(agent, tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        load_agent(changed(agent, tmp_path, change))
    assert str(error.value).startswith(f"{tmp_path / 'agent.pt'}: ") and "\n" not in str(error.value)


def test_a_trainings_own_model_stands_for_the_agent_beside_it(agent, tmp_path):
    assert load_agent(agent.parent / "model.pt").facts == load_agent(agent).facts
    alone = shutil.copy(agent.parent / "model.pt", tmp_path)
    with pytest.raises(UserError, match=r"model\.pt: not an agent file: .*agent\.pt beside it"):
        load_agent(alone)


def test_what_is_no_file_of_an_agent_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_agent(tmp_path)
    (tmp_path / "agent.pt").write_text("weights")
    with pytest.raises(UserError, match="not an agent file"):
        load_agent(tmp_path)
    for content, why in (
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7\nsize 12\n", "a pointer of Git LFS"),
        (b"<html>", "it is damaged, or does not hold weights"),
        (b"", "it is damaged"),
        (pickle.dumps({"format": tmp_path}), "it is damaged, or does not hold"),
    ):
        (tmp_path / "agent.pt").write_bytes(content)
        with pytest.raises(UserError, match=f"agent.pt: not an agent file \\({why}") as caught:
            load_agent(tmp_path)
        assert "torch" not in str(caught.value).replace(f"{tmp_path}", "").lower()
    torch.save([1, 2], tmp_path / "agent.pt")
    with pytest.raises(UserError, match="not an agent file"):
        load_agent(tmp_path)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_file_runs_no_code(agent, tmp_path):
    trap = Trap(tmp_path / "sprung")
    with pytest.raises(UserError, match="not an agent file"):
        load_agent(changed(agent, tmp_path, lambda content: content["facts"].update(cohort={"run": trap})))
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"format": trap}, protocol=2))
    with pytest.raises(UserError, match="not an agent file"):
        load_agent(tmp_path / "plain.pt")
    assert not (tmp_path / "sprung").exists()


def test_a_run_takes_it_over(agent, tmp_path):
    import_agent(agent, Slices(count=3), tmp_path / "model.pt", tmp_path / "threshold.json")
    network, facts = load_model(tmp_path / "model.pt", "agent")
    original, before = load_model(agent.parent / "model.pt", "agent")
    assert facts == before | {"inference": Inference(maximum_steps=2, simulations=2, depth=2).model_dump()}
    _, own = ready_agent(tmp_path / "model.pt", Inference(simulations=9))
    assert own.simulations == 2
    _, given = ready_agent(agent.parent / "model.pt", Inference(simulations=9))
    assert given.simulations == 9
    assert all(
        np.array_equal(one, two)
        for one, two in zip(network.state_dict().values(), original.state_dict().values(), strict=True)
    )
    assert json.loads((tmp_path / "threshold.json").read_text()) == {"greedy": 9.5, "lookahead": 9.0}


@pytest.mark.parametrize("network", FINISHERS)
def test_a_run_takes_over_what_finishes_it(agent, tmp_path, network):
    finished, taken = export(tmp_path, finisher=network), tmp_path / "taken.pt"
    import_finisher(finished, Slices(), taken)
    assert np.array_equal(said_by(load_finisher(taken)[0]), said_by(network))
    with pytest.raises(UserError, match="no network finishes this agent; leave out its row .* -fine"):
        import_finisher(agent, Slices(), tmp_path / "none.pt")
    assert not (tmp_path / "none.pt").exists()


@pytest.mark.parametrize(
    "other", [{"size": 128}, {"ct_window_hu": (-100, 900)}, {"mr_percentiles": (0, 99.5)}]
)
def test_a_run_whose_slices_look_different_does_not(agent, tmp_path, other):
    with pytest.raises(UserError, match=rf"trained with slices\.{next(iter(other))}"):
        import_agent(agent, Slices(**other), tmp_path / "model.pt", tmp_path / "threshold.json")
    with pytest.raises(UserError, match=rf"trained with slices\.{next(iter(other))}"):
        import_finisher(agent, Slices(**other), tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def test_a_released_agent_is_half_as_large_and_the_same(tmp_path):
    agent, small, again = (
        export(tmp_path, finisher=FINISHERS[0]),
        tmp_path / "small.pt",
        tmp_path / "again.pt",
    )
    release(agent, small)
    release(agent, again)
    assert small.read_bytes() == again.read_bytes()
    assert small.stat().st_size < 0.55 * agent.stat().st_size
    whole, half = load_agent(agent), load_agent(small)
    assert half.facts == whole.facts
    for one, two in ((whole.network, half.network), (whole.finisher, half.finisher)):
        for before, after in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
            assert after.dtype == torch.float32 and torch.allclose(before, after, rtol=1e-3, atol=1e-6)
    huge = changed(agent, tmp_path, lambda content: content["weights"]["policy.bias"].fill_(1e5))
    with pytest.raises(UserError, match="holds weights that are not finite"):
        release(huge, tmp_path / "huge.pt")


def test_without_an_agent_of_its_own_the_command_asks_for_one(tmp_path, monkeypatch):
    monkeypatch.setattr(agent_file, "OWN", tmp_path / "agent.pt")
    with pytest.raises(UserError, match=r"expected an agent \(agent\.pt\); `make agent` makes it, or give"):
        load_agent(tmp_path / "agent.pt")
