"""Which days are sessions of a panel.

A source now and then has a bar of one instrument on a Saturday or a holiday. Sets, folds and books count only the
days that this module calls sessions.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.calendars import CALENDARS, FIRST_SESSION, calendar_column, known_sessions

# Without a calendar a day is a session if this share of the exchange's living symbols traded. Few symbols have
# stray bars; and four markets under one unknown exchange still have their sessions.
LEAST_SHARE = 0.25
# On a day that is the last of all its symbols, those that ended up to a long weekend before count as living.
# Otherwise one stray symbol on the Saturday after the panel's last Friday would make a session.
GRACE = timedelta(days=4)
_KEY = ["market", "session"]


def market_column() -> pl.Expr:
    """Market of each row: the calendar of its exchange, or "<exchange> without calendar"."""
    named = pl.col("exchange").str.strip_chars().str.to_uppercase().fill_null("")
    calendar = pl.when(pl.col("session") >= FIRST_SESSION).then(calendar_column())
    return pl.coalesce(calendar, pl.format("{} without calendar", named))


def with_market(panel: pl.DataFrame) -> pl.DataFrame:
    """Rows with their `market`; without a column `exchange` all belong to one unknown market."""
    placed = panel if "exchange" in panel.columns else panel.with_columns(exchange=pl.lit(None, pl.String))
    return placed.with_columns(market=market_column()).select(*panel.columns, "market")


def panel_sessions(panel: pl.DataFrame) -> pl.DataFrame:
    """Sessions of a panel's markets: `market`, `session`, sorted.

    With a calendar: its sessions on which the market has a bar. Without one: days on which at least `LEAST_SHARE`
    of the market's living symbols traded; a symbol lives from its first to its last bar. The panel has `symbol` and
    `session`, unique, and `exchange` where it is known.
    """
    return _sessions_of(with_market(panel))


def on_sessions(panel: pl.DataFrame) -> pl.DataFrame:
    """Rows on sessions of their own market, in the panel's order."""
    placed = with_market(panel)
    return placed.join(_sessions_of(placed), on=_KEY, how="semi", maintain_order="left").drop("market")


def off_sessions(panel: pl.DataFrame) -> pl.DataFrame:
    """Rows on days that are no sessions of their own market."""
    placed = with_market(panel)
    return placed.join(_sessions_of(placed), on=_KEY, how="anti", maintain_order="left").drop("market")


def _sessions_of(placed: pl.DataFrame) -> pl.DataFrame:
    pieces = [placed.select(_KEY).clear()]
    for (market,), rows in placed.select("market", *PANEL_KEY).partition_by("market", as_dict=True).items():
        if market in CALENDARS:
            known = known_sessions(rows.rename({"market": "calendar"}))["session"]
            days = known.filter(known.is_in(rows["session"].unique().implode()))
        else:
            days = _well_attended(rows)
        pieces.append(days.to_frame().select(market=pl.lit(market, pl.String), session="session"))
    return pl.concat(pieces).sort(_KEY)


def _well_attended(rows: pl.DataFrame) -> pl.Series:
    """Days on which at least `LEAST_SHARE` of the living symbols traded."""
    spans = rows.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    ended = spans.group_by(session="last").agg(ended=pl.len())
    days = rows.group_by("session").agg(traded=pl.len()).join(ended, on="session", how="left").sort("session")
    day, last = days["session"], spans["last"].sort()
    begun = spans["first"].sort().search_sorted(day, side="right")
    alive = begun - last.search_sorted(day, side="left")
    lately = begun - last.search_sorted(day - GRACE, side="left")
    counted = days.with_columns(
        alive=pl.when(pl.col("traded") == pl.col("ended")).then(pl.lit(lately)).otherwise(pl.lit(alive))
    )
    return counted.filter(pl.col("traded") >= LEAST_SHARE * pl.col("alive"))["session"]
