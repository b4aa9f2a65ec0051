"""Fill the docs' tables and figures: `make docs` from a finished run, `make settings` from the settings.

A finished run also tells how long its jobs took, from which another run says when it may end.

No number in them is typed by hand.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd

from regagent.evaluation.printing import to_markdown
from regagent.evaluation.table2 import NOT_IN_PAPER, lay_out_short
from regagent.files import UserError, read_table, write_table, write_text, write_whole
from regagent.settings import Perturbations
from regagent.settings.documentation import schema, table

ROOT = Path(__file__).parent.parent
SECONDS = "workflow_scripts/regagent/data/seconds.csv"
E1, E2 = Perturbations().E1, Perturbations().E2
NOTE = (
    f"Target registration error (TRE) in px; the lowest are bold. E1 starts from shifts of up to"
    f" {E1.translation_px:g} px and turns of up to {E1.rotation_deg:g}°, E2 from {E2.translation_px:g} px and"
    f" {E2.rotation_deg:g}°. {NOT_IN_PAPER} not in the paper."
)
PICTURES = ("figure4", "figure5", "training")


def fill_run(run: Path, root: Path = ROOT) -> None:
    """Copy a run's tables and figures to where the README and the docs under ``root`` show them.

    Raises ``UserError``, and changes nothing, when the run lacks one of them or the README has no place for
    the table.
    """
    copies = {run / "tables" / "results.md": root / "docs" / "results.md"}
    copies |= {run / "figures" / f"{name}.png": root / "docs" / "images" / f"{name}.png" for name in PICTURES}
    results = run / "tables" / "table2.csv"
    times = sorted(run.glob("benchmarks/*/*.tsv")) or [run / "benchmarks"]
    for path in (results, *copies, *times):
        if not path.is_file():
            raise UserError(f"{path}: no such file, expected a finished run; `make reproduce` makes one")
    readme = root / "README.md"
    short = to_markdown([lay_out_short(read_table(results))], NOTE)
    text = filled(readme.read_text(encoding="utf-8"), "table2", short, readme)
    for source, target in copies.items():
        with write_whole(target) as temporary:
            shutil.copyfile(source, temporary)
    write_text(text, readme)
    taken = pd.DataFrame([{"rule": path.parent.name, **read_table(path).iloc[0][["s"]]} for path in times])
    write_table(taken.groupby("rule").s.mean().round().rename("seconds").reset_index(), root / SECONDS)


def fill_settings(root: Path = ROOT) -> None:
    """Write the keys of the settings' models into config/README.md and config/schema.json under ``root``.

    The README's place for the table of a model is named ``keys:`` and the model's name. Raises ``UserError``
    when a place has no end.
    """
    readme = root / "config" / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name in re.findall(r"<!-- keys:(\w+):start -->", text):
        text = filled(text, f"keys:{name}", table(name), readme)
    write_text(text, readme)
    write_text(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n", root / "config" / "schema.json")


def filled(text: str, name: str, content: str, page: Path) -> str:
    """Return the text of a page with ``content`` between its marks ``name:start`` and ``name:end``.

    Raises ``UserError`` naming the page unless it has exactly one such place.
    """
    place = re.compile(rf"(?<=<!-- {name}:start -->\n).*?(?=<!-- {name}:end -->)", flags=re.DOTALL)
    text, places = place.subn(lambda _: content, text)
    if places != 1:
        raise UserError(f"{page}: {places} places between {name}:start and {name}:end, expected one")
    return text


if __name__ == "__main__":
    try:
        if len(sys.argv) > 1:
            fill_run(Path(sys.argv[1]))
        else:
            fill_settings()
    except UserError as error:
        sys.exit(f"error: {error}")
