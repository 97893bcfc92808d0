from __future__ import annotations

import ast
import dis
import functools
import importlib.util
import inspect
import io
import json
import os
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import dagster as dg
import grimp
import pytest

import boursomatic_assets
from boursomatic_assets import code_versions
from boursomatic_assets.assets import features, walk_forward
from boursomatic_assets.code_text import statements_of, without_prose
from boursomatic_assets.code_versions import ROOT, TABLE_INPUTS, code_version, imports_of
from boursomatic_assets.definitions import MODULES, defs

PACKAGE = "boursomatic_assets"
SOURCES = sorted(ROOT.rglob("*.py"))
MODULE_NAMES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES
}
# Stated a second time, as the rule.
CARRIERS = {
    f"{PACKAGE}.{name}"
    for name in (
        "code_text", "code_versions", "errors", "settings.forms", "settings.notices", "settings.platform",
        "settings.dagster_ui", "settings.keeping", "settings.retention", "settings.variable", "settings.variables",
        "settings.web",
        "storage.artifacts.files", "storage.artifacts.recorded", "storage.dagster.instance",
        "storage.dagster.recorded_files", "storage.dagster.retries", "storage.postgres.content",
        "storage.postgres.database", "storage.postgres.schema", "storage.server.embedded",
    )
}  # fmt: skip
BY_DEFINITION = {
    f"{PACKAGE}.{name}"
    for name in (
        "assets.required_checks", "core.registry.bundle", "storage.dagster.io_managers",
        "storage.dagster.table_manager",
        "storage.postgres.features_table", "storage.postgres.market_tables",
        "storage.dagster.resources", "storage.postgres.tables",
        "services.recommending.recommend",
    )
} | {module.__name__ for module in MODULES}  # fmt: skip
COMMENT = "# Two plus two.\n"
STATEMENT = "\n_EDITED = 2 + 2\n"


def made_by() -> dict[str, FunctionType]:
    """The function that makes each asset."""
    found = {}
    for module in MODULES:
        for made in vars(module).values():
            if isinstance(made, dg.AssetsDefinition) and not isinstance(made, dg.AssetChecksDefinition):
                function = inspect.unwrap(made.op.compute_fn.decorated_fn)  # type: ignore[union-attr]
                found |= {key.to_user_string(): function for key in made.keys}
    return found


MADE_BY = made_by()
ASSETS = sorted(MADE_BY)


@functools.cache
def graph() -> grimp.ImportGraph:
    """Imports of the package as import-linter sees them, without those that do not exist at run time."""
    return grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)


@functools.cache
def followed(*, shows: bool) -> grimp.ImportGraph:
    """The same without modules that do not count as a whole: what remains is followed without end."""
    left = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    for module in sorted(left.modules):
        hidden = module.startswith(f"{PACKAGE}.display.") and not shows
        if hidden or module in CARRIERS | BY_DEFINITION:
            left.remove_module(module)
    return left


def of_package(name: object) -> bool:
    return isinstance(name, str) and name.startswith(f"{PACKAGE}.")


class Using:
    """Modules that a function uses, found by looking at the live objects that its byte code names."""

    def __init__(self, *, shows: bool) -> None:
        self.shows = shows
        self.modules: set[str] = set()
        self.seen: set[int] = set()

    def meet(self, value: object, name: str, module: str) -> None:
        """Take in what a name of a module stands for."""
        origin = getattr(value, "__module__", None)
        if isinstance(value, ModuleType):
            self.add(value.__name__)
        elif isinstance(value, FunctionType | type) and of_package(origin):
            self.enter(value, str(origin))
        elif not isinstance(value, dg.AssetsDefinition):
            self.enter(value, self.home(module, name, value))

    @classmethod
    def home(cls, module: str, name: str, value: object) -> str:
        """Module in which a constant is defined: from import to import, as long as the name means the same."""
        for each in sorted(graph().find_modules_directly_imported_by(module)):
            if each in sys.modules and vars(sys.modules[each]).get(name, graph) is value:
                return cls.home(each, name, value)
        return module

    def add(self, module: str) -> None:
        left = followed(shows=self.shows)
        if module not in left.modules:
            return
        self.modules |= {module, *left.find_upstream_modules(module)}
        # Modules that count by definition may be named by those that count whole.
        for each in {module, *left.find_upstream_modules(module)} & set(sys.modules):
            for name, value in vars(sys.modules[each]).items():
                home = getattr(value, "__module__", None)
                if isinstance(value, FunctionType | type) and home in BY_DEFINITION and home != each:
                    self.meet(value, name, each)

    def enter(self, value: object, home: str) -> None:
        """Look into a definition, where its module counts by definition; else take the module."""
        if home not in BY_DEFINITION:
            self.add(home)
            return
        if id(value) in self.seen:
            return
        self.seen.add(id(value))
        if isinstance(value, FunctionType):
            value = inspect.unwrap(value)
            self.read(value.__code__, value.__globals__, home)
            for annotated in inspect.get_annotations(value).values():
                if isinstance(annotated, type) and of_package(annotated.__module__):
                    self.enter(annotated, annotated.__module__)
        elif isinstance(value, type):
            self.look_into(value)
        elif isinstance(value, dict):
            for each in value.values():
                self.meet(each, "", home)

    def look_into(self, value: type) -> None:
        """Methods and base classes."""
        for member in (*vars(value).values(), *value.__bases__):
            inner = getattr(member, "__func__", getattr(member, "fget", member))
            if isinstance(inner, FunctionType | type) and of_package(getattr(inner, "__module__", None)):
                self.enter(inner, inner.__module__)

    def read(self, code: CodeType, names: dict[str, Any], home: str) -> None:
        module: object = None
        for step in dis.get_instructions(code):
            if step.opname == "IMPORT_NAME" and of_package(step.argval):
                self.add(step.argval)
            elif step.opname in {"LOAD_GLOBAL", "LOAD_NAME"} and step.argval in names:
                module = names[step.argval]
                self.meet(module, step.argval, home)
                continue
            elif step.opname in {"LOAD_ATTR", "LOAD_METHOD"} and isinstance(module, ModuleType):
                # An attribute of a module that counts by definition.
                if module.__name__ in BY_DEFINITION and step.argval in vars(module):
                    self.meet(vars(module)[step.argval], step.argval, module.__name__)
            elif isinstance(step.argval, CodeType):
                self.read(step.argval, names, home)
            module = None


@functools.cache
def expected(asset: str) -> frozenset[str]:
    """Modules whose edit must change an asset's version, those that count by definition left out."""
    function = MADE_BY[asset]
    using = Using(shows=asset == "report")
    using.enter(function, function.__module__)
    if reads_tables(asset):
        manager = type(defs.resources["tables"])  # type: ignore[index]
        using.enter(manager, manager.__module__)
    packages = {path.parent for path in SOURCES if path.name == "__init__.py"}
    return frozenset(each for each in using.modules if ROOT.parent.joinpath(*each.split(".")) not in packages)


def reads_tables(asset: str) -> bool:
    return bool(TABLE_INPUTS & set(inspect.signature(MADE_BY[asset]).parameters))


def starts(asset: str) -> list[str]:
    """Modules from which imports lead to what an asset's value depends on."""
    tables = type(defs.resources["tables"]).__module__  # type: ignore[index]
    return [MADE_BY[asset].__module__, *([tables] if reads_tables(asset) else [])]


class Copy:
    """A copy of the package whose sources can be edited."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / PACKAGE
        skipped = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(ROOT, self.root, ignore=skipped)
        self.unedited = self.versions()

    def versions(self) -> dict[str, str]:
        """Code versions by the copy's own sources; nothing of the copy but the one module is imported."""
        spec = importlib.util.spec_from_file_location("copied_code_versions", self.root / "code_versions.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return {
            asset: module.code_version(made.__module__, made.__name__, shows=asset == "report")
            for asset, made in MADE_BY.items()
        }

    def path(self, module: str) -> Path:
        return self.root.parent / f"{module.replace('.', '/')}.py"

    def changed_by(self, path: Path, text: str | bytes, before: dict[str, str] | None = None) -> set[str]:
        """Assets whose version another content of a file changes; the file is left as it was."""
        original, before = path.read_bytes(), before or self.unedited
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        try:
            after = self.versions()
        finally:
            path.write_bytes(original)
        return {asset for asset in ASSETS if before[asset] != after[asset]}

    def changed_by_statement(self, module: str) -> set[str]:
        path = self.path(module)
        return self.changed_by(path, path.read_text("utf-8") + STATEMENT)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("copy"))


def recorded() -> dict[str, str]:
    nodes = defs.resolve_asset_graph()
    return {asset: str(nodes.get(dg.AssetKey(asset)).code_version) for asset in ASSETS}


def test_assets_record_the_code_version_of_their_function() -> None:
    for asset, version in recorded().items():
        function = MADE_BY[asset]
        assert version == code_version(function.__module__, function.__name__, shows=asset == "report")
    assert len(set(recorded().values())) > 15


def test_features_and_folds_use_their_recorded_code_version() -> None:
    # The table knows it as what its rows were computed by, a fold's data version holds it.
    versions = recorded()
    assert versions["features"] == features.CODE
    assert versions["walk_forward"] == walk_forward.CODE


def test_code_version_is_independent_of_the_folder(package: Copy) -> None:
    assert package.versions() == recorded()


@pytest.mark.parametrize("asset", ASSETS)
def test_modules_behind_equals_the_modules_found_in_byte_code(asset: str) -> None:
    function = MADE_BY[asset]
    found = code_versions.modules_behind(function.__module__, function.__name__, shows=asset == "report")
    assert found - BY_DEFINITION == expected(asset)


DEEP = (
    "market.calendars", "market.corporate_actions", "market.membership", "dataset.splits",
    "measures.classification", "measures.inference", "measures.performance", "portfolio.tranches",
    "models.training", "evaluation.verdict", "recommendations.reasons", "recommendations.sentences",
)  # fmt: skip


@pytest.mark.parametrize("name", DEEP)
def test_edit_of_a_deep_module_changes_only_its_importers(package: Copy, name: str) -> None:
    module = f"{PACKAGE}.core.{name}"
    downstream = {asset for asset in ASSETS if module in expected(asset)}
    assert downstream
    assert package.changed_by_statement(module) == downstream
    # None without a chain of imports from the asset's own module, or from what hands it its tables.
    chains = {
        asset for asset in ASSETS if any(graph().find_shortest_chain(start, module) for start in starts(asset))
    }
    assert downstream <= chains


def test_edit_of_tranches_changes_every_asset_with_books(package: Copy) -> None:
    changed = package.changed_by_statement(f"{PACKAGE}.core.portfolio.tranches")
    assert {"metrics", "portfolio", "positions", "trades", "walk_forward_summary"} <= changed
    assert not changed & {
        "instruments",
        "price_bars",
        "features",
        "labels",
        "train_set",
        "classifier",
        "predictions",
    }


@pytest.mark.parametrize("name", ["measures.classification", "measures.performance"])
def test_edit_of_a_measure_changes_the_evaluation(package: Copy, name: str) -> None:
    assert {"evaluation", "metrics", "walk_forward_summary"} <= package.changed_by_statement(
        f"{PACKAGE}.core.{name}"
    )


def test_edit_of_sentences_changes_only_recommendations(package: Copy) -> None:
    assert package.changed_by_statement(f"{PACKAGE}.core.recommendations.sentences") == {"recommendations"}


def test_edit_of_calendars_changes_assets_that_count_sessions(package: Copy) -> None:
    changed = package.changed_by_statement(f"{PACKAGE}.core.market.calendars")
    assert {"price_bars", "features", "labels", "outcomes", "recommendations"} <= changed


def test_edit_of_a_table_reader_changes_assets_read_from_tables(package: Copy) -> None:
    # Labels are handed their bars by the IO manager: no import of their module says so.
    path = package.path(f"{PACKAGE}.storage.postgres.market_tables")
    text = path.read_text("utf-8")
    edited = text.replace("read_panel(cursor, _BARS,", "read_panel(cursor, _BARS if part else _BARS,")
    assert edited != text
    changed = package.changed_by(path, edited)
    assert {"labels", "features"} <= changed
    assert not changed & {"classifier", "predictions", "threshold"}


def test_edit_of_display_changes_only_the_report(package: Copy) -> None:
    assert package.changed_by_statement(f"{PACKAGE}.display.report.filters") == {"report"}
    assert package.changed_by_statement(f"{PACKAGE}.display.ui.metadata") <= {"report"}
    style = package.root / "display" / "report" / "report.css"
    assert package.changed_by(style, style.read_text("utf-8") + "b {}\n") == {"report"}


TEMPLATES = sorted(path.name for path in (ROOT / "display" / "report" / "templates").iterdir())


@pytest.mark.parametrize("name", TEMPLATES)
def test_edit_of_a_template_changes_only_the_report(package: Copy, name: str) -> None:
    # The report's template names the others; the trace page is no asset's value.
    template = package.root / "display" / "report" / "templates" / name
    changed = package.changed_by(template, template.read_text("utf-8") + "{# edited #}\n")
    assert changed == (set() if name == "trace.html" else {"report"})


def test_included_template_of_any_suffix_counts(package: Copy) -> None:
    folder = package.root / "display" / "report" / "templates"
    including, included = folder / "definitions.html", folder / "added.jinja"
    original = including.read_text("utf-8")
    included.write_text("one", "utf-8")
    # No template names it yet.
    assert package.changed_by(included, "two") == set()
    including.write_text(original + '{% include "added.jinja" %}', "utf-8")
    assert package.changed_by(included, "two", before=package.versions()) == {"report"}
    including.write_text(original, "utf-8")
    included.unlink()


def test_bundled_sample_counts_like_its_reader(package: Copy) -> None:
    sample = package.root / "providers" / "sample.parquet"
    changed = package.changed_by(sample, sample.read_bytes() + b"more")
    assert "price_bars" in changed
    assert changed == package.changed_by_statement(f"{PACKAGE}.providers.sample")


@pytest.mark.parametrize("name", sorted(each.removeprefix(f"{PACKAGE}.") for each in CARRIERS))
def test_edit_of_a_carrier_changes_no_version(package: Copy, name: str) -> None:
    assert package.changed_by_statement(f"{PACKAGE}.{name}") == set()


def test_definitions_of_asset_modules_count_one_by_one(package: Copy) -> None:
    path = package.path(f"{PACKAGE}.assets.predictions")
    text = path.read_text("utf-8")
    # A helper of one of its two assets.
    assert package.changed_by(path, text.replace('f"mean_', 'f"average_', 1)) == {"predictions"}
    path = package.path(f"{PACKAGE}.assets.metrics")
    text = path.read_text("utf-8")
    # A check is no part of any value.
    assert package.changed_by(path, text.replace("passed=not impossible", "passed=True", 1)) == set()
    # What an asset reads is; how it is filed under is not.
    assert package.changed_by(path, text.replace('"close"]', '"close", "exchange"]', 1)) == {"metrics"}
    assert package.changed_by(path, text.replace('kinds={"scikitlearn", "json"}', "kinds=set()", 1)) == set()


def test_newly_imported_module_counts(package: Copy) -> None:
    added = package.path(f"{PACKAGE}.core.portfolio.added")
    added.write_text('"""New."""\n\nVALUE = 1\n', "utf-8")
    tranches = package.path(f"{PACKAGE}.core.portfolio.tranches")
    original = tranches.read_text("utf-8")
    inside = (
        "\n\ndef _late() -> int:\n    from boursomatic_assets.core.portfolio import added\n    return added.VALUE\n"
    )
    tranches.write_text(original + inside, "utf-8")
    changed = package.changed_by(added, '"""New."""\n\nVALUE = 2\n', before=package.versions())
    tranches.write_text(original, "utf-8")
    added.unlink()
    assert changed == {asset for asset in ASSETS if f"{PACKAGE}.core.portfolio.tranches" in expected(asset)}


def test_edit_of_prose_changes_no_version(package: Copy) -> None:
    before, originals = package.versions(), {}
    for path in sorted(package.root.rglob("*.py")):
        originals[path] = path.read_text("utf-8")
        path.write_text(with_other_prose(originals[path]), "utf-8")
    after = package.versions()
    for path, original in originals.items():
        path.write_text(original, "utf-8")
    assert after == before


def with_other_prose(source: str) -> str:
    """A source with another docstring in every place that has one, comments at its ends and blank lines between."""
    lines = source.splitlines(keepends=True)
    # From the last on, so that earlier line numbers still hold.
    for node in sorted(docstrings(source), key=lambda node: -node.lineno):
        lines[node.lineno - 1 : node.end_lineno] = [f'{" " * node.col_offset}"""Other words: it\'s "so"."""\n']
    return COMMENT + "".join(lines).replace("\n\n\n", f"\n\n\n\n{COMMENT}\n") + COMMENT


def docstrings(source: str) -> list[ast.expr]:
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        node.body[0].value  # type: ignore[attr-defined]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, holders) and ast.get_docstring(node) is not None
    ]


def cut(source: str) -> str:
    """A source without its comments and docstrings, by the places that tokenizer and parser give for them."""
    lines = source.splitlines(keepends=True)
    comments = [
        each for each in tokenize.generate_tokens(io.StringIO(source).readline) if each.type == tokenize.COMMENT
    ]
    for comment in comments:
        number, column = comment.start
        lines[number - 1] = f"{lines[number - 1][:column]}\n"
    for node in docstrings(source):
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
            lines[number - 1] = "\n"
    return "".join(lines)


def without_blanks(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_without_prose_equals_tokenizer_and_parser(path: Path) -> None:
    source = path.read_text("utf-8")
    code, strings = without_prose(source)
    between = code.split('""')
    assert len(between) == len(strings) + 1
    put_back = between[0] + "".join(text + after for text, after in zip(strings, between[1:], strict=True))
    assert without_blanks(put_back) == without_blanks(cut(source))


def test_without_prose_separates_strings_and_comments() -> None:
    source = (
        'a = "# no comment"  # a comment\nb = \'it\\\'s "so"\'\n\n"""Prose?"""\nc = {\n    1:  # one\n    2,\n}\n'
    )
    # An expression after a statement is no docstring: it stays.
    assert without_prose(source) == (
        'a = ""\nb = ""\n""\nc = {\n    1:\n    2,\n}\n',
        ('"# no comment"', "'it\\'s \"so\"'", '"""Prose?"""'),
    )
    prose = '"""Module."""\n\n\ndef f() -> int:  # why\n    r"""Function.\n\n    "Word" # here.\n    """  # so\n    return 1\n'  # noqa: E501
    assert without_prose(prose) == ("def f() -> int:\n    return 1\n", ())
    # Indentation is code.
    assert without_prose("if a:\n    b()\nc()\n") != without_prose("if a:\n    b()\n    c()\n")


@pytest.mark.parametrize("module", sorted(MODULE_NAMES))
def test_imports_of_equals_the_import_graph(module: str) -> None:
    path = Path(str(importlib.util.find_spec(module).origin))  # type: ignore[union-attr]
    found = {name.module for name in imports_of(without_prose(path.read_text("utf-8")).code)}
    assert found == set(graph().find_modules_directly_imported_by(module))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_statements_of_equals_the_parser(path: Path) -> None:
    source = path.read_text("utf-8")
    cut_apart = [statement for text in statements_of(source) for statement in ast.parse(text).body]
    assert [ast.dump(each) for each in cut_apart] == [ast.dump(each) for each in ast.parse(source).body]


def test_statements_of_keeps_decorators_and_strings_like_code() -> None:
    first = (
        '@dg.asset(\n    kinds={"a"},\n)\n@retried\n# why\n'
        'def one() -> str:\n    return """\ndef none():\n"""\n\n\n'
    )
    second, third = "A = [\n    1,\n]\n", "class Two:\n    x = 1\n"
    assert statements_of(first + second + third) == [first, second, third]


@pytest.mark.parametrize("module", sorted(BY_DEFINITION))
def test_modules_by_definition_hold_only_definitions(module: str) -> None:
    source = Path(str(sys.modules[module].__file__)).read_text("utf-8")
    for statement in ast.parse(source).body:
        kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
        text = ast.unparse(statement)
        is_prose = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        # A statement that acts on another's value would be missed.
        assert isinstance(statement, kinds) or is_prose or text.startswith("if TYPE_CHECKING:"), text


def test_counting_modules_do_not_use_import_module() -> None:
    named = {path for path in SOURCES if "import_module(" in path.read_text("utf-8")}
    behind = {ROOT.parent / f"{each.replace('.', '/')}.py" for asset in ASSETS for each in expected(asset)}
    assert not named & behind


def test_table_inputs_are_the_assets_kept_in_tables() -> None:
    by_tables = {
        asset
        for asset in ASSETS
        if defs.resolve_asset_graph()
        .assets_def_for_key(dg.AssetKey(asset))
        .get_io_manager_key_for_asset_key(dg.AssetKey(asset))
        == "tables"
    }
    assert by_tables == TABLE_INPUTS


def test_code_version_of_an_unknown_function_is_refused() -> None:
    with pytest.raises(LookupError, match=r"assets\.labels defines no function lables"):
        code_version("boursomatic_assets.assets.labels", "lables")
    with pytest.raises(LookupError, match=r"has no module boursomatic_assets\.assets\.lables"):
        code_version("boursomatic_assets.assets.lables", "labels")


def test_code_location_of_an_edited_copy_shows_new_versions(package: Copy) -> None:
    path = package.path(f"{PACKAGE}.core.portfolio.tranches")
    original = path.read_text("utf-8")
    path.write_text(original + STATEMENT, "utf-8")
    script = (
        "import json\nfrom boursomatic_assets.definitions import defs\n"
        "nodes = defs.resolve_asset_graph().asset_nodes\n"
        "print(json.dumps({node.key.to_user_string(): node.code_version for node in nodes}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(package.root.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=package.root.parent, env=environment, capture_output=True, text=True, check=True, timeout=1800,
    )  # fmt: skip
    path.write_text(original, "utf-8")
    shown = json.loads(ran.stdout)
    before = recorded()
    changed = {asset for asset in ASSETS if shown[asset] != before[asset]}
    assert changed == {asset for asset in ASSETS if f"{PACKAGE}.core.portfolio.tranches" in expected(asset)}


def test_copied_package_is_the_tested_one() -> None:
    assert Path(boursomatic_assets.__file__).parent == ROOT
