"""The commands `boursomatic notices`, as a person and another program use them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from boursomatic_assets.alerts.failures import RunOutcome, Target, error_failure
from boursomatic_assets.alerts.recording import begin_noticing, record_outcomes
from boursomatic_assets.cli import app
from boursomatic_assets_tests.support.catalog import rows
from boursomatic_assets_tests.support.receivers import WebReceiver, web_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boursomatic_assets.storage.postgres.database import Database

FEATURES = Target("features")
DOWN = error_failure([FEATURES], "ConnectionError", "[down] for a while")
NOON = datetime(2024, 6, 10, 12, 0, tzinfo=UTC)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebReceiver]:
    with web_receiver() as receiver:
        monkeypatch.setenv("BOURSOMATIC_NOTICE_WEBHOOK", receiver.url)
        yield receiver


@pytest.fixture
def outbox(database: Database) -> Database:
    begin_noticing(database, "here", 0)
    return database


def fill(outbox: Database) -> None:
    failed = RunOutcome("r1", "daily_update", NOON, (DOWN,))
    well = RunOutcome("r2", "daily_update", NOON, (), frozenset({FEATURES}))
    record_outcomes(outbox, "here", [(1, failed), (2, failed), (3, well)], ["log", "webhook"], "http://ui")


def said(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, ["notices", *arguments], catch_exceptions=False)
    assert ended.exit_code == code, ended.output
    return " ".join(ended.output.split())


@pytest.mark.usefixtures("outbox")
def test_nothing_has_failed_yet() -> None:
    assert said("list").startswith("No messages: ")
    assert said("list", "--waiting") == "No messages wait."
    assert json.loads(said("list", "--json")) == []
    assert said("send") == "Deliveries: 0. Waiting: 0"


def test_messages_are_shown_with_what_became_of_them(outbox: Database, web: WebReceiver) -> None:
    fill(outbox)
    web.status = 503
    # The log takes both; the webhook fails with the first, and the second waits behind it.
    refused = said("send", code=1)
    assert "Deliveries: 2. Waiting: 2" in refused
    assert "Not delivered: webhook: answered 503" in refused
    assert "Cause: ConnectionError: [down] for a while" in refused
    shown = said("list", "--waiting")
    for part in ("features failed 2 times, over since", "features succeeded again", "[down]", "answered 503"):
        assert part in shown.replace("│", " ").replace("  ", " ") or part.split()[0] in shown
    assert "Waiting for delivery: 2" in shown
    web.status = 200
    # At once, without waiting for the next attempt.
    assert "Deliveries: 2. Waiting: 0" in said("send")
    assert [body["kind"] for body in web.bodies] == ["failure", "recovery"]
    assert said("list", "--waiting") == "No messages wait."


def test_everything_is_there_as_json(outbox: Database) -> None:
    fill(outbox)
    recovery, failure = json.loads(said("list", "--json"))
    assert (recovery["kind"], failure["kind"]) == ("recovery", "failure")
    assert failure["details"]["cause"] == "ConnectionError: [down] for a while"
    assert failure["delivered"] == {"log": None, "webhook": None}
    assert (failure["times"], failure["attempts"], failure["last_error"]) == (2, 0, None)
    assert failure["recovered_at"] is not None


def test_a_test_message_tries_every_channel_and_is_not_kept(outbox: Database, web: WebReceiver) -> None:
    tried = said("send", "--test")
    assert "A test of Boursomatic's notices" in tried
    assert "log: delivered webhook: delivered email: not set (BOURSOMATIC_NOTICE_TO)" in tried
    assert [body["kind"] for body in web.bodies] == ["test"]
    web.status = 404
    assert "Not delivered: webhook: answered 404" in said("send", "--test", code=1)
    assert rows(outbox, "SELECT count(*) FROM notices") == [(0,)]


def test_a_test_message_needs_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    assert "webhook: not set (BOURSOMATIC_NOTICE_WEBHOOK)" in said("send", "--test")
