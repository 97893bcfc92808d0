"""Views for programs that read the database."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from boursomatic_assets.core.market.bars import PANEL_KEY, PRICE_COLUMNS
from boursomatic_assets.storage.postgres.adjustments_table import add_adjustment, remove_adjustment
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import read_usable_bars, write_bars
from boursomatic_assets_tests.support.catalog import FILLED, add_bars, rows, run
from boursomatic_assets_tests.support.panels import accepted, listed, on_two_exchanges
from boursomatic_assets_tests.support.strategies import flat_bars, random_walk_bars

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database


def adjusted_bars(database: Database) -> pl.DataFrame:
    return database.read("SELECT * FROM adjusted_bars").sort(PANEL_KEY)


def test_adjusted_bars_equals_usable_bars(database: Database) -> None:
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


def test_adjusted_bars_flags_quarantined_symbols(database: Database) -> None:
    write_instruments(database, listed("AAA", "BBB"))
    write_bars(database, accepted(flat_bars({"AAA": [4.0, 2.0], "BBB": [1.0]})), "sample")
    run(database, "INSERT INTO unexplained_jumps VALUES ('AAA', '2018-01-02', 0.5, 0.5)")
    flags = "SELECT symbol, close, is_quarantined FROM adjusted_bars ORDER BY symbol, session"
    assert rows(database, flags) == [("AAA", 4.0, True), ("AAA", 2.0, True), ("BBB", 1.0, False)]
    add_adjustment(database, "AAA", date(2018, 1, 2), 0.5, None)
    assert rows(database, flags) == [("AAA", 2.0, False), ("AAA", 2.0, False), ("BBB", 1.0, False)]
    remove_adjustment(database, "AAA", date(2018, 1, 2))
    assert rows(database, flags) == [("AAA", 4.0, True), ("AAA", 2.0, True), ("BBB", 1.0, False)]


def test_adjusted_bars_shows_daily_bars_with_panel_names(database: Database) -> None:
    write_instruments(database, on_two_exchanges("AAA"))
    write_bars(database, accepted(flat_bars({"AAA@XNYS": [4.0], "AAA@XPAR": [3.0]})), "sample")
    add_bars(database, "2018-01-01 09:15")
    found = adjusted_bars(database)
    assert found.columns == [*PANEL_KEY, *PRICE_COLUMNS, "volume", "is_quarantined"]
    assert found.select("symbol", "close").rows() == [("AAA@XNYS", 4.0), ("AAA@XPAR", 3.0)]


def test_current_recommendations_shows_active_rows_with_their_instrument(database: Database) -> None:
    run(database, FILLED)
    shown = "SELECT symbol, name, sector, exchange, version, label, confidence, is_of_active_model"
    expected = [
        ("AAA", "A", "Energy", "XNYS", "old", "BUY", 0.5, False),
        ("BBB", None, None, "XPAR", "new", "HOLD", 0.6, True),
    ]
    assert rows(database, f"{shown} FROM current_recommendations ORDER BY symbol") == expected
    # Neither archived rows nor those of inactive instruments are shown.
    run(database, "UPDATE instruments SET is_active = false WHERE symbol = 'AAA'")
    assert rows(database, f"{shown} FROM current_recommendations ORDER BY symbol") == expected[1:]
