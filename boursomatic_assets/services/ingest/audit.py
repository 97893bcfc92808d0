"""Audit of the stored bars against exchange calendars, and of what the last round delivered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import BAR_SCHEMA
from boursomatic_assets.core.market.calendars import calendar_of, last_complete_session
from boursomatic_assets.core.market.fetch_report import Outcome
from boursomatic_assets.core.market.session_audit import SessionAudit, audit_sessions, traded_on_weekends
from boursomatic_assets.providers.registry import delivers_new_sessions, provider_for
from boursomatic_assets.storage.postgres.fetch_log import newest_round, read_results
from boursomatic_assets.storage.postgres.instruments_table import read_exchanges
from boursomatic_assets.storage.postgres.market_tables import (
    read_bars,
    read_newest_sessions,
    read_usable_bars,
    symbol_batches,
)
from boursomatic_assets.storage.postgres.panels import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date, datetime

    from boursomatic_assets.core.market.fetch_report import SymbolReport
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

LONG_GAP_DAYS = 10
# A symbol without a bar for longer is suspended or delisted: nothing waits for it.
STILL_TRADING = timedelta(days=14)
# Largest share of missing sessions and extra rows of a sound exchange.
MOST_AMISS = 0.001
_NO_BARS = pl.DataFrame(schema={**BAR_SCHEMA, "exchange": pl.String})


def audit_calendar(database: Database, calendar: str) -> SessionAudit:
    """Compare the bars of the symbols of a calendar with its sessions."""
    exchanges = read_exchanges(database)
    mine = exchanges.filter(pl.Series([calendar_of(name) == calendar for name in exchanges["exchange"].to_list()]))
    audits = [
        audit_sessions(
            read_bars(database, ["close", "volume"], Selection(symbols=symbols)).join(
                mine, on="symbol", how="left", maintain_order="left"
            )
        )
        for symbols in symbol_batches(database, mine["symbol"].to_list())
    ]
    return SessionAudit.sum(audits or [audit_sessions(_NO_BARS)])


@dataclass(frozen=True)
class ExchangeAudit:
    """The bars of one exchange compared with its sessions.

    `newest` is the session that a continuing source should have; `missed` is the same where the bars end before it.
    """

    sessions: SessionAudit
    newest: date | None
    missed: date | None
    is_sound: bool


def audit_exchange(database: Database, settings: Settings, calendar: str, now: datetime) -> ExchangeAudit:
    """Compare the stored bars of an exchange with its sessions up to now."""
    # A continuing source should have the newest session; a file need not.
    goes_on = delivers_new_sessions(settings)
    audit = audit_calendar(database, calendar)
    newest = last_complete_session(calendar, now) if goes_on else None
    if audit.exchanges.is_empty():
        return ExchangeAudit(audit, newest, None, is_sound=True)
    row = audit.exchanges.row(0, named=True)
    behind = newest is not None and row["newest"] < newest
    amiss = (
        row["missing"] + row["extra"] > MOST_AMISS * row["expected"]
        or row["stale_runs"]
        or traded_on_weekends(audit.extra).height
    )
    return ExchangeAudit(audit, newest, newest if behind else None, is_sound=not (behind or amiss))


def newest_reports(database: Database, settings: Settings) -> list[SymbolReport] | None:
    """Result of each symbol in the newest round; None for a source without rounds."""
    number = newest_round(database, settings.provider) if provider_for(settings).fetches_by_symbol else None
    return None if number is None else read_results(database, number)


def arrived_among(reports: Sequence[SymbolReport]) -> int:
    """Number of symbols that arrived."""
    return sum(report.outcome is Outcome.FETCHED for report in reports)


@dataclass(frozen=True)
class Arrival:
    """How far a session's bars have arrived.

    Attributes
    ----------
    calendar : str
    session : date
        Newest one that was over.
    expected, arrived : int
        Active symbols that still trade, and those of them that have a bar of this session.
    """

    calendar: str
    session: date
    expected: int
    arrived: int


def arrivals(database: Database, calendars: Sequence[str], now: datetime) -> list[Arrival]:
    """Count the bars that the newest session of each calendar has, and those that it should have."""
    newest = read_newest_sessions(database)
    return [_arrival(newest, calendar, last_complete_session(calendar, now)) for calendar in calendars]


def _arrival(newest: pl.DataFrame, calendar: str, session: date) -> Arrival:
    mine = newest.filter(pl.Series([calendar_of(name) == calendar for name in newest["exchange"].to_list()]))
    trading = mine.filter(pl.col("newest") >= session - STILL_TRADING)["newest"]
    return Arrival(calendar, session, trading.len(), int((trading >= session).sum()))


def long_gaps(database: Database) -> pl.DataFrame:
    """Gaps of more than `LONG_GAP_DAYS` calendar days between two bars, the longest first.

    Columns: `symbol`, `session` after the gap, `days`.
    """
    gap = pl.col("session").diff().over("symbol").dt.total_days()
    nothing = pl.DataFrame(schema={"symbol": pl.String, "session": pl.Date, "days": pl.Int64})
    found = [
        bars.with_columns(days=gap).filter(pl.col("days") > LONG_GAP_DAYS).select(nothing.columns)
        for bars in usable_batches(database, ["close"])
    ]
    return pl.concat([nothing, *found]).sort("days", descending=True)


def usable_batches(database: Database, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Usable bars of all symbols, in batches that fit in memory."""
    for symbols in symbol_batches(database):
        yield read_usable_bars(database, columns, Selection(symbols=symbols))
