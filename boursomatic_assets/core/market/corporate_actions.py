"""Splits and their like: adjustments that people have entered, and jumps that nobody has explained yet.

A source that takes splits out of its prices needs nothing of this. For the others a split looks like a crash: the
features would learn from a fall that cost nobody anything.
"""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, PRICE_COLUMNS, require_panel
from boursomatic_assets.core.market.isolated_prices import ISOLATED as ISOLATED  # noqa: PLC0414 (re-exported)
from boursomatic_assets.core.market.isolated_prices import set_aside_isolated as set_aside_isolated  # noqa: PLC0414
from boursomatic_assets.core.market.price_steps import overnight_steps

ADJUSTMENT_SCHEMA: dict[str, pl.DataType] = {"symbol": pl.String(), "session": pl.Date(), "ratio": pl.Float64()}
JUMP_SCHEMA: dict[str, pl.DataType] = {**ADJUSTMENT_SCHEMA, "split_ratio": pl.Float64()}

LARGE_MOVE = 0.4
# Steps that trading explains, yet barely, are listed for people to look at.
DOUBT, DOUBTFUL_STEP = 1.0, 0.15


def apply_adjustments(bars: pl.DataFrame, adjustments: pl.DataFrame) -> pl.DataFrame:
    """Scale the bars before each adjusted session, so that the price is continuous there.

    Parameters
    ----------
    bars : DataFrame
        Bar panel; of prices and volume, those that are there are scaled.
    adjustments : DataFrame
        `symbol`, `session`, `ratio`: price after over price before; 0.5 for a two-for-one split, 1.0 for a
        jump that was real. A row per symbol and session. `volume_ratio` where there is one is the ratio of the
        shares before to those after, which a dividend leaves at 1; else it is the price's.

    Returns
    -------
    DataFrame
        Prices before a session are multiplied by its ratio, volumes divided by it; ratios of several sessions
        multiply.
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
    """Find sessions at which a price seems to be stated anew: a split, a spin-off, a special dividend left in.

    Parameters
    ----------
    bars : DataFrame
        Bar panel with `open` and `close`, and `volume` where there is one, after any adjustment of the source.

    Returns
    -------
    DataFrame
        Of `JUMP_SCHEMA`: `symbol`, `session`, `ratio` (close over the close before) and the `split_ratio` it is
        nearest to, which is a hint and no condition.

    Notes
    -----
    Judged by `price_steps`: the whole bar moved overnight, by more than the instrument, the market and the volume
    explain. A fall during the session is a fall.
    """
    return overnight_steps(bars).filter(pl.col("score") > 0).select(list(JUMP_SCHEMA))


def doubtful_steps(bars: pl.DataFrame) -> pl.DataFrame:
    """List overnight steps of at least 14 % that are believed, and would not be with a little less volume.

    Parameters
    ----------
    bars : DataFrame
        As for `split_like_jumps`.

    Returns
    -------
    DataFrame
        Of `JUMP_SCHEMA`.
    """
    barely = pl.col("score").is_between(-DOUBT, 0) & (pl.col("size") >= DOUBTFUL_STEP)
    return overnight_steps(bars).filter(barely).select(list(JUMP_SCHEMA))


def large_moves(bars: pl.DataFrame) -> pl.DataFrame:
    """List closes more than 40 % below, or the like above, the close before: `symbol`, `session`, `ratio`.

    Parameters
    ----------
    bars : DataFrame
        Bar panel with `close`.
    """
    require_panel(bars, ["close"])
    ratio = (pl.col("close") / pl.col("close").shift(1)).over("symbol")
    moved = (pl.col("ratio") < 1 - LARGE_MOVE) | (pl.col("ratio") > 1 / (1 - LARGE_MOVE))
    return bars.select(*PANEL_KEY, ratio=ratio).filter(moved)
