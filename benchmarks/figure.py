"""One figure of the benchmarks' measurements, from the tables in results/benchmarks."""

import pandas as pd
from matplotlib.figure import Figure

from regagent.figures.style import BLUE, FULL_WIDTH, GREY, save, styled
from regagent.files import STYLE

FOLDER = "results/benchmarks"


def main() -> None:
    """Draw the tables as bars."""
    training, parts, registration = (
        pd.read_csv(f"{FOLDER}/{name}.csv") for name in ("training", "profile", "registration")
    )
    panels = (
        ("environment steps a second", training.what, training.steps_per_second),
        ("microseconds a step", parts.part, parts.microseconds),
        ("CPU seconds a registration", registration.what, registration.cpu_seconds),
    )
    with styled(STYLE):
        figure = Figure(figsize=(FULL_WIDTH, 7.0))
        heights = [len(names) for _, names, _ in panels]
        for axes, (title, names, values) in zip(
            figure.subplots(3, 1, height_ratios=heights), panels, strict=True
        ):
            colours = [BLUE if name.startswith(("ours", "agent")) else GREY for name in names]
            bars = axes.barh(names, values, color=colours, height=0.7)
            axes.bar_label(
                bars, fmt=lambda value: f"{value:.0f}" if value > 100 else f"{value:.2g}", padding=2
            )
            axes.invert_yaxis()
            axes.set_title(title, loc="left")
            axes.margins(x=0.1)
            axes.grid(False)
        save(figure, [f"{FOLDER}/benchmarks.pdf", f"{FOLDER}/benchmarks.png"])


if __name__ == "__main__":
    main()
