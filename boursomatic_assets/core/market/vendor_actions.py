"""Splits and dividends that a vendor states beside raw prices, as ratios that adjust earlier bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.corporate_actions import apply_adjustments

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

# Session, price ratio, and the volume ratio if it differs.
Adjustment: TypeAlias = "tuple[date, float] | tuple[date, float, float]"

ACTION_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(), "session": pl.Date(), "split": pl.Float64(), "dividend": pl.Float64(),
    "ratio": pl.Float64(),
}  # fmt: skip

# Smallest step of the adjusted close that counts without a table entry: a hundredth of a percent.
SMALLEST_STEP = 1e-4
# Tolerance: twice the rounding of the adjusted close on both sides of a step.
ROUNDING_MARGIN = 2.0
# Relative difference above which tables and adjusted close disagree; reports then mention it.
DISAGREEMENT = 0.005


def with_actions(
    bars: pl.DataFrame, splits: pl.DataFrame, dividends: pl.DataFrame, resolution: float
) -> pl.DataFrame:
    """Add each session's split, dividend and adjustment ratio to the raw bars of one symbol.

    Parameters
    ----------
    bars : DataFrame
        `session`, `close` and `adj_close`, the vendor's close adjusted for splits and dividends.
    splits : DataFrame
        `session`, `split`: new shares per old one.
    dividends : DataFrame
        `session`, `dividend`: cash per share, as it was paid.
    resolution : float
        Smallest difference that the vendor writes in an adjusted close.

    Returns
    -------
    DataFrame
        The bars by session without `adj_close`, with `split`, `dividend`, `ratio` and `doubt`; null at sessions
        without an action. `ratio` multiplies the prices before the session. `doubt` states a disagreement between
        the adjusted close and the tables.

    Notes
    -----
    By the tables the ratio is `1 / split - dividend / previous close`. It is used if the vendor's adjusted close
    agrees within its rounding, or has no step. Otherwise the step of the adjusted close is used, so that adjusted
    bars equal the vendor's. An action on a date without a bar counts for the next bar.
    """
    close, adjusted = pl.col("close"), pl.col("adj_close")
    in_time = bars.sort("session", maintain_order=True)
    sound = (close > 0) & (adjusted > 0) & close.is_finite() & adjusted.is_finite()
    known = in_time.filter(sound.fill_null(value=False)).unique("session", keep="last", maintain_order=True)
    sessions = known.select("session")
    stated = (
        known.select("session", "close", "adj_close")
        .join(_by_session(splits, sessions, pl.col("split").product()), on="session", how="left")
        .join(_by_session(dividends, sessions, pl.col("dividend").sum()), on="session", how="left")
        .sort("session")
        .with_columns(
            split=pl.col("split").fill_null(1.0),
            dividend=pl.col("dividend").fill_null(0.0),
            by_table=1 / pl.col("split").fill_null(1.0) - pl.col("dividend").fill_null(0.0) / close.shift(1),
            step=(adjusted.shift(1) / close.shift(1)) / (adjusted / close),
            rounding=ROUNDING_MARGIN * resolution / 2 * (1 / adjusted.shift(1) + 1 / adjusted) + 1e-12,
        )
        .drop_nulls("step")
    )
    columns = ["session", "split", "dividend", "ratio", "doubt"]
    actions = _chosen(stated).select(columns)
    return in_time.drop("adj_close").join(actions, on="session", how="left", maintain_order="left")


def applied_ratios(adjustments: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Combine entered adjustments and vendors' actions, in the form that `apply_adjustments` takes.

    An entered adjustment (`ADJUSTMENT_SCHEMA`) replaces the vendor's action (`ACTION_SCHEMA`) on its session. A
    ratio of 1 only marks a move as real and replaces no action.
    """
    if actions.is_empty():
        return adjustments
    entered = adjustments.with_columns(volume_ratio="ratio")
    own = actions.join(entered.filter(pl.col("ratio") != 1.0), on=PANEL_KEY, how="anti")
    stated = own.select(*PANEL_KEY, "ratio", volume_ratio=1 / pl.col("split"))
    return pl.concat([entered.join(stated, on=PANEL_KEY, how="anti"), stated]).sort(PANEL_KEY)


def noted_adjustments(applied: pl.DataFrame) -> list[Adjustment]:
    """Adjustments of one symbol's bars, in the form that a recommendation stores."""
    rows = applied.drop("symbol").iter_rows()
    return [row[:2] if row[1] == row[-1] else row for row in rows]


def ratios_of(symbol: str | None, noted: Sequence[Adjustment]) -> pl.DataFrame:
    """Stored adjustments of a symbol, in the form that `apply_adjustments` takes."""
    rows = [(symbol, session, ratio, *(shares or (ratio,))) for session, ratio, *shares in noted]
    schema = {"symbol": pl.String, "session": pl.Date, "ratio": pl.Float64, "volume_ratio": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def without_later_splits(bars: pl.DataFrame, splits: pl.DataFrame) -> pl.DataFrame:
    """Bars of one symbol with volumes as traded, from volumes in today's shares.

    `splits` has `session` and `split`, for all splits until today.
    """
    ratios = splits.unique().group_by("session").agg(volume_ratio=pl.col("split").product())
    symbol = pl.lit(bars["symbol"].first(), pl.String)
    return apply_adjustments(bars, ratios.select(symbol.alias("symbol"), "session", "volume_ratio", ratio=1.0))


def _by_session(events: pl.DataFrame, sessions: pl.DataFrame, total: pl.Expr) -> pl.DataFrame:
    """Events by session; an event between two sessions belongs to the later one, one after the last to none.

    Identical events count once.
    """
    bars = sessions.with_columns(bar="session")
    placed = events.unique().sort("session").join_asof(bars, on="session", strategy="forward").drop_nulls("bar")
    return placed.group_by(session="bar").agg(total)


def _chosen(stated: pl.DataFrame) -> pl.DataFrame:
    """Choose each session's ratio, from the tables or the adjusted close, and state disagreements."""
    by_table, step = pl.col("by_table"), pl.col("step")
    is_listed = (pl.col("split") != 1) | (pl.col("dividend") != 0)
    is_possible = by_table > 0
    steps = step.log().abs() > pl.col("rounding")
    gap = pl.when(is_possible).then((by_table.log() - step.log()).abs()).otherwise(float("inf"))
    unlisted = ~is_listed & steps & (step.log().abs() > SMALLEST_STEP)
    ratio = (
        pl.when(is_listed & is_possible & ((gap <= pl.col("rounding")) | ~steps))
        .then(by_table)
        .when((is_listed & steps) | unlisted)
        .then(step)
    )
    disagrees = is_listed & (gap > DISAGREEMENT + pl.col("rounding"))
    chosen = stated.with_columns(ratio=ratio, unlisted=unlisted, disagrees=disagrees)
    chosen = chosen.filter(pl.col("ratio").is_not_null() | pl.col("disagrees"))
    return chosen.with_columns(doubt=pl.Series(_doubts(chosen), dtype=pl.String))


def _doubts(chosen: pl.DataFrame) -> list[str | None]:
    """Disagreements between the adjusted close and the tables, as text."""
    doubts: list[str | None] = []
    for row in chosen.iter_rows(named=True):
        by_close = f"its adjusted close steps by {row['step']:.6g} on {row['session']}"
        if row["disagrees"]:
            doubts.append(f"{by_close}, its splits and dividends by {row['by_table']:.6g}")
        else:
            doubts.append(f"{by_close} without a split or a dividend" if row["unlisted"] else None)
    return doubts
