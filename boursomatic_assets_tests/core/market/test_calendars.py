"""Sessions, compared with known holidays, half days and clocks of the exchanges."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import exchange_calendars
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.market.calendars import (
    CALENDARS,
    CURRENCY_OF_CALENDAR,
    calendar_column,
    calendar_of,
    hours_after_close,
    last_complete_session,
    sessions_ahead,
    sessions_between,
)

EURONEXT = ("XPAR", "XAMS", "XBRU")
days = st.dates(date(1990, 1, 1), date(2025, 12, 31))


def is_session(calendar: str, day: date) -> bool:
    return day in sessions_between(calendar, day, day).to_list()


def sessions_of(calendar: str, first: date, last: date) -> list[date]:
    listed: list[date] = sessions_between(calendar, first, last).to_list()
    return listed


@pytest.mark.parametrize(
    ("exchange", "calendar"),
    [
        ("US", "XNYS"), ("XNAS", "XNYS"), ("XNYS", "XNYS"), ("NASDAQ", "XNYS"), (" nyse ", "XNYS"),
        ("XPAR", "XPAR"), ("Euronext Paris", "XPAR"), ("XAMS", "XAMS"), ("amsterdam", "XAMS"), ("XBRU", "XBRU"),
        ("EBR", "XBRU"), ("Brussels", "XBRU"),
        ("XLON", None), ("XETR", None), ("", None), ("  ", None), (None, None),
    ],
)  # fmt: skip
def test_calendar_of_an_exchange_and_of_a_column(exchange: str | None, calendar: str | None) -> None:
    assert calendar_of(exchange) == calendar
    frame = pl.DataFrame({"exchange": [exchange], "place": [exchange]}).cast(pl.String)
    assert frame.select(calendar_column()).item() == calendar
    assert frame.select(found=calendar_column("place")).item() == calendar


def test_calendars_are_exchanges_and_have_a_currency() -> None:
    assert [calendar_of(name) for name in CALENDARS] == list(CALENDARS)
    assert [CURRENCY_OF_CALENDAR[name] for name in CALENDARS] == ["USD", "EUR", "EUR", "EUR"]


@pytest.mark.parametrize(
    ("day", "why"),
    [
        (date(2001, 9, 11), "the attacks, to the 14th"),
        (date(2001, 9, 14), "the attacks, to the 14th"),
        (date(2012, 10, 29), "hurricane Sandy"),
        (date(2012, 10, 30), "hurricane Sandy"),
        (date(2018, 12, 5), "mourning for George H. W. Bush"),
        (date(2021, 1, 18), "Martin Luther King day"),
        (date(2022, 6, 20), "Juneteenth, for the first time, on the Monday after"),
        (date(2024, 7, 4), "Independence day"),
        (date(2025, 1, 9), "mourning for Jimmy Carter"),
    ],
)
def test_sessions_between_new_york_closed_while_euronext_traded(day: date, why: str) -> None:
    assert not is_session("XNYS", day), why
    assert all(is_session(calendar, day) for calendar in EURONEXT)


@pytest.mark.parametrize("day", [date(2014, 5, 1), date(2024, 5, 1), date(2024, 4, 1), date(2024, 12, 26)])
def test_sessions_between_euronext_closed_while_new_york_traded(day: date) -> None:
    assert not any(is_session(calendar, day) for calendar in EURONEXT)
    assert is_session("XNYS", day)


@pytest.mark.parametrize(
    "day",
    [
        date(2024, 7, 15), date(2024, 5, 9), date(2024, 11, 11), date(2021, 7, 14),
        date(2021, 7, 21), date(2024, 11, 29), date(2024, 12, 24), date(2001, 9, 17),
    ],
    ids=[
        "a Monday", "Ascension", "Armistice", "Bastille day", "the Belgian national day", "half a day in New York",
        "half a day everywhere", "after the attacks",
    ],
)  # fmt: skip
def test_sessions_between_all_exchanges_traded(day: date) -> None:
    assert all(is_session(calendar, day) for calendar in CALENDARS)


@pytest.mark.parametrize("day", [date(2024, 7, 14), date(2024, 3, 29), date(2024, 12, 25), date(2025, 1, 1)])
def test_sessions_between_no_exchange_traded(day: date) -> None:
    assert not any(is_session(calendar, day) for calendar in CALENDARS)


@pytest.mark.parametrize(
    ("calendar", "year", "count"),
    [
        # the exchange's own counts; in 2001 four sessions fell out, in 2012 two
        ("XNYS", 2001, 248), ("XNYS", 2012, 250), ("XNYS", 2020, 253), ("XNYS", 2023, 250), ("XNYS", 2024, 252),
        # 260 weekdays but Good Friday, Easter Monday, 1 May, 25 and 26 December; New Year was a Sunday
        ("XPAR", 2023, 255), ("XAMS", 2023, 255), ("XBRU", 2023, 255),
        # 262 weekdays but the same five and New Year
        ("XPAR", 2024, 256), ("XAMS", 2024, 256), ("XBRU", 2024, 256),
    ],
)  # fmt: skip
def test_sessions_between_counts_a_year(calendar: str, year: int, count: int) -> None:
    assert sessions_between(calendar, date(year, 1, 1), date(year, 12, 31)).len() == count


def test_sessions_between_includes_both_ends() -> None:
    sessions = sessions_between("XNYS", date(2024, 12, 30), date(2025, 1, 3))
    assert (sessions.dtype, sessions.name) == (pl.Date, "session")
    # New Year is a Wednesday
    assert sessions.to_list() == [date(2024, 12, 30), date(2024, 12, 31), date(2025, 1, 2), date(2025, 1, 3)]
    assert sessions_of("XNYS", date(2024, 12, 31), date(2025, 1, 1)) == [date(2024, 12, 31)]
    assert sessions_of("XNYS", date(2025, 1, 1), date(2025, 1, 2)) == [date(2025, 1, 2)]
    # a weekend, and dates in the wrong order
    assert sessions_of("XPAR", date(2024, 7, 13), date(2024, 7, 14)) == []
    assert sessions_of("XPAR", date(2024, 7, 16), date(2024, 7, 15)) == []


@given(calendar=st.sampled_from(CALENDARS), first=days, middle=days, last=days)
def test_sessions_between_are_ordered_weekdays_and_add_up(
    calendar: str, first: date, middle: date, last: date
) -> None:
    first, middle, last = sorted((first, middle, last))
    whole = sessions_of(calendar, first, last)
    assert all(earlier < later for earlier, later in pairwise(whole))
    assert all(session.isoweekday() <= 5 for session in whole)
    assert whole == sessions_of(calendar, first, middle) + sessions_of(calendar, middle + timedelta(days=1), last)


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("last", [date(2019, 12, 31), date(2020, 1, 2), date(2024, 2, 29)])
def test_sessions_between_agrees_with_a_calendar_that_ends_there(calendar: str, last: date) -> None:
    ending = exchange_calendars.get_calendar(calendar, start="2009-12-01", end=str(last))
    expected = [moment.date() for moment in ending.sessions if moment.year >= 2010]
    assert sessions_of(calendar, date(2010, 1, 1), last) == expected


@pytest.mark.parametrize(
    ("calendar", "closes", "session", "before"),
    [
        # 16:00 in New York: 21:00 UTC in winter
        ("XNYS", "2024-03-08 21:00", "2024-03-08", "2024-03-07"),
        # 20:00 UTC in summer, which began there on 10 March and in Paris on the 31st
        ("XNYS", "2024-03-11 20:00", "2024-03-11", "2024-03-08"),
        ("XNYS", "2024-07-15 20:00", "2024-07-15", "2024-07-12"),
        # it ended there on 3 November
        ("XNYS", "2024-11-01 20:00", "2024-11-01", "2024-10-31"),
        ("XNYS", "2024-11-04 21:00", "2024-11-04", "2024-11-01"),
        # 17:30 in Paris, Amsterdam and Brussels: 16:30 UTC in winter, 15:30 in summer
        ("XPAR", "2024-03-11 16:30", "2024-03-11", "2024-03-08"),
        ("XAMS", "2024-03-28 16:30", "2024-03-28", "2024-03-27"),
        # after Good Friday, the change of clocks on Easter Sunday, and Easter Monday
        ("XPAR", "2024-04-02 15:30", "2024-04-02", "2024-03-28"),
        ("XBRU", "2024-07-15 15:30", "2024-07-15", "2024-07-12"),
        # summer ended there on 27 October
        ("XPAR", "2024-10-28 16:30", "2024-10-28", "2024-10-25"),
        # half days: 13:00 in New York after Thanksgiving, 14:05 in Paris before Christmas and New Year
        ("XNYS", "2024-11-29 18:00", "2024-11-29", "2024-11-27"),
        ("XPAR", "2024-12-24 13:05", "2024-12-24", "2024-12-23"),
        ("XPAR", "2024-12-31 13:05", "2024-12-31", "2024-12-30"),
        # the first sessions of a year
        ("XNYS", "2025-01-02 21:00", "2025-01-02", "2024-12-31"),
        ("XPAR", "2025-01-02 16:30", "2025-01-02", "2024-12-31"),
    ],
)
def test_last_complete_session_changes_half_an_hour_after_the_close(
    calendar: str, closes: str, session: str, before: str
) -> None:
    settled = datetime.fromisoformat(closes).replace(tzinfo=UTC) + timedelta(minutes=30)
    assert last_complete_session(calendar, settled) == date.fromisoformat(session)
    assert last_complete_session(calendar, settled - timedelta(seconds=1)) == date.fromisoformat(before)


@pytest.mark.parametrize(
    ("calendar", "moment", "session"),
    [
        ("XNYS", "2024-07-13 12:00", "2024-07-12"),
        ("XNYS", "2024-07-14 23:59", "2024-07-12"),
        # closed from 11 to 14 September 2001, and then a weekend
        ("XNYS", "2001-09-17 12:00", "2001-09-10"),
        ("XNYS", "2012-10-31 12:00", "2012-10-26"),
        ("XPAR", "2024-05-01 20:00", "2024-04-30"),
        ("XPAR", "2024-12-27 08:00", "2024-12-24"),
        ("XNYS", "2025-01-01 00:00", "2024-12-31"),
        ("XPAR", "2025-01-01 12:00", "2024-12-31"),
        ("XNYS", "2024-12-31 23:59", "2024-12-31"),
    ],
)
def test_last_complete_session_stays_while_an_exchange_is_closed(calendar: str, moment: str, session: str) -> None:
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert last_complete_session(calendar, now) == date.fromisoformat(session)


def test_last_complete_session_does_not_depend_on_the_time_zone() -> None:
    # 05:30 on Tuesday in Tokyo is 16:30 on Monday in New York, half an hour after the close
    tokyo = datetime(2024, 7, 16, 5, 30, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert last_complete_session("XNYS", tokyo) == date(2024, 7, 15)
    assert last_complete_session("XNYS", tokyo - timedelta(minutes=1)) == date(2024, 7, 12)
    # 23:00 on New Year's Eve there is already the next year in UTC
    eve = datetime(2024, 12, 31, 23, 0, tzinfo=ZoneInfo("America/New_York"))
    assert last_complete_session("XNYS", eve) == date(2024, 12, 31)
    with pytest.raises(ValueError, match="needs a time zone"):
        last_complete_session("XNYS", datetime(2024, 7, 15, 20, 30))  # noqa: DTZ001 (what is refused)


@given(calendar=st.sampled_from(CALENDARS), moment=st.datetimes(datetime(1990, 1, 15), datetime(2025, 12, 31)))  # noqa: DTZ001 (Hypothesis adds no zone)
def test_last_complete_session_skips_no_session(calendar: str, moment: datetime) -> None:
    found = last_complete_session(calendar, moment.replace(tzinfo=UTC))
    assert is_session(calendar, found)
    # only today's session may be later, since every session ends on its own date in UTC
    assert sessions_of(calendar, found + timedelta(days=1), moment.date() - timedelta(days=1)) == []


def test_sessions_ahead_skips_weekends_and_holidays() -> None:
    given_ = pl.Series("signal", [date(2024, 12, 24), date(2024, 12, 31), date(2024, 12, 30), date(2024, 12, 24)])
    # New York trades on 24, 26, 27, 30, 31 December and 2 January
    found = sessions_ahead(given_, "XNYS", 2)
    assert found.name == "signal"
    assert found.to_list() == [date(2024, 12, 27), date(2025, 1, 3), date(2025, 1, 2), date(2024, 12, 27)]
    # Paris is closed on the 26th too
    assert sessions_ahead(given_[:1], "XPAR", 2).to_list() == [date(2024, 12, 30)]


@pytest.mark.parametrize("day", [date(2024, 7, 13), date(2024, 7, 14)])
def test_sessions_ahead_of_a_weekend_count_from_friday(day: date) -> None:
    assert sessions_ahead(pl.Series([date(2024, 7, 12), day]), "XNYS", 3).to_list() == [date(2024, 7, 17)] * 2
    nothing = pl.Series("signal", [], dtype=pl.Date)
    assert sessions_ahead(nothing, "XNYS", 5).equals(nothing)


@given(
    calendar=st.sampled_from(CALENDARS),
    dates=st.lists(st.dates(date(1990, 1, 1), date(2024, 12, 31)), min_size=1, max_size=5),
    count=st.integers(1, 260),
)
def test_sessions_ahead_counts_sessions(calendar: str, dates: list[date], count: int) -> None:
    reached = sessions_ahead(pl.Series("session", dates), calendar, count).to_list()
    for start, end in zip(dates, reached, strict=True):
        between = sessions_of(calendar, start + timedelta(days=1), end)
        assert (len(between), between[-1]) == (count, end)


def test_hours_after_close_count_from_half_an_hour_after_the_bell() -> None:
    # New York closes at 16:00, in June 20:00 UTC; the close is final at 20:30.
    for hour, minute, hours in ((20, 30, 0.0), (22, 0, 1.5), (20, 0, -0.5)):
        now = datetime(2024, 6, 10, hour, minute, tzinfo=UTC)
        assert hours_after_close("XNYS", date(2024, 6, 10), now) == hours
