"""The command `boursomatic status`, as a watchdog uses it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from dagster._daemon.types import DaemonHeartbeat
from typer.testing import CliRunner

from boursomatic_assets.alerts.failures import RunOutcome, Target, error_failure
from boursomatic_assets.alerts.recording import record_observation
from boursomatic_assets.cli import app
from boursomatic_assets.core.market.calendars import last_complete_session, settled_at
from boursomatic_assets.services.status import read_status
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets_tests.support.catalog import run

if TYPE_CHECKING:
    from datetime import date

    from boursomatic_assets.storage.postgres.database import Database

MARKET = """
    INSERT INTO instruments (id, symbol, exchange, is_active, created_at, updated_at)
    VALUES (gen_random_uuid(), 'AAA', 'XNYS', true, now(), now());
    INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval, created_at)
    SELECT gen_random_uuid(), id, '{session}', 10, 11, 9, 10, 100, 'daily', now() FROM instruments;
    INSERT INTO model_versions
        (id, version, trained_at, params_hash, metrics_json, model_path, is_active, created_at)
    VALUES (gen_random_uuid(), 'v1', now(), 'x', '{}', '/models/v1', true, now());
"""


@pytest.fixture(autouse=True)
def _moment() -> None:
    """Set the moment and the newest session when a test begins.

    A session may end after the collection, and a daemon that was alive then counts as dead half an hour later.
    """
    global NOW, NEWEST  # noqa: PLW0603 (constants of one test)
    NOW = datetime.now(UTC)
    NEWEST = last_complete_session("XNYS", NOW)


def recommend(database: Database, session: date) -> None:
    run(
        database,
        "DELETE FROM recommendations; INSERT INTO recommendations (id, instrument_id, model_version_id, profile, "  # noqa: S608
        "label, confidence, expected_return_pct, horizon_days, justification, features_snapshot, generated_at, "
        "is_active) SELECT gen_random_uuid(), i.id, m.id, 'moderate', 'HOLD', 0.5, 0, 20, '{}', "
        f'\'{{"session": "{session}"}}\', now(), true FROM instruments i, model_versions m',
    )


@pytest.fixture
def healthy(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A platform whose bars, model, recommendations and daemon are as they should be."""
    monkeypatch.setenv("BOURSOMATIC_PROVIDER", "yahoo")
    run(database, MARKET.replace("{session}", str(NEWEST)))
    recommend(database, NEWEST)
    with open_instance(settings, database) as instance:
        for kind in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(NOW.timestamp(), kind, "here", []))
    return database


def asked() -> tuple[int, dict[str, Any]]:
    ended = CliRunner().invoke(app, ["status", "--json"])
    return ended.exit_code, json.loads(ended.output)


def test_a_healthy_platform_ends_with_0_and_says_so(healthy: Database) -> None:
    code, said = asked()
    assert (code, said["is_healthy"], said["problems"]) == (0, True, [])
    assert said["feeds"] == [{"calendar": "XNYS", "session": str(NEWEST), "expected": 1, "arrived": 1}]
    assert (said["model"], said["recommended_session"], said["daemon_is_alive"]) == ("v1", str(NEWEST), True)
    ended = CliRunner().invoke(app, ["status"])
    assert (ended.exit_code, "All is well." in ended.output) == (0, True)
    assert healthy.read("SELECT count(*) AS n FROM notices").item() == 0


def test_each_problem_ends_with_1_and_is_named(healthy: Database, settings: Settings) -> None:
    late = error_failure([Target("features")], "ConnectionError", "down")
    record_observation(healthy, RunOutcome("r", "daily_update", NOW, (late,)), [], "http://ui")
    with open_instance(settings, healthy) as instance:
        instance.wipe_daemon_heartbeats()
    run(healthy, "UPDATE model_versions SET is_active = false")
    code, said = asked()
    assert code == 1
    assert said["problems"] == [
        "the daemon is not running: boursomatic dev",
        "no model version is active: boursomatic materialize",
        "features: ConnectionError: down is not over: boursomatic notices list",
    ]
    ended = CliRunner().invoke(app, ["status"])
    assert (ended.exit_code, "Problems: 3" in ended.output) == (1, True)


def test_a_session_is_late_from_its_deadline_on_and_recommendations_four_hours_later(
    healthy: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environment()
    settled = settled_at("XNYS", NEWEST)

    def problems(hours: float) -> list[str]:
        with open_instance(settings, healthy) as instance:
            found = read_status(healthy, instance, settings, settled + timedelta(hours=hours)).problems
        return [problem for problem in found if "daemon" not in problem]

    recommend(healthy, NEWEST - timedelta(days=1))
    # 8 hours for the bars, 4 for what follows from them
    assert problems(11.9) == []
    assert problems(12.0) == [
        f"the newest recommendations are of {NEWEST - timedelta(days=1)}; bars of {NEWEST} have arrived"
    ]
    run(healthy, "UPDATE price_bars SET ts = ts - interval '1 day'")
    assert problems(7.9) == []
    assert problems(8.0) == [f"XNYS: 0 of 1 symbols have a bar of {NEWEST}, 8 hours after its close"]
    # The bundled sample never has anything new.
    monkeypatch.setenv("BOURSOMATIC_PROVIDER", "sample")
    settings = Settings.from_environment()
    assert problems(12.0) == []


def test_bars_that_stopped_weeks_ago_are_a_problem(healthy: Database, settings: Settings) -> None:
    run(healthy, "UPDATE price_bars SET ts = '2013-03-01'")
    with open_instance(settings, healthy) as instance:
        found = read_status(healthy, instance, Settings.from_environment(), NOW)
        run(healthy, "DELETE FROM price_bars")
        empty = read_status(healthy, instance, Settings.from_environment(), NOW)
    assert found.problems == ("the newest bar is of 2013-03-01",)
    assert empty.problems == ("there are no bars",)


def test_a_database_that_is_gone_is_json_for_a_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hush@127.0.0.1:1/x")
    ended = CliRunner().invoke(app, ["status", "--json"])
    said = json.loads(ended.stdout)
    assert (ended.exit_code, said["is_healthy"]) == (1, False)
    assert "cannot be reached" in said["problems"][0]
    assert "hush" not in ended.stdout
