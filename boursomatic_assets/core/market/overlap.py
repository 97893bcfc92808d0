"""Sessions that were stored and have been fetched again, compared."""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, PRICE_COLUMNS

# Sources compute adjusted prices anew for each answer; the last digits move without anything having happened.
SAME_PRICE = 1e-6
# Beyond this two sources do not speak of the same price.
SAME_CLOSE = 0.01


def compare_overlap(stored: pl.DataFrame, delivered: pl.DataFrame) -> pl.DataFrame:
    """Compare sessions that are both stored and delivered, symbol by symbol.

    Parameters
    ----------
    stored, delivered : DataFrame
        Bar panels; `stored` holds the newest sessions of each symbol.

    Returns
    -------
    DataFrame
        A row per symbol that occurs in both: `symbol`, `sessions` in common, `price_gap` and `close_gap` (the
        largest relative difference of any price, and of a close), and of the close that differs most its
        `session`, `stored_close` and `delivered_close`.
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
