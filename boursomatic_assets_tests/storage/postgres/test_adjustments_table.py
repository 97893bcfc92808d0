from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.core.market.corporate_actions import ADJUSTMENT_SCHEMA, JUMP_SCHEMA
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.storage.postgres.adjustments_table import (
    Corrections,
    add_adjustment,
    list_adjustments,
    read_corrections,
    remove_adjustment,
    replace_jumps,
)
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets_tests.support.catalog import rows, run
from boursomatic_assets_tests.support.panels import listed

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

FIRST, SPLIT, LATER = date(2020, 8, 3), date(2020, 8, 31), date(2022, 6, 6)


@pytest.fixture
def store(database: Database) -> Database:
    """A database that knows AAPL and BRK.B."""
    write_instruments(database, listed("AAPL", "BRK.B"))
    return database


def corrections(database: Database) -> Corrections:
    with database.bulk() as cursor:
        return read_corrections(cursor)


def found_jumps(
    database: Database, *found: tuple[str, date, float, float], first: date = FIRST, last: date = LATER
) -> None:
    """Record these jumps as all there are of both symbols within a span."""
    spans = pl.DataFrame(
        [(symbol, first, last) for symbol in ("AAPL", "BRK.B")], ["symbol", "after", "until"], orient="row"
    )
    with database.bulk() as cursor:
        replace_jumps(cursor, spans, pl.DataFrame(found, JUMP_SCHEMA, orient="row"))


def jumps(database: Database) -> list[tuple[object, ...]]:
    return rows(database, "SELECT symbol, session, ratio, split_ratio FROM unexplained_jumps ORDER BY 1, 2")


def test_adjustments_are_stored_replaced_listed_and_removed(store: Database) -> None:
    add_adjustment(store, "AAPL", SPLIT, 0.5, "a guess")
    add_adjustment(store, "AAPL", SPLIT, 0.25, "four for one")
    add_adjustment(store, "BRK.B", LATER, 1.0, None)
    assert list_adjustments(store).rows() == [
        ("AAPL", SPLIT, 0.25, None, "four for one"),
        ("BRK.B", LATER, 1.0, None, None),
    ]
    entered = corrections(store)
    assert entered.adjustments.rows() == [("AAPL", SPLIT, 0.25), ("BRK.B", LATER, 1.0)]
    assert dict(entered.adjustments.schema) == ADJUSTMENT_SCHEMA
    assert entered.quarantined == []

    assert remove_adjustment(store, "AAPL", SPLIT) is True
    assert remove_adjustment(store, "AAPL", SPLIT) is False
    assert remove_adjustment(store, "BRK.B", SPLIT) is False
    assert list_adjustments(store)["symbol"].to_list() == ["BRK.B"]


def test_corrections_of_an_empty_table_are_empty(store: Database) -> None:
    nothing = corrections(store)
    assert dict(nothing.adjustments.schema) == ADJUSTMENT_SCHEMA
    assert dict(nothing.jumps.schema) == JUMP_SCHEMA
    assert nothing.adjustments.is_empty()
    assert nothing.quarantined == []
    assert list_adjustments(store).is_empty()


@pytest.mark.parametrize("symbol", ["MSFT", "aapl", "", "AAPL@XNYS"])
def test_add_adjustment_refuses_an_unknown_symbol(store: Database, symbol: str) -> None:
    with pytest.raises(ConfigurationError, match="--select instruments,price_bars") as caught:
        add_adjustment(store, symbol, SPLIT, 0.25, None)
    assert repr(symbol) in str(caught.value)
    assert list_adjustments(store).is_empty()


@pytest.mark.parametrize("ratio", [0.0, -0.25, float("inf"), float("nan")])
def test_add_adjustment_refuses_a_ratio_not_above_0(store: Database, ratio: float) -> None:
    with pytest.raises(ConfigurationError, match=r"0\.5 for a two-for-one split") as caught:
        add_adjustment(store, "AAPL", SPLIT, ratio, None)
    assert f"found {ratio}" in str(caught.value)
    assert list_adjustments(store).is_empty()


def test_adjustment_ratio_round_trips_exactly(store: Database) -> None:
    add_adjustment(store, "AAPL", SPLIT, 1 / 3, None)
    assert corrections(store).adjustments["ratio"].to_list() == [1 / 3]


def test_symbol_on_two_exchanges_needs_its_exchange(store: Database) -> None:
    run(store, "INSERT INTO instruments (id, symbol, exchange) VALUES (gen_random_uuid(), 'AAPL', 'XPAR')")
    add_adjustment(store, "AAPL@XPAR", SPLIT, 0.25, None)
    with pytest.raises(ConfigurationError):
        add_adjustment(store, "AAPL", SPLIT, 0.25, None)


def test_jump_quarantines_its_symbol_until_it_is_adjusted(store: Database) -> None:
    found_jumps(store, ("AAPL", SPLIT, 0.26, 0.25), ("BRK.B", LATER, 0.02, 0.02))
    assert corrections(store).quarantined == ["AAPL", "BRK.B"]
    # The list also shows jumps without an adjustment, with no ratio.
    add_adjustment(store, "BRK.B", LATER, 1.0, "real")
    assert list_adjustments(store).rows() == [
        ("AAPL", SPLIT, None, 0.25, None),
        ("BRK.B", LATER, 1.0, None, "real"),
    ]
    assert corrections(store).jumps.rows() == [("AAPL", SPLIT, 0.26, 0.25)]
    add_adjustment(store, "AAPL", LATER, 0.25, "of another session")
    assert corrections(store).quarantined == ["AAPL"]
    add_adjustment(store, "AAPL", SPLIT, 0.25, None)
    assert corrections(store).quarantined == []
    remove_adjustment(store, "AAPL", SPLIT)
    assert corrections(store).quarantined == ["AAPL"]


def test_quarantined_lists_a_symbol_once(store: Database) -> None:
    found_jumps(store, ("AAPL", SPLIT, 0.25, 0.25), ("AAPL", LATER, 0.5, 0.5))
    assert corrections(store).quarantined == ["AAPL"]


def test_replace_jumps_keeps_known_rows(store: Database) -> None:
    versions = "SELECT xmin::text, ctid::text, u::text FROM unexplained_jumps u ORDER BY session"
    found_jumps(store, ("AAPL", SPLIT, 0.25, 0.25))
    before = rows(store, versions)
    found_jumps(store, ("AAPL", SPLIT, 0.25, 0.25), ("AAPL", LATER, 0.5, 0.5))
    assert rows(store, versions)[:1] == before
    assert jumps(store) == [("AAPL", SPLIT, 0.25, 0.25), ("AAPL", LATER, 0.5, 0.5)]


@pytest.mark.parametrize(
    ("first", "last", "is_forgotten"),
    [
        (FIRST, LATER, True),
        (FIRST, SPLIT, True),
        # A jump into the first searched bar, or after the last one, was not searched.
        (SPLIT, LATER, False),
        (FIRST, date(2020, 8, 28), False),
    ],
)
def test_replace_jumps_removes_jumps_gone_within_the_span(
    store: Database, first: date, last: date, *, is_forgotten: bool
) -> None:
    found_jumps(store, ("AAPL", SPLIT, 0.25, 0.25))
    found_jumps(store, first=first, last=last)
    assert jumps(store) == ([] if is_forgotten else [("AAPL", SPLIT, 0.25, 0.25)])


def test_replace_jumps_keeps_jumps_of_other_symbols(store: Database) -> None:
    found_jumps(store, ("AAPL", SPLIT, 0.25, 0.25), ("BRK.B", SPLIT, 0.02, 0.02))
    spans = pl.DataFrame({"symbol": ["AAPL"], "after": [FIRST], "until": [LATER]})
    with store.bulk() as cursor:
        replace_jumps(cursor, spans, pl.DataFrame(schema=JUMP_SCHEMA))
    assert jumps(store) == [("BRK.B", SPLIT, 0.02, 0.02)]
