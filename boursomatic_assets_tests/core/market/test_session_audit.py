"""Bars beside the sessions of their exchanges, against plain loops over a summer whose holidays are known."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import groupby, takewhile
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.market.calendars import (
    before_first_trade,
    calendar_column,
    last_complete_session,
    outside_sessions,
    sessions_ahead,
)
from boursomatic_assets.core.market.session_audit import SessionAudit, audit_sessions, traded_on_weekends

# From 3 June to 10 September 2024 New York was closed on three weekdays, Euronext on none.
SUMMER = [date(2024, 6, 3) + timedelta(days) for days in range(100)]
HOLIDAYS = {"XNYS": {date(2024, 6, 19), date(2024, 7, 4), date(2024, 9, 2)}}
CALENDAR_OF = {"XNYS": "XNYS", "nasdaq ": "XNYS", "XPAR": "XPAR", "Brussels": "XBRU", "XLON": None, None: None}
SCHEMA = {
    "symbol": pl.String(),
    "session": pl.Date(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
    "exchange": pl.String(),
}


def sessions_of(calendar: str) -> list[date]:
    return [day for day in SUMMER if day.weekday() < 5 and day not in HOLIDAYS.get(calendar, set())]


@st.composite
def panels(draw: st.DrawFn) -> pl.DataFrame:
    """Bars on most days of part of the summer, many of them idle at the price of the day before."""
    pieces = [pl.DataFrame(schema=SCHEMA)]
    for symbol in ("AAA", "BBB", "CCC", "DDD")[: draw(st.integers(0, 4))]:
        exchange = draw(st.sampled_from(list(CALENDAR_OF)))
        usual = sessions_of(CALENDAR_OF[exchange] or "")
        start = draw(st.integers(0, 15))
        days = set(usual[start : start + draw(st.integers(1, 45))])
        days -= draw(st.sets(st.sampled_from(sorted(days)), max_size=4))
        days |= draw(st.sets(st.sampled_from([day for day in SUMMER if day not in usual]), max_size=3))
        idle_from = draw(st.integers(0, 20))
        idle = range(idle_from, idle_from + draw(st.sampled_from([0, 9, 10, 15, 60])))
        breaks = draw(st.sets(st.integers(0, 45), max_size=3))
        close, rows = 10.0, []
        for number, day in enumerate(sorted(days)):
            close += number in breaks or number not in idle
            rows.append((symbol, day, close, 0.0 if number in idle else 50.0, exchange))
        pieces.append(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
    return pl.concat(pieces)


def slow_audit(bars: pl.DataFrame) -> dict[str, list[tuple[Any, ...]]]:
    """What an audit should hold, symbol by symbol and day by day."""
    missing, extra, early, stale = [], [], [], []
    counts: dict[str, dict[str, Any]] = {}
    for (symbol,), own in bars.group_by("symbol", maintain_order=True):
        calendar = CALENDAR_OF[own["exchange"][0]]
        if calendar is None:
            continue
        sessions, days = sessions_of(calendar), own["session"].to_list()
        inside = [day for day in days if day in sessions]
        due = [day for day in sessions if inside and inside[0] <= day <= inside[-1]]
        missing += [(calendar, symbol, day) for day in due if day not in days]
        extra += [
            (calendar, symbol, day, volume)
            for day, volume in own.select("session", "volume").iter_rows()
            if day not in sessions
        ]
        early += [(calendar, day) for day in waiting_days(own)]
        idle_runs = groupby(own.iter_rows(named=True), key=lambda row: (row["volume"] == 0, row["close"]))
        for (idle, _), run in idle_runs:
            rows = list(run)
            if idle and len(rows) >= 10:
                stale.append((calendar, symbol, rows[0]["session"], rows[-1]["session"], len(rows)))
        entry = counts.setdefault(calendar, {"symbols": 0, "newest": days[-1], "expected": 0, "stored": 0})
        entry["symbols"] += 1
        entry["newest"] = max(entry["newest"], days[-1])
        entry["expected"] += len(due)
        entry["stored"] += len(days)
    exchanges = [
        (
            calendar,
            *counts[calendar].values(),
            *(sum(row[0] == calendar for row in found) for found in (missing, extra, early, stale)),
        )
        for calendar in sorted(counts)
    ]
    return {"exchanges": exchanges, "missing": sorted(missing), "extra": sorted(extra), "stale": sorted(stale)}


def waiting_days(own: pl.DataFrame) -> list[date]:
    """Days of one symbol before its first trade: idle, at the price it begins with."""
    rows = own.select("session", "close", "volume").rows()
    if all(volume == 0 for _, _, volume in rows):
        return []
    waiting = takewhile(lambda row: row[1] == rows[0][1] and row[2] == 0, rows)
    return [day for day, _, _ in waiting]


def tables_of(audit: SessionAudit) -> dict[str, list[tuple[Any, ...]]]:
    return {
        "exchanges": audit.exchanges.rows(),
        "missing": sorted(audit.missing.rows()),
        "extra": sorted(audit.extra.rows()),
        "stale": sorted(audit.stale.rows()),
    }


@given(panels())
def test_an_audit_holds_what_a_loop_over_symbols_and_days_finds(bars: pl.DataFrame) -> None:
    assert tables_of(audit_sessions(bars)) == slow_audit(bars)


@given(panels(), st.integers(1, 3))
def test_audits_of_some_symbols_each_add_up_to_the_audit_of_all(bars: pl.DataFrame, size: int) -> None:
    symbols = bars["symbol"].unique().sort().to_list()
    groups = [symbols[at : at + size] for at in range(0, len(symbols), size)] or [[]]
    parts = [audit_sessions(bars.filter(pl.col("symbol").is_in(group))) for group in groups]
    summed, whole = SessionAudit.sum(parts), audit_sessions(bars)
    assert tables_of(summed) == tables_of(whole)
    for name in ("exchanges", "missing", "extra", "stale"):
        assert getattr(summed, name).schema == getattr(whole, name).schema


def test_a_sum_counts_each_exchange_once_and_its_newest_session() -> None:
    def two_bars(symbol: str, exchange: str, first: int) -> SessionAudit:
        rows = [(symbol, date(2024, 7, day), 1.0, 5.0, exchange) for day in (first, first + 2)]
        return audit_sessions(pl.DataFrame(rows, schema=SCHEMA, orient="row"))

    # each lacks the day between its two bars, of 3 that were expected
    audits = [two_bars("AAA", "XPAR", 8), two_bars("BBB", "XNYS", 8), two_bars("CCC", "XPAR", 1)]
    assert SessionAudit.sum(audits).exchanges.to_dicts() == [
        {
            "calendar": "XNYS", "symbols": 1, "newest": date(2024, 7, 10), "expected": 3, "stored": 2,
            "missing": 1, "extra": 0, "before_trading": 0, "stale_runs": 0,
        },
        {
            "calendar": "XPAR", "symbols": 2, "newest": date(2024, 7, 10), "expected": 6, "stored": 4,
            "missing": 2, "extra": 0, "before_trading": 0, "stale_runs": 0,
        },
    ]  # fmt: skip
    assert SessionAudit.sum(audits).missing.rows() == [
        ("XPAR", "AAA", date(2024, 7, 9)),
        ("XNYS", "BBB", date(2024, 7, 9)),
        ("XPAR", "CCC", date(2024, 7, 2)),
    ]


def idle_bars(*rows: tuple[float, float], symbol: str = "AAA") -> pl.DataFrame:
    """Bars of a close and a volume each, on successive days."""
    days = [(symbol, SUMMER[at], close, volume, "XPAR") for at, (close, volume) in enumerate(rows)]
    return pl.DataFrame(days, schema=SCHEMA, orient="row")


@pytest.mark.parametrize(
    ("rows", "early"),
    [
        ([(5.0, 0.0), (5.0, 0.0), (5.0, 10.0), (5.0, 0.0)], 2),
        # Another price is a price that somebody paid, whatever the volume says.
        ([(5.0, 0.0), (6.0, 0.0), (6.0, 10.0)], 1),
        ([(5.0, 0.0), (6.0, 0.0), (5.0, 0.0), (5.0, 10.0)], 1),
        ([(5.0, 10.0), (5.0, 0.0), (5.0, 0.0)], 0),
        # An index has no volume at all.
        ([(5.0, 0.0), (5.0, 0.0), (5.0, 0.0)], 0),
    ],
)
def test_before_its_first_trade_an_instrument_is_idle_at_the_price_it_begins_with(
    rows: list[tuple[float, float]], early: int
) -> None:
    bars = idle_bars(*rows)
    assert before_first_trade(bars).equals(bars.head(early))


def test_the_first_trade_of_each_instrument_is_its_own() -> None:
    bars = pl.concat(
        [idle_bars((5.0, 0.0), (5.0, 7.0)), idle_bars((5.0, 0.0), (5.0, 0.0), (5.0, 7.0), symbol="BBB")]
    )
    assert before_first_trade(bars).select("symbol", "session").rows() == [
        ("AAA", SUMMER[0]),
        ("BBB", SUMMER[0]),
        ("BBB", SUMMER[1]),
    ]


@given(panels())
def test_what_lies_before_the_first_trade_is_what_a_loop_finds(bars: pl.DataFrame) -> None:
    expected = [
        (symbol, day)
        for (symbol,), own in bars.group_by("symbol", maintain_order=True)
        for day in waiting_days(own)
    ]
    assert before_first_trade(bars).select("symbol", "session").rows() == expected


@given(panels())
def test_rows_outside_sessions_are_those_on_a_day_that_their_exchange_was_closed(bars: pl.DataFrame) -> None:
    expected = [
        row
        for row in bars.iter_rows()
        if (calendar := CALENDAR_OF[row[-1]]) is not None and row[1] not in sessions_of(calendar)
    ]
    assert outside_sessions(bars).rows() == expected


@given(
    st.lists(st.sampled_from(SUMMER[:40]), max_size=6),
    st.sampled_from(["XNYS", "XPAR", "XAMS", "XBRU"]),
    st.integers(1, 35),
)
def test_sessions_ahead_are_found_by_counting_them_off(days: list[date], calendar: str, count: int) -> None:
    expected = [[session for session in sessions_of(calendar) if session > day][count - 1] for day in days]
    assert sessions_ahead(pl.Series("session", days, dtype=pl.Date), calendar, count).to_list() == expected


@pytest.mark.parametrize("column", ["exchange", "market"])
def test_the_calendar_of_each_row_follows_from_its_exchange(column: str) -> None:
    panel = pl.DataFrame({column: list(CALENDAR_OF)}, schema={column: pl.String})
    found = panel.select(calendar_column(column) if column != "exchange" else calendar_column()).to_series()
    assert found.to_list() == list(CALENDAR_OF.values())


def test_a_moment_without_a_time_zone_is_refused_rather_than_guessed() -> None:
    with pytest.raises(ValueError, match="needs a time zone"):
        last_complete_session("XNYS", datetime(2024, 7, 15, 20, 30))  # noqa: DTZ001 (that is the point)


def test_a_weekend_with_a_volume_is_told_from_one_that_was_filled_in() -> None:
    # Friday 5 July, Saturday with and Sunday without a volume, Independence Day with one
    days = {date(2024, 7, 4): 5.0, date(2024, 7, 5): 5.0, date(2024, 7, 6): 5.0, date(2024, 7, 7): 0.0}
    extra = pl.DataFrame({"symbol": "AAA", "session": list(days), "volume": list(days.values())})
    assert traded_on_weekends(extra)["session"].to_list() == [date(2024, 7, 6)]
