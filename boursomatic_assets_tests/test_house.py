"""The house in order: how long modules are, how much they import, and what each room says of itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import boursomatic_assets

PACKAGE = boursomatic_assets.__name__
ROOT = Path(boursomatic_assets.__file__).parent
LONGEST, MOST_IMPORTS, MOST_STATEMENTS = 300, 12, 10
# Those that assemble all others.
EXEMPT = {"definitions", "cli"}


def name_of(path: Path) -> str:
    """A module as the tables above name it; a package by its folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
ROOMS = {name: path for name, path in MODULES.items() if path.name == "__init__.py"}


def imported_by(tree: ast.AST) -> set[str]:
    """Modules of the package that a module imports, wherever in it and for whatever purpose."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{PACKAGE}."):
            origin = f"{node.module}".removeprefix(PACKAGE).removeprefix(".")
            inner = (f"{origin}.{each.name}".removeprefix(".") for each in node.names)
            found |= {name if name in MODULES else origin for name in inner}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names if f"{each.name}.".startswith(f"{PACKAGE}.")}
    return found


def test_imported_by_counts_modules() -> None:
    # Two names of one module, a module of a package, the package itself, an import inside a function: four.
    source = (
        f"import polars\nfrom {PACKAGE}.errors import StorageError, ConfigurationError\n"
        f"from {PACKAGE}.services import judging\nfrom {PACKAGE} import __version__\n"
        f"def f():\n    from {PACKAGE}.services.trials import count_as_trial\n"
    )
    assert imported_by(ast.parse(source)) == {"errors", "services.judging", "", "services.trials"}


@pytest.mark.parametrize("name", MODULES)
def test_modules_have_at_most_300_lines(name: str) -> None:
    lines = len(MODULES[name].read_text("utf-8").splitlines())
    assert lines <= LONGEST


@pytest.mark.parametrize("name", sorted(MODULES.keys() - EXEMPT))
def test_modules_import_few_others(name: str) -> None:
    imported = imported_by(ast.parse(MODULES[name].read_text("utf-8")))
    assert len(imported) <= MOST_IMPORTS, sorted(imported)


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_have_a_docstring(name: str) -> None:
    said = ast.get_docstring(ast.parse(ROOMS[name].read_text("utf-8")))
    assert said
    assert said.endswith(".")
    # A name alone says nothing.
    assert len(said.split()) > 4


@pytest.mark.parametrize("name", [each for each in MODULES if each.startswith("assets.")])
def test_assets_have_at_most_ten_statements(name: str) -> None:
    for node in ast.parse(MODULES[name].read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and any("asset" in ast.unparse(each) for each in node.decorator_list):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert len(body) <= MOST_STATEMENTS, node.name
