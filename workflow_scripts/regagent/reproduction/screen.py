"""What a run shows: a line for each job that ended, errors and warnings; on a terminal also what runs now.

Everything else stands in the logs: ``.snakemake/log`` for Snakemake, ``results/{run}/logs`` for the jobs.
"""

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake_interface_logger_plugins.common import LogEvent

from regagent.files import read_table
from regagent.jobs import LOGS_ONLY

#: How long a job of each rule took in the run that the README shows.
SECONDS = Path(__file__).parents[1] / "data" / "seconds.csv"

#: Of Snakemake's messages these tell a reader nothing.
UNSAID = re.compile(r"Select jobs to execute|Execute \d+ jobs|Using shell|Provided|Rules claiming|Assuming")

#: What a job's log has for the reader of the screen.
TOLD = ("error: ", "warning: ")

#: So many bytes at the end of a log hold its last line.
TAIL = 2000


@dataclass
class Job:
    """A job that runs."""

    rule: str
    title: str
    log: Path | None
    started: float = field(default_factory=lambda: time.monotonic())

    def seconds(self) -> float:
        """Return for how long it has run."""
        return time.monotonic() - self.started

    def lines(self, tail: int | None = None) -> list[str]:
        """Return the lines of its log, or those in so many bytes at its end."""
        if self.log is None:
            return []
        try:
            with self.log.open("rb") as stream:
                if tail:
                    stream.seek(max(0, stream.seek(0, os.SEEK_END) - tail))
                text = stream.read().decode(errors="replace")
        except OSError:
            return []
        return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


class Duration:
    """How long jobs take, by what those that ended took and the ``usual`` seconds of each rule."""

    def __init__(self, usual: Mapping[str, float]):
        self.usual = dict(usual)
        self.taken: dict[str, list[float]] = {}

    def add(self, job: Job) -> None:
        """Take note of a job that has ended."""
        self.taken.setdefault(job.rule, []).append(job.seconds())

    def of(self, rule: str) -> float:
        """Return the expected seconds of a job."""
        if rule in self.taken:
            return fmean(self.taken[rule])
        known = [one for one in self.taken if one in self.usual]
        usual = sum(len(self.taken[one]) * self.usual[one] for one in known)
        pace = sum(sum(self.taken[one]) for one in known) / usual if usual else 1.0
        return self.usual.get(rule, 1.0) * pace


class Screen(logging.Handler):
    """Takes the place of ``default``, Snakemake's own handler of the screen, which says what is no job's."""

    def __init__(self, default: logging.StreamHandler, usual: Mapping[str, float]):
        super().__init__()
        self.default = default
        self.console = Console(file=default.stream, highlight=False, soft_wrap=True)
        self.running: dict[int, Job] = {}
        self.waiting: dict[str, int] = {}  # jobs by rule
        self.done = self.total = 0
        self.cores = os.cpu_count() or 1
        self.began, self.duration = time.monotonic(), Duration(usual)
        self.live = Live(
            console=self.console, get_renderable=self._picture, transient=True, refresh_per_second=2
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Show a message of Snakemake, or what it says of a job."""
        try:
            if self.default.filter(record):
                self._show(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self.live.stop()
        self.default.close()
        super().close()

    def _show(self, record: Any) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            counts = record.stats
            self.total = counts["total"]
            self.waiting = {rule: count for rule, count in counts.items() if rule != "total"}
            self._say(record)
            if self.console.is_terminal:
                self.live.start()
        elif event == LogEvent.JOB_INFO:
            self._start(record)
        elif event == LogEvent.JOB_FINISHED:
            job = self.running.pop(record.job_id, None)
            self.done += 1
            if job:
                self.duration.add(job)
                self._end(job, f"{job.title}: {_span(job.seconds())}")
        elif event == LogEvent.JOB_ERROR:
            job = self.running.pop(record.jobid, None)
            if job:
                self._end(job, f"{job.title}: failed after {_span(job.seconds())}")
            self._say(record)
        elif event != LogEvent.PROGRESS and not UNSAID.match(record.getMessage()):
            self._say(record)

    def _say(self, record: logging.LogRecord) -> None:
        """Let Snakemake's own handler say it, above what is live."""
        self.console.print(
            Text(self.default.format(record)), style="red" if record.levelno > logging.WARNING else ""
        )

    def _start(self, record: Any) -> None:
        rule, logs = record.rule_name, record.log
        title = record.rule_msg or rule
        self.running[record.jobid] = Job(rule, title, Path(logs[0]) if logs else None)
        self.waiting[rule] = self.waiting.get(rule, 1) - 1

    def _end(self, job: Job, line: str) -> None:
        self.console.print(Text(f"[{self.done}/{self.total}] {line}"))
        for told in job.lines():
            if told.startswith(TOLD):
                self.console.print(Text(told), style="red" if told.startswith("error") else "yellow")

    def seconds_left(self) -> float:
        """Return in how many seconds the run may end."""
        running = [
            max(0.0, self.duration.of(job.rule) - job.seconds()) for job in list(self.running.values())
        ]
        waiting = [count * self.duration.of(rule) for rule, count in list(self.waiting.items())]
        return max([sum(running + waiting) / self.cores, *running])

    def _picture(self) -> Group:
        passed, left = _span(time.monotonic() - self.began), _span(self.seconds_left())
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            f"{self.done} of {self.total} jobs",
            ProgressBar(max(1, self.total), self.done, width=30),
            f"{passed}, about {left} left",
        )
        return Group(bar, *self._lines())

    def _lines(self) -> Iterator[Text]:
        for job in list(self.running.values()):
            said = next(reversed(job.lines(TAIL)), "")
            text = Text(f"  {job.title}, {_span(job.seconds())}", no_wrap=True, overflow="ellipsis")
            yield text.append(f"  {said}", style="dim")


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def show_run(logger: logging.Logger) -> None:
    """Let a ``Screen`` take the place of Snakemake's own handler; the jobs write to their logs alone.

    Nothing changes in a dry run, and where a logger plugin has the screen.
    """
    default = next((one for one in logger.handlers if one.name == "DefaultStreamHandler"), None)
    if not isinstance(default, logging.StreamHandler):
        return
    if any(getattr(one, "dryrun", False) for one in default.filters):
        return
    logger.removeHandler(default)
    logger.addHandler(Screen(default, read_table(SECONDS).set_index("rule")["seconds"]))
    os.environ[LOGS_ONLY] = "1"
