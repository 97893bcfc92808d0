"""Late bars on a real instance: asked for again, told once, and told again when they are there."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from boursomatic_assets.alerts.recording import open_failures
from boursomatic_assets.automation import decisions
from boursomatic_assets.automation.decisions import AGAIN_MINUTES
from boursomatic_assets.automation.feeds import (
    FEED_TAG,
    GROUPS,
    SESSION_TAG,
    config_of,
    fetch_late_bars,
    observe_feed,
)
from boursomatic_assets.automation.schedules import us_after_close
from boursomatic_assets.core.market.calendars import last_complete_session, sessions_between, settled_at
from boursomatic_assets.definitions import defs
from boursomatic_assets.settings import Settings
from boursomatic_assets_tests.support.catalog import rows, run

if TYPE_CHECKING:
    from boursomatic_assets_tests.automation.conftest import Bench

MONDAY = date(2024, 6, 10)


@pytest.fixture(autouse=True)
def _moment() -> None:
    """Set the moment and the newest sessions when a test begins: a session may end after the collection."""
    global NOW, NEWEST, BEFORE  # noqa: PLW0603 (constants of one test)
    NOW = datetime.now(UTC)
    NEWEST = last_complete_session("XNYS", NOW)
    BEFORE = sessions_between("XNYS", NEWEST - timedelta(days=10), NEWEST)[-2]


@pytest.fixture
def market(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two symbols that trade and one that no longer does; none has the newest session."""
    monkeypatch.setenv("BOURSOMATIC_PROVIDER", "yahoo")
    run(
        bench.database,
        "DELETE FROM price_bars; DELETE FROM features; DELETE FROM instruments; DELETE FROM notices; "
        "INSERT INTO instruments (id, symbol, exchange, is_active, created_at, updated_at) "
        "SELECT gen_random_uuid(), s, 'XNYS', true, now(), now() FROM unnest(ARRAY['AAA', 'BBB', 'OLD']) s",
    )
    for symbol, session in (("AAA", BEFORE), ("BBB", BEFORE), ("OLD", NEWEST - timedelta(days=60))):
        store(bench, symbol, session)
    return bench


def store(bench: Bench, symbol: str, session: date) -> None:
    run(
        bench.database,
        "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval, created_at) "  # noqa: S608
        f"SELECT gen_random_uuid(), id, '{session}', 10, 11, 9, 10, 100, 'daily', now() FROM instruments "
        f"WHERE symbol = '{symbol}'",
    )


def test_what_has_arrived_is_counted_among_those_that_still_trade(market: Bench) -> None:
    settings = Settings.from_environment()
    found = observe_feed(market.instance, market.database, settings, "us", NOW)
    assert found is not None
    assert (found.session, found.arrived, found.expected, found.attempts) == (NEWEST, 0, 2, 0)
    assert found.hours == pytest.approx((NOW - settled_at("XNYS", NEWEST)).total_seconds() / 3600)
    assert observe_feed(market.instance, market.database, settings, "euronext", NOW) is None
    store(market, "AAA", NEWEST)
    again = observe_feed(market.instance, market.database, settings, "us", NOW)
    assert again is not None
    assert again.arrived == 1


def test_an_update_is_asked_for_again_and_counts(market: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_FEED_HOURS", "100000")
    monkeypatch.setattr(decisions, "AGAIN_MINUTES", -1)
    request = market.requested(fetch_late_bars)
    assert request.run_key == f"us-{NEWEST}-again-0"
    assert request.run_config == config_of("us")
    assert (request.tags[FEED_TAG], request.tags[SESSION_TAG]) == ("us", str(NEWEST))
    launched = market.launch(request, "daily_update", "price_bars")
    assert "daily_update) not started is fetching bars" in market.skipped(fetch_late_bars)
    market.finish(launched, {"price_bars": "A"})
    assert market.requested(fetch_late_bars).run_key == f"us-{NEWEST}-again-1"
    monkeypatch.setattr(decisions, "AGAIN_MINUTES", AGAIN_MINUTES)
    assert "the last update was requested 0 minutes ago" in market.skipped(fetch_late_bars)
    for symbol in ("AAA", "BBB"):
        store(market, symbol, NEWEST)
    assert market.skipped(fetch_late_bars) == f"us: 2 of 2 symbols have a bar of {NEWEST}."
    assert rows(market.database, "SELECT count(*) FROM notices") == [(0,)]


def test_an_overdue_session_is_told_once_and_so_is_its_arrival(
    market: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOURSOMATIC_FEED_HOURS", "0.001")
    monkeypatch.setattr(decisions, "AGAIN_MINUTES", -1)
    market.finish(
        market.launch(market.requested(fetch_late_bars), "daily_update", "price_bars"), {"price_bars": "B"}
    )
    for _ in range(3):
        assert "no further update is requested" in market.skipped(fetch_late_bars)
    (failure,) = open_failures(market.database)
    assert (failure.asset, failure.times) == ("price_bars of us", 1)
    assert failure.cause == (
        f"us: 0 of 2 symbols have a bar of {NEWEST}, 0.001 hours after its close and after 1 updates"
    )
    for symbol in ("AAA", "BBB"):
        store(market, symbol, NEWEST)
    for _ in range(2):
        market.skipped(fetch_late_bars)
    assert open_failures(market.database) == []
    told = rows(market.database, "SELECT kind, asset FROM notices ORDER BY id")
    assert told == [("failure", "price_bars of us"), ("recovery", "price_bars of us")]


def test_a_source_without_new_sessions_is_never_late(market: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_PROVIDER", "sample")
    assert market.skipped(fetch_late_bars) == "The price source 'sample' brings no new sessions."
    monkeypatch.setenv("BOURSOMATIC_PROVIDER", "database")
    monkeypatch.setattr(decisions, "AGAIN_MINUTES", -1)
    assert market.requested(fetch_late_bars)


def test_without_bars_nothing_is_expected(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_PROVIDER", "yahoo")
    run(bench.database, "DELETE FROM price_bars")
    assert bench.skipped(fetch_late_bars) == "No instrument has bars yet."


def test_the_update_after_the_close_counts_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_PROVIDER", "yahoo")
    moment = datetime(2024, 6, 10, 20, 35, tzinfo=UTC)
    tick = us_after_close.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=moment))
    (request,) = tick.run_requests or []
    assert (request.tags[FEED_TAG], request.tags[SESSION_TAG]) == ("us", "2024-06-10")
    assert set(GROUPS) == {"us", "euronext"}


def test_what_people_wait_for_has_a_freshness_policy() -> None:
    windows = {
        # a long weekend without a session; a training each Saturday, unless nothing has matured
        "price_bars": timedelta(days=5),
        "features": timedelta(days=5),
        "recommendations": timedelta(days=5),
        "model_version": timedelta(days=14),
    }
    graph = defs.resolve_asset_graph()
    policies = {key.to_user_string(): graph.get(key).freshness_policy for key in graph.get_all_asset_keys()}
    found = {name: policy.fail_window.to_timedelta() for name, policy in policies.items() if policy}
    assert found == windows
