"""The library is a house: its packages stand in an order, and each imports only from those before it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "workflow_scripts" / "regagent"
#: '' is the root of the library.
ORDER = (
    *("", "volumes", "settings", "reproduction", "phantom", "patients", "pairs"),
    *("evaluation", "agent", "conventional", "figures", "command"),
)
ENTRANCE = "regagent.__main__"  # what ``python -m regagent`` runs stands at the root and opens the command
MODULES = {
    ".".join(("regagent", *path.relative_to(LIBRARY).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(LIBRARY.rglob("*.py"))
}


def imports_of(path):
    """Return the library modules that a file imports, inside its functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & MODULES.keys()


def package_of(module):
    folders = MODULES[module].relative_to(LIBRARY).parts[:-1]
    return folders[0] if folders else ""


def test_the_packages_are_those_of_the_order():
    assert {package_of(module) for module in MODULES} == set(ORDER)


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_only_from_those_before_it(package):
    allowed = ORDER[: ORDER.index(package) + 1]
    for module, path in MODULES.items():
        if package_of(module) == package and module != ENTRANCE:
            above = {name for name in imports_of(path) if package_of(name) not in allowed}
            assert not above, f"{module} imports {sorted(above)}"


def test_no_modules_import_each_other_in_a_circle():
    left = {module: imports_of(path) - {module} for module, path in MODULES.items()}
    while free := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"circles among {sorted(left)}"


def test_each_package_says_in_one_sentence_what_it_is():
    for package in ORDER[1:]:
        docstring = ast.get_docstring(ast.parse((LIBRARY / package / "__init__.py").read_text()))
        assert docstring and docstring.endswith(".") and "\n" not in docstring, package


def test_tables_and_their_figures_do_without_pytorch_and_simpleitk():
    """A table is drawn by a process of its own: importing both takes three seconds."""
    modules = ("evaluation.table2", "evaluation.claims", "evaluation.report_summary", "figures.comparisons")
    code = f"import sys, importlib\nfor name in {modules}: importlib.import_module(f'regagent.{{name}}')\n"
    code += "sys.exit(', '.join({'torch', 'SimpleITK'} & sys.modules.keys()) or 0)"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(LIBRARY.parent)}
    )
