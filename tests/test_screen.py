"""What a run shows: lines of jobs that ended, errors and warnings of their logs, how long it may take."""

import io
import logging
import os
import re
import sys
import time

import pytest
from rich.console import Console
from snakemake.logging import DefaultFilter
from snakemake_interface_logger_plugins.common import LogEvent
from test_faults import ODD
from workflow import copy_workflow, snakemake

from regagent.reproduction import screen as module
from regagent.reproduction.screen import Duration, Job, Screen, show_run

USUAL = {"train": 100.0, "cut": 10.0}


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved on."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def screen(clock):
    default = logging.StreamHandler(io.StringIO())
    default.name = "DefaultStreamHandler"
    return Screen(default, USUAL)


def say(screen, event=None, message="", level=logging.INFO, **facts):
    record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
    record.__dict__ |= {"event": event} | facts if event else facts
    screen.handle(record)


def start(screen, number, rule="cut", title="P1: cutting", log=()):
    facts = {"jobid": number, "rule_name": rule, "rule_msg": title, "log": [str(path) for path in log]}
    say(screen, LogEvent.JOB_INFO, **facts)


def shown(screen):
    return screen.default.stream.getvalue().splitlines()


def test_a_job_is_one_line_when_it_has_ended(screen, clock):
    say(screen, LogEvent.RUN_INFO, "Job stats", stats={"cut": 2, "total": 2})
    start(screen, 7)
    assert shown(screen) == ["Job stats"]
    clock[0] += 75
    say(screen, LogEvent.JOB_FINISHED, "Finished jobid: 7", job_id=7)
    say(screen, LogEvent.PROGRESS, "1 of 2 steps (50%) done", done=1, total=2)
    assert shown(screen)[1:] == ["[1/2] P1: cutting: 1:15"]


def test_errors_and_warnings_come_from_the_logs(screen, tmp_path):
    log = tmp_path / "job.log"
    log.write_text(
        "read 3 slices\nwarning: patient P1: look at it\n  5 %\r 10 %\rerror: patient P1: no head\n"
    )
    start(screen, 1, log=[log])
    say(screen, LogEvent.JOB_ERROR, "Error in rule cut", logging.ERROR, jobid=1)
    assert [line for line in shown(screen) if "P1" in line] == [
        "[0/0] P1: cutting: failed after 0:00",
        "warning: patient P1: look at it",
        "error: patient P1: no head",
    ]
    assert shown(screen)[-1] == "Error in rule cut"


def test_a_warning_long_before_the_end_of_a_log_is_told(screen, tmp_path):
    log = tmp_path / "job.log"
    log.write_text("warning: begins anew\n" + "step 1 of 9\n" * 1000)
    start(screen, 1, log=[log])
    say(screen, LogEvent.JOB_FINISHED, "Finished jobid: 1", job_id=1)
    assert shown(screen)[1:] == ["warning: begins anew"]


def test_what_tells_nothing_is_not_said(screen):
    for message in ("Select jobs to execute...", "Execute 2 jobs...", "Provided cores: 2"):
        say(screen, None, message)
    say(screen, None, "Nothing to be done")
    assert shown(screen) == ["Nothing to be done"]


def test_brackets_and_long_lines_stay_as_they_are(screen):
    message = "error: [patient] " + "a long way " * 40 + ODD
    say(screen, None, message, logging.ERROR)
    assert shown(screen) == [message]


def test_a_log_that_is_missing_or_odd_says_nothing(tmp_path):
    assert Job("cut", "", None).lines() == Job("cut", "", tmp_path / "none.log").lines() == []
    (tmp_path / "odd.log").write_bytes(b"x" * 5000 + b"\n\xff\xfe end\n\n")
    assert Job("cut", "", tmp_path / "odd.log").lines()[-1].endswith(" end")


def test_durations_are_those_of_the_run_or_the_usual_ones_at_its_pace(clock):
    duration = Duration(USUAL)
    assert (duration.of("train"), duration.of("draw")) == (100, 1)
    job = Job("cut", "", None)
    clock[0] += 20
    duration.add(job)
    assert duration.of("cut") == 20 and duration.of("train") == 200  # twice as slow as usual
    job = Job("draw", "", None)
    clock[0] += 6
    duration.add(job)
    assert duration.of("draw") == 6 and duration.of("train") == 200


def test_the_time_left_is_that_of_what_runs_and_waits(screen, clock):
    screen.cores = 2
    say(screen, LogEvent.RUN_INFO, "", stats={"cut": 4, "train": 1, "total": 5})
    assert screen.seconds_left() == 70  # four of 10 s and one of 100 s, on two cores
    start(screen, 1, "train", "training")
    clock[0] += 10
    assert screen.seconds_left() == 90  # no less than what the training still takes
    clock[0] += 1000
    assert screen.seconds_left() == 20


def test_a_terminal_shows_what_runs_now(screen, clock, tmp_path, monkeypatch):
    (tmp_path / "job.log").write_text("step 5 of 10\n")
    say(screen, LogEvent.RUN_INFO, "", stats={"train": 1, "cut": 1, "total": 2})
    start(screen, 1, "train", "RL-LME: training", [tmp_path / "job.log"])
    clock[0] += 30
    stream = io.StringIO()
    Console(file=stream, width=90).print(screen._picture())
    bar, job = stream.getvalue().splitlines()
    assert re.match(r"0 of 2 jobs .* 0:30, about 1:10 left", bar)
    assert re.match(r"  RL-LME: training, 0:30  step 5 of 10$", job)


def test_it_takes_the_place_of_snakemakes_own_handler_alone(monkeypatch, screen):
    monkeypatch.setattr(os, "environ", {})
    logger = logging.Logger("snakemake")
    other = logging.StreamHandler(io.StringIO())
    logger.addHandler(other)
    show_run(logger)
    assert logger.handlers == [other] and module.LOGS_ONLY not in os.environ
    logger.addHandler(screen.default)
    dry = DefaultFilter(None, debug_dag=False, verbose=False, dryrun=True, printshellcmds=False)
    screen.default.addFilter(dry)
    show_run(logger)
    assert logger.handlers == [other, screen.default]
    dry.dryrun = False
    show_run(logger)
    assert isinstance(logger.handlers[1], Screen) and os.environ[module.LOGS_ONLY] == "1"


def test_a_run_says_each_job_once_and_its_jobs_write_to_their_logs(tmp_path):
    folder = copy_workflow(tmp_path)
    script = folder / "workflow_scripts" / "split_patients.py"
    text = script.read_text().replace(
        "with logged(snakemake.log[0]):\n",
        "import os, logging\nwith logged(snakemake.log[0]):\n"
        "    os.write(2, b'from C\\n'); logging.getLogger('regagent').warning('look')\n",
    )
    script.write_text(text)
    result = snakemake(folder, "results/smoke/split.tsv", "--configfile", "config/smoke.yaml")
    assert result.returncode == 0, result.stdout
    lines = result.stdout.splitlines()
    (row,) = [number for number, line in enumerate(lines) if "splitting the patients" in line]
    assert re.match(r"\[1/1\] splitting the patients .*: 0:\d\d$", lines[row])
    assert lines[row + 1] == "warning: look" and "from C" not in result.stdout
    log = (folder / "results/smoke/logs/split_patients.log").read_text()
    assert log.startswith("from C\nwarning: look\n") and sys.executable not in log


def test_snakemake_looks_for_new_jobs_only_when_one_has_ended(tmp_path):
    """Its limiter would look for them every second, and once more a second after each job."""
    folder = copy_workflow(tmp_path / "watched")
    told = 'include: "Snakefile"\nonsuccess:\n    print("limiter:", workflow.scheduler.job_rate_limiter)\n'
    (folder / "watched.smk").write_text(told)
    result = snakemake(folder, "results/default/split.tsv", "--snakefile", "watched.smk")
    assert result.returncode == 0 and "limiter: None" in result.stdout, result.stdout
