"""Splits and their like: adjustments that people have entered, and jumps that nobody has explained yet.

A source that takes splits out of its prices needs nothing of this. For the others a split looks like a crash: the
features would learn from a fall that cost nobody anything.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market_data import PANEL_KEY, PRICE_COLUMNS, CheckedBars, require_panel

if TYPE_CHECKING:
    from collections.abc import Iterable

ADJUSTMENT_SCHEMA: dict[str, pl.DataType] = {"symbol": pl.String(), "session": pl.Date(), "ratio": pl.Float64()}
JUMP_SCHEMA: dict[str, pl.DataType] = {**ADJUSTMENT_SCHEMA, "split_ratio": pl.Float64()}

# Price after a split over price before it, for the splits and reverse splits that companies do.
_WHOLE = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)
SPLIT_RATIOS = tuple(sorted({*(1 / n for n in _WHOLE), *map(float, _WHOLE), 2 / 3, 3 / 2}))
# A price that comes back is a wrong tick whatever its cause: smaller ratios can be told from a bad day here.
REVERTED_RATIOS = tuple(sorted({*SPLIT_RATIOS, 3 / 4, 4 / 3}))
# On the day of a split the price moves as on any other: by far less than this, in most cases.
NEAR = 0.05
LARGE_MOVE = 0.4

ISOLATED = "isolated price: a split ratio away from the sessions before and after"


def apply_adjustments(bars: pl.DataFrame, adjustments: pl.DataFrame) -> pl.DataFrame:
    """Scale the bars before each adjusted session, so that the price is continuous there.

    Parameters
    ----------
    bars : DataFrame
        Bar panel; of prices and volume, those that are there are scaled.
    adjustments : DataFrame
        `symbol`, `session`, `ratio`: price after over price before; 0.5 for a two-for-one split, 1.0 for a
        jump that was real. A row per symbol and session.

    Returns
    -------
    DataFrame
        Prices before a session are multiplied by its ratio, volumes divided by it; ratios of several sessions
        multiply.
    """
    real = adjustments.filter((pl.col("ratio") != 1.0) & pl.col("symbol").is_in(bars["symbol"].unique().implode()))
    if real.is_empty():
        return bars
    factors = real.sort(PANEL_KEY).with_columns(factor=pl.col("ratio").cum_prod(reverse=True).over("symbol"))
    scaled = bars.sort(PANEL_KEY).join_asof(
        factors.select(*PANEL_KEY, "factor"),
        on="session",
        by="symbol",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    factor = pl.col("factor").fill_null(1.0)
    prices = [pl.col(name) * factor for name in PRICE_COLUMNS if name in bars.columns]
    volume = [pl.col("volume") / factor] if "volume" in bars.columns else []
    return scaled.with_columns(*prices, *volume).select(bars.columns)


def split_like_jumps(bars: pl.DataFrame) -> pl.DataFrame:
    """Find sessions that look like a split that nobody took out of the prices.

    Parameters
    ----------
    bars : DataFrame
        Bar panel with `open` and `close`, as the source gives them.

    Returns
    -------
    DataFrame
        `symbol`, `session`, `ratio` (close over the close before) and the `split_ratio` it is near.

    Notes
    -----
    A split moves the price overnight: both the open and the close lie within 5 % of the ratio times the close
    before. A fall during the session is a fall.
    """
    require_panel(bars, ["open", "close"])
    before = pl.col("close").shift(1).over("symbol")
    moves = bars.select(*PANEL_KEY, ratio=pl.col("close") / before, overnight=pl.col("open") / before)
    near = moves.drop_nulls("ratio").with_columns(split_ratio=_nearest(pl.col("ratio"), SPLIT_RATIOS))
    return near.filter(
        _is_near(pl.col("ratio"), pl.col("split_ratio")) & _is_near(pl.col("overnight"), pl.col("split_ratio"))
    ).select(list(JUMP_SCHEMA))


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


def set_aside_isolated(checked: CheckedBars) -> CheckedBars:
    """Reject closes that lie a split ratio off for one session and come back at the next.

    Parameters
    ----------
    checked : CheckedBars
        Of a source that may not take splits out of its prices: only there does a ratio say anything.
    """
    close = pl.col("close")
    into, back = (close / close.shift(1)).over("symbol"), (close.shift(-1) / close).over("symbol")
    isolated = _is_near(into, _nearest(into, REVERTED_RATIOS)) & _is_near(into * back, pl.lit(1.0))
    judged = checked.accepted.with_columns(isolated=isolated.fill_null(value=False))
    aside = judged.filter("isolated").drop("isolated").with_columns(reason=pl.lit(ISOLATED))
    if aside.is_empty():
        return checked
    rejected = pl.concat([checked.rejected, aside]).sort([*PANEL_KEY, "reason"], maintain_order=True)
    return CheckedBars(judged.filter(~pl.col("isolated")).drop("isolated"), rejected)


def _nearest(ratio: pl.Expr, ratios: Iterable[float]) -> pl.Expr:
    """The known ratio that lies nearest, by proportion."""
    known = list(ratios)
    borders = [(low * high) ** 0.5 for low, high in pairwise(known)]
    return pl.lit(pl.Series(known)).gather(pl.lit(pl.Series(borders)).search_sorted(ratio))


def _is_near(ratio: pl.Expr, target: pl.Expr) -> pl.Expr:
    return (ratio / target - 1).abs() <= NEAR
