"""Watching a training: its table grows by whole lines, its curves by points; a resume cuts both back."""

import logging
import re
import sys

import pandas as pd
import pytest
from agents import RANGES, make_pairs, reinforcement

from regagent.agent import a3c, record, regression
from regagent.agent.record import TrainingRecord
from regagent.files import UserError
from regagent.settings import Regressor, ResidualRegressor

KINDS = ["agent", "regression", "residual"]


class Killed(BaseException):
    """What ends a training in its midst here."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give the trainings small pairs, and a progress line an update; return the folder that they write to."""
    pairs = make_pairs()
    for module in (a3c, regression):
        monkeypatch.setattr(module, "read_pairs", lambda slices, split, subset: pairs)
    monkeypatch.setattr(record, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(regression, "ROW_STEPS", 5)
    return tmp_path


def train(folder, kind, **keys):
    """Train something small: 24 updates of 40 steps of an agent, or 24 steps of a regression."""
    if kind == "agent":
        settings, run = reinforcement(network="CNN", episode_steps=15, **keys), a3c.train_agent
    else:
        made = {"regression": Regressor, "residual": ResidualRegressor}[kind]
        settings, run = made(learner=kind, steps=24, batch=4, **keys), regression.train_regressor
    run(
        [],
        "",
        RANGES,
        settings,
        1,
        "test",
        folder / "state",
        "1",
        folder / "model.pt",
        folder / "training.csv",
    )


def before_each_update(monkeypatch, look):
    """Call ``look`` with the number of updates so far, before each one."""
    numbers = iter(range(1000))

    def watched(function):
        def call(*arguments):
            look(next(numbers))
            return function(*arguments)

        return call

    monkeypatch.setattr(a3c.Worker, "update", watched(a3c.Worker.update))
    for task in (regression.OneShot, regression.Residuals):
        monkeypatch.setattr(task, "draw", watched(task.draw))


def read_curves(folder):
    """Return the points (step, value) of each curve."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_grows_by_whole_lines_and_becomes_the_output(folder, monkeypatch, kind):
    growing, seen = folder / "state" / "training.csv", []

    def look(number):
        seen.append(growing.read_bytes())
        assert len(pd.read_csv(growing)) == seen[-1].count(b"\n") - 1
        assert not (folder / "training.csv").exists()

    before_each_update(monkeypatch, look)
    train(folder, kind)
    output = (folder / "training.csv").read_bytes()
    assert len(seen) == 24 and len(set(seen)) > 4
    for content in seen:
        assert content.endswith(b"\n") and output.startswith(content)
    assert not growing.exists() and not (folder / "state" / "state.pt").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_resume_cuts_the_table_and_the_curves_back_to_the_checkpoint(folder, monkeypatch, kind):
    growing, contents = folder / "state" / "training.csv", []
    checkpoint_is_due = TrainingRecord.checkpoint_is_due

    def look(number):
        contents.append(growing.read_bytes())
        if number == 19:
            with growing.open("ab") as file:
                file.write(b"0,12,4")  # a line cut short
            raise Killed

    before_each_update(monkeypatch, look)
    # The last checkpoint is that of the eleventh update.
    monkeypatch.setattr(TrainingRecord, "checkpoint_is_due", lambda kept: len(contents) == 11)
    with pytest.raises(Killed):
        train(folder, kind)
    assert len(contents[19]) > len(contents[11])
    monkeypatch.setattr(TrainingRecord, "checkpoint_is_due", checkpoint_is_due)
    train(folder, kind)

    assert contents[20] == contents[11]  # the first that the resumed training saw
    assert len(contents) == 33  # twenty, of which nine are lost, and the thirteen after the checkpoint
    table = pd.read_csv(folder / "training.csv")
    step = "episode" if kind == "agent" else "step"
    assert table[step].is_unique and table[step].is_monotonic_increasing
    each = 40 if kind == "agent" else 1
    steps = [step for step, _ in read_curves(folder / "state")["training/loss"]]
    assert steps == [each * number for number in range(1, 25)]


def test_curves_show_what_the_progress_lines_say(folder, caplog):
    caplog.set_level(logging.INFO, "regagent")
    train(folder, "agent", warmup_fraction=0.5)
    curves = read_curves(folder / "state")
    assert set(curves) == {
        f"training/{name}"
        for name in (
            *("success", "steps_an_episode", "reward_an_episode", "distance_at_the_end", "loss"),
            *("gradient_norm", "learning_rate", "steps_per_second"),
        )
    }
    table = pd.read_csv(folder / "training.csv")
    for name, column in a3c.MEANS.items():
        step, value = curves[f"training/{name.replace(' ', '_')}"][-1]
        assert (step, value) == (960, pytest.approx(table[column].tail(record.RECENT_ROWS).mean(), rel=1e-5))
    rates = [value for _, value in curves["training/learning_rate"]]
    assert max(rates) in rates[10:13] and rates[0] < rates[5] > rates[-1]
    lines = [message for message in caplog.messages if "steps/s" in message]
    assert len(lines) == 24 and lines[-1].startswith("test: step 960 of 960, ")
    assert f"steps an episode {table.steps.tail(record.RECENT_ROWS).mean():.3g}, " in lines[-1]
    assert caplog.text.count(f"tensorboard --logdir {folder}/state") == 1


def test_a_training_that_begins_anew_has_new_curves(folder):
    train(folder, "regression")
    first = set((folder / "state").iterdir())
    train(folder, "regression")
    second = set((folder / "state").iterdir())
    assert len(first) == len(second) == 1 and first != second
    assert len(read_curves(folder / "state")["training/loss"]) == 24


@pytest.mark.parametrize("kind", KINDS)
def test_without_tensorboard_there_are_no_curves_and_nothing_else_is_missing(
    folder, monkeypatch, caplog, kind
):
    caplog.set_level(logging.INFO, "regagent")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    train(folder, kind)
    assert (folder / "model.pt").exists() and len(pd.read_csv(folder / "training.csv")) > 4
    assert not list((folder / "state").iterdir())
    assert "test: step 24" in caplog.text or "test: step 960" in caplog.text
    assert "tensorboard" not in caplog.text


def test_two_workers_share_one_table_and_one_set_of_curves(folder):
    train(folder, "agent", workers=2)
    table = pd.read_csv(folder / "training.csv")
    assert set(table.worker) == {0, 1} and list(table.episode) == list(range(len(table)))
    steps = [step for step, _ in read_curves(folder / "state")["training/loss"]]
    assert steps == sorted(set(steps)) and steps[-1] >= 960


def test_the_time_left_is_that_of_what_comes_first(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "regagent")
    now = iter([0.0, 100.0, 200.0, 300.0, 400.0])
    monkeypatch.setattr(record.time, "monotonic", lambda: next(now))
    arguments = tmp_path / "state", "mark", "test", 1000, 60.0, regression.COLUMNS, None, 5
    kept = TrainingRecord(*arguments)
    for step, rows in ((100, 2), (200, 0)):
        kept.measures.append({})
        kept.step = step
        kept.rows.extend({"step": step, "loss": 0.5} for _ in range(rows))
        kept.tell()
    lines = re.findall(r"steps/s, (\d+ s) left", "\n".join(caplog.messages))
    # Three of five rows at two in 100 s; then no row tells how fast they come, and 800 steps at 100 in 100 s.
    assert lines == ["150 s", "800 s"]


def test_a_table_that_cannot_be_written_is_named(tmp_path):
    kept = TrainingRecord(tmp_path / "state", "mark", "test", 10, 60.0, regression.COLUMNS)
    kept.table.unlink()
    (tmp_path / "state").rmdir()
    with pytest.raises(UserError, match="state/training.csv: cannot be written: No such file"):
        kept.add(1, [{"step": 1, "loss": 0.5}], {})
