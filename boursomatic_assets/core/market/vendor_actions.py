"""Splits and dividends that a vendor states beside its raw prices, as ratios that adjust the bars before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.corporate_actions import apply_adjustments

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

# Session, ratio of prices, and where it is another one the ratio of volumes.
Adjustment: TypeAlias = "tuple[date, float] | tuple[date, float, float]"

ACTION_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(), "session": pl.Date(), "split": pl.Float64(), "dividend": pl.Float64(),
    "ratio": pl.Float64(),
}  # fmt: skip

# A step of the adjusted close that no table explains counts from here on: a hundredth of a percent.
SMALLEST_STEP = 1e-4
# The adjusted close is rounded on both sides of a step; twice that is allowed for.
ROUNDING_MARGIN = 2.0
# Beyond this the table and the adjusted close disagree, and people are told.
DISAGREEMENT = 0.005


def with_actions(
    bars: pl.DataFrame, splits: pl.DataFrame, dividends: pl.DataFrame, resolution: float
) -> pl.DataFrame:
    """Add to the raw bars of one symbol what each session's split and dividend do to the prices before it.

    Parameters
    ----------
    bars : DataFrame
        `session`, `close` and `adj_close`, the vendor's own close adjusted for splits and dividends.
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
        without an action. `ratio` multiplies the prices before the session. `doubt` says in words where the
        adjusted close and the tables disagree.

    Notes
    -----
    By the tables the ratio is `1 / split - dividend / close before`. It is taken where the vendor's adjusted close
    agrees to its rounding, or does not step at all. Elsewhere the step of the adjusted close is taken, so that the
    bars as they are read are the vendor's. A date without a bar counts for the next bar.
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
    """Put people's adjustments and vendors' actions together, as `apply_adjustments` takes them.

    Parameters
    ----------
    adjustments : DataFrame
        Of `ADJUSTMENT_SCHEMA`. An entry replaces the vendor's action on its session; a ratio of 1 only calls a
        move real and replaces none.
    actions : DataFrame
        Of `ACTION_SCHEMA`.
    """
    if actions.is_empty():
        return adjustments
    entered = adjustments.with_columns(volume_ratio="ratio")
    own = actions.join(entered.filter(pl.col("ratio") != 1.0), on=PANEL_KEY, how="anti")
    stated = own.select(*PANEL_KEY, "ratio", volume_ratio=1 / pl.col("split"))
    return pl.concat([entered.join(stated, on=PANEL_KEY, how="anti"), stated]).sort(PANEL_KEY)


def noted_adjustments(applied: pl.DataFrame) -> list[Adjustment]:
    """List what one symbol's bars are adjusted by, as a recommendation notes it."""
    rows = applied.drop("symbol").iter_rows()
    return [row[:2] if row[1] == row[-1] else row for row in rows]


def ratios_of(symbol: str | None, noted: Sequence[Adjustment]) -> pl.DataFrame:
    """Turn noted adjustments of a symbol back into what `apply_adjustments` takes."""
    rows = [(symbol, session, ratio, *(shares or (ratio,))) for session, ratio, *shares in noted]
    schema = {"symbol": pl.String, "session": pl.Date, "ratio": pl.Float64, "volume_ratio": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def without_later_splits(bars: pl.DataFrame, splits: pl.DataFrame) -> pl.DataFrame:
    """Bars of one symbol with volumes as they were traded, from volumes in the shares of today.

    Parameters
    ----------
    bars : DataFrame
        `symbol`, `session`, `volume`.
    splits : DataFrame
        `session`, `split`: all there were to this day.
    """
    ratios = splits.unique().group_by("session").agg(volume_ratio=pl.col("split").product())
    symbol = pl.lit(bars["symbol"].first(), pl.String)
    return apply_adjustments(bars, ratios.select(symbol.alias("symbol"), "session", "volume_ratio", ratio=1.0))


def _by_session(events: pl.DataFrame, sessions: pl.DataFrame, total: pl.Expr) -> pl.DataFrame:
    """Events of each session; those between two sessions belong to the later one, those after the last to none.

    An event that is stated twice alike is one.
    """
    bars = sessions.with_columns(bar="session")
    placed = events.unique().sort("session").join_asof(bars, on="session", strategy="forward").drop_nulls("bar")
    return placed.group_by(session="bar").agg(total)


def _chosen(stated: pl.DataFrame) -> pl.DataFrame:
    """Choose each session's ratio, from the tables or from the adjusted close, and say where they disagree."""
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
    """Where the adjusted close steps otherwise than the tables say, in words."""
    doubts: list[str | None] = []
    for row in chosen.iter_rows(named=True):
        by_close = f"its adjusted close steps by {row['step']:.6g} on {row['session']}"
        if row["disagrees"]:
            doubts.append(f"{by_close}, its splits and dividends by {row['by_table']:.6g}")
        else:
            doubts.append(f"{by_close} without a split or a dividend" if row["unlisted"] else None)
    return doubts
