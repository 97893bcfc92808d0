"""Exchange calendars: which dates were sessions, and when each session was over.

The rules are those of the library `exchange_calendars`. Nothing here reads a clock.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

# Calendar of each exchange, by the names in sources and existing databases.
_CALENDAR_OF = {
    **dict.fromkeys(("US", "XNYS", "XNAS", "XASE", "ARCX", "BATS", "NYSE", "NASDAQ", "AMEX", "ARCA"), "XNYS"),
    **dict.fromkeys(("XPAR", "PARIS", "EURONEXT PARIS", "PAR", "EPA"), "XPAR"),
    **dict.fromkeys(("XAMS", "AMSTERDAM", "EURONEXT AMSTERDAM", "AMS"), "XAMS"),
    **dict.fromkeys(("XBRU", "BRUSSELS", "EURONEXT BRUSSELS", "BRU", "EBR"), "XBRU"),
}
CALENDARS = ("XNYS", "XPAR", "XAMS", "XBRU")
CURRENCY_OF_CALENDAR = {"XNYS": "USD", "XPAR": "EUR", "XAMS": "EUR", "XBRU": "EUR"}
FIRST_YEAR = 1960
FIRST_SESSION = date(FIRST_YEAR, 1, 1)
# Auctions and late reports follow the close.
SETTLING = timedelta(minutes=30)


def calendar_of(exchange: str | None) -> str | None:
    """Calendar that an exchange trades on; None for an unknown one."""
    return _CALENDAR_OF.get(exchange.strip().upper()) if exchange else None


def _last_of_decade(year: int) -> int:
    """End of a calendar that must include a year; with decades, ten years share one cached calendar."""
    return year // 10 * 10 + 9


@lru_cache(maxsize=16)
def _calendar(name: str, last_year: int) -> ExchangeCalendar:
    import exchange_calendars

    # The library would take the end from the clock, and it calls its first date a session.
    return exchange_calendars.get_calendar(name, start=f"{FIRST_YEAR - 1}-12-01", end=f"{last_year}-12-31")


@lru_cache(maxsize=16)
def _sessions(name: str, last_year: int) -> pl.Series:
    moments = pl.Series("session", _calendar(name, last_year).sessions.to_numpy())
    return moments.cast(pl.Date)


def sessions_between(calendar: str, first: date, last: date) -> pl.Series:
    """Sessions of a calendar from `first` to `last`, both included, in order; from 1960 on."""
    sessions = _sessions(calendar, _last_of_decade(last.year))
    return sessions.filter(sessions.is_between(first, last))


def last_complete_session(calendar: str, now: datetime) -> date:
    """Newest session that had closed at a moment, with half an hour for the close to settle.

    Raises ValueError if the moment has no time zone.
    """
    if now.tzinfo is None:
        message = f"a moment needs a time zone; found {now}"
        raise ValueError(message)
    moment = now.astimezone(UTC)
    sessions = sessions_between(calendar, moment.date() - timedelta(days=14), moment.date())
    over = [session for session in sessions.to_list() if settled_at(calendar, session) <= moment]
    return over[-1]  # type: ignore[no-any-return]


def settled_at(calendar: str, session: date) -> datetime:
    """Moment at which the close of a session was final: half an hour after the bell, in UTC."""
    exchange = _calendar(calendar, _last_of_decade(session.year))
    return exchange.session_close(session.isoformat()).to_pydatetime() + SETTLING  # type: ignore[no-any-return]


def hours_after_close(calendar: str, session: date, now: datetime) -> float:
    """Hours since the close of a session was final; below 0 before it."""
    return (now - settled_at(calendar, session)).total_seconds() / 3600


def sessions_ahead(sessions: pl.Series, calendar: str, count: int) -> pl.Series:
    """Session `count` sessions after each date; a date without a session counts from the last one before."""
    if sessions.is_empty():
        return sessions
    # Two days for each session, and two weeks: no exchange was ever closed for longer.
    newest = sessions.max() + timedelta(days=14 + count * 2)  # type: ignore[operator]
    known = sessions_between(calendar, sessions.min(), newest)  # type: ignore[arg-type]
    reached = known.search_sorted(sessions, side="right").cast(pl.Int64) - 1 + count
    return known.gather(reached).alias(sessions.name)


def calendar_column(exchange: str = "exchange") -> pl.Expr:
    """Calendar of each row's exchange; null for an unknown one."""
    plain = pl.col(exchange).str.strip_chars().str.to_uppercase()
    return plain.replace_strict(_CALENDAR_OF, default=None, return_dtype=pl.String)


def outside_sessions(panel: pl.DataFrame) -> pl.DataFrame:
    """Rows on dates on which their exchange was closed; never those of an unknown exchange."""
    dated = with_calendar(panel)
    key = ["calendar", "session"]
    return dated.join(known_sessions(dated), on=key, how="anti", maintain_order="left").select(panel.columns)


def before_first_trade(bars: pl.DataFrame) -> pl.DataFrame:
    """Rows before an instrument's first trade: without volume, and still at its first price.

    An instrument without any volume, such as an index, has none.
    """
    untouched = (pl.col("volume") == 0) & (pl.col("close") == pl.col("close").first())
    waiting = untouched.cast(pl.UInt8).cum_min().over("symbol") == 1
    return bars.filter(waiting & (pl.col("volume").max().over("symbol") > 0))


def with_calendar(panel: pl.DataFrame) -> pl.DataFrame:
    """Rows from 1960 on of known exchanges, with the `calendar` of their exchange."""
    known = panel.with_columns(calendar=calendar_column()).filter(pl.col("session") >= FIRST_SESSION)
    return known.filter(pl.col("calendar").is_not_null())


def known_sessions(dated: pl.DataFrame) -> pl.DataFrame:
    """`calendar` and `session` of each calendar that occurs, over the span of the panel."""
    first, last = dated["session"].min(), dated["session"].max()
    tables = [
        sessions_between(calendar, first, last).to_frame().with_columns(calendar=pl.lit(calendar))  # type: ignore[arg-type]
        for calendar in dated["calendar"].unique().sort().to_list()
    ]
    empty = pl.DataFrame(schema={"session": pl.Date, "calendar": pl.String})
    return pl.concat([empty, *tables])
