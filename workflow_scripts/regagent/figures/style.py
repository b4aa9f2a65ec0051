"""What all figures share: the style file, the colours, the layout of close panels, and saving."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure

from regagent.files import UserError, write_whole

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
)
GREY = "#7F7F7F"
LIGHT_GREY = "#BFBFBF"
FULL_WIDTH = 7.2  # inches


@contextmanager
def styled(style: str | Path) -> Iterator[None]:
    """Apply the style file alone to what the body draws, without the user's own matplotlib settings.

    Raises ``UserError`` when there is no such file.
    """
    try:
        with matplotlib.style.context(str(style), after_reset=True):
            yield
    except OSError as error:
        if not Path(style).exists():
            raise UserError(f"{style}: no such style file") from error
        raise


def pack_panels(figure: Figure) -> None:
    """Leave hardly any space between the panels of a figure."""
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)


def save(figure: Figure, outputs: Iterable[str | Path]) -> None:
    """Write the figure to each path in the format of its suffix; equal figures give equal bytes.

    Raises ``UserError`` when a file cannot be written.
    """
    # Laying out takes longer than drawing: once is enough for all formats.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for path in outputs:
        suffix = Path(path).suffix.lstrip(".")
        undated = {"pdf": {"CreationDate": None}, "png": {"Software": None}}.get(suffix)
        with write_whole(path) as temporary:
            figure.savefig(temporary, format=suffix, metadata=undated)
