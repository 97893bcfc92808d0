from __future__ import annotations

import json
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.evaluation.survivors import (
    SPAN_SCHEMA,
    PanelYear,
    Survivors,
    find_survivors,
    panel_spans,
)
from boursomatic_assets.core.market.membership import MEMBER_SCHEMA
from boursomatic_assets.errors import NotEnoughHistoryError
from boursomatic_assets_tests.support.oracles import shared_file

BEGIN, END = date(2004, 3, 1), date(2006, 12, 29)
Span = tuple[str, str | None, date, date]


def spans(*rows: Span) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SPAN_SCHEMA, orient="row")


def members(*rows: tuple[str, date, date | None]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=MEMBER_SCHEMA, orient="row")


def ended_of(*rows: Span) -> dict[int, int]:
    return {year.year: year.ended for year in find_survivors(spans(*rows)).years if year.ended}


TO_THE_END: Span = ("AAA", "XNYS", BEGIN, END)


def test_survivors_count_endings_in_the_year_of_the_last_bar() -> None:
    found = find_survivors(
        spans(
            TO_THE_END,
            ("BBB", "XNYS", BEGIN, date(2005, 5, 2)),
            ("CCC", "XNYS", date(2005, 1, 3), date(2005, 12, 30)),
            ("DDD", "XNYS", date(2006, 2, 1), END),
        )
    )
    assert (found.symbols, found.ended) == (4, 2)
    assert (found.first_session, found.last_session) == (BEGIN, END)
    assert [(year.year, year.symbols, year.ended) for year in found.years] == [
        (2004, 2, 0),  # A and B
        (2005, 3, 2),  # A, B, C; of which B and C end
        (2006, 2, 0),  # A and D
    ]
    assert found.sentence == "Survivors: 2 of 4 symbols of this panel stop trading before the panel ends."
    assert found.qualification == ""


@pytest.mark.parametrize(
    ("exchange", "last", "ended"),
    [
        # From 2006-11-30 to 2006-12-29 lie 20 sessions of New York (Christmas is none), from 11-29 on 21.
        ("XNYS", date(2006, 11, 30), False),
        ("XNYS", date(2006, 11, 29), True),
        # Nasdaq trades on the same calendar.
        ("XNAS", date(2006, 11, 30), False),
        ("XNAS", date(2006, 11, 29), True),
    ],
)
def test_survivors_take_a_halt_of_twenty_sessions_for_no_end(exchange: str, last: date, *, ended: bool) -> None:
    assert ended_of(TO_THE_END, ("BBB", exchange, BEGIN, last)) == ({2006: 1} if ended else {})


@pytest.mark.parametrize("exchange", [None, "XLON"])
@pytest.mark.parametrize(("last", "ended"), [(date(2006, 12, 1), False), (date(2006, 11, 30), True)])
def test_survivors_without_a_calendar_count_weekdays(exchange: str | None, last: date, *, ended: bool) -> None:
    # From Friday 2006-12-01 to Friday 2006-12-29 lie four weeks of five weekdays.
    rows: list[Span] = [("AAA", exchange, BEGIN, END), ("BBB", exchange, BEGIN, last)]
    assert ended_of(*rows) == ({2006: 1} if ended else {})


def test_survivors_before_the_calendars_begin_count_weekdays() -> None:
    rows: list[Span] = [
        ("AAA", "XNYS", date(1959, 1, 5), date(1960, 1, 29)),
        ("BBB", "XNYS", date(1959, 1, 5), date(1960, 1, 1)),
        ("CCC", "XNYS", date(1959, 1, 5), date(1959, 12, 31)),
    ]
    assert ended_of(*rows) == {1959: 1}


def test_survivors_compare_with_the_last_bar_of_the_exchange() -> None:
    # Paris is stored to the end of 2005 only: none of its symbols ended for that.
    paris: Span = ("PPP", "XPAR", BEGIN, date(2005, 12, 30))
    assert ended_of(TO_THE_END, paris) == {}
    assert ended_of(TO_THE_END, paris, ("QQQ", "XPAR", BEGIN, date(2005, 6, 1))) == {2005: 1}


def test_survivors_count_members_of_mid_year_and_those_that_trade_then() -> None:
    known = members(
        ("AAA", date(2000, 1, 1), None),
        ("BBB", date(2000, 1, 1), None),
        ("CCC", date(2000, 1, 1), date(2005, 6, 30)),  # on 2005-06-30 no member any more
        ("LEFT", date(2000, 1, 1), date(2006, 6, 30)),  # nor on 2006-06-30
        ("NEW", date(2005, 6, 30), None),
    )
    found = find_survivors(
        spans(
            TO_THE_END,
            ("BBB", "XNYS", BEGIN, date(2005, 6, 29)),  # trades no more on the day
            ("CCC", "XNYS", BEGIN, END),
            ("NEW", "XNYS", date(2005, 6, 30), END),
        ),
        known,
    )
    assert [(year.members_on, year.members_held, year.members) for year in found.years] == [
        (date(2004, 6, 30), 3, 4),  # A, B, C of A, B, C, LEFT
        (date(2005, 6, 30), 2, 4),  # A, NEW of A, B, LEFT, NEW
        (date(2006, 6, 30), 2, 3),  # A, NEW of A, B, NEW
    ]
    assert [year.share_held for year in found.years] == [0.75, 0.5, pytest.approx(2 / 3)]
    assert found.words == (
        "1 of 4 symbols of this panel stops trading before the panel ends, and it holds 2 of 4 members of 2005, "
        "the lowest share of all years"
    )
    assert found.qualification == f"among the members held only: {found.words}"


def test_members_on_is_a_weekday_within_the_panel() -> None:
    # 2007-06-30 is a Saturday. The panel begins after it in 2004 and ends before it in 2008.
    found = find_survivors(spans(("AAA", "XNYS", date(2004, 9, 1), date(2008, 2, 7))))
    days = [year.members_on for year in found.years]
    assert days == [
        date(2004, 9, 1), date(2005, 6, 30), date(2006, 6, 30), date(2007, 6, 29), date(2008, 2, 7),
    ]  # fmt: skip
    assert all(year.members is None and year.share_held is None for year in found.years)


def test_members_held_include_a_bar_that_is_a_session_late() -> None:
    known = members(("AAA", BEGIN, None), ("BBB", BEGIN, None))
    rows = spans(("AAA", "XNYS", BEGIN, date(2005, 2, 8)), ("BBB", "XNYS", BEGIN, date(2005, 2, 7)))
    assert find_survivors(rows, known).years[-1].members_held == 2


def test_survivors_of_a_panel_without_endings_qualify_a_verdict() -> None:
    alone = find_survivors(spans(TO_THE_END))
    assert alone.sentence == "Survivors: no symbol of this panel stops trading before the panel ends."
    assert alone.qualification == (
        "among survivors only: no symbol of this panel stops trading before the panel ends"
    )
    whole = find_survivors(spans(TO_THE_END), members(("AAA", BEGIN, None)))
    assert whole.words.endswith("panel ends, and it holds every member of each year")
    assert not whole.lacks_members
    # A single year is the lowest of none.
    short = spans(("AAA", "XNYS", BEGIN, date(2004, 8, 2)))
    part = find_survivors(short, members(("AAA", BEGIN, None), ("ZZZ", BEGIN, None)))
    assert part.words.endswith("panel ends, and it holds 1 of 2 members of 2004")


def test_survivors_of_years_without_memberships_have_none() -> None:
    known = members(("AAA", date(2006, 1, 1), None))
    for nobody in (None, known.clear()):
        assert not find_survivors(spans(TO_THE_END), nobody).to_json()["memberships_known"]
    found = find_survivors(spans(TO_THE_END), known)
    assert [year.members for year in found.years] == [None, None, 1]
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["memberships_known"]
    assert written["by_year"][0] == {
        "year": 2004, "symbols": 1, "ended": 0, "members_on": "2004-06-30", "members": None, "members_held": None,
        "share_held": None,
    }  # fmt: skip
    assert written["by_year"][2]["share_held"] == 1.0
    assert (written["symbols"], written["ended"], written["sessions_to_end"]) == (1, 0, 20)
    assert written["sentence"] == found.sentence


def test_survivors_of_a_panel_without_members_say_so() -> None:
    found = Survivors(1, 0, BEGIN, END, (PanelYear(2004, 1, 0, BEGIN, 5, 0),))
    assert found.poorest_year is not None
    assert found.words.endswith("it holds 0 of 5 members of 2004")


def test_survivors_of_no_symbol_are_an_error() -> None:
    with pytest.raises(NotEnoughHistoryError, match="found none"):
        find_survivors(spans())


def test_panel_spans() -> None:
    panel = pl.DataFrame(
        {"symbol": ["B", "A", "A"], "session": [END, BEGIN, END], "exchange": ["XPAR", "XNYS", "XNYS"]}
    )
    assert panel_spans(panel).rows() == [("A", "XNYS", BEGIN, END), ("B", "XPAR", END, END)]
    assert panel_spans(panel.drop("exchange")).rows() == [("A", None, BEGIN, END), ("B", None, END, END)]


DAYS = st.integers(0, 1000).map(lambda days: BEGIN + timedelta(days=days))


@given(st.lists(st.tuples(DAYS, DAYS), min_size=1, max_size=8))
def test_survivors_of_all_years_sum_to_the_endings(pairs: list[tuple[date, date]]) -> None:
    rows: list[Span] = [(f"S{place}", "XNYS", min(pair), max(pair)) for place, pair in enumerate(pairs)]
    found = find_survivors(spans(*rows))
    assert sum(year.ended for year in found.years) == found.ended < found.symbols
    # In steps of a calendar: 20 sessions never take more than 34 days here, and 21 never less than 28.
    newest = max(last for *_, last in rows)
    late = [(newest - last).days for *_, last in rows]
    assert sum(days > 34 for days in late) <= found.ended <= sum(days > 27 for days in late)


def test_survivors_of_the_s_and_p_panel_hold_276_of_496_members_of_2005() -> None:
    # Both shares are given with the data; no symbol of this panel ends.
    prices, listed = (
        shared_file(name) for name in ("data/us_sp500_members_2000_2016.parquet", "data/sp500_members.csv")
    )
    panel = pl.read_parquet(prices, columns=["symbol", "date"]).select(
        "symbol", session=pl.col("date").cast(pl.Date)
    )
    known = pl.read_csv(listed).select(
        symbol="ticker",
        member_from=pl.col("start_date").str.to_date(),
        member_until=pl.col("end_date").str.to_date(),
    )
    found = find_survivors(panel_spans(panel), known)
    held = {year.year: (year.members_held, year.members) for year in found.years}
    assert held[2005] == (276, 496)
    assert held[2014] == (376, 498)
    assert (found.symbols, found.ended) == (644, 0)
