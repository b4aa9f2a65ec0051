"""The hash of a job's code, by which a rule runs again when code that it uses has changed, and only then.

Snakemake's own code trigger looks at the script alone. Here the functions, classes and constants that the
script uses are followed through the library, statement by statement, and all that they use is hashed. A
package's ``__init__`` counts too, because an import runs it. Nothing is imported for this.
"""

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

#: The folder of the library, and the name that its modules are imported by.
PACKAGE = Path(__file__).parents[1]
NAME = "regagent"

Symbol = tuple[str, str]  # a library module and a name in it; the name "*" stands for the whole module


@dataclass
class Statement:
    """A top level statement of a module: the hash of its code, the names that it uses, what it imports."""

    digest: str
    names: set[str]
    symbols: set[Symbol]


@dataclass
class Module:
    """The statements that bind each top level name, and those that run on import without binding one."""

    bindings: dict[str, list[Statement]] = field(default_factory=dict)
    effects: list[Statement] = field(default_factory=list)


def code_hash(script: str | Path) -> str:
    """Return a hash of the code of ``script`` and of all code of the library that it uses.

    Comments, layout and docstrings do not change the hash, nor does code that the script does not use. Raises
    ``ImportError`` naming the file for an import of something that the library does not have.
    """
    module = _module(Path(script), "")
    reached = [("", statement) for statement in _all_of(module)]
    seen = {id(statement) for _, statement in reached}
    for name, statement in reached:  # the list grows in the loop
        for owner, found in _reaches(module if name == "" else _library(name), name, statement):
            if id(found) not in seen:
                seen.add(id(found))
                reached.append((owner, found))
    digests = sorted(f"{name}:{statement.digest}" for name, statement in reached)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16]


def _reaches(module: Module, name: str, statement: Statement) -> Iterator[tuple[str, Statement]]:
    """Yield the statements that one statement of a module needs, each with its module's name."""
    for used in statement.names & module.bindings.keys():
        for found in module.bindings[used]:
            yield name, found
    for owner, symbol in statement.symbols:
        library = _library(owner)
        for found in _all_of(library) if symbol == "*" else library.bindings[symbol]:
            yield owner, found
        parts = owner.split(".")
        for loaded in (".".join(parts[:count]) for count in range(1, len(parts) + 1)):
            for found in _library(loaded).effects:  # they run when the module is imported
                yield loaded, found


def _all_of(module: Module) -> list[Statement]:
    return [*module.effects, *(found for several in module.bindings.values() for found in several)]


def _path(name: str) -> Path | None:
    """Return the file of a library module, for a package its ``__init__``; None if there is none."""
    place = PACKAGE.joinpath(*name.split(".")[1:])
    candidates = place / "__init__.py", place.with_name(f"{place.name}.py")
    return next((path for path in candidates if path.is_file()), None)


def _library(name: str) -> Module:
    return _module(_path(name), name)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


@cache
def _module(path: Path, name: str) -> Module:
    """Return the top level statements of one file; ``name`` is its name in the library, '' for a script.

    Raises ``SyntaxError`` naming the file.
    """
    module = Module()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _tree(path).body:
        for part in ast.walk(node):
            if isinstance(part, ast.ImportFrom) and part.level:
                above = package.split(".")[: len(package.split(".")) - part.level + 1]
                part.module, part.level = ".".join([*above, *filter(None, [part.module])]), 0
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                module.bindings.setdefault(_bound_name(alias), []).append(_import(node, alias, path))
        elif not _is_docstring(node):
            statement, bound = _statement(node, path), _bound_names(node)
            for each in bound:
                module.bindings.setdefault(each, []).append(statement)
            if not bound:
                module.effects.append(statement)
    return module


def _statement(node: ast.stmt, path: Path) -> Statement:
    names, symbols = set(), set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            names.add(part.id)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            symbols |= {symbol for alias in part.names if (symbol := _symbol(part, alias, path))}
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            part.body = [line for line in part.body if not _is_docstring(line)] or [ast.Pass()]
    return Statement(_digest(ast.dump(node)), names, symbols)


def _import(node: ast.Import | ast.ImportFrom, alias: ast.alias, path: Path) -> Statement:
    """Return the import of one name. A name of the library is hashed where it is defined, not here."""
    symbol = _symbol(node, alias, path)
    if symbol:
        return Statement(_digest(alias.asname or ""), set(), {symbol})
    source = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    return Statement(_digest(f"{source}{alias.name} as {alias.asname}"), set(), set())


def _symbol(node: ast.Import | ast.ImportFrom, alias: ast.alias, path: Path) -> Symbol | None:
    """Return what an import in the file ``path`` takes from the library, None if it takes nothing from it."""
    source = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    taken = source + alias.name
    if taken.partition(".")[0] != NAME:
        return None
    if _path(taken):
        return taken, "*"
    owner, _, name = taken.rpartition(".")
    if source and _path(owner) and (name == "*" or name in _names(_path(owner))):
        return owner, name
    raise ImportError(f"{path}, line {node.lineno}: {taken} is nothing that the library has")


@cache
def _names(path: Path) -> set[str]:
    """Return the names that the top level of a file binds."""
    return {name for node in _tree(path).body for name in _bound_names(node)}


def _bound_names(node: ast.stmt) -> set[str]:
    """Return the names that a top level statement binds: a definition's own, or all it assigns or imports."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return set(map(_bound_name, node.names))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        parts = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
        return {part.id for part in parts if isinstance(part.ctx, ast.Store)}
    return set()


def _bound_name(alias: ast.alias) -> str:
    return (alias.asname or alias.name).partition(".")[0]


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
