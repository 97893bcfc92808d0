"""When a position ends, and at which bar: one rule for outcomes, judged rows and books.

A horizon ends a number of the exchange's sessions later; the last close up to then counts. An instrument that stops
trading, or is halted over the whole horizon, is closed at its last price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.calendars import FIRST_SESSION, calendar_column, sessions_ahead
from boursomatic_assets.core.market.sessions import market_column

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

HORIZON, STOPPED = "horizon", "stopped trading"
# An instrument has stopped trading after this many sessions without a bar, while its exchange trades.
SILENT_SESSIONS = 5
# Without a calendar: no exchange was ever closed for longer, or open on fewer than every other day.
SILENT_DAYS, DAYS_PER_SESSION = 14, 2
CALL = ["symbol", "session", "horizon_days"]


def newest_sessions(spans: pl.DataFrame) -> dict[str | None, date]:
    """Newest session of each calendar, and under None that of all instruments.

    `spans` has the `exchange` and `last` session of every instrument with bars.
    """
    known = spans.select("last", calendar=calendar_column()).drop_nulls()
    every = spans.select("last", calendar=pl.lit(None, pl.String)).drop_nulls("last")
    newest = pl.concat([known, every]).group_by("calendar").agg(pl.col("last").max())
    return dict(newest.iter_rows())


def spans_over(
    calls: pl.DataFrame, bars: pl.DataFrame, newest: Mapping[str | None, date], sessions: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Find the calls whose horizon is over, and the bar at whose close each position ended.

    Parameters
    ----------
    calls : DataFrame
        `exchange`, `symbol`, `session`, `horizon_days`, distinct.
    bars : DataFrame
        Panel with `close` of all the calls' symbols, from their sessions on.
    newest : mapping of str to date
        From `newest_sessions`.
    sessions : DataFrame, optional
        `panel_sessions` of the whole panel, by which an exchange without a calendar is counted; otherwise by
        calendar days, with a bound that suits any exchange.

    Returns
    -------
    DataFrame
        A row per finished call: `symbol`, `session`, `horizon_days`, `entry_row` and `exit_row` in the bars,
        `entry_close`, `exit_session`, `exit_close`, `realised_return` (fraction), `end` of the horizon, never
        before the exit, and `ended` (`horizon` or `stopped trading`).
    """
    placed = bars.select(*PANEL_KEY, entry_close="close", entry_row=pl.int_range(pl.len()))
    last = placed.group_by("symbol").agg(last_row=pl.col("entry_row").max(), last=pl.col("session").max())
    covered = pl.col("session") >= FIRST_SESSION
    entered = calls.join(placed, on=PANEL_KEY).join(last, on="symbol")
    dated = entered.with_columns(calendar=pl.when(covered).then(calendar_column()), market=market_column())
    pieces = [_closed(_by_bars(dated.clear(), 1), None)]
    for (calendar, horizon), own in dated.partition_by("calendar", "horizon_days", as_dict=True).items():
        if calendar is not None:
            pieces.append(_closed(_by_calendar(own, placed, calendar, horizon), newest.get(calendar)))
        elif sessions is None:
            pieces.append(_closed(_by_bars(own, horizon), newest.get(None)))
        else:
            for (market,), rows in own.partition_by("market", as_dict=True).items():
                known = sessions.filter(market=market)["session"]
                pieces.append(_closed(_by_bars(rows, horizon, known), known.max()))  # type: ignore[arg-type]
    exits = bars.select(exit_row=pl.int_range(pl.len()), exit_session="session", exit_close="close")
    return (
        pl.concat(pieces)
        .join(exits, on="exit_row", how="left")
        .with_columns(
            realised_return=pl.col("exit_close") / pl.col("entry_close") - 1,
            end=pl.max_horizontal("end", "exit_session"),
        )
    )


def _by_calendar(calls: pl.DataFrame, placed: pl.DataFrame, calendar: str, horizon: int) -> pl.DataFrame:
    """`end` and `exit_row` of each call, whether bars reach it (`passed`), when silence is too long (`silent`)."""
    ends = calls.with_columns(
        end=sessions_ahead(calls["session"], calendar, horizon),
        silent=sessions_ahead(calls["last"], calendar, SILENT_SESSIONS),
        passed=pl.lit(None, pl.Boolean),
    )
    reached = ends.join_asof(
        placed.select("symbol", end="session", exit_row="entry_row"),
        on="end",
        by="symbol",
        strategy="backward",
        check_sortedness=False,
    )
    return reached.with_columns(passed=pl.col("last") >= pl.col("end"))


def _by_bars(calls: pl.DataFrame, horizon: int, sessions: pl.Series | None = None) -> pl.DataFrame:
    """As `_by_calendar`, by own bars; `end` and `silent` by the exchange's sessions if known, else by days."""
    reached = pl.col("entry_row") + horizon
    if sessions is None:
        longest = DAYS_PER_SESSION * horizon + SILENT_DAYS
        end, silent = pl.col("session").dt.offset_by(f"{longest}d"), pl.col("last").dt.offset_by(f"{SILENT_DAYS}d")
    else:
        end = pl.lit(_later(calls["session"], sessions, horizon))
        silent = pl.lit(_later(calls["last"], sessions, SILENT_SESSIONS))
    return calls.with_columns(
        end=end,
        silent=silent,
        passed=reached <= pl.col("last_row"),
        exit_row=pl.min_horizontal(reached, "last_row"),
    )


def _later(dates: pl.Series, sessions: pl.Series, count: int) -> pl.Series:
    """Session `count` sessions after each date; null where there is none yet."""
    place = sessions.search_sorted(dates, side="right").cast(pl.Int64) - 1 + count
    within = place < sessions.len()
    return sessions.gather(place.clip(upper_bound=sessions.len() - 1)).zip_with(
        within, pl.Series([None], dtype=pl.Date)
    )


def _closed(ends: pl.DataFrame, newest: date | None) -> pl.DataFrame:
    """Calls that are over, and how they `ended`."""
    known = pl.lit(newest, pl.Date)
    traded = pl.col("exit_row") > pl.col("entry_row")
    gone = (known >= pl.col("end")) & (known >= pl.col("silent"))
    ended = (
        pl.when(pl.col("passed") & traded)
        .then(pl.lit(HORIZON))
        .when(pl.col("passed") | gone)
        .then(pl.lit(STOPPED))
        .otherwise(None)
    )
    judged = ends.select(*CALL, "entry_row", "entry_close", "exit_row", "end", ended=ended)
    return judged.drop_nulls("ended")
