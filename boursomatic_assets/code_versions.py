"""Versions of the assets' code, derived from the package's sources and imports.

An asset's version changes exactly when code changes that its value can depend on. Sources are read as text and not
imported. Starting at the function that makes the asset, these count:

1. In a module of independent definitions (`_BY_DEFINITION`), only the definitions that are used. Assets and checks
that
   a function names are left out: Dagster knows these edges.
2. Every module imported from there, directly or not, as a whole. Imports under `TYPE_CHECKING` do not count.
3. Data files in a module's folder or below that the module names, and those that these name in turn.

Not counted: comments, docstrings, blank lines; `display`, except for the report, whose value is a page;
`_CARRIERS`, which carry values without changing them. A new module counts without being listed.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from boursomatic_assets.code_text import NAMED, Code, assigned_names, nodes_within, statements_of, without_prose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parent
PACKAGE = ROOT.name
DIGITS = 12
# Connections, places, retries, settings and error messages: an edit changes how a value travels, not the value.
_CARRIERS = frozenset(
    f"{PACKAGE}.{name}"
    for name in (
        "code_text", "code_versions", "errors", "settings.notices", "settings.platform", "settings.variable",
        "settings.forms", "settings.dagster_ui", "settings.keeping", "settings.retention", "settings.variables",
        "settings.web",
        "storage.artifacts.files", "storage.artifacts.recorded", "storage.dagster.instance",
        "storage.dagster.recorded_files", "storage.dagster.retries", "storage.postgres.content",
        "storage.postgres.database", "storage.postgres.schema",
        "storage.server.embedded",
    )
)  # fmt: skip
_ASSETS, _DISPLAY = f"{PACKAGE}.assets.", f"{PACKAGE}.display."
_TABLE_MANAGER = f"{PACKAGE}.storage.dagster.table_manager"
# Their definitions have little to do with each other: a digest that every asset takes beside the model bundle.
_BY_DEFINITION = (
    _ASSETS,
    f"{PACKAGE}.core.registry.bundle",
    f"{PACKAGE}.storage.dagster.io_managers",
    _TABLE_MANAGER,
    f"{PACKAGE}.storage.postgres.features_table",
    f"{PACKAGE}.storage.postgres.market_tables",
    f"{PACKAGE}.storage.dagster.resources",
    f"{PACKAGE}.storage.postgres.tables",
    f"{PACKAGE}.services.recommending.recommend",
)
# Inputs of these names are read from their tables by `TableIOManager`: no import of the asset's module shows it.
TABLE_INPUTS = frozenset({"instruments", "price_bars", "features"})
_DATA_FILES = frozenset({".css", ".csv", ".html", ".jinja", ".js", ".json", ".parquet", ".sql", ".yaml"})

_FOR_TYPES = re.compile(r"\nif TYPE_CHECKING:\n(?:[ \t]+[^\n]*\n)+")
_FROM = re.compile(rf"from ({PACKAGE}[\w.]*) import (?:\(([^)]*)\)|([^\n]*))")
# How the definition of an asset or a check begins.
_NODE = re.compile(r"@(?:\w+\.)?\w*asset\w*\b")
_IMPORT = re.compile(rf"import ({PACKAGE}[^\n]*)")


class Name(NamedTuple):
    """A module, or something defined in one."""

    module: str
    attribute: str | None = None


class Definitions(NamedTuple):
    """Source of a module's top-level definitions and its imports, by name."""

    own: dict[str, list[str]]
    imported: dict[str, Name]


def code_version(module: str, function: str, *, shows: bool = False) -> str:
    """Version of the code of the asset made by `function` in `module`: 12 hexadecimal digits.

    `shows` includes `display`, for an asset that is a page. Raises LookupError if there is no such function.
    """
    pieces, modules = _traced(module, function, shows=shows)
    digest = hashlib.sha256()
    for name, piece in sorted(pieces.items()):
        digest.update("\0".join((name, piece.code, *piece.strings, "")).encode())
    for name in sorted(modules):
        digest.update(_module_digest(name))
    return digest.hexdigest()[:DIGITS]


def modules_behind(module: str, function: str, *, shows: bool = False) -> frozenset[str]:
    """Modules that count for an asset, whole or in part; arguments as for `code_version`."""
    pieces, modules = _traced(module, function, shows=shows)
    return modules | {name.partition(":")[0] for name in pieces}


def imports_of(code: str) -> Iterator[Name]:
    """Every import from the package in code without strings, except those for type checkers."""
    code = _FOR_TYPES.sub("\n", f"\n{code}")
    for found in _FROM.finditer(code):
        origin, bracketed, listed = found.groups()
        yield from (_meant(origin, part.split()[0]) for part in (bracketed or listed).split(",") if part.strip())
    for found in _IMPORT.finditer(code):
        yield from (Name(part.split()[0]) for part in found[1].split(","))


@cache
def _meant(origin: str, name: str) -> Name:
    """Meaning of `from origin import name`: a module if there is one of that name."""
    whole = f"{origin}.{name}"
    return Name(whole) if whole in _files() else Name(origin, name)


@cache
def _files() -> dict[str, Path]:
    """Files of the package's modules, by module."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _source(module: str) -> str:
    path = _files().get(module)
    if path is None:
        message = f"the package has no module {module}"
        raise LookupError(message)
    return path.read_text("utf-8")


@cache
def _module_code(module: str) -> Code:
    return without_prose(_source(module))


@cache
def _module_digest(module: str) -> bytes:
    """Digest of a whole module and of the data files that it names, directly or not."""
    code = _module_code(module)
    digest = hashlib.sha256("\0".join((module, code.code, *code.strings)).encode())
    for place, content in sorted(_files_named(module, "".join(code.strings)).items()):
        digest.update(f"\0{place.as_posix()}\0".encode() + content)
    return digest.digest()


def _files_named(module: str, text: str) -> dict[Path, bytes]:
    """Data files named in a module's text, and those that these name in turn."""
    found: dict[Path, bytes] = {}
    path, waiting = _files().get(module), [text.encode()]
    while waiting and path is not None:
        content = waiting.pop()
        for place in _data_files(path.parent):
            if place not in found and place.name.encode() in content:
                found[place] = (path.parent / place).read_bytes()
                waiting.append(found[place])
    return found


@cache
def _data_files(folder: Path) -> list[Path]:
    """Data files in a folder and below it, by relative path."""
    return [file.relative_to(folder) for file in folder.rglob("*") if file.suffix in _DATA_FILES]


@cache
def _imported_by(module: str) -> tuple[Name, ...]:
    """Imports of a module from the package."""
    return tuple(imports_of(_module_code(module).code))


@cache
def _definitions(module: str) -> Definitions:
    own: dict[str, list[str]] = {}
    imports: list[str] = []
    for text in statements_of(_source(module)):
        named = NAMED.search(text)
        if named:
            own.setdefault(named[1], []).append(text)
        elif text.startswith("from "):
            imports.append(text)
        else:
            for name in assigned_names(text):
                own.setdefault(name, []).append(text)
    brought = (_names_brought(each) for each in ast.parse("".join(imports)).body)
    return Definitions(own, {name: meant for names in brought for name, meant in names.items()})


def _names_brought(statement: ast.AST) -> dict[str, Name]:
    """Names that an import from the package defines."""
    if isinstance(statement, ast.ImportFrom) and (statement.module or "").split(".")[0] == PACKAGE:
        origin = statement.module or ""
        return {each.asname or each.name: _meant(origin, each.name) for each in statement.names}
    return {}


def _traced(module: str, function: str, *, shows: bool) -> tuple[dict[str, Code], frozenset[str]]:
    """Definitions that count one by one, and modules that count whole."""
    pieces: dict[str, Code] = {}
    whole: set[str] = set()
    pieces[f"{module}:{function}"], used = _asset_piece(module, function)
    waiting = list(used)
    while waiting:
        name = waiting.pop()
        label = f"{name.module}:{name.attribute}"
        if label in pieces or name.module in whole or not _counts(name.module, shows=shows):
            continue
        if not name.module.startswith(_BY_DEFINITION):
            whole.add(name.module)
            waiting += _imported_by(name.module)
        elif name.attribute:
            piece, used = _piece(name.module, name.attribute)
            if piece.code.strip():
                pieces[label] = piece
                waiting += used
    return pieces, frozenset(whole)


@cache
def _counts(module: str, *, shows: bool) -> bool:
    path = _files().get(module)
    # A package itself only says what is in it.
    if path is None or path.name == "__init__.py" or module in _CARRIERS:
        return False
    return shows or not module.startswith(_DISPLAY)


@cache
def _piece(module: str, name: str) -> tuple[Code, frozenset[Name]]:
    """Source of one definition and the names that it uses; empty for an asset or a check."""
    texts = [text for text in _definitions(module).own.get(name, ()) if not _NODE.match(text)]
    return _read(texts, [part for text in texts for part in ast.parse(text).body], module)


def _asset_piece(module: str, function: str) -> tuple[Code, frozenset[Name]]:
    """Source of the function that makes an asset and the names it uses; of its decorators only `ins` counts."""
    texts = _definitions(module).own.get(function, ())
    parsed = [(text, part) for text in texts for part in ast.parse(text).body if isinstance(part, ast.FunctionDef)]
    if not parsed:
        message = f"{module} defines no function {function}"
        raise LookupError(message)
    text, part = parsed[-1]
    calls = [each for each in part.decorator_list if isinstance(each, ast.Call)]
    read = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "ins"]
    part.decorator_list = []
    lines = text.splitlines(keepends=True)
    counted: list[ast.expr | ast.stmt] = [*read, part]
    kept = ["".join(lines[each.lineno - 1 : each.end_lineno]) for each in counted]
    piece, used = _read(kept, counted, module)
    arguments = {argument.arg for argument in (*part.args.args, *part.args.kwonlyargs)}
    return piece, used | ({Name(_TABLE_MANAGER, "TableIOManager")} if arguments & TABLE_INPUTS else set())


def _read(texts: Sequence[str], parts: Sequence[ast.AST], module: str) -> tuple[Code, frozenset[Name]]:
    """Source of pieces of a module without prose, and the names that they use."""
    definitions, nodes = _definitions(module), nodes_within(parts)
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    here = {name: meant for node in imports for name, meant in _names_brought(node).items()}
    known = {**definitions.imported, **{name: Name(module, name) for name in definitions.own}, **here}
    used = set(here.values())
    for node in nodes:
        if isinstance(node, ast.Name) and node.id in known:
            used.add(known[node.id])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            meant = known[node.value.id]
            used.add(Name(meant.module, meant.attribute or node.attr))
    return without_prose("".join(texts)), frozenset(used)
