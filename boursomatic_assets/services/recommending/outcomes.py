"""Outcomes of recommendations whose horizon has passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.market.horizons import newest_sessions
from boursomatic_assets.core.recommendations.outcomes import judge_outcomes
from boursomatic_assets.storage.postgres.instruments_table import read_exchanges
from boursomatic_assets.storage.postgres.market_tables import (
    newest_session,
    read_spans,
    read_usable_bars,
    symbol_batches,
)
from boursomatic_assets.storage.postgres.outcomes_table import write_outcomes
from boursomatic_assets.storage.postgres.panels import Selection
from boursomatic_assets.storage.postgres.stored_recommendations import open_recommendations

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database


def judge_open(database: Database) -> int:
    """Store the outcome of every recommendation whose horizon has passed; returns how many are new."""
    waiting = open_recommendations(database, until=newest_session(database))
    first: Any = waiting["session"].min()
    if first is None:
        return 0
    spans = read_spans(database, since=first).join(read_exchanges(database), on="symbol")
    newest, added = newest_sessions(spans), 0
    for symbols in symbol_batches(database, waiting["symbol"].unique().to_list()):
        own = waiting.filter(pl.col("symbol").is_in(symbols))
        selection = Selection(symbols=symbols, since=own["session"].min())  # type: ignore[arg-type]
        bars = read_usable_bars(database, ["high", "low", "close", "exchange"], selection)
        added += write_outcomes(database, judge_outcomes(own, bars, newest))
    return added
