from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.core.market.bars import BAR_SCHEMA
from boursomatic_assets.services.ingest import audit
from boursomatic_assets.services.ingest.audit import audit_calendar
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import symbol_batches, write_bars
from boursomatic_assets_tests.support.panels import accepted, listed

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database


def bars_on(symbol: str, *days: int) -> pl.DataFrame:
    """Bars on these days of July 2024, of which the 4th was a holiday in New York."""
    rows = [(symbol, date(2024, 7, day), *[float(day)] * 4, 100.0) for day in days]
    return pl.DataFrame(rows, schema=BAR_SCHEMA, orient="row")


@pytest.fixture
def filled(database: Database) -> Database:
    """Apple lacks the 3rd and has the 4th, Ford is whole; LVMH lacks the 4th; Shell's exchange is not known."""
    exchanges = {"AAPL": "NASDAQ", "F": "XNYS", "MC.PA": "Euronext Paris", "SHEL.L": "unknown"}
    write_instruments(database, pl.concat(listed(name, exchange=exchange) for name, exchange in exchanges.items()))
    bars = [bars_on("AAPL", 1, 2, 4, 5), bars_on("F", 2, 3, 5), bars_on("MC.PA", 3, 5), bars_on("SHEL.L", 6, 7)]
    write_bars(database, accepted(pl.concat(bars)), "sample")
    return database


def test_audit_calendar_compares_bars_with_sessions(filled: Database) -> None:
    found = audit_calendar(filled, "XNYS")
    # Apple's first and last bar span the 1st, 2nd, 3rd and 5th, Ford's the 2nd, 3rd and 5th
    assert found.exchanges.to_dicts() == [
        {
            "calendar": "XNYS", "symbols": 2, "newest": date(2024, 7, 5), "expected": 7, "stored": 7,
            "missing": 1, "extra": 1, "before_trading": 0, "stale_runs": 0,
        }
    ]  # fmt: skip
    assert found.missing.rows() == [("XNYS", "AAPL", date(2024, 7, 3))]
    assert found.extra.rows() == [("XNYS", "AAPL", date(2024, 7, 4), 100.0)]
    assert audit_calendar(filled, "XPAR").missing.rows() == [("XPAR", "MC.PA", date(2024, 7, 4))]


def test_audit_calendar_in_batches(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = audit_calendar(filled, "XNYS")
    batches: list[list[str]] = []

    def one_by_one(database: Database, among: list[str]) -> list[list[str]]:
        batches.extend(symbol_batches(database, among, rows=1))
        return batches

    monkeypatch.setattr(audit, "symbol_batches", one_by_one)
    parts = audit_calendar(filled, "XNYS")
    assert batches == [["AAPL"], ["F"]]
    for name in ("exchanges", "missing", "extra", "stale"):
        assert getattr(parts, name).equals(getattr(whole, name))


def test_audit_calendar_without_instruments_is_empty(filled: Database) -> None:
    found = audit_calendar(filled, "XBRU")
    for name in ("exchanges", "missing", "extra", "stale"):
        assert getattr(found, name).is_empty()
    assert found.exchanges.schema == audit_calendar(filled, "XNYS").exchanges.schema
