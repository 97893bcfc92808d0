"""Compare stored sessions with the same sessions fetched again."""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, PRICE_COLUMNS

# Sources compute adjusted prices anew for each answer, so that the last digits differ.
SAME_PRICE = 1e-6
# Two sources that differ by more do not mean the same price.
SAME_CLOSE = 0.01


def compare_overlap(stored: pl.DataFrame, delivered: pl.DataFrame) -> pl.DataFrame:
    """Compare sessions that are both stored and delivered, symbol by symbol.

    Returns `symbol`, number of common `sessions`, `price_gap` and `close_gap` (largest relative difference of any
    price, and of a close), and `session`, `stored_close` and `delivered_close` of the close that differs most.
    """
    both = stored.join(delivered, on=PANEL_KEY, suffix="_delivered")
    gaps = {
        name: (pl.col(f"{name}_delivered") / pl.col(name) - 1).abs().alias(f"_{name}") for name in PRICE_COLUMNS
    }
    worst_first = both.with_columns(*gaps.values()).sort("_close", descending=True)
    return (
        worst_first.group_by("symbol", maintain_order=True)
        .agg(
            sessions=pl.len(),
            price_gap=pl.max_horizontal(pl.col(f"_{name}").max() for name in PRICE_COLUMNS),
            close_gap=pl.col("_close").max(),
            session=pl.col("session").first(),
            stored_close=pl.col("close").first(),
            delivered_close=pl.col("close_delivered").first(),
        )
        .sort("symbol")
    )
