"""What a registration's table says of each case, and its summary (§4, Table 2)."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: Takes the TRE (..., N) in px of the cases and returns one number for all N, (...).
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]

#: The statistics of TRE (px) over cases; the standard deviation is the population's.
STATISTICS: dict[str, Statistic] = {
    "mean": lambda error: np.mean(error, -1),
    "std": lambda error: np.std(error, -1),
    "p50": lambda error: np.percentile(error, 50, -1),
    "p90": lambda error: np.percentile(error, 90, -1),
}

#: A case within this TRE counts as a success; a pixel is about 1.5 mm.
SUCCESS_PX = 2.0

#: How a case ended: the method takes its result for right, it says itself that it is not, or there is none.
STATUS = ("registered", "refused", "failed")


def summarise(frame: pd.DataFrame) -> dict[str, float]:
    """Return mean, std, p50 and p90 of ``tre_px``, the number ``n`` of cases and of ``failures``.

    A failure is a case with the status ``failed``; its error counts in the statistics like any other.
    Raises ``ValueError`` for a table without rows.
    """
    if len(frame) == 0:
        raise ValueError("no registrations to summarise")
    error = frame["tre_px"].to_numpy()
    return {
        **{name: float(statistic(error)) for name, statistic in STATISTICS.items()},
        "failures": int((frame["status"] == "failed").sum()),
        "n": len(frame),
    }
