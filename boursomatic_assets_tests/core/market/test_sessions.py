from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from boursomatic_assets.core.market.sessions import off_sessions, on_sessions, panel_sessions
from boursomatic_assets_tests.support.strategies import weekdays

if TYPE_CHECKING:
    from collections.abc import Iterable

# Ten weekdays from Monday 2018-01-01, a holiday in New York and Paris, on; the Saturday and the Sunday between.
D = weekdays(10)
SATURDAY, SUNDAY = date(2018, 1, 6), date(2018, 1, 7)
SCHEMA = {"symbol": pl.String, "session": pl.Date, "exchange": pl.String}


def traded(exchange: str | None, days: dict[str, Iterable[date]]) -> pl.DataFrame:
    rows = [(symbol, day, exchange) for symbol, own in days.items() for day in sorted(own)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("symbol", "session")


def market(exchange: str | None, count: int, days: Iterable[date] = D, name: str = "S") -> pl.DataFrame:
    return traded(exchange, {f"{name}{number:02d}": days for number in range(count)})


def stray(panel: pl.DataFrame) -> list[tuple[str, date]]:
    return off_sessions(panel).select("symbol", "session").rows()


@pytest.mark.parametrize("exchange", ["unknown", None, "XLON"])
def test_a_stray_saturday_bar_is_no_session(exchange: str | None) -> None:
    panel = pl.concat([market(exchange, 40), traded(exchange, {"S07": [SATURDAY]})]).sort("symbol", "session")
    # 1 of 40 is 2.5 %, less than a quarter
    assert stray(panel) == [("S07", SATURDAY)]
    assert panel_sessions(panel)["session"].to_list() == D
    assert on_sessions(panel).equals(market(exchange, 40))


def test_calendar_sessions_count_at_any_attendance() -> None:
    # Friday the 5th is a session for one of two symbols; Saturday is none, though half of them traded
    panel = traded("XNYS", {"A": [D[1], D[4], SATURDAY, D[5]], "B": [D[1], D[5]]})
    assert stray(panel) == [("A", SATURDAY)]
    # New Year's Day is a holiday in New York
    assert stray(market("NASDAQ", 3)) == [(f"S0{number}", D[0]) for number in range(3)]


@pytest.mark.parametrize(
    ("symbols", "trading", "counts"),
    [(5, 1, False), (5, 2, True), (4, 1, True)],
    ids=["1 of 5 is 20 %", "2 of 5 are 40 %", "1 of 4 is exactly a quarter"],
)
def test_a_quarter_of_the_symbols_makes_a_session(symbols: int, trading: int, *, counts: bool) -> None:
    extra = market("unknown", trading, [SATURDAY])
    panel = pl.concat([market("unknown", symbols), extra]).sort("symbol", "session")
    assert (SATURDAY in panel_sessions(panel)["session"]) == counts
    assert stray(panel) == ([] if counts else [("S00", SATURDAY)])


@pytest.mark.parametrize("exchange", ["XPAR", "XLON"])
def test_a_holiday_of_one_exchange_is_a_session_of_the_other(exchange: str) -> None:
    # Monday 2018-01-15 is a holiday in New York: one of 41 symbols trades, in another market
    holiday = date(2018, 1, 15)
    days = [day for day in weekdays(15) if day != D[0]]
    panel = pl.concat(
        [market("XNYS", 40, [day for day in days if day != holiday]), market(exchange, 1, days, "Z")]
    ).sort("symbol", "session")
    assert stray(panel) == []
    assert holiday in panel_sessions(panel)["session"]
    wrong = pl.concat([panel, traded("XNYS", {"S01": [holiday]})]).sort("symbol", "session")
    # the other market's session is not its own
    assert stray(wrong) == [("S01", holiday)]


def test_only_living_symbols_count() -> None:
    # thirty symbols end on Wednesday: the one that goes on has all of its sessions
    panel = pl.concat([market("unknown", 30, D[:3]), market("unknown", 1, D, "Z")])
    assert stray(panel) == []
    # and before the others begin
    assert stray(pl.concat([market("unknown", 30, D[7:]), market("unknown", 1, D, "Z")])) == []


def test_a_stray_bar_after_the_last_session_is_no_session() -> None:
    # on Saturday all others ended yesterday, and so does this one today: 1 of 40 that lived until lately
    panel = pl.concat([market("unknown", 40, D[:5]), traded("unknown", {"S03": [SATURDAY]})])
    assert stray(panel.sort("symbol", "session")) == [("S03", SATURDAY)]
    # more than a long weekend later no other symbol lives
    late = SATURDAY + timedelta(days=4)
    panel = pl.concat([market("unknown", 40, D[:5]), traded("unknown", {"S03": [late]})])
    assert stray(panel.sort("symbol", "session")) == []


def test_without_an_exchange_all_are_of_one_market() -> None:
    panel = pl.concat([market("unknown", 40), traded("unknown", {"S07": [SUNDAY]})]).sort("symbol", "session")
    assert stray(panel.drop("exchange")) == [("S07", SUNDAY)]
    assert on_sessions(panel.drop("exchange")).columns == ["symbol", "session"]


def test_attendance_counts_before_1960() -> None:
    # the calendars begin in 1960: the last day of 1959 is judged by who traded, a Saturday in 1960 by the calendar
    days = [date(1959, 12, 31), date(1960, 1, 4)]
    panel = pl.concat([market("XNYS", 8, days), traded("XNYS", {"S01": [date(1959, 12, 26), date(1960, 1, 2)]})])
    assert stray(panel.sort("symbol", "session")) == [("S01", date(1960, 1, 2))]
    many = market("XNYS", 8, days)
    early = traded("XNYS", {"S01": [date(1959, 12, 24)], **{f"S0{n}": [date(1959, 12, 23)] for n in range(2, 8)}})
    mixed = (
        pl.concat([many, market("XNYS", 1, [date(1959, 12, 23)], "S"), early]).unique().sort("symbol", "session")
    )
    assert stray(mixed) == [("S01", date(1959, 12, 24))]


def test_an_empty_panel_has_no_sessions() -> None:
    empty = market("unknown", 0)
    assert panel_sessions(empty).height == on_sessions(empty).height == off_sessions(empty).height == 0


@given(
    st.lists(st.sets(st.sampled_from([*D, SATURDAY, SUNDAY]), min_size=1), min_size=1, max_size=9),
    st.sampled_from(["XNYS", "unknown", None]),
)
def test_on_sessions_and_off_sessions_split_a_panel(days: list[set[date]], exchange: str | None) -> None:
    panel = traded(exchange, {f"S{number}": own for number, own in enumerate(days)})
    on, off = on_sessions(panel), off_sessions(panel)
    assert_frame_equal(pl.concat([on, off]).sort("symbol", "session"), panel)
    assert set(on["session"]).isdisjoint(set(off["session"]))
    assert panel_sessions(panel)["session"].to_list() == sorted(set(on["session"]))
    # what is left of a market has the same sessions again, where a calendar decides
    if exchange == "XNYS":
        assert on_sessions(on).equals(on)
