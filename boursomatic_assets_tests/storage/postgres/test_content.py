# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.core.dataset.features import FEATURE_NAMES
from boursomatic_assets.storage.postgres.content import count_nulls, read_content, version_of
from boursomatic_assets.storage.postgres.features_table import STATE_SCHEMA, read_state, write_features, write_state
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import write_bars
from boursomatic_assets_tests.conftest import fresh_database, upgraded
from boursomatic_assets_tests.support.catalog import add_bars, rows, run
from boursomatic_assets_tests.support.panels import accepted, listed
from boursomatic_assets_tests.support.strategies import flat_bars, random_walk_bars

if TYPE_CHECKING:
    import sqlalchemy as sa

    from boursomatic_assets.storage.postgres.database import Database

BARS = random_walk_bars(3, 30, seed=4)
NAMES = ("W000", "W001", "W002")


def some_features(bars: pl.DataFrame) -> pl.DataFrame:
    """Rows of features that are made up, with nulls here and there."""
    nulls = pl.int_range(pl.len()) % 7 == 0
    values = {name: pl.when(~nulls).then(pl.col("close") / (place + 3)) for place, name in enumerate(FEATURE_NAMES)}
    return bars.select("symbol", "session", **values)


def fill(database: Database) -> None:
    write_instruments(database, listed(*NAMES))
    write_bars(database, accepted(BARS), "sample")
    write_features(database, some_features(BARS))


@pytest.fixture
def filled(database: Database) -> Database:
    fill(database)
    return database


def content_of(database: Database, table: str) -> dict[str, str]:
    return dict(read_content(database, table).select("symbol", "content").iter_rows())


@pytest.mark.parametrize("table", ["price_bars", "features"])
def test_read_content_counts_rows_and_spans(database: Database, table: str) -> None:
    write_instruments(database, listed("BBB", "AAA", "CCC", exchange="XPAR"))
    bars = flat_bars({"AAA": [1.0, None, 3.0], "BBB": [4.0]})
    write_bars(database, accepted(bars), "sample")
    write_features(database, some_features(bars))
    found = read_content(database, table)
    assert found.drop("content").rows() == [
        ("AAA", "XPAR", 2, date(2018, 1, 1), date(2018, 1, 3)),
        ("BBB", "XPAR", 1, date(2018, 1, 1), date(2018, 1, 1)),
    ]
    assert found["content"].n_unique() == 2


def test_read_content_of_an_empty_table(database: Database) -> None:
    write_instruments(database, listed("AAA"))
    assert read_content(database, "price_bars").is_empty()
    assert read_content(database, "features").is_empty()


@pytest.mark.parametrize("table", ["price_bars", "features"])
def test_content_is_equal_in_two_databases(filled: Database, postgres: sa.Engine, table: str) -> None:
    with fresh_database(postgres) as settings:
        other = upgraded(settings)
        # Written in another order: other ids, times and places in the table.
        write_instruments(other, listed(*reversed(NAMES)))
        for name in reversed(NAMES):
            own = BARS.filter(pl.col("symbol") == name)
            for part in (own.tail(10), own.head(20)):
                write_bars(other, accepted(part), "elsewhere")
                write_features(
                    other,
                    some_features(BARS).join(
                        part.select("symbol", "session"), on=["symbol", "session"], how="semi"
                    ),
                )
        ids = "SELECT id FROM price_bars"
        assert set(rows(other, ids)).isdisjoint(rows(filled, ids))
        assert read_content(other, table).equals(read_content(filled, table))


@pytest.mark.parametrize("column", ["o", "h", "l", "c", "v", "ts"])
def test_content_changes_with_any_value_of_a_bar(filled: Database, column: str) -> None:
    before, features = content_of(filled, "price_bars"), content_of(filled, "features")
    one = "SELECT b.id FROM price_bars b JOIN instruments i ON i.id = instrument_id WHERE symbol = 'W001' LIMIT 1"
    # By the smallest step of a double, and by one second.
    more = f"{column} + interval '1 second'" if column == "ts" else f"{column} * (1 + 2.3e-16::float8)"
    run(filled, f"UPDATE price_bars SET {column} = {more} WHERE id = ({one})")
    after = content_of(filled, "price_bars")
    assert {name for name in NAMES if after[name] != before[name]} == {"W001"}
    assert content_of(filled, "features") == features


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_content_changes_with_any_feature_or_null(filled: Database, name: str) -> None:
    before = content_of(filled, "features")
    one = f"SELECT id FROM features WHERE {name} IS NOT NULL ORDER BY id LIMIT 1"
    hashes = {version_of(read_content(filled, "features"))}
    for value in (f"{name} * (1 + 2.3e-16::float8)", "0", "NULL"):
        run(filled, f"UPDATE features SET {name} = {value} WHERE id = ({one})")
        after = content_of(filled, "features")
        assert sum(after[symbol] != before[symbol] for symbol in NAMES) >= 1
        hashes.add(version_of(read_content(filled, "features")))
    assert len(hashes) == 4


def test_content_changes_when_values_swap_columns(filled: Database) -> None:
    before = content_of(filled, "price_bars")
    run(filled, "UPDATE price_bars SET o = c, c = o")
    changed = content_of(filled, "price_bars")
    assert all(changed[name] != before[name] for name in NAMES)
    run(filled, "UPDATE price_bars SET o = c, c = o")
    assert content_of(filled, "price_bars") == before


def test_content_changes_when_values_swap_sessions(filled: Database) -> None:
    # A plain sum of values would not notice values that swap rows.
    before = content_of(filled, "price_bars")
    days = BARS["session"].unique().sort()
    for one, other in pairwise(days):
        for columns in ("c", "o, h, l, c, v"):
            swapped = ", ".join(f"{name} = b.{name}" for name in columns.split(", "))
            swap = (
                f"UPDATE price_bars a SET {swapped} FROM price_bars b WHERE a.instrument_id = b.instrument_id "
                f"AND (a.ts, b.ts) IN (('{one}', '{other}'), ('{other}', '{one}'))"
            )
            run(filled, swap)
            after = content_of(filled, "price_bars")
            assert all(after[name] != before[name] for name in NAMES), (one, other, columns)
            run(filled, swap)
    assert content_of(filled, "price_bars") == before


def test_content_depends_on_rows_but_not_on_other_programs_data(filled: Database) -> None:
    before = content_of(filled, "price_bars")
    run(filled, "UPDATE price_bars SET created_at = '2001-01-01'")
    run(filled, """UPDATE features SET created_at = '2001-01-01', additional_features = '{"theirs": 1}'""")
    add_bars(filled, "2018-01-02 09:15")
    assert content_of(filled, "price_bars") == before
    run(filled, "DELETE FROM price_bars WHERE ts = '2018-01-02'")
    after = content_of(filled, "price_bars")
    assert all(after[name] != before[name] for name in NAMES)


def test_version_of_depends_on_symbols_contents_and_texts(filled: Database) -> None:
    content = read_content(filled, "price_bars")
    version = version_of(content)
    assert len(version) == 64
    assert version == version_of(content)
    others = [
        version_of(content, ""),
        version_of(content, "split"),
        version_of(content, "spl", "it"),
        version_of(content.head(2)),
        version_of(content.with_columns(symbol=pl.lit("X") + pl.col("symbol"))),
        version_of(content.with_columns(content=pl.col("content").reverse())),
        version_of(read_content(filled, "features")),
    ]
    assert len({version, *others}) == 8


def test_count_nulls_by_feature(filled: Database) -> None:
    # Every seventh of 90 rows from the first on: 13 of them; and three more of one column.
    assert count_nulls(filled) == dict.fromkeys(FEATURE_NAMES, 13)
    run(filled, "UPDATE features SET rsi_14 = NULL WHERE id IN (SELECT id FROM features WHERE rsi_14 > 0 LIMIT 3)")
    assert count_nulls(filled) == {**dict.fromkeys(FEATURE_NAMES, 13), "rsi_14": 16}


def test_feature_state_is_stored_by_symbol(database: Database) -> None:
    assert read_state(database).equals(pl.DataFrame(schema=STATE_SCHEMA))
    first = pl.DataFrame({"symbol": ["AAA", "BBB"], "inputs": ["1", "2"], "outputs": ["3", "4"]})
    with database.bulk() as cursor:
        write_state(cursor, first)
    run(database, "UPDATE feature_state SET computed_at = '2001-01-01'")
    with database.bulk() as cursor:
        write_state(cursor, pl.DataFrame({"symbol": ["BBB", "CCC"], "inputs": ["5", "6"], "outputs": ["7", "8"]}))
    assert sorted(read_state(database).rows()) == [("AAA", "1", "3"), ("BBB", "5", "7"), ("CCC", "6", "8")]
    # Only recomputed symbols get a new time.
    assert rows(database, "SELECT symbol FROM feature_state WHERE computed_at < '2002-01-01'") == [("AAA",)]
