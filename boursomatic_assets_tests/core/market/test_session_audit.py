"""Audits of bars, compared with plain loops over a summer whose holidays are known."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import groupby, takewhile
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.market.calendars import before_first_trade, outside_sessions
from boursomatic_assets.core.market.session_audit import SessionAudit, audit_sessions, traded_on_weekends
from boursomatic_assets.errors import PanelContractError

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
def test_audit_sessions_agrees_with_a_loop(bars: pl.DataFrame) -> None:
    assert tables_of(audit_sessions(bars)) == slow_audit(bars)


@given(panels(), st.integers(1, 3))
def test_session_audit_sum_of_groups_is_the_audit_of_all(bars: pl.DataFrame, size: int) -> None:
    symbols = bars["symbol"].unique().sort().to_list()
    groups = [symbols[at : at + size] for at in range(0, len(symbols), size)] or [[]]
    parts = [audit_sessions(bars.filter(pl.col("symbol").is_in(group))) for group in groups]
    summed, whole = SessionAudit.sum(parts), audit_sessions(bars)
    assert tables_of(summed) == tables_of(whole)
    for name in ("exchanges", "missing", "extra", "stale"):
        assert getattr(summed, name).schema == getattr(whole, name).schema


def test_session_audit_sum_by_hand() -> None:
    def two_bars(symbol: str, exchange: str, first: int) -> SessionAudit:
        rows = [(symbol, date(2024, 7, day), 1.0, 5.0, exchange) for day in (first, first + 2)]
        return audit_sessions(pl.DataFrame(rows, schema=SCHEMA, orient="row"))

    # each lacks the day between its two bars, of 3 that were expected
    audits = [two_bars("AAA", "XPAR", 8), two_bars("BBB", "XNYS", 8), two_bars("CCC", "XPAR", 1)]
    assert SessionAudit.sum(audits).exchanges.rows() == [
        ("XNYS", 1, date(2024, 7, 10), 3, 2, 1, 0, 0, 0),
        ("XPAR", 2, date(2024, 7, 10), 6, 4, 2, 0, 0, 0),
    ]
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
        # Another price was traded, whatever the volume says.
        ([(5.0, 0.0), (6.0, 0.0), (6.0, 10.0)], 1),
        ([(5.0, 0.0), (6.0, 0.0), (5.0, 0.0), (5.0, 10.0)], 1),
        ([(5.0, 10.0), (5.0, 0.0), (5.0, 0.0)], 0),
        # An index has no volume at all.
        ([(5.0, 0.0), (5.0, 0.0), (5.0, 0.0)], 0),
    ],
)
def test_before_first_trade_by_hand(rows: list[tuple[float, float]], early: int) -> None:
    # The second symbol has its own first trade.
    bars, other = idle_bars(*rows), idle_bars((5.0, 0.0), (5.0, 0.0), (5.0, 7.0), symbol="BBB")
    assert before_first_trade(pl.concat([bars, other])).equals(pl.concat([bars.head(early), other.head(2)]))


@given(panels())
def test_before_first_trade_agrees_with_a_loop(bars: pl.DataFrame) -> None:
    expected = [
        (symbol, day)
        for (symbol,), own in bars.group_by("symbol", maintain_order=True)
        for day in waiting_days(own)
    ]
    assert before_first_trade(bars).select("symbol", "session").rows() == expected


@given(panels())
def test_outside_sessions_agrees_with_a_loop(bars: pl.DataFrame) -> None:
    expected = [
        row
        for row in bars.iter_rows()
        if (calendar := CALENDAR_OF[row[-1]]) is not None and row[1] not in sessions_of(calendar)
    ]
    assert outside_sessions(bars).rows() == expected


def test_traded_on_weekends_needs_a_volume_and_a_weekend() -> None:
    # Friday 5 July, Saturday with and Sunday without a volume, Independence Day with one
    days = {date(2024, 7, 4): 5.0, date(2024, 7, 5): 5.0, date(2024, 7, 6): 5.0, date(2024, 7, 7): 0.0}
    extra = pl.DataFrame({"symbol": "AAA", "session": list(days), "volume": list(days.values())})
    assert traded_on_weekends(extra)["session"].to_list() == [date(2024, 7, 6)]


def bars_on(symbol: str, exchange: str | None, sessions: list[date], volume: float = 100.0) -> pl.DataFrame:
    """Bars whose closes all differ."""
    rows = [(symbol, session, 10.0 + i, volume, exchange) for i, session in enumerate(sessions)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_audit_sessions_by_hand() -> None:
    def july(*days: int) -> list[date]:
        return [date(2024, 7, day) for day in days]

    # New York: 1 to 12 July 2024 without the 4th are nine sessions; the 8th is lacking, Sunday the 7th is too much
    bars = pl.concat(
        [
            bars_on("AAPL", "XNAS", july(1, 2, 3, 5, 7, 9, 10, 11, 12)),
            bars_on("IBM", "XNYS", july(3, 5, 8, 9)),
            # the exchange was closed on both
            bars_on("MC.PA", "XPAR", july(6, 7), volume=5.0),
            bars_on("SHEL.L", "XLON", july(7)),
        ]
    )
    audit = audit_sessions(bars)
    assert audit.exchanges.columns == [
        "calendar", "symbols", "newest", "expected", "stored", "missing", "extra", "before_trading", "stale_runs",
    ]  # fmt: skip
    assert audit.exchanges.rows() == [
        # 9 expected of Apple and 4 of IBM; 9 + 4 stored
        ("XNYS", 2, date(2024, 7, 12), 13, 13, 1, 1, 0, 0),
        ("XPAR", 1, date(2024, 7, 7), 0, 2, 0, 2, 0, 0),
    ]
    assert audit.missing.rows() == [("XNYS", "AAPL", date(2024, 7, 8))]
    assert audit.extra.rows() == [
        ("XNYS", "AAPL", date(2024, 7, 7), 100.0),
        ("XPAR", "MC.PA", date(2024, 7, 6), 5.0),
        ("XPAR", "MC.PA", date(2024, 7, 7), 5.0),
    ]
    assert audit.stale.is_empty()


def test_audit_sessions_calls_ten_equal_closes_without_volume_stale() -> None:
    def idle(symbol: str, closes: list[float], volumes: list[float]) -> pl.DataFrame:
        bars = bars_on(symbol, "XPAR", sessions_of("XPAR")[: len(closes)])
        return bars.with_columns(close=pl.Series(closes), volume=pl.Series(volumes))

    bars = pl.concat(
        [
            idle("A.PA", [5.0] * 10, [0.0] * 10),
            # begins like the one before ended, and is not its continuation
            idle("B.PA", [5.0] * 9, [0.0] * 9),
            idle("C.PA", [5.0] * 12, [100.0] + [0.0] * 10 + [100.0]),
            idle("D.PA", [5.0] * 20, [0.0] * 9 + [1.0] + [0.0] * 9 + [1.0]),
            idle("E.PA", [5.0] * 9 + [6.0] * 9, [0.0] * 18),
            idle("F.PA", [5.0] * 11 + [6.0] * 10, [0.0] * 21),
            idle("G.PA", [5.0] * 15, [100.0] * 15),
        ]
    )
    audit = audit_sessions(bars)
    # the 1st, 2nd, 10th, 11th, 12th and 21st weekday from Monday 3 June on
    days = [date(2024, 6, day) for day in (3, 4, 14, 17, 18)]
    first, second, tenth, eleventh, twelfth, last = (*days, date(2024, 7, 1))
    assert audit.stale.rows() == [
        ("XPAR", "A.PA", first, tenth, 10),
        ("XPAR", "C.PA", second, eleventh, 10),
        ("XPAR", "F.PA", first, eleventh, 11),
        ("XPAR", "F.PA", twelfth, last, 10),
    ]
    assert audit.exchanges["stale_runs"].to_list() == [4]


def test_audit_sessions_needs_a_panel_and_may_know_no_exchange() -> None:
    audit = audit_sessions(bars_on("SHEL.L", "XLON", [date(2024, 7, 7)]))
    assert all(table.is_empty() for table in (audit.exchanges, audit.missing, audit.extra, audit.stale))
    bars = bars_on("AAPL", "XNAS", [date(2024, 7, 2), date(2024, 7, 1)])
    with pytest.raises(PanelContractError, match="sorted"):
        audit_sessions(bars)
    with pytest.raises(PanelContractError, match="volume"):
        audit_sessions(bars.drop("volume"))
