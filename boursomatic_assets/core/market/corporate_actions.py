"""Adjustments that people have entered for splits, and jumps that nothing explains yet.

A source that takes splits out of its prices needs neither. Elsewhere a split looks like a crash, from which
features would learn.
"""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, PRICE_COLUMNS, require_panel
from boursomatic_assets.core.market.price_steps import overnight_steps

ADJUSTMENT_SCHEMA: dict[str, pl.DataType] = {"symbol": pl.String(), "session": pl.Date(), "ratio": pl.Float64()}
JUMP_SCHEMA: dict[str, pl.DataType] = {**ADJUSTMENT_SCHEMA, "split_ratio": pl.Float64()}

LARGE_MOVE = 0.4
# Steps that trading barely explains are listed for a person to look at.
DOUBT, DOUBTFUL_STEP = 1.0, 0.15


def apply_adjustments(bars: pl.DataFrame, adjustments: pl.DataFrame) -> pl.DataFrame:
    """Scale the bars before each adjusted session, so that the price is continuous there.

    Prices are multiplied by the product of all later ratios, volumes divided by it; absent columns are skipped.
    `ratio` is the price after over the price before, one per `symbol` and `session`: 0.5 for a two-for-one split,
    1.0 for a real jump. A column `volume_ratio`, the shares before over those after, replaces it for volumes: a
    dividend leaves them.
    """
    shares = "volume_ratio" if "volume_ratio" in adjustments.columns else "ratio"
    mine = pl.col("symbol").is_in(bars["symbol"].unique().implode())
    real = adjustments.filter(((pl.col("ratio") != 1.0) | (pl.col(shares) != 1.0)) & mine)
    if real.is_empty():
        return bars
    factors = real.sort(PANEL_KEY).select(
        *PANEL_KEY,
        factor=pl.col("ratio").cum_prod(reverse=True).over("symbol"),
        volume_factor=pl.col(shares).cum_prod(reverse=True).over("symbol"),
    )
    scaled = bars.sort(PANEL_KEY).join_asof(
        factors,
        on="session",
        by="symbol",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    factor = pl.col("factor").fill_null(1.0)
    prices = [pl.col(name) * factor for name in PRICE_COLUMNS if name in bars.columns]
    volume = [pl.col("volume") / pl.col("volume_factor").fill_null(1.0)] if "volume" in bars.columns else []
    return scaled.with_columns(*prices, *volume).select(bars.columns)


def split_like_jumps(bars: pl.DataFrame) -> pl.DataFrame:
    """Sessions at which the price may be quoted in new units: a split, a spin-off, a special dividend.

    Judged by `price_steps`: the whole bar moved overnight, by more than the instrument, the market and the volume
    explain. `ratio` is the close over the close before, `split_ratio` the nearest usual split, as a hint.
    """
    return overnight_steps(bars).filter(pl.col("score") > 0).select(list(JUMP_SCHEMA))


def doubtful_steps(bars: pl.DataFrame) -> pl.DataFrame:
    """Overnight steps of at least 14 % that only their volume explains, and barely; columns of `JUMP_SCHEMA`."""
    barely = pl.col("score").is_between(-DOUBT, 0) & (pl.col("size") >= DOUBTFUL_STEP)
    return overnight_steps(bars).filter(barely).select(list(JUMP_SCHEMA))


def large_moves(bars: pl.DataFrame) -> pl.DataFrame:
    """Closes more than 40 % below the close before, or as far above: `symbol`, `session`, `ratio`."""
    require_panel(bars, ["close"])
    ratio = (pl.col("close") / pl.col("close").shift(1)).over("symbol")
    moved = (pl.col("ratio") < 1 - LARGE_MOVE) | (pl.col("ratio") > 1 / (1 - LARGE_MOVE))
    return bars.select(*PANEL_KEY, ratio=ratio).filter(moved)
