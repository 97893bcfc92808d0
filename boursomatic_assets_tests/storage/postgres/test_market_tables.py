# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from boursomatic_assets.core.dataset.features import FEATURE_NAMES, compute_features
from boursomatic_assets.core.market.bars import BAR_SCHEMA, CheckedBars, check_bars
from boursomatic_assets.errors import PanelContractError, StorageError
from boursomatic_assets.storage.postgres.adjustments_table import add_adjustment
from boursomatic_assets.storage.postgres.database import UpsertCounts
from boursomatic_assets.storage.postgres.features_table import (
    count_broken_features,
    newest_features,
    read_features,
    write_features,
)
from boursomatic_assets.storage.postgres.instruments_table import read_instruments, write_instruments
from boursomatic_assets.storage.postgres.market_tables import (
    count_broken_bars,
    first_sessions,
    newest_bars,
    read_bars,
    read_spans,
    read_tails,
    read_usable_bars,
    symbol_batches,
    upsert_bars,
    write_bars,
)
from boursomatic_assets.storage.postgres.panels import Selection
from boursomatic_assets_tests.support.catalog import add_bars, rows, run, versions_of
from boursomatic_assets_tests.support.panels import accepted, listed, on_two_exchanges
from boursomatic_assets_tests.support.strategies import flat_bars, random_walk_bars, weekdays

if TYPE_CHECKING:
    from collections.abc import Callable

    from boursomatic_assets.storage.postgres.database import Database

SOURCE = "files:/prices.csv"
TODAY = date(2030, 1, 1)


def checked(*bars: tuple[Any, ...]) -> CheckedBars:
    return check_bars(pl.DataFrame(bars, schema=BAR_SCHEMA, orient="row"), today=TODAY)


def some_features(panel: pl.DataFrame, **values: list[float | None]) -> pl.DataFrame:
    """Feature rows for a panel's keys; columns that are not given are null."""
    columns = [pl.Series(name, values.get(name, [None] * panel.height), pl.Float64) for name in FEATURE_NAMES]
    return panel.select("symbol", "session").with_columns(columns)


@pytest.fixture
def three_sessions(database: Database) -> pl.DataFrame:
    """Bars of AAA and BBB on three sessions, not stored yet; their instruments are."""
    write_instruments(database, listed("AAA", "BBB"))
    return flat_bars({"AAA": [10.0, 11.0, 12.0], "BBB": [20.0, 21.0, 22.0]})


def test_write_bars_inserts_then_updates_only_rows_that_differ(
    database: Database, three_sessions: pl.DataFrame
) -> None:
    assert write_bars(database, accepted(three_sessions), SOURCE) == UpsertCounts(6, 0, 0)
    first = versions_of(database, "price_bars")
    assert write_bars(database, accepted(three_sessions), SOURCE) == UpsertCounts(0, 0, 6)
    assert versions_of(database, "price_bars") == first

    # One close changes by the smallest step of a double, and one session is new: 6 + 1 bars.
    corrected = flat_bars({"AAA": [10.0, 11.0, 12.0, 13.0], "BBB": [20.0, 21.0000000000000036, 22.0]})
    assert corrected["close"][5] != 21.0
    assert write_bars(database, accepted(corrected), SOURCE) == UpsertCounts(1, 1, 5)
    assert read_bars(database).equals(corrected)
    now = versions_of(database, "price_bars")
    assert len(now) == 7
    assert sum(now[key] == version for key, version in first.items()) == 5


def test_write_bars_keeps_id_and_creation_time_of_a_corrected_row(
    database: Database, three_sessions: pl.DataFrame
) -> None:
    write_bars(database, accepted(three_sessions), SOURCE)
    before = rows(database, "SELECT id, created_at FROM price_bars ORDER BY id")
    write_bars(database, accepted(three_sessions.with_columns(volume=pl.lit(7.0))), SOURCE)
    assert rows(database, "SELECT id, created_at FROM price_bars ORDER BY id") == before
    assert rows(database, "SELECT DISTINCT v FROM price_bars") == [(7.0,)]


def test_write_bars_keeps_bars_that_the_source_dropped(database: Database, three_sessions: pl.DataFrame) -> None:
    write_bars(database, accepted(three_sessions), SOURCE)
    assert write_bars(database, accepted(three_sessions.head(1)), SOURCE) == UpsertCounts(0, 0, 1)
    assert read_bars(database).equals(three_sessions)


def test_write_bars_accepts_an_empty_panel(database: Database, three_sessions: pl.DataFrame) -> None:
    assert write_bars(database, accepted(three_sessions.clear()), SOURCE) == UpsertCounts(0, 0, 0)
    assert read_bars(database).equals(three_sessions.clear())


def test_prices_round_trip_exactly(database: Database) -> None:
    write_instruments(database, listed("AAA"))
    # A third, a sum that rounds, the smallest and largest doubles, neighbours of 1.
    closes = [1 / 3, 0.1 + 0.2, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1 + 2**-52, 1 - 2**-53]
    bars = flat_bars({"AAA": closes}, volume=123456789.12345679)
    write_bars(database, accepted(bars), SOURCE)
    found = read_bars(database)
    assert found.schema == bars.schema
    assert [value.hex() for value in found["close"]] == [value.hex() for value in closes]
    assert found.equals(bars)
    assert write_bars(database, accepted(bars), SOURCE) == UpsertCounts(0, 0, 7)


def test_read_bars_returns_the_chosen_columns_in_order(database: Database, three_sessions: pl.DataFrame) -> None:
    write_bars(database, accepted(three_sessions), SOURCE)
    assert read_bars(database, ["volume", "close"]).columns == ["symbol", "session", "volume", "close"]


def test_write_features_updates_only_beyond_the_tolerance(database: Database, three_sessions: pl.DataFrame) -> None:
    stored = some_features(
        three_sessions, ret_1d=[None, 0.5, -0.5, None, 0.0, 1e-30], atr_14=[None, 1e6, 1e6, 2.0, 2.0, 2.0]
    )
    assert write_features(database, stored) == UpsertCounts(6, 0, 0)
    before = versions_of(database, "features")

    # Relative to the larger of the two: 0.9e-9 is within the tolerance, 1.1e-9 beyond it, at any scale.
    within = some_features(
        three_sessions,
        ret_1d=[None, 0.5 * (1 + 9e-10), -0.5 * (1 - 9e-10), None, 0.0, 1e-30 * (1 + 9e-10)],
        atr_14=[None, 1e6 * (1 - 9e-10), 1e6, 2.0, 2.0, 2.0],
    )
    assert write_features(database, within) == UpsertCounts(0, 0, 6)
    assert versions_of(database, "features") == before

    beyond = some_features(
        three_sessions,
        ret_1d=[0.1, 0.5 * (1 + 1.1e-9), None, None, 1e-30, 1e-30 * (1 + 9e-10)],
        atr_14=[None, 1e6, 1e6, 2.0 * (1 + 1.1e-9), 2.0, 2.0],
    )
    # null to value, beyond, value to null, beyond in the other column, zero to almost zero; the last is within.
    assert write_features(database, beyond) == UpsertCounts(0, 5, 1)
    assert read_features(database)["ret_1d"].to_list() == [0.1, 0.5 * (1 + 1.1e-9), None, None, 1e-30, 1e-30]


def test_features_round_trip_exactly(database: Database, three_sessions: pl.DataFrame) -> None:
    values = {
        name: [None, 1 / 3, -0.0, 5e-324, -1.7976931348623157e308, float(number)]
        for number, name in enumerate(FEATURE_NAMES)
    }
    features = some_features(three_sessions, **values)
    write_features(database, features)
    found = read_features(database)
    assert found.schema == features.schema
    for name in FEATURE_NAMES:
        assert [value and value.hex() for value in found[name]] == [value and value.hex() for value in values[name]]
        assert str(found[name][2]) == "-0.0"


def test_write_features_keeps_other_programs_columns(database: Database, three_sessions: pl.DataFrame) -> None:
    write_features(database, some_features(three_sessions, rsi_14=[50.0] * 6))
    run(database, """UPDATE features SET additional_features = '{"theirs": 1}', created_at = '2001-01-01'""")
    write_features(database, some_features(three_sessions, rsi_14=[60.0] * 6))
    assert rows(database, "SELECT DISTINCT additional_features::text, created_at::date, rsi_14 FROM features") == [
        ('{"theirs": 1}', date(2001, 1, 1), 60.0)
    ]


def test_rejected_bars_are_stored_once_with_their_copies(database: Database) -> None:
    write_instruments(database, listed("AAA"))
    day = date(2020, 1, 2)
    bars = checked(
        ("AAA", day, 10.0, 11.0, 9.0, 10.0, 100.0),
        ("AAA", day + timedelta(1), -1.0, 11.0, 9.0, 10.0, 100.0),
        ("AAA", day + timedelta(1), -1.0, 11.0, 9.0, 10.0, 100.0),
        ("AAA", day + timedelta(1), -1.0, 11.0, 9.0, 10.0, 100.0),
        ("AAA", day + timedelta(2), 10.0, 11.0, 9.0, None, 100.0),
        ("ZZZ", None, float("nan"), float("inf"), 9.0, 10.0, -1.0),
    )
    seen = (
        "SELECT source, symbol, session, open, high, close, volume, reason, copies FROM rejected_bars "
        "ORDER BY session NULLS LAST"
    )
    expected = [
        (SOURCE, "AAA", date(2020, 1, 3), -1.0, 11.0, 10.0, 100.0, "non-positive price", 3),
        (SOURCE, "AAA", date(2020, 1, 4), 10.0, 11.0, None, 100.0, "null price or volume", 1),
        (SOURCE, "ZZZ", None, float("nan"), float("inf"), 10.0, -1.0, "null symbol or session", 1),
    ]
    assert write_bars(database, bars, SOURCE) == UpsertCounts(1, 0, 0)
    assert repr(rows(database, seen)) == repr(expected)  # (a NaN is equal to itself in writing only)

    # The same file again adds no row, and does not add up the copies.
    write_bars(database, bars, SOURCE)
    assert repr(rows(database, seen)) == repr(expected)
    # Another source's rows are its own.
    write_bars(database, bars, "sample")
    assert rows(database, "SELECT source, sum(copies) FROM rejected_bars GROUP BY source ORDER BY source") == [
        (SOURCE, 5),
        ("sample", 5),
    ]


def test_rejected_bars_seen_again_update_only_last_seen_at(database: Database) -> None:
    broken = checked(("AAA", date(2020, 1, 2), 0.0, 1.0, 1.0, 1.0, 1.0))
    write_bars(database, broken, SOURCE)
    run(database, "UPDATE rejected_bars SET first_seen_at = '2001-01-01', last_seen_at = '2001-01-01'")
    write_bars(database, broken, SOURCE)
    assert rows(database, "SELECT first_seen_at::date, last_seen_at > '2020-01-01' FROM rejected_bars") == [
        (date(2001, 1, 1), True)
    ]


def test_rejected_bars_with_equal_text_stay_distinct(database: Database) -> None:
    day = date(2020, 1, 2)
    broken = checked(
        (None, day, 1.0, 1.0, 1.0, 1.0, 1.0),
        (str(day), None, 1.0, 1.0, 1.0, 1.0, 1.0),
        (f"A|{day}", None, 1.0, 1.0, 1.0, 1.0, 1.0),
    )
    write_bars(database, broken, SOURCE)
    assert rows(database, "SELECT count(*) FROM rejected_bars") == [(3,)]


def test_write_bars_stores_nothing_with_an_unknown_symbol(database: Database, three_sessions: pl.DataFrame) -> None:
    write_bars(database, accepted(three_sessions), SOURCE)
    before = versions_of(database, "price_bars")
    bars = checked(
        ("AAA", date(2020, 1, 2), 1.0, 1.0, 1.0, 1.0, 1.0),
        ("NEW", date(2020, 1, 2), 1.0, 1.0, 1.0, 1.0, 1.0),
        ("AAA", date(2020, 1, 3), -1.0, 1.0, 1.0, 1.0, 1.0),
    )
    with pytest.raises(
        PanelContractError, match="boursomatic materialize --select instruments,price_bars"
    ) as caught:
        write_bars(database, bars, SOURCE)
    assert "['NEW']" in str(caught.value)
    assert versions_of(database, "price_bars") == before
    assert rows(database, "SELECT count(*) FROM rejected_bars") == [(0,)]


def test_write_bars_stores_nothing_if_a_rejected_row_fails(
    database: Database, three_sessions: pl.DataFrame
) -> None:
    # A reason is compulsory in the table.
    rejected = three_sessions.head(1).with_columns(reason=pl.lit(None, pl.String))
    with pytest.raises(StorageError, match="reason"):
        write_bars(database, CheckedBars(three_sessions, rejected), SOURCE)
    assert rows(database, "SELECT count(*) FROM price_bars") == [(0,)]
    assert rows(database, "SELECT count(*) FROM rejected_bars") == [(0,)]


def test_rejected_bars_accept_a_long_source_path(database: Database) -> None:
    # 4,096 characters is the longest path that Linux allows.
    source = "files:" + "/folder" * 500
    write_bars(database, checked(("AAA", date(2020, 1, 2), 0.0, 1.0, 1.0, 1.0, 1.0)), source)
    assert rows(database, "SELECT count(*) FROM rejected_bars") == [(1,)]


def test_write_features_refuses_an_unknown_symbol(database: Database) -> None:
    with pytest.raises(PanelContractError, match="NEW"):
        write_features(database, some_features(flat_bars({"NEW": [1.0]})))
    assert rows(database, "SELECT count(*) FROM features") == [(0,)]


def test_bars_of_a_symbol_on_two_exchanges_use_symbol_at_exchange(database: Database) -> None:
    write_instruments(database, on_two_exchanges("AAA", "BBB"))
    bars = flat_bars({"AAA@XNYS": [1.0, 2.0], "AAA@XPAR": [3.0, 4.0], "BBB": [5.0, 6.0]})
    assert write_bars(database, accepted(bars), SOURCE) == UpsertCounts(6, 0, 0)
    assert read_bars(database).equals(bars)
    by_exchange = (
        "SELECT symbol, exchange, sum(c) FROM price_bars JOIN instruments i ON i.id = instrument_id "
        "GROUP BY symbol, exchange ORDER BY symbol, exchange"
    )
    assert rows(database, by_exchange) == [("AAA", "XNYS", 3.0), ("AAA", "XPAR", 7.0), ("BBB", "XPAR", 11.0)]
    # The symbol alone is ambiguous.
    with pytest.raises(PanelContractError, match=r"more than one: \['AAA'\]"):
        write_bars(database, accepted(flat_bars({"AAA": [1.0]})), SOURCE)


def test_lookback_counts_calendar_days_from_the_newest_daily_bar(database: Database) -> None:
    write_instruments(database, listed("AAA", "BBB"))
    # Weekdays from Monday 2018-01-01: AAA to Wednesday the 10th, BBB to Friday the 5th.
    bars = flat_bars({"AAA": [1.0] * 8, "BBB": [2.0] * 5})
    write_bars(database, accepted(bars), SOURCE)
    write_features(database, some_features(bars, ret_1d=[0.0] * 13))
    add_bars(database, "2019-01-01")
    # Seven days before the 10th is the 3rd: 3, 4, 5, 8, 9, 10 of AAA and 3, 4, 5 of BBB.
    recent = bars.filter(pl.col("session") >= date(2018, 1, 3))
    assert recent.height == 6 + 3
    assert read_bars(database, selection=Selection(lookback_days=7)).equals(recent)
    assert (
        read_features(database, ["ret_1d"], selection=Selection(lookback_days=7))
        .select("symbol", "session")
        .equals(recent.select("symbol", "session"))
    )
    assert read_bars(database, selection=Selection(lookback_days=0)).select("symbol", "session").rows() == [
        ("AAA", date(2018, 1, 10))
    ]
    assert read_bars(database, selection=Selection(lookback_days=5000)).equals(bars)


def test_first_symbols_are_in_alphabetical_order(database: Database) -> None:
    write_instruments(database, listed("CCC", "AAA", "BBB"))
    bars = flat_bars({"AAA": [1.0], "BBB": [2.0, 3.0], "CCC": [4.0]})
    write_bars(database, accepted(bars), SOURCE)
    write_features(database, some_features(bars, ret_1d=[0.0] * 4))
    assert read_bars(database, selection=Selection(first_symbols=2)).equals(bars.head(3))
    assert read_features(database, selection=Selection(first_symbols=2))["symbol"].to_list() == [
        "AAA",
        "BBB",
        "BBB",
    ]
    assert read_bars(database, selection=Selection(first_symbols=4)).equals(bars)
    # With a lookback, which counts from the newest bar of all symbols: BBB's of Tuesday.
    assert read_bars(database, selection=Selection(lookback_days=0, first_symbols=2))["symbol"].to_list() == ["BBB"]
    assert read_bars(database, selection=Selection(lookback_days=0, first_symbols=1)).is_empty()


def test_readers_return_empty_panels_of_an_empty_database(database: Database) -> None:
    assert read_bars(database, selection=Selection(lookback_days=7)).equals(pl.DataFrame(schema=BAR_SCHEMA))
    assert read_features(database).columns == ["symbol", "session", *FEATURE_NAMES]
    assert read_features(database).is_empty()
    assert read_instruments(database).is_empty()


def test_read_bars_sorts_independently_of_the_collation(database: Database) -> None:
    write_instruments(database, listed("a", "B", "é", "^I", "A.B", "AB"))
    bars = flat_bars({symbol: [1.0, 2.0] for symbol in ("B", "a", "é", "^I", "A.B", "AB")})
    write_bars(database, accepted(bars.sample(fraction=1.0, shuffle=True, seed=1)), SOURCE)
    assert read_bars(database)["symbol"].unique(maintain_order=True).to_list() == ["A.B", "AB", "B", "^I", "a", "é"]
    assert read_bars(database).equals(bars)


def at_once(*tasks: Callable[[], UpsertCounts]) -> list[UpsertCounts]:
    """Run tasks in threads that start together."""
    together = threading.Barrier(len(tasks))

    def run_one(task: Callable[[], UpsertCounts]) -> UpsertCounts:
        together.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run_one, tasks))


def test_concurrent_writers_in_different_orders_neither_deadlock_nor_duplicate(database: Database) -> None:
    bars = random_walk_bars(4, 300, seed=3)
    write_instruments(database, listed(*bars["symbol"].unique()))

    def write(number: int) -> UpsertCounts:
        mine = bars.with_columns(volume=pl.lit(float(number)))
        return write_bars(database, accepted(mine.sample(fraction=1.0, shuffle=True, seed=number)), SOURCE)

    found = at_once(*(partial(write, number) for number in range(4)))
    # One inserted all bars; each of the others then changed every volume.
    assert sorted((counts.inserted, counts.updated) for counts in found) == [(0, 1200)] * 3 + [(1200, 0)]
    assert read_bars(database).drop("volume").equals(bars.drop("volume"))
    assert read_bars(database)["volume"].n_unique() == 1
    assert rows(database, "SELECT count(*) FROM price_bars") == [(1200,)]


def test_concurrent_writers_of_new_rows_insert_them_once(database: Database) -> None:
    # Several times: a race is not always lost.
    for turn in range(3):
        symbols = [f"NEW{turn}_{number}" for number in range(500)]
        bars = flat_bars({symbols[0]: [float(day) for day in range(1, 31)]})
        features = some_features(bars, ret_1d=bars["close"].to_list())
        found = at_once(*[partial(write_instruments, database, listed(*symbols))] * 4)
        assert sorted((counts.inserted, counts.unchanged) for counts in found) == [(0, 500)] * 3 + [(500, 0)]
        found = at_once(*[partial(write_bars, database, accepted(bars), SOURCE)] * 4)
        assert sorted((counts.inserted, counts.unchanged) for counts in found) == [(0, 30)] * 3 + [(30, 0)]
        found = at_once(*[partial(write_features, database, features)] * 4)
        assert sorted((counts.inserted, counts.unchanged) for counts in found) == [(0, 30)] * 3 + [(30, 0)]
    assert rows(database, "SELECT count(*), count(DISTINCT symbol) FROM instruments") == [(1500, 1500)]


BROKEN = [
    "0, 1, 0, 1, 1",  # a price of zero
    "-1, 1, -1, 1, 1",  # below zero
    "3, 2, 1, 2, 1",  # high below open
    "2, 2, 1, 3, 1",  # high below close
    "2, 2, 3, 2, 1",  # high below low, low above open and close
    "1, 3, 2, 3, 1",  # low above open
    "3, 3, 2, 1, 1",  # low above close
    "1, 1, 1, 1, -1",  # volume below zero
    "1, 1, 1, 1, 'Infinity'",
    "1, 1, 1, 1, 'NaN'",
    "1, 'Infinity', 1, 1, 1",
    "'NaN', 1, 1, 1, 1",
    "1, 'NaN', 1, 1, 1",
    "1, 1, 'NaN', 1, 1",
    "1, 1, 1, 'NaN', 1",
    "1, 1, '-Infinity', 1, 1",
]


def test_count_broken_bars_counts_every_kind_and_no_lawful_bar(
    database: Database, three_sessions: pl.DataFrame
) -> None:
    write_bars(database, accepted(three_sessions), SOURCE)
    write_bars(database, accepted(flat_bars({"AAA": [0.0001]}, volume=0.0)), SOURCE)
    assert count_broken_bars(database) == 0
    for number, values in enumerate(BROKEN):
        # Bars of 15 minutes do not count.
        for interval in ("15m", "daily"):
            run(
                database,
                "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval) "
                f"SELECT gen_random_uuid(), id, timestamp '2020-01-01' + make_interval(days => {number}), "
                f"{values}, '{interval}' FROM instruments WHERE symbol = 'AAA'",
            )
        assert count_broken_bars(database) == number + 1, values


def test_count_broken_features_counts_every_kind_and_no_possible_value(
    database: Database, three_sessions: pl.DataFrame
) -> None:
    ends = some_features(
        three_sessions,
        ret_1d=[-1.0, 1e300, None, 0.0, -0.5, 3.0],
        rsi_14=[0.0, 100.0, None, 50.0, 1e-9, 99.9],
        vol_20d=[0.0, 1e300, None, 0.1, 0.1, 0.1],
        volume_zscore=[-4.2, 4.2, None, 0.0, 0.0, 0.0],
    )
    write_features(database, ends)
    assert count_broken_features(database) == 0
    planted = [
        *((name, value) for name in FEATURE_NAMES for value in ("Infinity", "-Infinity")),
        *(("rsi_14", "-1e-9"), ("rsi_14", "100.00001"), ("vol_20d", "-1e-9"), ("atr_14", "-1e-9")),
    ]
    for number, (name, value) in enumerate(planted):
        run(
            database,
            f"INSERT INTO features (id, instrument_id, ts, {name}) SELECT gen_random_uuid(), id, "
            f"timestamp '2020-01-01' + make_interval(days => {number}), '{value}' FROM instruments "
            "WHERE symbol = 'AAA'",
        )
        assert count_broken_features(database) == number + 1, (name, value)


def test_selection_limits_symbols_and_first_session(database: Database) -> None:
    write_instruments(database, listed("AAA", "BBB", "CCC", "it's, 100%"))
    bars = flat_bars({"AAA": [1.0] * 4, "BBB": [2.0] * 3, "CCC": [3.0], "it's, 100%": [4.0]})
    write_bars(database, accepted(bars), SOURCE)
    write_features(database, some_features(bars, ret_1d=[0.0] * bars.height))
    symbol, session = pl.col("symbol"), pl.col("session")
    second = date(2018, 1, 2)
    for selection, expected in (
        (Selection(symbols=["CCC", "AAA"]), symbol.is_in(["AAA", "CCC"])),
        (Selection(symbols=["it's, 100%", "no such"]), symbol == "it's, 100%"),
        (Selection(symbols=[]), pl.lit(value=False)),
        (Selection(since=second), session >= second),
        (Selection(since=second, symbols=["BBB", "CCC"]), (session >= second) & (symbol == "BBB")),
        # The newest bar of all is AAA's, of Thursday the 4th; two days before is the 2nd.
        (Selection(lookback_days=2, symbols=["BBB"]), (session >= second) & (symbol == "BBB")),
        (Selection(first_symbols=2, since=second), (session >= second) & symbol.is_in(["AAA", "BBB"])),
    ):
        assert read_bars(database, selection=selection).equals(bars.filter(expected)), selection
        found = read_features(database, ["ret_1d"], selection)
        assert found.select("symbol", "session").equals(bars.filter(expected).select("symbol", "session")), (
            selection
        )


def test_read_tails_returns_the_newest_sessions_of_each_symbol(database: Database) -> None:
    write_instruments(database, listed("AAA", "BBB", "CCC", "DDD"))
    bars = flat_bars({"AAA": [1.0, 2.0, None, 4.0, 5.0], "BBB": [6.0], "CCC": [7.0, 8.0]})
    write_bars(database, accepted(bars), SOURCE)
    add_bars(database, "2019-01-01")
    # Three of AAA's four and BBB's only one; CCC was not asked for, DDD has none.
    expected = bars.filter(pl.col("symbol").is_in(["AAA", "BBB"]))[1:]
    assert read_tails(database, ["DDD", "BBB", "AAA"], 3).equals(expected)
    assert read_tails(database, ["AAA"], 10).equals(bars.filter(pl.col("symbol") == "AAA"))
    assert read_tails(database, [], 3).equals(bars.clear())


def test_first_sessions_ignore_other_intervals_and_symbols(database: Database) -> None:
    write_instruments(database, listed("AAA", "BBB", "CCC", "DDD"))
    write_bars(database, accepted(flat_bars({"AAA": [None, 1.0, 2.0], "BBB": [3.0], "CCC": [4.0]})), SOURCE)
    add_bars(database, "2001-01-01")
    assert first_sessions(database, ["AAA", "BBB", "DDD"]) == {"AAA": date(2018, 1, 2), "BBB": date(2018, 1, 1)}
    assert first_sessions(database, []) == {}


@pytest.mark.parametrize(
    ("symbols", "rows_each", "batches"),
    [
        # Bars before each symbol: 0, 4, 5, 8; EEE has none.
        (None, 100, [["AAA", "BBB", "CCC", "DDD"]]),
        (None, 5, [["AAA", "BBB"], ["CCC", "DDD"]]),
        (None, 4, [["AAA"], ["BBB", "CCC"], ["DDD"]]),
        (None, 1, [["AAA"], ["BBB"], ["CCC"], ["DDD"]]),
        (["DDD", "EEE", "BBB"], 100, [["BBB", "DDD"]]),
        (["DDD", "EEE", "BBB"], 1, [["BBB"], ["DDD"]]),
        ([], 100, []),
        (["EEE"], 100, []),
    ],
)
def test_symbol_batches_hold_about_the_given_rows(
    database: Database, symbols: list[str] | None, rows_each: int, batches: list[list[str]]
) -> None:
    write_instruments(database, listed("DDD", "AAA", "CCC", "BBB", "EEE"))
    bars = flat_bars({"AAA": [1.0] * 4, "BBB": [1.0], "CCC": [1.0] * 3, "DDD": [1.0]})
    write_bars(database, accepted(bars), SOURCE)
    assert symbol_batches(database, symbols, rows_each) == batches


def test_newest_rows_of_the_first_symbols(database: Database) -> None:
    write_instruments(database, listed("AAA", "BBB", "CCC"))
    bars = flat_bars({"AAA": [1.0, 2.0], "BBB": [3.0], "CCC": [4.0]})
    write_bars(database, accepted(bars), SOURCE)
    write_features(database, some_features(bars, ret_1d=[0.1, 0.2, 0.3, 0.4]))
    assert newest_bars(database, 2).equals(bars[1:3])
    assert newest_features(database, 2)["ret_1d"].to_list() == [0.2, 0.3]


def test_upsert_bars_reports_rewritten_rows_by_symbol(database: Database) -> None:
    write_instruments(database, listed("AAA", "BBB", "CCC"))
    with database.bulk() as cursor:
        first = upsert_bars(cursor, accepted(flat_bars({"AAA": [1.0, 2.0, 3.0], "BBB": [4.0, 5.0]})), SOURCE)
    assert first.counts == UpsertCounts(5, 0, 0)
    assert first.rewritten.is_empty()
    with database.bulk() as cursor:
        changed = flat_bars({"AAA": [1.0, 2.5, 3.5, 4.5], "BBB": [4.5, 5.0], "CCC": [6.0]})
        second = upsert_bars(cursor, accepted(changed), SOURCE)
    # AAA's second and third, BBB's first; AAA's fourth and CCC's are new.
    assert second.counts == UpsertCounts(2, 3, 2)
    assert second.rewritten.rows() == [("AAA", 2, date(2018, 1, 2)), ("BBB", 1, date(2018, 1, 1))]


def test_usable_bars_are_adjusted_without_quarantined_and_filled_in_rows(database: Database) -> None:
    write_instruments(database, pl.concat([listed("AAA", "BBB"), listed("CCC", exchange="XPAR")]))
    bars = flat_bars({"AAA": [10.0, 5.0, 5.0], "BBB": [10.0, 5.0, 5.0], "CCC": [8.0, 8.0, 8.0]})
    # Monday 2018-01-01 was a holiday everywhere: CCC's row was filled in, those of the others were traded.
    at_new_year = (pl.col("symbol") == "CCC") & (pl.col("session") == date(2018, 1, 1))
    bars = bars.with_columns(volume=pl.when(at_new_year).then(0.0).otherwise("volume"))
    write_bars(database, accepted(bars), SOURCE)
    assert read_usable_bars(database).equals(bars.filter(~at_new_year))

    add_adjustment(database, "AAA", date(2018, 1, 2), 0.5, None)
    run(database, "INSERT INTO unexplained_jumps VALUES ('BBB', '2018-01-02', 0.5, 0.5)")
    # 10 * 0.5 and 1000 / 0.5
    assert read_usable_bars(database, ["close", "volume", "exchange"]).rows() == [
        ("AAA", date(2018, 1, 1), 5.0, 2000.0, "XNYS"),
        ("AAA", date(2018, 1, 2), 5.0, 1000.0, "XNYS"),
        ("AAA", date(2018, 1, 3), 5.0, 1000.0, "XNYS"),
        ("CCC", date(2018, 1, 2), 8.0, 1000.0, "XPAR"),
        ("CCC", date(2018, 1, 3), 8.0, 1000.0, "XPAR"),
    ]
    # An adjustment applies to a selection too, even without its own session.
    part = read_usable_bars(database, ["close"], Selection(symbols=["AAA", "BBB"]))
    assert part["close"].to_list() == [5.0, 5.0, 5.0]
    assert read_usable_bars(database, ["open"], Selection(symbols=["AAA"])).columns == ["symbol", "session", "open"]
    assert read_bars(database).equals(bars)


def test_usable_bars_adjust_each_exchange_by_its_own_entries(database: Database) -> None:
    write_instruments(database, on_two_exchanges("AAA"))
    write_bars(database, accepted(flat_bars({"AAA@XNYS": [4.0, 2.0], "AAA@XPAR": [4.0, 2.0]})), SOURCE)
    add_adjustment(database, "AAA@XPAR", date(2018, 1, 2), 0.5, None)
    found = read_usable_bars(database, ["close", "exchange"])
    assert found.select("symbol", "close", "exchange").rows() == [
        ("AAA@XNYS", 4.0, "XNYS"),
        ("AAA@XNYS", 2.0, "XNYS"),
        ("AAA@XPAR", 2.0, "XPAR"),
        ("AAA@XPAR", 2.0, "XPAR"),
    ]


def test_usable_bars_keep_an_idle_start_of_a_window(database: Database) -> None:
    write_instruments(database, listed("AAA", exchange="unknown"))
    volumes = pl.Series([7.0, 0.0, 0.0, 0.0, 9.0, 9.0])
    bars = flat_bars({"AAA": [5.0] * 6}).with_columns(volume=volumes)
    write_bars(database, accepted(bars), SOURCE)
    assert read_usable_bars(database, selection=Selection(since=bars["session"][1])).equals(bars[1:])
    assert read_usable_bars(database).equals(bars)


def test_read_spans_counts_from_a_date(database: Database) -> None:
    bars = flat_bars({"AAA": [1.0, 2.0, None, 4.0], "BBB": [None, 5.0]})
    write_instruments(database, listed("AAA", "BBB", "NONE"))
    write_bars(database, accepted(bars), "sample")
    write_features(database, compute_features(bars.head(2)))
    days = weekdays(4)
    assert read_spans(database).rows() == [("AAA", 3, days[0], days[3]), ("BBB", 1, days[1], days[1])]
    assert read_spans(database, since=days[2]).rows() == [("AAA", 1, days[3], days[3])]
    assert read_spans(database, "features").rows() == [("AAA", 2, days[0], days[1])]
    assert read_spans(database, "features", days[3]).is_empty()
