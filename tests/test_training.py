"""Training: one seed repeats, a killed training goes on, a toy task is learned, a dying worker ends it."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from agents import RANGES, give_pairs, make_pairs, reinforcement, supervised

from regagent.agent import a3c, calibration, losses, regression, shared_learner
from regagent.agent.a3c import train_agent
from regagent.agent.checkpoints import load_model, load_state, save_model, save_state
from regagent.agent.inference import Way, register
from regagent.agent.networks import AgentNetwork
from regagent.agent.shared_learner import SharedLearner
from regagent.agent.stopping import Thresholds
from regagent.files import UserError
from regagent.geometry import IDENTITY
from regagent.jobs import DETERMINISTIC
from regagent.settings import Calibration, Inference, PerturbationRange, Regressor, StopThresholds, load

COLUMNS = ["worker", "episode", "env_step", "seconds", "steps", "reward", "distance", "success"]


@pytest.fixture
def pairs(monkeypatch):
    return give_pairs(monkeypatch)


def train(folder, settings, seed=1, ranges=RANGES, version="1"):
    state, model, training = (folder / name for name in ("state", "model.pt", "training.csv"))
    train_agent([], "", ranges, settings, seed, "test", state, version, model, training)
    return load_model(folder / "model.pt", "agent")[0], pd.read_csv(folder / "training.csv")


def weights(network):
    return torch.nn.utils.parameters_to_vector(network.parameters())


@pytest.mark.parametrize("make", [reinforcement, supervised])
def test_one_worker_and_one_seed_give_the_same_weights(pairs, tmp_path, make):
    settings = make(steps=200, episode_steps=15)
    first, record = train(tmp_path / "a", settings)
    second, _ = train(tmp_path / "b", settings)
    other, _ = train(tmp_path / "c", settings, seed=2)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))
    assert list(record.columns) == COLUMNS and (record.steps <= 15).all()


@pytest.mark.parametrize("keys", [{"reward": "paper", "rescale_values": False}, {"network": "CNN"}])
def test_the_other_kinds_train_too(pairs, tmp_path, keys):
    network, record = train(tmp_path, reinforcement(steps=120, episode_steps=15, **keys))
    assert network.arguments["values"] == (1 if "reward" in keys else 2)
    assert torch.isfinite(weights(network)).all() and len(record)


@pytest.mark.parametrize("make", [reinforcement, supervised])
def test_an_agent_of_two_sizes_trains_beyond_its_goal(pairs, tmp_path, make):
    keys = {"action_sizes": (1.0, 0.25), "terminal_distance": 0.3, "goal_steps": 5}
    network, _ = train(tmp_path, make(steps=120, episode_steps=15, **keys))
    assert network.policy.out_features == 16 and torch.isfinite(weights(network)).all()


@pytest.mark.parametrize("make", [reinforcement, supervised])
def test_all_that_the_paper_says_trains_and_registers(pairs, tmp_path, make):
    """The keys of config/paper.yaml that set the paper's reading, in a training of a few episodes."""
    paper = {"distance": "Frobenius", "reduction": "sum", "episodes": 20, "rescale_values": False}
    paper |= {"terminal_value_weight": 0.0, "gradient_clip": 40.0, "workers": 2, "environments": 1}
    if make is reinforcement:
        paper |= {"reward": "paper", "discount": 0.99, "normalise_advantages": False}
    network, record = train(tmp_path, make(steps=100_000, episode_steps=15, **paper))
    assert len(record) >= 20 and torch.isfinite(weights(network)).all()
    assert (record.success == (record.distance < 1)).all()
    inference = Inference(maximum_steps=6, simulations=3, depth=2, weights="paper")
    (found,) = register(network, pairs.mr, pairs.ct, [Way(-1e9, lookahead=True)], inference)
    assert found.stopped.all() and np.isfinite(found.pose).all()


@pytest.mark.parametrize("make", [reinforcement, supervised])
def test_given_thresholds_are_taken_and_the_papers_stand_beside(pairs, tmp_path, monkeypatch, make):
    monkeypatch.setattr(calibration, "read_pairs", lambda slices, split, subset: pairs)
    train(tmp_path, make(steps=40, episode_steps=15))
    settings = Calibration(cases=4, steps=5, candidates=2, lookahead_candidates=2)
    inference = Inference(simulations=2, depth=2)
    tables, levels = [], []
    for given in (None, StopThresholds(greedy=-1e6, lookahead=1e6)):
        outputs = tmp_path / "threshold.json", tmp_path / "calibration.csv"
        model = tmp_path / "model.pt"
        calibration.calibrate_threshold([], "", model, RANGES, settings, inference, given, *outputs)
        tables.append(pd.read_csv(outputs[1]))
        levels.append(Thresholds.read(outputs[0]))
    assert tables[1][:-2].drop(columns="chosen").equals(tables[0].drop(columns="chosen"))
    assert tables[1].chosen.tolist() == [False] * len(tables[0]) + [True] * 2
    assert tables[1].stopped.tolist()[-2:] == [1, 0]  # one that is always reached, one that never is
    assert (levels[1].greedy, levels[1].lookahead) == (-1e6, 1e6) and abs(levels[0].greedy) < 1e6
    paper = StopThresholds(greedy=10, lookahead=9)
    if make is supervised:
        paper = StopThresholds(greedy=-0.05, lookahead=-0.1)
    assert levels[0].paper == levels[1].paper == paper


def test_the_lowest_threshold_of_nearly_the_lowest_error_is_chosen(pairs, tmp_path):
    network, _ = train(tmp_path, reinforcement(steps=800, episode_steps=15))
    inference = Inference(maximum_steps=10, simulations=2, depth=2)
    tables = []
    for tolerance in (0.0, 0.02, 1.0):
        settings = Calibration(cases=12, steps=30, candidates=8, tolerance=tolerance)
        tables.append(calibration.try_thresholds(network, pairs, RANGES, settings, inference))
    for tolerance, table in zip((0.0, 0.02, 1.0), tables, strict=True):
        for _, rows in table.groupby("lookahead"):
            good = rows[rows.mean_px <= (1 + tolerance) * rows.mean_px.min()]
            assert rows[rows.chosen].threshold.tolist() == [good.threshold.min()]
    errors = [table[table.chosen & ~table.lookahead].mean_px.item() for table in tables]
    assert errors[0] == tables[0][~tables[0].lookahead].mean_px.min() and errors[0] <= errors[1] <= errors[2]


@pytest.mark.parametrize("acts", ["expert", "policy"])
def test_a_supervised_agent_learns_the_best_action_whoever_acts(pairs, acts):
    settings = supervised(acts=acts, label_temperature=0.1, ends_when_stuck=True, environments=8)
    shared, make = a3c.start_training(pairs, RANGES, settings, 1, 8, torch.device("cpu"))
    worker = make(0)
    rollout = worker.actor.collect(3, worker.choose)
    followed = rollout.actions == rollout.candidates.argmin(-1)
    assert followed.all() == (acts == "expert")
    certain = -1e4 * rollout.candidates  # says of every state which action is the best
    sharp = replace(rollout, logits=certain.requires_grad_())
    for temperature, lowest in ((0.0, True), (0.1, False)):
        keys = {"label_temperature": temperature, "stopping_weight": 0.0}
        loss = losses.supervised_loss(sharp, settings.model_copy(update=keys))
        assert (loss.item() < 1e-3) == lowest  # with a temperature, near ties count too


def test_two_workers_train_one_network(pairs, tmp_path):
    settings = reinforcement(workers=2, steps=400, episode_steps=15)
    network, record = train(tmp_path, settings)
    start = a3c.start_training(pairs, RANGES, settings, 1, 4, torch.device("cpu"))[0].weights
    assert set(record.worker) == {0, 1}
    assert record.env_step.max() >= 400 and torch.isfinite(weights(network)).all()
    assert not torch.equal(weights(network), start)


def test_two_workers_updates_reach_one_adam():
    network = AgentNetwork("CNN")
    shared = SharedLearner(network, reinforcement(adam_beta1=0.9), torch.device("cpu"))
    before = shared.weights.detach().clone()
    gradient = torch.ones_like(before)
    totals = shared.context.Queue()
    for total in (40, 80):
        worker = shared.context.Process(target=lambda: totals.put(shared.update(gradient, 40, 1)))
        worker.start()
        assert totals.get(timeout=60) == total
        worker.join()
    state = shared.state()
    assert state["adam"]["step"] == 2 and (state["steps"], state["episodes"]) == (80, 2)
    # Adam's means after two equal gradients of 1: 1 - 0.9² and 1 - 0.999²
    assert state["adam"]["exp_avg"][0].item() == pytest.approx(0.19)
    assert state["adam"]["exp_avg_sq"][0].item() == pytest.approx(1 - 0.999**2, rel=1e-4)
    assert (shared.weights < before).all()


def test_the_learning_rate_rises_and_falls_linearly():
    settings = reinforcement(
        steps=1000, learning_rate=1e-3, warmup_fraction=0.2, final_learning_rate_fraction=0.1
    )
    shared = SharedLearner(AgentNetwork("CNN"), settings, torch.device("cpu"))
    gradient = torch.ones_like(shared.weights)
    rates = []
    for _ in range(10):
        shared.update(gradient, 100, 0)
        rates.append(shared.optimiser.param_groups[0]["lr"])
    falling = [1e-3 * (1 - 0.9 * part / 10) for part in range(1, 11)]
    assert rates == pytest.approx([falling[0] / 2, *falling[1:]])


def test_schedules_follow_the_episodes_where_they_end_the_training():
    settings = reinforcement(
        steps=10_000, episodes=10, learning_rate=1e-3, warmup_fraction=0.2, final_learning_rate_fraction=0.1
    )
    shared = SharedLearner(AgentNetwork("CNN"), settings, torch.device("cpu"))
    rates = []
    for _ in range(10):
        shared.update(torch.ones_like(shared.weights), 100, 1)
        rates.append(shared.optimiser.param_groups[0]["lr"])
    falling = [1e-3 * (1 - 0.9 * part / 10) for part in range(1, 11)]
    assert rates == pytest.approx([falling[0] / 2, *falling[1:]])
    assert shared.part_done() == 1 and shared.steps.value == 1000


@pytest.mark.parametrize("end", [{"steps": 200}, {"steps": 10_000, "episodes": 20}])
def test_the_loss_is_told_which_part_of_the_training_is_over(pairs, tmp_path, monkeypatch, end):
    told = []

    def loss(rollout, settings, progress):
        told.append(progress)
        return losses.reinforcement_loss(rollout, settings, progress)

    monkeypatch.setattr(a3c, "reinforcement_loss", loss)
    _, record = train(tmp_path, reinforcement(episode_steps=15, **end))
    ended = [(record.env_step <= 40 * update).sum() for update in range(len(told))]
    parts = np.divide(ended, 20) if "episodes" in end else np.arange(5) / 5
    assert told == pytest.approx(parts) and len(set(told)) > 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_ends_after_so_many_episodes(pairs, tmp_path, workers):
    keys = {"episode_steps": 15, "workers": workers, "episodes": 30}
    _, record = train(tmp_path / "episodes", reinforcement(steps=100_000, **keys))
    # Each worker ends with an update of 4 × 10 steps in which no episode ends twice.
    assert 30 <= len(record) < 30 + 4 * workers and set(record.worker) == set(range(workers))
    assert record.env_step.max() < 1000
    _, record = train(tmp_path / "steps", reinforcement(steps=120, **keys))
    assert len(record) < 30 and record.env_step.max() <= 120 + 40 * (workers - 1)


@pytest.mark.parametrize("make", [reinforcement, supervised])
@pytest.mark.parametrize("end", [{"steps": 400}, {"steps": 10_000, "episodes": 26}])
def test_a_killed_training_goes_on_as_if_never_stopped(pairs, tmp_path, monkeypatch, make, end):
    settings = make(**end, episode_steps=15, checkpoint_seconds=1e-3, augmentation={})
    network, record = train(tmp_path / "unbroken", settings)
    update, calls = a3c.Worker.update, []

    def killed(worker):
        calls.append(worker.shared.steps.value)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return update(worker)

    monkeypatch.setattr(a3c.Worker, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", settings)
    assert not (tmp_path / "broken" / "model.pt").exists()
    again, record_again = train(tmp_path / "broken", settings)
    assert calls[6] == 200 and len(calls) > 8  # five rollouts of 4 × 10 steps were kept
    assert torch.equal(weights(network), weights(again))
    assert record_again.drop(columns="seconds").equals(record.drop(columns="seconds"))


def test_a_training_that_ended_or_whose_code_changed_starts_from_the_beginning(pairs, tmp_path, monkeypatch):
    settings = reinforcement(steps=80, episode_steps=15, checkpoint_seconds=1e-3)
    starts, make = [], a3c.Worker.__init__

    def noted(worker, index, shared, *rest):
        starts.append(shared.steps.value)
        make(worker, index, shared, *rest)

    monkeypatch.setattr(a3c.Worker, "__init__", noted)
    train(tmp_path, settings)
    train(tmp_path, settings)
    monkeypatch.setattr(a3c, "save_model", lambda *args, **facts: exec("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, settings)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, settings)  # goes on: nothing is left to do but to save
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, settings, version="2")
    assert starts == [0, 0, 0, 80, 0]


def test_a_state_of_other_settings_is_not_used(tmp_path):
    save_state(tmp_path, {"fingerprint": "a", "steps": 3})
    assert load_state(tmp_path, "a")["steps"] == 3
    assert load_state(tmp_path, "b") is None


def test_a_state_that_cannot_be_read_is_told_in_one_line_and_runs_nothing(tmp_path, caplog):
    class Command:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "state.pt"
    for broken in (
        b"half a file",
        {"fingerprint": "a", "part": Command()},
        {"fingerprint": np.float64(1)},
        [1],
    ):
        path.write_bytes(broken) if isinstance(broken, bytes) else torch.save(broken, path)
        caplog.clear()
        assert load_state(tmp_path, "a") is None
        (message,) = caplog.messages
        assert message.startswith(f"{path}: not a readable checkpoint, training begins anew (")
        assert "\n" not in message
    assert not (tmp_path / "made").exists()


def test_a_dying_worker_ends_the_training_with_its_reason(pairs, tmp_path, monkeypatch):
    settings = reinforcement(workers=2, steps=10**6)
    monkeypatch.setattr(a3c.Worker, "update", lambda worker: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="died with exit status -9"):
        train(tmp_path / "killed", settings)

    def fail(worker):
        raise ValueError("no such thing")

    monkeypatch.setattr(a3c.Worker, "update", fail)
    with pytest.raises(UserError, match="no such thing"):
        train(tmp_path / "failed", settings)


def test_the_workers_of_a_killed_training_end(pairs):
    """Also where it is killed while it holds the weights' lock, and the workers wait for that."""
    settings = reinforcement(workers=2, steps=10**6, network="CNN")
    shared, make_worker = a3c.start_training(pairs, RANGES, settings, 1, 4, torch.device("cpu"))
    holds_the_lock = shared.context.Event()

    def train_until_killed():
        inbox = shared.context.Queue()
        for index in range(2):
            shared.context.Process(target=a3c._run_worker, args=(index, inbox, make_worker)).start()
        inbox.get()
        with shared.lock:
            holds_the_lock.set()
            time.sleep(60)

    training = shared.context.Process(target=train_until_killed)
    training.start()
    assert holds_the_lock.wait(60)
    crew = psutil.Process(training.pid).children()
    assert len(crew) == 2
    training.kill()
    training.join()
    left = psutil.wait_procs(crew, timeout=30)[1]
    for worker in left:
        worker.kill()
    assert not left


def test_a_worker_that_dies_with_the_weights_in_hand_does_not_hang_the_training(monkeypatch):
    shared = SharedLearner(AgentNetwork("CNN"), reinforcement(), torch.device("cpu"))
    monkeypatch.setattr(shared_learner, "LOCK_SECONDS", 0.1)
    shared.lock.acquire()
    with pytest.raises(UserError, match="died while it wrote the weights"):
        shared.state()


def test_a_deterministic_training_writes_the_same_bytes_twice(pairs, tmp_path, monkeypatch):
    variants = {"RL": {"learner": "reinforcement", "workers": 2, "environments": 3}}
    settings = load({"deterministic": True, "variants": variants, "methods": ["RL"]}).variants["RL"]
    assert (settings.workers, settings.environments) == (1, 6)
    monkeypatch.setenv(DETERMINISTIC, "1")
    for folder in ("one", "two"):
        train(tmp_path / folder, settings.model_copy(update={"steps": 1_500, "episode_steps": 15}))
    for name in ("model.pt", "training.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    torch.use_deterministic_algorithms(False)


def test_a_loss_that_is_not_finite_stops_the_training(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(a3c, "reinforcement_loss", lambda rollout, *rest: rollout.values.sum() * np.nan)
    with pytest.raises(UserError, match="gradient is not finite .* after 0 steps"):
        train(tmp_path, reinforcement())


def test_a_toy_task_is_learned(tmp_path, monkeypatch):
    """Translations of a few pixels on a small image: almost never reached by chance, then almost always."""
    toy = make_pairs(1, size=96)
    monkeypatch.setattr(a3c, "read_pairs", lambda slices, split, subset: toy)
    settings = reinforcement(
        steps=16_000,
        environments=16,
        unroll=5,
        episode_steps=30,
        exploring_starts=0.0,
        terminal_distance=1.5,
        learning_rate=1e-3,
    )
    near = PerturbationRange(translation_px=6, rotation_deg=0, scale=(1.0, 1.0))
    _, record = train(tmp_path, settings, ranges=near)
    assert record.success[:30].mean() < 0.3
    assert record.success[-200:].mean() > 0.9


def test_pure_sl_learns_and_goes_on(pairs, tmp_path):
    settings = Regressor(learner="regression", steps=100, batch=8, checkpoint_seconds=1e-3)
    model, training = tmp_path / "model.pt", tmp_path / "training.csv"
    regression.train_regressor([], "", RANGES, settings, 1, "test", tmp_path / "state", "1", model, training)
    network, _ = load_model(model, "regression")
    assert pd.read_csv(training).loss.iloc[-1] < 0.34  # the variance of a uniform value in [-1, 1] is 1/3
    poses = regression.regress(network.double().float(), pairs.mr, pairs.ct)
    assert poses.shape == (3, 4) and (poses[:, 3] > 0).all() and not (poses == IDENTITY).all()


def test_model_files_are_checked(tmp_path):
    network = AgentNetwork("CNN", values=2)
    save_model(network, tmp_path / "model.pt", variant="x")
    loaded, facts = load_model(tmp_path / "model.pt", "agent")
    assert torch.equal(weights(loaded), weights(network)) and facts == {"variant": "x"}
    with pytest.raises(UserError, match="kind 'agent', expected 'regression'"):
        load_model(tmp_path / "model.pt", "regression")
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="broken.pt: not a model file"):
        load_model(tmp_path / "broken.pt", "agent")
