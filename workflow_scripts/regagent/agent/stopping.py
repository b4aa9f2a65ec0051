"""The stop rule (§3.6): an agent ends where its value reaches a threshold, else at its highest value."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from regagent.files import UserError, write_json
from regagent.settings import StopThresholds

Array = NDArray[np.float64]


#: The paper's thresholds by the learner of an agent, the same for both distances (§4).
PAPER = {
    "reinforcement": StopThresholds(greedy=10, lookahead=9),
    "supervised": StopThresholds(greedy=-0.05, lookahead=-0.1),
}


class Thresholds(BaseModel):
    """The values at which an agent stops, with and without the look-ahead; a threshold file holds them.

    ``paper`` are the paper's of such an agent, to compare with: nothing is done with them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    greedy: FiniteFloat
    lookahead: FiniteFloat
    paper: StopThresholds | None = None

    def write(self, path: str | Path) -> None:
        """Write the threshold file."""
        write_json(self.model_dump(exclude_none=True), path)

    @classmethod
    def read(cls, path: str | Path) -> "Thresholds":
        """Read a threshold file. Raises ``UserError``."""
        try:
            return cls.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(map(str, fault["loc"])) or "content"
            raise UserError(f"{path}: not a file of thresholds ({key}: {fault['msg']})") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a file of thresholds ({error})") from error


def reached(value: Array, threshold: float) -> NDArray[np.bool_]:
    """Tell for values, of any shape, whether an agent stops there."""
    return value >= threshold


def ends(value: Array, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the step (N,) whose pose each walk ends with, and whether it stopped there by itself (N,).

    ``value`` (T, N) are the values of N walks over T steps, -inf where a walk did not go. A walk ends at the
    first step that reaches the threshold; one that never does ends with the pose of its highest value.
    """
    hits = reached(value, threshold)
    stopped: NDArray[np.bool_] = np.any(hits, axis=0)
    return np.where(stopped, hits.argmax(0), value.argmax(0)), stopped
