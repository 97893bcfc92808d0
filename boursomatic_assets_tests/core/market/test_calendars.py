"""Sessions, against what is known of the exchanges from elsewhere: their holidays, half days and clocks."""

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
    last_complete_session,
    outside_sessions,
    sessions_ahead,
    sessions_between,
)
from boursomatic_assets.core.market.session_audit import audit_sessions
from boursomatic_assets.errors import PanelContractError

EURONEXT = ("XPAR", "XAMS", "XBRU")
BAR_COLUMNS = {
    "symbol": pl.String,
    "session": pl.Date,
    "exchange": pl.String,
    "close": pl.Float64,
    "volume": pl.Float64,
}

days = st.dates(date(1990, 1, 1), date(2025, 12, 31))


def is_session(calendar: str, day: date) -> bool:
    return day in sessions_between(calendar, day, day).to_list()


def sessions_of(calendar: str, first: date, last: date) -> list[date]:
    listed: list[date] = sessions_between(calendar, first, last).to_list()
    return listed


def bars_on(symbol: str, exchange: str | None, sessions: list[date], volume: float = 100.0) -> pl.DataFrame:
    """Bars whose closes all differ."""
    rows = [(symbol, session, exchange, 10.0 + i, volume) for i, session in enumerate(sessions)]
    return pl.DataFrame(rows, schema=BAR_COLUMNS, orient="row")


@pytest.mark.parametrize(
    ("exchange", "calendar"),
    [
        ("US", "XNYS"), ("XNAS", "XNYS"), ("XNYS", "XNYS"), ("NASDAQ", "XNYS"), (" nyse ", "XNYS"),
        ("XPAR", "XPAR"), ("Euronext Paris", "XPAR"), ("XAMS", "XAMS"), ("amsterdam", "XAMS"), ("XBRU", "XBRU"),
        ("EBR", "XBRU"), ("XLON", None), ("XETR", None), ("", None), ("  ", None), (None, None),
    ],
)  # fmt: skip
def test_an_exchange_trades_on_a_calendar_or_is_not_known(exchange: str | None, calendar: str | None) -> None:
    assert calendar_of(exchange) == calendar
    column = pl.DataFrame({"exchange": [exchange]}, schema={"exchange": pl.String}).select(calendar_column())
    assert column.item() == calendar


def test_the_calendar_of_another_column() -> None:
    frame = pl.DataFrame({"place": ["paris"]})
    assert frame.select(found=calendar_column("place")).item() == "XPAR"


def test_every_calendar_is_its_own_exchange_and_has_a_currency() -> None:
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
def test_new_york_was_closed_while_euronext_traded(day: date, why: str) -> None:
    assert not is_session("XNYS", day), why
    assert all(is_session(calendar, day) for calendar in EURONEXT)


@pytest.mark.parametrize("day", [date(2014, 5, 1), date(2024, 5, 1), date(2024, 4, 1), date(2024, 12, 26)])
def test_euronext_was_closed_while_new_york_traded(day: date) -> None:
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
def test_all_of_them_traded(day: date) -> None:
    assert all(is_session(calendar, day) for calendar in CALENDARS)


@pytest.mark.parametrize("day", [date(2024, 7, 14), date(2024, 3, 29), date(2024, 12, 25), date(2025, 1, 1)])
def test_none_of_them_traded(day: date) -> None:
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
def test_sessions_of_a_year(calendar: str, year: int, count: int) -> None:
    assert sessions_between(calendar, date(year, 1, 1), date(year, 12, 31)).len() == count


def test_both_ends_are_included_and_a_year_may_lie_between() -> None:
    found = sessions_between("XNYS", date(2024, 12, 30), date(2025, 1, 3))
    assert found.dtype == pl.Date
    assert found.name == "session"
    # New Year is a Wednesday
    assert found.to_list() == [date(2024, 12, 30), date(2024, 12, 31), date(2025, 1, 2), date(2025, 1, 3)]
    assert sessions_of("XNYS", date(2024, 12, 31), date(2025, 1, 1)) == [date(2024, 12, 31)]
    assert sessions_of("XNYS", date(2025, 1, 1), date(2025, 1, 2)) == [date(2025, 1, 2)]


def test_no_session_lies_on_a_weekend_or_between_dates_the_wrong_way_round() -> None:
    assert sessions_of("XPAR", date(2024, 7, 13), date(2024, 7, 14)) == []
    assert sessions_of("XPAR", date(2024, 7, 16), date(2024, 7, 15)) == []


@given(calendar=st.sampled_from(CALENDARS), first=days, middle=days, last=days)
def test_sessions_are_weekdays_in_order_and_a_span_is_its_parts(
    calendar: str, first: date, middle: date, last: date
) -> None:
    first, middle, last = sorted((first, middle, last))
    whole = sessions_of(calendar, first, last)
    assert all(earlier < later for earlier, later in pairwise(whole))
    assert all(session.isoweekday() <= 5 for session in whole)
    assert whole == sessions_of(calendar, first, middle) + sessions_of(calendar, middle + timedelta(days=1), last)


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("last", [date(2019, 12, 31), date(2020, 1, 2), date(2024, 2, 29)])
def test_sessions_are_those_of_a_calendar_that_ends_with_the_span(calendar: str, last: date) -> None:
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
def test_a_session_is_complete_half_an_hour_after_its_close(
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
def test_while_an_exchange_is_closed_its_last_session_stays_the_newest(
    calendar: str, moment: str, session: str
) -> None:
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert last_complete_session(calendar, now) == date.fromisoformat(session)


def test_a_moment_counts_and_not_the_clock_it_is_read_from() -> None:
    # 05:30 on Tuesday in Tokyo is 16:30 on Monday in New York, half an hour after the close
    tokyo = datetime(2024, 7, 16, 5, 30, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert last_complete_session("XNYS", tokyo) == date(2024, 7, 15)
    assert last_complete_session("XNYS", tokyo - timedelta(minutes=1)) == date(2024, 7, 12)
    # 23:00 on New Year's Eve there is already the next year in UTC
    eve = datetime(2024, 12, 31, 23, 0, tzinfo=ZoneInfo("America/New_York"))
    assert last_complete_session("XNYS", eve) == date(2024, 12, 31)


@given(calendar=st.sampled_from(CALENDARS), moment=st.datetimes(datetime(1990, 1, 15), datetime(2025, 12, 31)))  # noqa: DTZ001 (Hypothesis adds no zone)
def test_the_last_complete_session_is_a_session_and_none_is_skipped(calendar: str, moment: datetime) -> None:
    found = last_complete_session(calendar, moment.replace(tzinfo=UTC))
    assert is_session(calendar, found)
    # what lies between is today's at most, since every session ends on its own date in UTC
    assert sessions_of(calendar, found + timedelta(days=1), moment.date() - timedelta(days=1)) == []


def test_sessions_ahead_jump_weekends_holidays_and_the_year() -> None:
    given_ = pl.Series("signal", [date(2024, 12, 24), date(2024, 12, 31), date(2024, 12, 30), date(2024, 12, 24)])
    # New York trades on 24, 26, 27, 30, 31 December and 2 January
    found = sessions_ahead(given_, "XNYS", 2)
    assert found.name == "signal"
    assert found.to_list() == [date(2024, 12, 27), date(2025, 1, 3), date(2025, 1, 2), date(2024, 12, 27)]
    # Paris is closed on the 26th too
    assert sessions_ahead(given_[:1], "XPAR", 2).to_list() == [date(2024, 12, 30)]


@pytest.mark.parametrize("day", [date(2024, 7, 13), date(2024, 7, 14)])
def test_sessions_ahead_of_a_weekend_count_from_the_friday(day: date) -> None:
    assert sessions_ahead(pl.Series([day]), "XNYS", 1).to_list() == [date(2024, 7, 15)]
    with_friday = pl.Series([date(2024, 7, 12), day])
    assert sessions_ahead(with_friday, "XNYS", 3).to_list() == [date(2024, 7, 17)] * 2


def test_sessions_ahead_of_nothing_are_none() -> None:
    nothing = pl.Series("signal", [], dtype=pl.Date)
    assert sessions_ahead(nothing, "XNYS", 5).equals(nothing)


@given(
    calendar=st.sampled_from(CALENDARS),
    dates=st.lists(st.dates(date(1990, 1, 1), date(2024, 12, 31)), min_size=1, max_size=5),
    count=st.integers(1, 260),
)
def test_that_many_sessions_lie_up_to_the_one_reached(calendar: str, dates: list[date], count: int) -> None:
    reached = sessions_ahead(pl.Series("session", dates), calendar, count).to_list()
    for start, end in zip(dates, reached, strict=True):
        between = sessions_of(calendar, start + timedelta(days=1), end)
        assert (len(between), between[-1]) == (count, end)


def test_rows_outside_sessions_are_those_on_which_their_own_exchange_was_closed() -> None:
    may_day, holiday, sunday = date(2024, 5, 1), date(2024, 7, 4), date(2024, 7, 14)
    rows = [
        ("MC.PA", may_day, "XPAR"),
        ("MC.PA", holiday, "XPAR"),
        ("AAPL", may_day, "XNAS"),
        ("AAPL", holiday, "NASDAQ"),
        ("UCB.BR", sunday, "Brussels"),
        ("SHEL.L", sunday, "XLON"),
        ("XXX", sunday, None),
    ]
    panel = pl.DataFrame(rows, schema=["symbol", "session", "exchange"], orient="row")
    outside = outside_sessions(panel)
    assert outside.columns == panel.columns
    assert outside.rows() == [rows[0], rows[3], rows[4]]
    assert outside_sessions(panel.clear()).equals(panel.clear())


def test_an_audit_counts_bars_beside_the_sessions_that_were_expected() -> None:
    # New York: 1 to 12 July 2024 without the 4th are nine sessions; the 8th is lacking, Sunday the 7th is too much
    july = [date(2024, 7, day) for day in (1, 2, 3, 5, 7, 9, 10, 11, 12)]
    whole = sessions_of("XNYS", date(2024, 7, 3), date(2024, 7, 9))
    bars = pl.concat(
        [
            bars_on("AAPL", "XNAS", july),
            bars_on("IBM", "XNYS", whole),
            # the exchange was closed on both
            bars_on("MC.PA", "XPAR", [date(2024, 7, 6), date(2024, 7, 7)], volume=5.0),
            bars_on("SHEL.L", "XLON", [date(2024, 7, 7)]),
        ]
    )
    audit = audit_sessions(bars)
    assert audit.exchanges.to_dicts() == [
        # 9 expected of Apple and 4 of IBM; 9 + 4 stored
        {
            "calendar": "XNYS", "symbols": 2, "newest": date(2024, 7, 12), "expected": 13, "stored": 13,
            "missing": 1, "extra": 1, "before_trading": 0, "stale_runs": 0,
        },
        {
            "calendar": "XPAR", "symbols": 1, "newest": date(2024, 7, 7), "expected": 0, "stored": 2,
            "missing": 0, "extra": 2, "before_trading": 0, "stale_runs": 0,
        },
    ]  # fmt: skip
    assert audit.missing.rows() == [("XNYS", "AAPL", date(2024, 7, 8))]
    assert audit.extra.rows() == [
        ("XNYS", "AAPL", date(2024, 7, 7), 100.0),
        ("XPAR", "MC.PA", date(2024, 7, 6), 5.0),
        ("XPAR", "MC.PA", date(2024, 7, 7), 5.0),
    ]
    assert audit.stale.is_empty()


def test_sessions_before_the_first_and_after_the_last_bar_are_not_missed() -> None:
    bars = pl.concat(
        [
            bars_on("IBM", "XNYS", sessions_of("XNYS", date(2024, 7, 1), date(2024, 7, 31))),
            bars_on("NEW", "XNYS", sessions_of("XNYS", date(2024, 7, 15), date(2024, 7, 16))),
        ]
    )
    assert audit_sessions(bars).missing.is_empty()
    # 22 weekdays of July 2024 but the 4th, and 2
    assert audit_sessions(bars).exchanges["expected"].to_list() == [22 + 2]


def idle_bars(symbol: str, closes: list[float], volumes: list[float]) -> pl.DataFrame:
    sessions = sessions_of("XPAR", date(2024, 9, 2), date(2024, 12, 20))[: len(closes)]
    return bars_on(symbol, "XPAR", sessions).with_columns(
        close=pl.Series(closes, dtype=pl.Float64), volume=pl.Series(volumes, dtype=pl.Float64)
    )


def test_ten_equal_closes_in_a_row_without_volume_are_stale_and_nine_are_not() -> None:
    bars = pl.concat(
        [
            idle_bars("A.PA", [5.0] * 10, [0.0] * 10),
            # begins like the one before ended, and is not its continuation
            idle_bars("B.PA", [5.0] * 9, [0.0] * 9),
            idle_bars("C.PA", [5.0] * 12, [100.0] + [0.0] * 10 + [100.0]),
            idle_bars("D.PA", [5.0] * 20, [0.0] * 9 + [1.0] + [0.0] * 9 + [1.0]),
            idle_bars("E.PA", [5.0] * 9 + [6.0] * 9, [0.0] * 18),
            idle_bars("F.PA", [5.0] * 11 + [6.0] * 10, [0.0] * 21),
            idle_bars("G.PA", [5.0] * 15, [100.0] * 15),
        ]
    )
    audit = audit_sessions(bars)
    # the 1st, 2nd, 10th, 11th, 12th and 21st weekday from Monday 2 September on
    first, second, tenth, eleventh, twelfth, last = (date(2024, 9, day) for day in (2, 3, 13, 16, 17, 30))
    assert audit.stale.rows() == [
        ("XPAR", "A.PA", first, tenth, 10),
        ("XPAR", "C.PA", second, eleventh, 10),
        ("XPAR", "F.PA", first, eleventh, 11),
        ("XPAR", "F.PA", twelfth, last, 10),
    ]
    assert audit.exchanges["stale_runs"].to_list() == [4]


def test_an_audit_of_nothing_that_is_known_is_empty() -> None:
    audit = audit_sessions(bars_on("SHEL.L", "XLON", [date(2024, 7, 7)]))
    for table in (audit.exchanges, audit.missing, audit.extra, audit.stale):
        assert table.is_empty()


def test_an_audit_wants_a_panel() -> None:
    bars = bars_on("AAPL", "XNAS", [date(2024, 7, 2), date(2024, 7, 1)])
    with pytest.raises(PanelContractError, match="sorted"):
        audit_sessions(bars)
    with pytest.raises(PanelContractError, match="volume"):
        audit_sessions(bars.drop("volume"))


@given(data=st.data())
def test_an_audit_finds_each_session_that_was_taken_out_and_each_weekend_that_was_put_in(
    data: st.DataObject,
) -> None:
    pieces, missing, extra = [], [], []
    for symbol, exchange in (("A", "XNYS"), ("B", "XPAR"), ("C", "XNAS")):
        sessions = sessions_of(calendar_of(exchange) or "", date(2024, 4, 20), date(2024, 5, 20))
        inner = data.draw(st.sets(st.sampled_from(sessions[1:-1]), max_size=5))
        # any Saturday between the first and the last session
        saturdays = data.draw(st.sets(st.sampled_from([date(2024, 4, 27), date(2024, 5, 4), date(2024, 5, 11)])))
        pieces.append(bars_on(symbol, exchange, sorted({*sessions, *saturdays} - inner)))
        missing += [(calendar_of(exchange), symbol, session) for session in sorted(inner)]
        extra += [(calendar_of(exchange), symbol, session) for session in sorted(saturdays)]
    audit = audit_sessions(pl.concat(pieces))
    assert sorted(audit.missing.rows()) == sorted(missing)
    assert sorted(audit.extra.drop("volume").rows()) == sorted(extra)
    counted = audit.exchanges
    assert counted.select(pl.col("stored") + pl.col("missing") - pl.col("extra")).to_series().to_list() == (
        counted["expected"].to_list()
    )
