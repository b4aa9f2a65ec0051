"""Fill the README's table and pictures and docs/results.md from a finished run: `make docs`.

No number in them is typed by hand.
"""

import re
import shutil
import sys
from pathlib import Path

from regagent.files import UserError, write_whole

ROOT = Path(__file__).parent.parent
TABLE = re.compile(r"(?<=<!-- table2:start -->\n).*?(?=<!-- table2:end -->)", flags=re.DOTALL)
PICTURES = ("figure4", "figure5", "training")


def fill(run: Path, root: Path = ROOT) -> None:
    """Copy a run's tables and figures to where the README and the docs under ``root`` show them.

    Raises ``UserError`` when the run lacks one of them or the README has no place for the table; then
    nothing is changed.
    """
    copies = {run / "tables" / "results.md": root / "docs" / "results.md"}
    copies |= {run / "figures" / f"{name}.png": root / "docs" / "images" / f"{name}.png" for name in PICTURES}
    table = run / "tables" / "table2.md"
    for path in (table, *copies):
        if not path.is_file():
            raise UserError(f"{path}: no such file, expected a finished run; `make reproduce` makes one")
    readme = root / "README.md"
    text, places = TABLE.subn(lambda _: table.read_text(encoding="utf-8"), readme.read_text(encoding="utf-8"))
    if places != 1:
        raise UserError(f"{readme}: {places} places between table2:start and table2:end, expected one")
    for source, target in copies.items():
        with write_whole(target) as temporary:
            shutil.copyfile(source, temporary)
    with write_whole(readme) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        fill(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
