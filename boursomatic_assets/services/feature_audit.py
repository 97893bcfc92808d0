"""Bars and stored features of some symbols, for the checks that compute features again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boursomatic_assets.core.dataset.leaks import sampled_symbols
from boursomatic_assets.storage.postgres.features_table import read_features
from boursomatic_assets.storage.postgres.market_tables import read_spans, read_usable_bars
from boursomatic_assets.storage.postgres.panels import Part

if TYPE_CHECKING:
    import polars as pl

    from boursomatic_assets.storage.postgres.database import Database


def bars_looked_at(database: Database) -> pl.DataFrame:
    """Every usable bar of some symbols: to recompute all would cost as much as computing them did."""
    symbols = sampled_symbols(read_spans(database))
    return read_usable_bars(database, part=Part(symbols=symbols))


def stored_beside(database: Database, bars: pl.DataFrame) -> pl.DataFrame:
    """Stored features of the symbols of some bars."""
    return read_features(database, part=Part(symbols=bars["symbol"].unique().to_list()))
