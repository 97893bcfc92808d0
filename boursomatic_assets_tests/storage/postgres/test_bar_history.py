# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boursomatic_assets.core.market.bars import BAR_SCHEMA, PRICE_COLUMNS
from boursomatic_assets.storage.postgres.bar_history import (
    CHANGE_SCHEMA,
    bars_now,
    bars_then,
    changes_since,
    content_then,
    content_until,
)
from boursomatic_assets.storage.postgres.content import read_content
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import write_bars
from boursomatic_assets_tests.support.catalog import add_bars, rows, run
from boursomatic_assets_tests.support.panels import accepted, listed
from boursomatic_assets_tests.support.strategies import random_walk_bars

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

BARS = random_walk_bars(2, 12, seed=3)
SESSIONS = BARS["session"].unique().sort().to_list()
LAST, ONE, OTHER = SESSIONS[-1], "W000", "W001"
OF_ONE = "(SELECT id FROM instruments WHERE symbol = 'W000')"
OF_OTHER = "(SELECT id FROM instruments WHERE symbol = 'W001')"


@pytest.fixture
def filled(database: Database) -> Database:
    write_instruments(database, listed(ONE, OTHER))
    write_bars(database, accepted(BARS), "sample")
    return database


def clock(database: Database) -> datetime:
    """The database's time, in UTC."""
    ((moment,),) = rows(database, "SELECT timezone('utc', clock_timestamp())")
    assert isinstance(moment, datetime)
    return moment


def mine(bars: pl.DataFrame, symbol: str = ONE, until: date = LAST) -> pl.DataFrame:
    return bars.filter((pl.col("symbol") == symbol) & (pl.col("session") <= until))


def content_of(database: Database, symbol: str = ONE) -> str:
    return str(read_content(database, "price_bars").filter(pl.col("symbol") == symbol)["content"].item())


def test_bars_now_and_content_up_to_a_session(filled: Database) -> None:
    assert bars_now(filled, ONE, LAST).equals(mine(BARS))
    assert content_until(filled, ONE, LAST) == content_of(filled)
    before, until = content_of(filled), SESSIONS[7]
    assert bars_now(filled, ONE, until).equals(mine(BARS, until=until))
    found = content_until(filled, ONE, until)
    assert found != before
    # Equal to the content of a table with only these bars.
    run(filled, f"DELETE FROM price_bars WHERE ts > '{until}'")
    assert content_until(filled, ONE, LAST) == content_of(filled) == found


def test_bar_history_ignores_other_intervals_and_unknown_symbols(filled: Database) -> None:
    before, moment = content_of(filled), clock(filled)
    run(
        filled,
        "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval, created_at) "
        "SELECT gen_random_uuid(), instrument_id, ts + interval '9 hours', o, h, l, c, v, '15m', created_at "
        "FROM price_bars",
    )
    assert bars_now(filled, ONE, LAST).equals(mine(BARS))
    assert bars_then(filled, ONE, LAST, moment).equals(mine(BARS))
    assert content_until(filled, ONE, LAST) == before
    moment = clock(filled)
    assert bars_now(filled, "NONE", LAST).equals(pl.DataFrame(schema=BAR_SCHEMA))
    assert bars_then(filled, "NONE", LAST, moment).is_empty()
    assert content_until(filled, "NONE", LAST) == content_then(filled, "NONE", LAST, moment) == "0"
    assert changes_since(filled, "NONE", LAST, moment).equals(pl.DataFrame(schema=CHANGE_SCHEMA))


GONE_AND_HERE_AGAIN = f"""
    CREATE TEMP TABLE kept AS SELECT * FROM price_bars;
    DELETE FROM price_bars WHERE instrument_id = {OF_ONE};
    INSERT INTO price_bars
        SELECT gen_random_uuid(), instrument_id, ts, o, h, l, c + 5, v, interval, timezone('utc', clock_timestamp())
        FROM kept ON CONFLICT DO NOTHING;
    DELETE FROM price_bars WHERE c > 50;
"""
NEW_AND_GONE = f"""
    INSERT INTO price_bars SELECT gen_random_uuid(), {OF_ONE}, '2017-01-02', 1, 1, 1, 1, 1, 'daily',
                                  timezone('utc', clock_timestamp());
    UPDATE price_bars SET c = 3 WHERE ts = '2017-01-02';
    DELETE FROM price_bars WHERE ts = '2017-01-02';
"""
TO_ANOTHER_AND_AWAY = f"""
    UPDATE price_bars SET instrument_id = {OF_ONE}, ts = ts + interval '1 year' WHERE instrument_id = {OF_OTHER};
    UPDATE price_bars SET c = 9;
    DELETE FROM price_bars WHERE ts > '2018-07-01';
"""


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE price_bars SET c = c + 1 WHERE instrument_id = {OF_ONE}",
        f"UPDATE price_bars SET v = 0, o = 1 WHERE ts = '{SESSIONS[3]}'",
        f"UPDATE price_bars SET ts = ts + interval '100 days' WHERE ts > '{SESSIONS[8]}'",
        f"UPDATE price_bars SET ts = '2001-01-01' WHERE instrument_id = {OF_ONE} AND ts = '{SESSIONS[3]}'",
        f"DELETE FROM price_bars WHERE ts < '{SESSIONS[4]}'",
        "DELETE FROM price_bars",
        "UPDATE price_bars SET interval = '1d'",
        TO_ANOTHER_AND_AWAY,
        GONE_AND_HERE_AGAIN,
        NEW_AND_GONE,
    ],
)
def test_bars_then_undoes_any_change(filled: Database, change: str) -> None:
    contents, moment = {symbol: content_of(filled, symbol) for symbol in (ONE, OTHER)}, clock(filled)
    run(filled, change)
    for symbol in (ONE, OTHER):
        assert bars_then(filled, symbol, LAST, moment).equals(mine(BARS, symbol))
        assert content_then(filled, symbol, LAST, moment) == contents[symbol]
        assert bars_then(filled, symbol, LAST, clock(filled)).equals(bars_now(filled, symbol, LAST))


def test_bars_then_survives_a_rewritten_creation_time(filled: Database) -> None:
    # As programs do that write every column of a row.
    moment = clock(filled)
    run(filled, "UPDATE price_bars SET created_at = timezone('utc', clock_timestamp())")
    assert bars_then(filled, ONE, LAST, moment).equals(mine(BARS))
    assert changes_since(filled, ONE, LAST, moment).is_empty()


def test_bars_then_at_each_moment(filled: Database) -> None:
    states = [(clock(filled), bars_now(filled, ONE, LAST))]
    for step in range(4):
        run(filled, f"UPDATE price_bars SET c = c * 2 WHERE ts >= '{SESSIONS[2 * step]}'")
        run(filled, f"DELETE FROM price_bars WHERE ts = '{SESSIONS[2 * step + 1]}'")
        run(
            filled,
            "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval) SELECT gen_random_uuid(), id, "
            f"'2016-01-0{step + 1}', 1, 1, 1, 1, 1, 'daily' FROM instruments",
        )
        states.append((clock(filled), bars_now(filled, ONE, LAST)))
    heights = [bars.height for _, bars in states]
    assert heights == [12, 12, 12, 12, 12]
    for moment, bars in states:
        assert bars_then(filled, ONE, LAST, moment).equals(bars)
    # Before the first bar.
    assert bars_then(filled, ONE, LAST, states[0][0] - timedelta(days=1)).is_empty()


def test_bars_then_undoes_an_ingest(filled: Database) -> None:
    moment = clock(filled)
    revised = BARS.with_columns(pl.col(*PRICE_COLUMNS) / 2)
    later = LAST + timedelta(days=1)
    write_bars(filled, accepted(pl.concat([revised, revised.tail(1).with_columns(session=later)])), "sample")
    assert bars_now(filled, OTHER, later).height == 13
    assert bars_then(filled, OTHER, later, moment).equals(mine(BARS, OTHER))
    assert rows(filled, "SELECT count(*) FROM bar_changes") == [(24,)]
    # The same bars again are neither written nor recorded.
    write_bars(filled, accepted(revised), "sample")
    assert rows(filled, "SELECT count(*) FROM bar_changes") == [(24,)]


def test_changes_since_lists_each_changed_value(filled: Database) -> None:
    moment = clock(filled)
    assert changes_since(filled, ONE, LAST, moment).equals(pl.DataFrame(schema=CHANGE_SCHEMA))
    run(filled, f"UPDATE price_bars SET c = 9, o = 8 WHERE ts = '{SESSIONS[3]}'")
    run(filled, f"UPDATE price_bars SET v = 7 WHERE ts = '{SESSIONS[1]}'; DELETE FROM price_bars WHERE c = 9")
    run(filled, f"UPDATE price_bars SET c = 1 WHERE ts = '{LAST}'")
    add_bars(filled, "2016-01-04", "daily", values="1, 2, 3, 4, 5")
    was = {row["session"]: row for row in mine(BARS).iter_rows(named=True)}
    columns = ("open", "high", "low", "close", "volume")
    new = [(date(2016, 1, 4), name, None, float(value)) for value, name in enumerate(columns, start=1)]
    gone = [(SESSIONS[3], name, was[SESSIONS[3]][name], None) for name in columns]
    expected = [*new, (SESSIONS[1], "volume", was[SESSIONS[1]]["volume"], 7.0), *gone]
    assert changes_since(filled, ONE, SESSIONS[10], moment).rows() == expected
    assert changes_since(filled, ONE, LAST, moment).rows() == [*expected, (LAST, "close", was[LAST]["close"], 1.0)]


def test_changes_since_ignores_restored_values(filled: Database) -> None:
    moment, before = clock(filled), content_of(filled)
    run(filled, "UPDATE price_bars SET c = c * 2; UPDATE price_bars SET c = c / 2")
    assert rows(filled, "SELECT count(*) FROM bar_changes") == [(48,)]
    assert changes_since(filled, ONE, LAST, moment).is_empty()
    assert content_until(filled, ONE, LAST) == content_then(filled, ONE, LAST, moment) == before


SOME = st.sampled_from(SESSIONS)
STATEMENTS = st.one_of(
    st.builds("UPDATE price_bars SET c = c + 1 WHERE ts = '{}'".format, SOME),
    st.builds("DELETE FROM price_bars WHERE ts = '{}'".format, SOME),
    st.builds(
        # A bar moves to a session without one.
        "UPDATE price_bars b SET ts = '{0}' WHERE ts = '{1}' AND NOT EXISTS (SELECT FROM price_bars o "
        "WHERE o.instrument_id = b.instrument_id AND o.ts = '{0}')".format,
        SOME,
        SOME,
    ),
    st.builds(
        "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval, created_at) SELECT "
        "gen_random_uuid(), id, '{}', 1, 2, 3, {}, 5, 'daily', timezone('utc', clock_timestamp()) "
        "FROM instruments ON CONFLICT (instrument_id, ts, interval) DO UPDATE SET c = excluded.c".format,
        SOME,
        st.integers(1, 9),
    ),
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(STATEMENTS, min_size=1, max_size=8))
def test_bars_then_undoes_any_history(filled: Database, statements: list[str]) -> None:
    states = []
    for statement in statements:
        states.append((clock(filled), bars_now(filled, ONE, LAST), content_until(filled, ONE, LAST)))
        run(filled, statement)
    for moment, bars, content in states:
        assert bars_then(filled, ONE, LAST, moment).equals(bars)
        assert content_then(filled, ONE, LAST, moment) == content
