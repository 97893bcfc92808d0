"""What the second migration, and those after it, add to a database that the first one made and people filled."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest
import sqlalchemy as sa
from alembic import command
from polars.testing import assert_frame_equal

from boursomatic_assets.core.market.bars import PANEL_KEY, PRICE_COLUMNS
from boursomatic_assets.errors import SchemaVersionError
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.adjustments_table import (
    add_adjustment,
    list_adjustments,
    remove_adjustment,
)
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import read_bars, read_usable_bars, write_bars
from boursomatic_assets_tests.support.catalog import database_at, rows, run, shape, tables, versions_of
from boursomatic_assets_tests.support.panels import accepted, listed
from boursomatic_assets_tests.support.strategies import flat_bars, random_walk_bars

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings

KEPT = ("instruments", "price_bars", "features", "model_versions", "rejected_bars")
ADDED = {
    "adjustments", "unexplained_jumps", "fetch_rounds", "fetch_results", "feature_state",
    "universe_members", "trials", "recommendation_outcomes", "bar_changes",
    "model_events", "notices", "noticed_runs", "vendor_actions",
}  # fmt: skip


@pytest.fixture
def first(settings: Settings) -> Database:
    """A database as the first migration leaves it, with a row or two in each table."""
    database = database_at(settings, "0001")
    run(
        database,
        "INSERT INTO instruments (id, symbol, exchange) VALUES (gen_random_uuid(), 'AAA', 'XNYS'), "
        "(gen_random_uuid(), 'BBB', 'XPAR');"
        "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval) "
        "SELECT gen_random_uuid(), id, '2020-01-02', 1, 2, 0.5, 1.5, 100, 'daily' FROM instruments;"
        "INSERT INTO features (id, instrument_id, ts, ret_1d) SELECT gen_random_uuid(), id, '2020-01-02', 0.1 "
        "FROM instruments;"
        "INSERT INTO model_versions (id, version, params_hash, metrics_json) "
        "VALUES (gen_random_uuid(), 'v1', 'p', '{}');"
        "INSERT INTO rejected_bars (source, reason, copies, row_hash) VALUES ('sample', 'null price', 1, 'x')",
    )
    return database


def kept_rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the tables that were there, without the columns that are new, and its version."""
    found = {}
    for table in KEPT:
        found[table] = rows(
            database,
            f"SELECT xmin::text, ctid::text, (to_jsonb(t) - 'currency' - 'gate')::text FROM {table} t ORDER BY 2",
        )
    return found


def test_an_upgrade_from_the_first_revision_keeps_every_row_and_adds_what_is_missing(first: Database) -> None:
    before, shape_before = kept_rows(first), shape(first)
    tables_before = tables(first, "public")
    assert schema.upgrade(first.engine) == "0001"
    assert kept_rows(first) == before
    assert all(before[table] for table in KEPT)
    assert set(shape_before) <= set(shape(first))
    assert tables(first, "public") - tables_before == ADDED
    assert rows(first, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [(schema.HEAD_REVISION,)]
    assert rows(first, "SELECT DISTINCT currency FROM instruments") == [(None,)]


def test_before_the_upgrade_the_database_is_refused_and_afterwards_it_is_read(
    first: Database, settings: Settings
) -> None:
    with pytest.raises(SchemaVersionError, match=f"at revision {schema.HEAD_REVISION}; found 0001") as caught:
        Database.open(settings)
    assert "boursomatic db upgrade" in str(caught.value)
    schema.upgrade(first.engine)
    database = Database.open(settings)
    assert read_bars(database)["close"].to_list() == [1.5, 1.5]
    add_adjustment(database, "AAA", date(2020, 1, 3), 0.5, None)
    assert read_usable_bars(database, ["close"])["close"].to_list() == [0.75, 1.5]


def test_a_second_upgrade_keeps_what_people_have_entered_since(first: Database) -> None:
    schema.upgrade(first.engine)
    add_adjustment(first, "AAA", date(2020, 1, 3), 0.5, "two for one")
    before, after_first = list_adjustments(first), shape(first)
    assert schema.upgrade(first.engine) == schema.HEAD_REVISION
    assert list_adjustments(first).equals(before)
    assert shape(first) == after_first


@pytest.mark.parametrize("table", sorted(ADDED))
def test_a_table_of_that_name_which_is_another_programs_stops_the_upgrade_which_changes_nothing(
    first: Database, table: str
) -> None:
    run(first, f"CREATE TABLE {table} (id integer PRIMARY KEY, symbol text, amount numeric)")
    run(first, f"INSERT INTO {table} VALUES (1, 'AAA', 12.5)")
    before, shape_before = kept_rows(first), shape(first)
    theirs = rows(first, f"SELECT xmin::text, ctid::text, t::text FROM {table} t")
    with pytest.raises(SchemaVersionError, match=f"table {table} was there before and lacks columns"):
        schema.upgrade(first.engine)
    assert shape(first) == shape_before
    assert kept_rows(first) == before
    assert rows(first, f"SELECT xmin::text, ctid::text, t::text FROM {table} t") == theirs
    assert rows(first, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [("0001",)]


def test_a_currency_that_another_program_keeps_stays(first: Database) -> None:
    run(first, "ALTER TABLE instruments ADD COLUMN currency varchar(3) DEFAULT 'EUR'")
    before = versions_of(first, "instruments")
    schema.upgrade(first.engine)
    assert versions_of(first, "instruments") == before
    assert rows(first, "SELECT DISTINCT currency FROM instruments") == [("EUR",)]


@pytest.mark.parametrize("ratio", ["0", "-0.5", "'Infinity'", "'NaN'"])
def test_the_database_itself_refuses_a_ratio_that_cannot_be(database: Database, ratio: str) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="adjustments_ratio_is_positive"):
        run(database, f"INSERT INTO adjustments (symbol, session, ratio) VALUES ('AAA', '2020-01-02', {ratio})")


def test_there_is_no_way_down(database: Database) -> None:
    config = schema.migrations()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(RuntimeError, match="restore a backup"):
            command.downgrade(config, "0001")
    assert "adjustments" in tables(database, "public")


# The view, beside the bars as features and labels read them.


def adjusted_bars(database: Database) -> pl.DataFrame:
    return database.read("SELECT * FROM adjusted_bars").sort(PANEL_KEY)


def test_the_view_shows_the_prices_that_features_and_labels_see(database: Database) -> None:
    bars = random_walk_bars(4, 60, seed=9)
    write_instruments(database, listed(*bars["symbol"].unique()))
    write_bars(database, accepted(bars), "sample")
    days = bars["session"].unique().sort()
    entered = [("W000", 5, 0.5), ("W000", 20, 10.0), ("W000", 59, 1 / 7), ("W001", 30, 1.0), ("W002", 1, 2 / 3)]
    for symbol, place, ratio in entered:
        add_adjustment(database, symbol, days[place], ratio, None)
    run(database, f"INSERT INTO unexplained_jumps VALUES ('W003', '{days[7]}', 0.5, 0.5)")
    shown = adjusted_bars(database)
    assert shown.select(PANEL_KEY).equals(bars.select(PANEL_KEY))
    seen = shown.filter(~pl.col("is_quarantined")).drop("is_quarantined")
    assert seen["symbol"].unique().sort().to_list() == ["W000", "W001", "W002"]
    assert_frame_equal(seen, read_usable_bars(database), rel_tol=1e-12, abs_tol=0)
    # By hand: the first bar of W000 lies before all three of its entries, the sixth before two, the last before
    # none of them.
    factors = (shown["close"] / bars["close"]).to_list()
    assert factors[0] == pytest.approx(0.5 * 10 / 7, rel=1e-12)
    assert factors[5] == pytest.approx(10 / 7, rel=1e-12)
    assert factors[59] == 1.0
    assert shown["volume"][0] == pytest.approx(bars["volume"][0] / (0.5 * 10 / 7), rel=1e-12)


def test_the_view_tells_what_waits_for_an_explanation(database: Database) -> None:
    write_instruments(database, listed("AAA", "BBB"))
    write_bars(database, accepted(flat_bars({"AAA": [4.0, 2.0], "BBB": [1.0]})), "sample")
    run(database, "INSERT INTO unexplained_jumps VALUES ('AAA', '2018-01-02', 0.5, 0.5)")
    flags = "SELECT symbol, close, is_quarantined FROM adjusted_bars ORDER BY symbol, session"
    assert rows(database, flags) == [("AAA", 4.0, True), ("AAA", 2.0, True), ("BBB", 1.0, False)]
    add_adjustment(database, "AAA", date(2018, 1, 2), 0.5, None)
    assert rows(database, flags) == [("AAA", 2.0, False), ("AAA", 2.0, False), ("BBB", 1.0, False)]
    remove_adjustment(database, "AAA", date(2018, 1, 2))
    assert rows(database, flags) == [("AAA", 4.0, True), ("AAA", 2.0, True), ("BBB", 1.0, False)]


def test_the_view_shows_daily_bars_only_and_names_symbols_as_panels_do(database: Database) -> None:
    run(
        database,
        "INSERT INTO instruments (id, symbol, exchange) VALUES (gen_random_uuid(), 'AAA', 'XPAR'), "
        "(gen_random_uuid(), 'AAA', 'XNYS')",
    )
    write_bars(database, accepted(flat_bars({"AAA@XNYS": [4.0], "AAA@XPAR": [3.0]})), "sample")
    run(
        database,
        "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval) "
        "SELECT gen_random_uuid(), id, '2018-01-01 09:15', 1, 1, 1, 1, 1, '15m' FROM instruments",
    )
    found = adjusted_bars(database)
    assert found.columns == [*PANEL_KEY, *PRICE_COLUMNS, "volume", "is_quarantined"]
    assert found.select("symbol", "close").rows() == [("AAA@XNYS", 4.0), ("AAA@XPAR", 3.0)]
