"""Rows without trading: copies on closed days, idle rows after the last trade, weekly or monthly bars.

They are left out and counted, or marked: they are not errors of the file, and not daily bars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, PRICE_COLUMNS
from boursomatic_assets.core.market.calendars import calendar_of, outside_sessions
from boursomatic_assets.errors import SourceFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

FILLED_IN = "copies of the session before, on days on which the exchange was closed"
IDLE_AFTER_THE_END = "rows without trading after the last trade"
COPIES_OF_FILES = "rows that another file holds alike"
LONE = "lone date: no other of the symbol within a year"
A_WEEK_APART = "no daily bar: bars a week apart"
# Fewer idle rows at the end may be a temporary trading halt.
IDLE_ROWS = 10
SATURDAY, SUNDAY, MONDAY, FRIDAY = 6, 7, 1, 5
_FEWEST_ROWS = 10
_ROWS_THAT_TELL = 20
_MOST_DAYS_APART, _MONTH_APART = 4.5, 20
_WEEK, _YEAR = (6, 8), 366
_MANY, _FEW = 0.1, 0.02


def leave_out_no_trading(
    bars: pl.DataFrame, exchange_of: Mapping[str, str], source: str
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Leave out rows without trading, and mark bars that are not daily.

    `bars` are raw bars of complete symbols, in any order; `source` is for the message. Returns the other rows in
    their order, and the number of rows left out by reason. Weekly or monthly bars stay; `unread` marks them.

    Raises SourceFileError if the dates are a day early or late: many Sundays and hardly a Friday, for example.
    """
    _require_weekdays(bars, exchange_of, source)
    numbered = bars.with_row_index("_row")
    in_time = numbered.drop_nulls(PANEL_KEY).sort([*PANEL_KEY, "_row"]).with_columns(_copy=_is_copy())
    filled, idle = _filled_in(in_time, exchange_of), _idle_after_the_end(in_time)
    gone = pl.concat([filled, idle]).unique()
    counts = {FILLED_IN: filled.len(), IDLE_AFTER_THE_END: gone.len() - filled.len()}
    kept = numbered.join(gone.to_frame(), on="_row", how="anti", maintain_order="left") if gone.len() else numbered
    marked = _with_odd_dates_named(kept, in_time.select("_row", *PANEL_KEY))
    return _with_sparse_ones_named(marked.drop("_row")), {
        reason: count for reason, count in counts.items() if count
    }


def _is_copy() -> pl.Expr:
    """Whether a row equals the row before it, volume included."""
    same = [pl.col(name) == pl.col(name).shift() for name in ("symbol", *PRICE_COLUMNS, "volume")]
    return pl.all_horizontal(same).fill_null(value=False)


def _filled_in(in_time: pl.DataFrame, exchange_of: Mapping[str, str]) -> pl.Series:
    copies = in_time.filter("_copy")
    if copies.is_empty():
        return in_time["_row"].clear()
    exchanges = {symbol: exchange_of.get(symbol) for symbol in copies["symbol"].unique()}
    placed = copies.with_columns(exchange=pl.col("symbol").replace_strict(exchanges, return_dtype=pl.String))
    known = [name for name in set(exchanges.values()) if calendar_of(name)]
    weekend = pl.col("session").dt.weekday() >= SATURDAY
    elsewhere = placed.filter(weekend & ~pl.col("exchange").is_in(known).fill_null(value=False))
    # If the calendar is known, copies without volume are left out whenever bars are read.
    closed = pl.concat([outside_sessions(placed.filter(pl.col("volume") > 0)), elsewhere])
    # A constant price is a copy on every day, so it is no evidence.
    open_days = in_time.join(closed.select("_row"), on="_row", how="anti").group_by("symbol")
    told = open_days.agg(pl.col("_copy").mean(), rows=pl.len()).filter(pl.col("rows") >= _ROWS_THAT_TELL)
    moving = told.filter(pl.col("_copy") < 0.5)["symbol"]  # noqa: PLR2004 (half of them)
    return closed.filter(pl.col("symbol").is_in(moving.implode()))["_row"]


def _idle_after_the_end(in_time: pl.DataFrame) -> pl.Series:
    """At least ten final rows of a symbol that repeat its last price without new volume."""
    untouched = (pl.col("volume") == 0) & (pl.col("close") == pl.col("close").last().over("symbol"))
    waiting = (untouched | pl.col("_copy")).fill_null(value=False).cast(pl.UInt8)
    ends = in_time.with_columns(_idle=waiting.cum_min(reverse=True).over("symbol") == 1)
    symbols = ends.group_by("symbol").agg(
        idle=pl.col("_idle").sum(),
        traded=(~pl.col("_idle") & ~pl.col("_copy") & (pl.col("volume") > 0)).sum(),
        rest=(~pl.col("_idle")).sum(),
    )
    ended = symbols.filter(
        (pl.col("idle") >= IDLE_ROWS) & (pl.col("traded") >= IDLE_ROWS) & (pl.col("traded") * 2 >= pl.col("rest"))
    )["symbol"]
    return ends.filter("_idle", pl.col("symbol").is_in(ended.implode()))["_row"]


def _with_odd_dates_named(bars: pl.DataFrame, in_time: pl.DataFrame) -> pl.DataFrame:
    """Mark runs of weekly bars among daily ones, and dates with no other within a year, as of a mistyped year."""
    days = pl.col("session").diff().dt.total_days().over("symbol")
    dated = in_time.with_columns(days=days).with_columns(
        later=pl.col("days").shift(-1).over("symbol"), weekly=pl.col("days").is_between(*_WEEK)
    )
    gaps = dated.with_columns(run=pl.col("weekly").rle_id()).with_columns(
        in_a_run=pl.col("weekly") & (pl.len().over("symbol", "run") >= _FEWEST_ROWS)
    )
    enough = pl.len().over("symbol") >= _ROWS_THAT_TELL
    # The first and the last date of a symbol have a neighbour on one side only.
    is_lone = (pl.col("days").fill_null(_YEAR + 1) > _YEAR) & (pl.col("later").fill_null(_YEAR + 1) > _YEAR)
    begins_a_run = pl.col("in_a_run").shift(-1).over("symbol").fill_null(value=False)
    lone = gaps.filter(enough & is_lone).select("_row", _said=pl.lit(LONE))
    in_weeks = gaps.filter(pl.col("in_a_run").fill_null(value=False) | begins_a_run).select(
        "_row", _said=pl.lit(A_WEEK_APART)
    )
    # A date that is impossible anyway keeps that reason: an objection comes last.
    marked = _said_of(bars, lone, "_row", "objection") if lone.height else bars
    return _said_of(marked, in_weeks, "_row", "unread") if in_weeks.height else marked


def _said_of(bars: pl.DataFrame, named: pl.DataFrame, key: str, into: str) -> pl.DataFrame:
    """Bars with the text `_said` in a column, unless it says something already."""
    said = bars.join(named, on=key, how="left", maintain_order="left")
    own = pl.col(into) if into in bars.columns else pl.lit(None, pl.String)
    return said.with_columns(pl.coalesce(own, "_said").alias(into)).drop("_said")


def _with_sparse_ones_named(bars: pl.DataFrame) -> pl.DataFrame:
    span = (pl.col("session").max() - pl.col("session").min()).dt.total_days()
    gaps = (
        bars.drop_nulls(PANEL_KEY).group_by("symbol").agg(rows=pl.col("session").n_unique(), span=span)
        .filter(pl.col("rows") >= _FEWEST_ROWS)
        .with_columns(apart=pl.col("span") / (pl.col("rows") - 1))
        .filter(pl.col("apart") >= _MOST_DAYS_APART)
    )  # fmt: skip
    if gaps.is_empty():
        return bars
    # The median gap decides: daily bars with long gaps between them are not weekly bars.
    dates = bars.join(gaps.select("symbol"), on="symbol", how="semi").select(PANEL_KEY).unique().sort(PANEL_KEY)
    usual = dates.group_by("symbol").agg(days=pl.col("session").diff().dt.total_days().median())
    sparse = usual.filter(pl.col("days") >= _MOST_DAYS_APART)
    if sparse.is_empty():
        return bars
    unit = pl.when(pl.col("days") >= _MONTH_APART).then(pl.lit("a month")).otherwise(pl.lit("a week"))
    named = sparse.select("symbol", _said="no daily bar: bars " + unit + pl.lit(" apart"))
    return _said_of(bars, named, "symbol", "unread")


def _require_weekdays(bars: pl.DataFrame, exchange_of: Mapping[str, str], source: str) -> None:
    days = bars["session"].drop_nulls()
    if days.len() < _ROWS_THAT_TELL or not (days.dt.weekday() >= SATURDAY).any():
        return
    known = [symbol for symbol, exchange in exchange_of.items() if calendar_of(exchange)]
    weekdays = bars.filter(pl.col("symbol").is_in(known))["session"].drop_nulls().dt.weekday()
    rows = weekdays.len()
    if rows < _ROWS_THAT_TELL:
        return
    share = {day: (weekdays == day).sum() / rows for day in (MONDAY, FRIDAY, SATURDAY, SUNDAY)}
    for closed, traded, said, amiss in (
        (SUNDAY, FRIDAY, "Sundays and hardly one a Friday", "early"),
        (SATURDAY, MONDAY, "Saturdays and hardly one a Monday", "late"),
    ):
        if share[closed] > _MANY and share[traded] < _FEW:
            message = (
                f"{source}: {(weekdays == closed).sum()} of {rows} dates are {said}: they are a day {amiss}, as "
                "moments without their time zone are. Write the dates of the exchange, such as 2024-01-31"
            )
            raise SourceFileError(message)
