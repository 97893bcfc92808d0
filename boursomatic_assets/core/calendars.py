"""Exchange calendars: which dates were sessions, and when each session was over.

The rules are those of the library `exchange_calendars`; here are the exchanges that the platform knows and the
questions it asks. Nothing here reads a clock: a moment is always given.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market_data import require_panel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exchange_calendars import ExchangeCalendar

# Names of exchanges, as sources and existing databases write them, to the calendar that they trade on.
_CALENDAR_OF = {
    **dict.fromkeys(("US", "XNYS", "XNAS", "XASE", "ARCX", "BATS", "NYSE", "NASDAQ", "AMEX", "ARCA"), "XNYS"),
    **dict.fromkeys(("XPAR", "PARIS", "EURONEXT PARIS", "PAR", "EPA"), "XPAR"),
    **dict.fromkeys(("XAMS", "AMSTERDAM", "EURONEXT AMSTERDAM", "AMS"), "XAMS"),
    **dict.fromkeys(("XBRU", "BRUSSELS", "EURONEXT BRUSSELS", "BRU", "EBR"), "XBRU"),
}
CALENDARS = ("XNYS", "XPAR", "XAMS", "XBRU")
CURRENCY_OF_CALENDAR = {"XNYS": "USD", "XPAR": "EUR", "XAMS": "EUR", "XBRU": "EUR"}
FIRST_YEAR = 1960
# A close is not final the moment the bell rings: auctions and late reports follow.
SETTLING = timedelta(minutes=30)


def calendar_of(exchange: str | None) -> str | None:
    """Name the calendar that an exchange trades on; None for one that is not known."""
    return _CALENDAR_OF.get(exchange.strip().upper()) if exchange else None


@lru_cache(maxsize=16)
def _calendar(name: str, last_year: int) -> ExchangeCalendar:
    import exchange_calendars

    # The end is given, since the library would else take it from the clock.
    return exchange_calendars.get_calendar(name, start=f"{FIRST_YEAR}-01-01", end=f"{last_year}-12-31")


@lru_cache(maxsize=64)
def _sessions(name: str, last_year: int) -> pl.Series:
    moments = pl.Series("session", _calendar(name, last_year).sessions.to_numpy())
    return moments.cast(pl.Date)


def sessions_between(calendar: str, first: date, last: date) -> pl.Series:
    """List the sessions of a calendar from `first` to `last`, both included, in order.

    Parameters
    ----------
    calendar : str
        One of `CALENDARS`.
    first, last : date
        From 1960 on.

    Returns
    -------
    Series of Date
    """
    sessions = _sessions(calendar, last.year)
    return sessions.filter(sessions.is_between(first, last))


def last_complete_session(calendar: str, now: datetime) -> date:
    """Newest session that was over, with half an hour for its close to settle, at a moment.

    Parameters
    ----------
    calendar : str
        One of `CALENDARS`.
    now : datetime
        With a time zone.
    """
    moment = now.astimezone(UTC)
    sessions = sessions_between(calendar, moment.date() - timedelta(days=14), moment.date())
    exchange = _calendar(calendar, moment.year)
    over = [
        session
        for session in sessions.to_list()
        if exchange.session_close(session.isoformat()).to_pydatetime() + SETTLING <= moment
    ]
    return over[-1]  # type: ignore[no-any-return]
