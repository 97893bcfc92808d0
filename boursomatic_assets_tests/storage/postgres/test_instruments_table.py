from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.storage.postgres.database import UpsertCounts
from boursomatic_assets.storage.postgres.instruments_table import (
    read_exchanges,
    read_instruments,
    write_instruments,
    write_universe,
)
from boursomatic_assets.storage.postgres.market_tables import read_bars, write_bars
from boursomatic_assets_tests.support.catalog import rows, run, versions_of
from boursomatic_assets_tests.support.panels import accepted, listed, on_two_exchanges
from boursomatic_assets_tests.support.strategies import flat_bars

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database


def test_write_instruments_adds_once_and_fills_blanks(database: Database) -> None:
    assert write_instruments(database, listed("AAA", "BBB", sector="Energy")) == UpsertCounts(2, 0, 0)
    before = versions_of(database, "instruments")
    assert write_instruments(database, listed("AAA", "BBB", sector="Energy")) == UpsertCounts(0, 0, 2)
    assert versions_of(database, "instruments") == before

    # AAA gets a name and keeps sector and exchange; BBB has no blank to fill; CCC is new.
    news = pl.concat(
        [
            listed("AAA", exchange="XPAR", name="Triple A", sector="Health"),
            listed("BBB", sector="Health"),
            listed("CCC"),
        ]
    )
    assert write_instruments(database, news) == UpsertCounts(1, 1, 1)
    assert read_instruments(database).select("symbol", "exchange", "name", "sector", "is_active").rows() == [
        ("AAA", "XNYS", "Triple A", "Energy", True),
        ("BBB", "XNYS", None, "Energy", True),
        ("CCC", "XNYS", None, None, True),
    ]
    assert rows(database, "SELECT symbol FROM instruments WHERE updated_at > created_at") == [("AAA",)]


def test_write_instruments_counts_add_up_for_two_exchanges(database: Database) -> None:
    write_instruments(database, pl.concat([listed("AAA", exchange="XPAR"), listed("AAA", exchange="XNYS")]))
    counts = write_instruments(database, listed("AAA", name="Triple A"))
    assert min(counts.inserted, counts.updated, counts.unchanged) >= 0
    assert counts.inserted + counts.updated + counts.unchanged == 1


def test_write_instruments_keeps_an_instrument_inactive(database: Database) -> None:
    write_instruments(database, listed("AAA"))
    run(database, "UPDATE instruments SET is_active = false")
    write_instruments(database, listed("AAA", name="Triple A"))
    assert read_instruments(database)["is_active"].to_list() == [False]


def active(database: Database) -> dict[str, bool]:
    return dict(read_instruments(database).select("symbol", "is_active").iter_rows())


def test_write_universe_keeps_no_control_character(database: Database) -> None:
    # The first would clear the terminal that shows it, the second turns the direction of what follows.
    write_universe(database, listed("AAA", name="A\x1b[2JB", sector="C\u202eD"))
    assert read_instruments(database).select("name", "sector").row(0) == ("A [2JB", "C D")
    assert write_universe(database, listed("AAA", name="A\x1b[2JB"))[0] == UpsertCounts(0, 0, 1)


def test_write_universe_deactivates_symbols_that_left(database: Database) -> None:
    assert write_universe(database, listed("AAA", "BBB", "CCC")) == (UpsertCounts(3, 0, 0), [])
    bars = flat_bars({"AAA": [1.0], "CCC": [2.0, 3.0]})
    write_bars(database, accepted(bars), "sample")
    before = rows(database, "SELECT id, symbol FROM instruments ORDER BY symbol")

    assert write_universe(database, listed("BBB")) == (UpsertCounts(0, 0, 1), ["AAA", "CCC"])
    assert active(database) == {"AAA": False, "BBB": True, "CCC": False}
    assert rows(database, "SELECT id, symbol FROM instruments ORDER BY symbol") == before
    assert read_bars(database).equals(bars)
    assert rows(database, "SELECT symbol FROM instruments WHERE updated_at > created_at ORDER BY 1") == [
        ("AAA",),
        ("CCC",),
    ]
    # Inactive symbols are not reported again.
    assert write_universe(database, listed("BBB")) == (UpsertCounts(0, 0, 1), [])


def test_write_universe_reactivates_the_same_instrument(database: Database) -> None:
    write_universe(database, listed("AAA", "BBB"))
    before = rows(database, "SELECT id, symbol FROM instruments ORDER BY symbol")
    write_universe(database, listed("BBB"))
    assert write_universe(database, listed("AAA", "BBB")) == (UpsertCounts(0, 1, 1), [])
    assert active(database) == {"AAA": True, "BBB": True}
    assert rows(database, "SELECT id, symbol FROM instruments ORDER BY symbol") == before


def test_write_universe_overwrites_but_keeps_where_blank(database: Database) -> None:
    write_instruments(database, listed("AAA", name="Old name", sector="Energy", pe_bucket="low", currency="USD"))
    stated = listed("AAA", name="New name", market_cap_bucket="large")
    assert write_universe(database, stated) == (UpsertCounts(0, 1, 0), [])
    described = ["name", "sector", "market_cap_bucket", "pe_bucket", "currency"]
    assert read_instruments(database).select(described).rows() == [("New name", "Energy", "large", "low", "USD")]


@pytest.mark.parametrize("column", ["name", "sector", "market_cap_bucket", "pe_bucket", "currency"])
def test_write_universe_notices_a_change_of_each_column(database: Database, column: str) -> None:
    write_universe(database, listed("AAA", **{column: "one"}))
    assert write_universe(database, listed("AAA", **{column: "one"}))[0] == UpsertCounts(0, 0, 1)
    assert write_universe(database, listed("AAA", **{column: "two"}))[0] == UpsertCounts(0, 1, 0)
    assert read_instruments(database)[column].to_list() == ["two"]


def test_write_universe_twice_writes_nothing(database: Database) -> None:
    universe = pl.concat(
        [listed("AAA", name="Triple A", currency="USD"), listed("BBB", exchange="XPAR"), listed("CCC")]
    )
    write_universe(database, universe)
    write_universe(database, universe.head(2))
    before = versions_of(database, "instruments")
    assert write_universe(database, universe.head(2)) == (UpsertCounts(0, 0, 2), [])
    assert versions_of(database, "instruments") == before


def test_write_universe_replaces_only_the_exchange_us(database: Database) -> None:
    # A price file gives only US for a symbol without a suffix.
    before = [listed("AAA", exchange="US"), listed("BBB", exchange="NASDAQ"), listed("CCC", exchange="US")]
    write_instruments(database, pl.concat(before))
    stated = pl.concat(
        [listed("AAA", exchange="XNAS"), listed("BBB", exchange="XNAS"), listed("CCC", exchange="US")]
    )
    assert write_universe(database, stated)[0] == UpsertCounts(0, 1, 2)
    assert dict(read_exchanges(database).iter_rows()) == {"AAA": "XNAS", "BBB": "NASDAQ", "CCC": "US"}


def test_write_instruments_does_not_overwrite_the_universe(database: Database) -> None:
    write_universe(database, listed("AAA", "BBB", name="Stated"))
    assert write_instruments(database, listed("AAA", name="Other", sector="Energy")) == UpsertCounts(0, 1, 0)
    assert read_instruments(database).select("symbol", "name", "sector", "is_active").rows() == [
        ("AAA", "Stated", "Energy", True),
        ("BBB", "Stated", None, True),
    ]


def test_read_exchanges_uses_panel_names(database: Database) -> None:
    write_instruments(database, on_two_exchanges("AAA", "BBB"))
    assert dict(read_exchanges(database).iter_rows()) == {"AAA@XPAR": "XPAR", "AAA@XNYS": "XNYS", "BBB": "XPAR"}
