"""Bars and stored features of sampled symbols, for the checks that compute features again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boursomatic_assets.core.dataset.leaks import sampled_symbols
from boursomatic_assets.storage.postgres.features_table import read_features
from boursomatic_assets.storage.postgres.market_tables import read_spans, read_usable_bars
from boursomatic_assets.storage.postgres.panels import Selection

if TYPE_CHECKING:
    import polars as pl

    from boursomatic_assets.storage.postgres.database import Database


def sampled_bars(database: Database) -> pl.DataFrame:
    """All usable bars of sampled symbols; recomputing every symbol would cost as much as the first computation."""
    symbols = sampled_symbols(read_spans(database))
    return read_usable_bars(database, selection=Selection(symbols=symbols))


def stored_features_of(database: Database, bars: pl.DataFrame) -> pl.DataFrame:
    """Stored features of the symbols of some bars."""
    return read_features(database, selection=Selection(symbols=bars["symbol"].unique().to_list()))
