"""`boursomatic report`: where the newest report lies, or that of a version; with `--open`, in the browser."""

from __future__ import annotations

import webbrowser
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from boursomatic_assets.commands.report import report
from boursomatic_assets.errors import MissingArtifactError

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer()
app.command()(report)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path))
    newest = tmp_path / "reports" / "report.html"
    for path in (newest, tmp_path / "reports" / "20240301_183000_1a2b3c" / "report.html"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("<!DOCTYPE html>")
    return newest


def test_the_newest_report_is_named(written: Path) -> None:
    ended = CliRunner().invoke(app, [])
    assert ended.exit_code == 0
    assert ended.output.strip() == str(written)


def test_the_report_of_a_version_is_named(written: Path) -> None:
    ended = CliRunner().invoke(app, ["20240301_183000_1a2b3c"])
    assert ended.output.strip() == str(written.parent / "20240301_183000_1a2b3c" / "report.html")


def test_it_opens_as_a_file(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert CliRunner().invoke(app, ["--open"]).exit_code == 0
    assert opened == [written.as_uri()]


@pytest.mark.usefixtures("written")
def test_a_report_that_was_never_written_is_missed_with_the_command_that_writes_it() -> None:
    ended = CliRunner().invoke(app, ["20990101_000000_ffffff"])
    assert isinstance(ended.exception, MissingArtifactError)
    assert "boursomatic materialize --select report" in str(ended.exception)
