"""The stored bars of one exchange beside its calendar, so many symbols at a time as fit in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import BAR_SCHEMA
from boursomatic_assets.core.market.calendars import calendar_of
from boursomatic_assets.core.market.session_audit import SessionAudit, audit_sessions
from boursomatic_assets.storage.postgres.instruments_table import read_exchanges
from boursomatic_assets.storage.postgres.market_tables import read_bars, symbol_batches
from boursomatic_assets.storage.postgres.panels import Part

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database


_NO_BARS = pl.DataFrame(schema={**BAR_SCHEMA, "exchange": pl.String})


def audit_calendar(database: Database, calendar: str) -> SessionAudit:
    """Compare the bars of the symbols that trade on a calendar with its sessions."""
    exchanges = read_exchanges(database)
    mine = exchanges.filter(pl.Series([calendar_of(name) == calendar for name in exchanges["exchange"].to_list()]))
    audits = [
        audit_sessions(
            read_bars(database, ["close", "volume"], Part(symbols=symbols)).join(
                mine, on="symbol", how="left", maintain_order="left"
            )
        )
        for symbols in symbol_batches(database, mine["symbol"].to_list())
    ]
    return SessionAudit.sum(audits or [audit_sessions(_NO_BARS)])
