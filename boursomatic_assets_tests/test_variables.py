"""The declarations of environment variables: complete, the only way to read one, and without secrets when shown."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

import boursomatic_assets
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.providers.registry import PROVIDER_NAMES
from boursomatic_assets.settings import NoticeSettings, Settings, variables
from boursomatic_assets.settings.variable import Secret, Variable, without_password
from boursomatic_assets.settings.variables import OTHERS, PROVIDER, VARIABLES

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = Path(boursomatic_assets.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
PRODUCT_NAME = re.compile(r"\b(?:BOURSOMATIC_[A-Z_]*[A-Z]|DATABASE_URL|ARTIFACTS_DIR)\b")
# Uses of the whole environment or of a computed name, beside `settings/`, which reads what it declares.
ALLOWED = {
    ("commands/settings.py", "os.environ"),
    # Every variable of libpq: declared as PG*.
    ("storage/server/embedded.py", "os.environ"),
    ("storage/server/embedded.py", "name"),
}


def readings(source: str) -> set[str]:
    """Names of variables that a module reads: code if it computes one, `os.environ` if it takes the whole."""
    nodes = list(ast.walk(ast.parse(source)))
    found: set[str] = set()
    explained: set[ast.AST] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            found |= {f"os.{alias.name}" for alias in node.names if alias.name in {"environ", "environb", "getenv"}}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if _is_environ(node.func.value) or ast.unparse(node.func) == "os.getenv":
                found.add(_key(node.args[0]) if node.args else "os.environ")
                explained.add(node.func.value)
        elif isinstance(node, ast.Subscript) and _is_environ(node.value):
            explained.add(node.value)
            if isinstance(node.ctx, ast.Load):
                found.add(_key(node.slice))
        elif isinstance(node, ast.Compare) and _is_environ(node.comparators[0]):
            found.add(_key(node.left))
            explained.add(node.comparators[0])
        elif isinstance(node, ast.Dict):
            # A copy for a child process: what is read from it is another matter.
            explained |= {value for key, value in zip(node.keys, node.values, strict=True) if key is None}
    if any(_is_environ(node) and node not in explained for node in nodes):
        found.add("os.environ")
    return found


def _is_environ(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ"


def _key(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) else ast.unparse(node)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("os.environ['A']", {"A"}),
        ("os.environ.get('A', 'b')", {"A"}),
        ("os.environ.pop(name)", {"name"}),
        ("os.getenv('A')", {"A"}),
        ("'A' in os.environ", {"A"}),
        ("values = os.environ\nvalues.get('A')", {"os.environ"}),
        ("dict(os.environ.items())", {"os.environ"}),
        ("from os import environ", {"os.environ"}),
        ("os.environ['A'] = 'b'", set()),
        ("child = {**os.environ, 'A': 'b'}", set()),
    ],
)
def test_readings_are_found_in_every_form(source: str, names: set[str]) -> None:
    assert readings(source) == names


def test_no_module_reads_the_environment_beside_the_declarations() -> None:
    found = {
        (str(path.relative_to(PACKAGE)), name)
        for path in SOURCES
        if path.parent.name != "settings"
        for name in readings(path.read_text(encoding="utf-8"))
    }
    assert {(place, name) for place, name in found if name not in OTHERS} == ALLOWED


def test_every_name_in_code_and_documentation_is_declared() -> None:
    declared = {variable.name for variable in VARIABLES} | set(OTHERS)
    texts = [*SOURCES, *PACKAGE.rglob("*.yaml"), CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")]
    named = {name for path in texts for name in PRODUCT_NAME.findall(path.read_text(encoding="utf-8"))}
    assert named <= declared
    # None of the others is documented and unused.
    used = "".join(path.read_text(encoding="utf-8") for path in SOURCES if path.name != "variables.py")
    assert [name for name in OTHERS if name.rstrip("*") not in used] == []


def test_every_declaration_is_listed_once_and_read() -> None:
    constants = {name: each for name, each in vars(variables).items() if isinstance(each, Variable)}
    assert sorted(each.name for each in VARIABLES) == sorted(each.name for each in constants.values())
    files = ("platform.py", "notices.py", "web.py", "retention.py")
    readers = "".join((PACKAGE / "settings" / name).read_text("utf-8") for name in files)
    # Each field of Settings is read from the variable of its name.
    others = constants.keys() - {each.name.upper() for each in fields(Settings)}
    assert [
        name for name in others if not re.search(rf"\b(?:variables|dagster_ui)\.{name}\.(read|find)\(", readers)
    ] == []


def test_the_form_of_the_provider_names_every_provider() -> None:
    assert set(PROVIDER_NAMES) == set(re.split(r", | or ", PROVIDER.form))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:hush@db:5432/prices", "postgresql://me:***@db:5432/prices"),
        ("postgresql://me:@/prices?host=/run&password=hush", "postgresql://me:***@/prices?***"),
        ("https://hush@gate.example/fetch#hush", "https://***@gate.example/fetch?***"),
        ("smtp://mail.example:25", "smtp://mail.example:25"),
        ("s3://bucket/artifacts", "s3://bucket/artifacts"),
        ("/a/folder@home", "/a/folder@home"),
        # A password that is not escaped leaves no certain end of the user's part.
        ("postgresql://me:hu@sh@db/prices", "***"),
        ("postgresql://me:hu/sh@db/prices", "***"),
        ("postgresql://me:12/34@db/prices", "***"),
        ("postgresql://me:hu?sh@db/prices", "***"),
        ("postgresql://me:hu#sh@db/prices", "***"),
        ("postgresql://me:hush/prices", "***"),
        ("postgresql://[hush", "***"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_what_should_be_an_address_and_is_none_is_hidden() -> None:
    assert without_password("host=db password=hush", is_address=True) == "***"


SECRETS = [variable for variable in VARIABLES if variable.secret is not Secret.NONE]


def test_nine_variables_hold_secrets() -> None:
    assert {variable.name for variable in SECRETS} == {
        "DATABASE_URL", "BOURSOMATIC_STOOQ_KEY", "BOURSOMATIC_EODHD_KEY", "BOURSOMATIC_TIINGO_KEY",
        "BOURSOMATIC_NOTICE_WEBHOOK", "BOURSOMATIC_SMTP_URL", "BOURSOMATIC_SMTP_PASSWORD",
        "BOURSOMATIC_UI_PASSWORD", "BOURSOMATIC_GATEWAY",
    }  # fmt: skip


@pytest.mark.parametrize("variable", SECRETS, ids=lambda variable: variable.name)
def test_a_secret_is_not_shown_and_kept_out_of_notices(variable: Variable[str]) -> None:
    scheme = "smtp" if variable is variables.SMTP_URL else "https"
    values = {variable.name: f"{scheme}://me:hush@x.example/a"}
    assert "hush" not in str(variable.shown(values))
    receiver = {"BOURSOMATIC_NOTICE_TO": "a@x.org"} if variable is variables.SMTP_URL else {}
    assert "hush" in NoticeSettings.from_environment({**values, **receiver}).secrets


def test_a_password_in_an_address_that_is_refused_is_not_repeated() -> None:
    with pytest.raises(
        ConfigurationError, match=r"must be an http:// or https:// address; found 'ftp://me:\*\*\*@x'"
    ):
        variables.UI_URL.read({"BOURSOMATIC_UI_URL": "ftp://me:hush@x"})


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://gate.example", "https://gate.example"),
        ("https://token@gate.example:8443/", "https://gate.example:8443"),
        ("https://me:hush@gate.example/t", "https://gate.example/***"),
        ("https://me:hu@sh@gate.example/t", "***"),
    ],
)
def test_a_gateway_is_shown_without_user_password_and_path(address: str, shown: str) -> None:
    assert variables.GATEWAY.shown({"BOURSOMATIC_GATEWAY": address}) == shown
