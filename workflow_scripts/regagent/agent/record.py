"""The record of a training while it goes on: its table, progress lines, curves and checkpoints."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from regagent.agent.checkpoints import forget_state, load_state, save_state
from regagent.files import UserError, write_table
from regagent.jobs import clock

logger = logging.getLogger("regagent")

#: Between two progress lines, and so between two points of a curve.
PROGRESS_SECONDS = 10.0
#: A progress line gives the means of so many rows, the last ones.
RECENT_ROWS = 200


class TrainingRecord:
    """The record of one training, from its first step or from its checkpoint on.

    It lies in the training's ``folder``, which holds no output of the workflow. So it survives a killed job,
    and no unfinished file stands under an output's name. Three kinds of files are there:

    - ``training.csv`` grows: all rows of an update are appended in one write, for ``tail -f`` and pandas to
      read at any time. A kill may cut its last line short. A training that goes on from a checkpoint first
      cuts it back to the rows that the checkpoint knows. In the end its rows become the output, and it is
      removed.
    - ``state.pt`` is the checkpoint, written whole, and removed in the end.
    - TensorBoard's event files get a point of each curve with every progress line, where the package
      tensorboard is installed. They stay until the training begins anew.
    """

    def __init__(
        self,
        folder: str | Path,
        fingerprint: str,
        title: str,
        steps: int,
        checkpoint_seconds: float,
        columns: Sequence[str],
        means: Mapping[str, str] | None = None,
        last_row: int | None = None,
    ):
        """Go on from the folder's checkpoint if it has this ``fingerprint``, else begin anew.

        ``title`` names the training in its progress lines, and ``columns`` are those of its table. Lines and
        curves give means of some of them: ``means`` holds a mean's name and its column. The training ends
        after so many ``steps``, or with its ``last_row`` if that comes first.
        """
        self.folder, self.fingerprint, self.title = Path(folder), fingerprint, title
        self.steps, self.last_row, self.checkpoint_seconds = steps, last_row, checkpoint_seconds
        self.columns, self.means = list(columns), dict(means or {})
        self.saved = load_state(folder, fingerprint)  # with the trainer's own parts
        known = self.saved or {"rows": [], "step": 0, "seconds": 0.0}
        self.rows: list[dict[str, Any]] = known["rows"]
        self.step, self.seconds_before = known["step"], known["seconds"]
        self.table = self.folder / "training.csv"
        write_table(pd.DataFrame(self.rows, columns=self.columns), self.table)
        if self.saved:
            logger.info("%s: goes on from step %d", title, self.step)
        else:
            for path in self.folder.glob("events.out.tfevents.*"):
                path.unlink()
        self.measures: list[Mapping[str, float]] = []  # since the last progress line
        self.curves: Any = None  # opened at the first line: workers are forked before it starts its thread
        self.summary_writer = _summary_writer()  # imported before the clock starts
        self.first_step = self.told_step = self.step
        self.told_rows = len(self.rows)
        self.told = self.checkpointed = time.monotonic()
        self.clock_started = clock()

    @property
    def seconds(self) -> float:
        """Seconds that the training took, those before its checkpoint included."""
        return self.seconds_before + clock() - self.clock_started

    def add(self, step: int, rows: Sequence[dict[str, Any]], measures: Mapping[str, float]) -> None:
        """Take the step that an update reached, the table's rows that it brought, and its measures.

        Each row gets the column ``seconds``. Lines and curves give the means of the measures since the last
        line. Raises ``UserError`` if the table cannot be written.
        """
        self.step = max(self.step, step)
        self.measures.append(measures)
        if rows:
            self._append([{"seconds": round(self.seconds, 2), **row} for row in rows])
        if time.monotonic() - self.told > PROGRESS_SECONDS:
            self.tell()

    def _append(self, rows: Sequence[dict[str, Any]]) -> None:
        lines = (",".join(str(row[name]) for name in self.columns) for row in rows)
        try:
            with self.table.open("ab") as file:
                file.write("".join(f"{line}\n" for line in lines).encode())
        except OSError as error:
            raise UserError(f"{self.table}: cannot be written: {error.strerror or error}") from error
        self.rows.extend(rows)

    def tell(self) -> None:
        """Log a progress line and add a point to each curve, if there are new steps. Raises ``UserError``."""
        if self.step == self.told_step:
            return
        now, total = time.monotonic(), self.steps
        rate = (self.step - self.told_step) / (now - self.told)
        left = max(0, total - self.step) / rate
        if self.last_row and len(self.rows) > self.told_rows:
            rows_rate = (len(self.rows) - self.told_rows) / (now - self.told)
            left = min(left, max(0, self.last_row - len(self.rows)) / rows_rate)
        recent = pd.DataFrame(self.rows[-RECENT_ROWS:], columns=self.columns)
        scalars = {name: recent[column].mean() for name, column in self.means.items() if self.rows}
        scalars |= pd.DataFrame(self.measures).mean().to_dict()
        logger.info(
            "%s: step %d of %d, %.0f steps/s, %.0f s left; %s",
            *(self.title, self.step, total, rate, left),
            ", ".join(f"{name} {value:.3g}" for name, value in scalars.items()),
        )
        self._draw({**scalars, "steps per second": rate})
        self.told, self.told_step, self.told_rows = now, self.step, len(self.rows)
        self.measures.clear()

    def _draw(self, scalars: Mapping[str, float]) -> None:
        """Add a point to each curve, or do nothing where tensorboard is not installed."""
        if self.summary_writer is None:
            return
        try:
            if self.curves is None:  # after a checkpoint, points beyond it are not shown
                self.curves = self.summary_writer(str(self.folder), purge_step=self.first_step + 1)
                logger.info("%s: to see its curves: tensorboard --logdir %s", self.title, self.folder)
            for name, value in scalars.items():
                self.curves.add_scalar(f"training/{name.replace(' ', '_')}", value, self.step)
            self.curves.flush()
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written: {error.strerror or error}") from error

    def checkpoint_is_due(self) -> bool:
        """Return whether the time from one checkpoint to the next has passed."""
        return time.monotonic() - self.checkpointed > self.checkpoint_seconds

    def save(self, **parts: Any) -> None:
        """Write a checkpoint of the record and of the trainer's own parts. Raises ``UserError``."""
        known = {"rows": self.rows, "step": self.step, "seconds": self.seconds}
        save_state(self.folder, {"fingerprint": self.fingerprint, **known, **parts})
        self.checkpointed = time.monotonic()

    def finish(self, output: str | Path) -> None:
        """Write the table as the output, and remove what a training that ended does not need."""
        self.tell()
        write_table(pd.DataFrame(self.rows, columns=self.columns), output)
        if self.curves:
            self.curves.close()
        forget_state(self.folder)
        self.table.unlink(missing_ok=True)


def _summary_writer() -> Any:
    """Return TensorBoard's writer, or None where it cannot be imported: a training needs no curves."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    except Exception as error:  # whatever a broken installation raises
        logger.warning("there are no curves, as tensorboard cannot be imported: %s", error)
        return None
    return SummaryWriter
