"""The command `boursomatic settings`, and the page of documentation that it generates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from boursomatic_assets.cli import app
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.settings.variables import VARIABLES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["settings", *arguments], catch_exceptions=False)


def entries(code: int = 0) -> dict[str, dict[str, Any]]:
    ended = run("--json")
    assert ended.exit_code == code
    return {entry["name"]: entry for entry in json.loads(ended.stdout)}


def test_configuration_page_is_the_generated_one() -> None:
    ended = run("--markdown")
    assert ended.stdout == PAGE.read_text(encoding="utf-8"), (
        "boursomatic settings --markdown > docs/configuration.md"
    )


def test_configuration_page_never_depends_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_THREADS", "many")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hush@db/prices")
    ended = run("--markdown")
    assert (ended.exit_code, ended.stdout) == (0, PAGE.read_text(encoding="utf-8"))


def test_json_says_what_is_in_force_and_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_RETRAIN_AFTER", "5")
    monkeypatch.setenv("BOURSOMATIC_EXCHANGES", "XPAR, XAMS")
    monkeypatch.setenv("BOURSOMATIC_UNIVERSE", "")
    found = entries()
    assert list(found) == [variable.name for variable in VARIABLES]
    assert found["BOURSOMATIC_RETRAIN_AFTER"] == {
        "name": "BOURSOMATIC_RETRAIN_AFTER",
        "value": 5,
        "is_set": True,
        "default": "20",
        "form": "a whole number, of sessions",
        "meaning": "Sessions whose labels must have matured since the last training before the next one starts by "
        "itself.",
        "is_secret": False,
        "error": None,
    }
    assert found["BOURSOMATIC_EXCHANGES"]["value"] == ["XPAR", "XAMS"]
    default = found["BOURSOMATIC_MAX_REJECTED_SHARE"]
    assert (default["value"], default["is_set"], default["default"]) == (0.01, False, "0.01")
    # Set to nothing counts as not set.
    assert (found["BOURSOMATIC_UNIVERSE"]["value"], found["BOURSOMATIC_UNIVERSE"]["is_set"]) == (None, False)


def test_artifacts_are_shown_under_the_home_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_HOME", str(tmp_path))
    assert entries()["ARTIFACTS_DIR"]["value"] == str(tmp_path / "artifacts")


def test_the_list_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("BOURSOMATIC_HOME", "/h")
    ended = run()
    assert ended.exit_code == 0
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "  BOURSOMATIC_HOME = /h  (set)" in lines
    assert "  ARTIFACTS_DIR = /h/artifacts  (default)" in lines
    assert "  DATABASE_URL  (not set)" in lines
    assert "    Default: 0.98. Expected: a fraction from 0 to 1." in lines
    said = " ".join(ended.stdout.split())
    for variable in VARIABLES:
        assert variable.name in said
        assert variable.meaning in said


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_secrets_are_hidden(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": "postgresql://me:hush@db/prices",
        "BOURSOMATIC_STOOQ_KEY": "hush",
        "BOURSOMATIC_NOTICE_WEBHOOK": "https://hooks.example/hush",
        "BOURSOMATIC_NOTICE_TO": "a@x.org",
        "BOURSOMATIC_SMTP_URL": "smtp://me:hu%2Fsh@mail.example",
        "BOURSOMATIC_SMTP_PASSWORD": "hush",
    }.items():
        monkeypatch.setenv(name, value)
    ended = run(*arguments)
    assert ended.exit_code == 0
    assert "hush" not in ended.output
    assert "hu%2Fsh" not in ended.output
    for shown in ("postgresql://me:***@db/prices", "smtp://me:***@mail.example", "a@x.org"):
        assert shown in ended.output
    # The key, the webhook and the password whole, and the two passwords above.
    assert ended.output.count("***") == 5


def test_a_value_that_cannot_be_used_is_listed_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_THREADS", "many")
    monkeypatch.setenv("BOURSOMATIC_SMTP_URL", "mail.example/hush")
    found = entries(code=1)
    threads, server = found["BOURSOMATIC_THREADS"], found["BOURSOMATIC_SMTP_URL"]
    assert threads["value"] is None
    assert threads["error"].startswith("BOURSOMATIC_THREADS must be a whole number, 0 for all cores; found 'many'")
    assert server["error"].startswith("BOURSOMATIC_SMTP_URL must be smtp://USER:PASSWORD@HOST:PORT")
    ended = run()
    assert ended.exit_code == 1
    assert "Cannot be used: BOURSOMATIC_THREADS must be a whole number" in ended.stdout
    assert "hush" not in ended.output


def test_a_variable_that_lacks_its_partner_is_refused_after_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_NOTICE_TO", "a@x.org")
    with pytest.raises(ConfigurationError, match="found only one of them"):
        run()


def test_a_value_with_control_characters_is_shown_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_PROVIDER", "\x1b[31mred")
    assert r"BOURSOMATIC_PROVIDER = '\x1b[31mred'" in run().stdout


def test_two_formats_at_once_are_refused() -> None:
    ended = run("--json", "--markdown")
    assert ended.exit_code == 2
    assert "choose one of --json and --markdown" in ended.output
