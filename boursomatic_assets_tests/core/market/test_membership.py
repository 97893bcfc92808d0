from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.label_audit import forgotten_members, non_members
from boursomatic_assets.core.market.membership import (
    MEMBER_SCHEMA,
    check_members,
    require_members,
    within_membership,
)
from boursomatic_assets.errors import NotEnoughHistoryError, PanelContractError
from boursomatic_assets_tests.support.strategies import MONDAY, SYMBOLS, weekdays

NO_MEMBERS = pl.DataFrame(schema=MEMBER_SCHEMA)
DAYS = weekdays(5)


def members(*rows: tuple[str | None, date | None, date | None]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=MEMBER_SCHEMA, orient="row")


def panel(*symbols: str, days: list[date] = DAYS) -> pl.DataFrame:
    rows = [(symbol, day, number) for symbol in symbols for number, day in enumerate(days)]
    return pl.DataFrame(rows, schema=["symbol", "session", "number"], orient="row")


@pytest.mark.parametrize(
    ("known", "rows"),
    [
        # AAA: the 2nd and 3rd day; BBB: from the 3rd on; CCC was never a member.
        ([("AAA", 1, 3), ("BBB", 2, None)], [("AAA", 1), ("AAA", 2), ("BBB", 2), ("BBB", 3), ("BBB", 4)]),
        # left and came back
        ([("AAA", 0, 1), ("AAA", 3, 4)], [("AAA", 0), ("AAA", 3)]),
        # overlapping rows give each session once
        ([("AAA", 0, 3), ("AAA", 1, None)], [("AAA", number) for number in range(5)]),
    ],
)
def test_within_membership_by_hand(known: list[tuple[str, int, int | None]], rows: list[tuple[str, int]]) -> None:
    spans = ((symbol, DAYS[first], None if until is None else DAYS[until]) for symbol, first, until in known)
    found = within_membership(panel("AAA", "BBB", "CCC"), members(*spans))
    assert found.select("symbol", "number").rows() == rows


def test_within_membership_without_a_list_keeps_everything() -> None:
    everything = panel("AAA", "BBB")
    assert within_membership(everything, NO_MEMBERS).equals(everything)
    assert within_membership(everything.clear(), members(("AAA", DAYS[0], None))).is_empty()


def test_within_membership_without_a_match_says_what_it_compared() -> None:
    with pytest.raises(NotEnoughHistoryError, match="2018-01-01 to 2018-01-05") as caught:
        within_membership(panel("AAA"), members(("aaa", DAYS[0], None), ("BBB", DAYS[0], None)))
    assert "names 2 symbols, and none of the 1 symbols" in str(caught.value)
    assert "boursomatic universe members list" in str(caught.value)


@st.composite
def memberships(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from(SYMBOLS), st.integers(0, 12), st.none() | st.integers(1, 9)),
            min_size=1,
            max_size=8,
        )
    )
    day = timedelta(days=1)
    return members(
        *(
            (symbol, MONDAY + first * day, None if length is None else MONDAY + (first + length) * day)
            for symbol, first, length in rows
        )
    )


@given(memberships())
def test_within_membership_agrees_with_a_loop(known: pl.DataFrame) -> None:
    everything = panel(*SYMBOLS, days=weekdays(10))
    inside = [
        row
        for row in everything.rows()
        if any(
            symbol == row[0] and first <= row[1] and (until is None or row[1] < until)
            for symbol, first, until in known.iter_rows()
        )
    ]
    if inside:
        assert within_membership(everything, known).rows() == inside
    outside = [row[:2] for row in everything.rows() if row not in inside]
    # The check, which is written without the filter's code, finds the other rows.
    assert non_members(everything, known).rows() == outside


def test_membership_audits_without_a_list_find_nothing() -> None:
    assert non_members(panel("AAA"), NO_MEMBERS).is_empty()
    spans = pl.DataFrame({"symbol": ["AAA"], "first": [DAYS[0]], "last": [DAYS[4]]})
    assert forgotten_members(panel("BBB"), NO_MEMBERS, spans) == []


def test_forgotten_members_had_prices_in_their_time() -> None:
    known = members(
        ("AAA", DAYS[0], DAYS[2]),
        # Its prices begin on the day on which it left.
        ("BBB", DAYS[0], DAYS[2]),
        # It joined after its last price.
        ("CCC", DAYS[3], None),
        ("DDD", DAYS[1], None),
        ("EEE", DAYS[0], None),
    )
    spans = pl.DataFrame(
        {
            "symbol": ["AAA", "BBB", "CCC", "DDD"],
            "first": [DAYS[0], DAYS[2], DAYS[0], DAYS[0]],
            "last": [DAYS[4], DAYS[4], DAYS[2], DAYS[1]],
        }
    )
    assert forgotten_members(panel("DDD"), known, spans) == ["AAA"]
    assert forgotten_members(panel("FFF"), known, spans) == ["AAA", "DDD"]


def numbered(*rows: tuple[str | None, date | None, date | None]) -> pl.DataFrame:
    return members(*rows).with_row_index("line", offset=2).with_columns(pl.col("line").cast(pl.Int64))


def test_check_members_names_each_invalid_row_and_its_line() -> None:
    problems = check_members(
        numbered(
            (None, DAYS[0], None),
            ("AAA", None, None),
            ("BBB", DAYS[1], DAYS[1]),
            ("CCC", DAYS[0], DAYS[2]),
            ("CCC", DAYS[1], DAYS[3]),
            ("DDD", DAYS[3], None),
            ("DDD", DAYS[0], None),
            ("EEE", DAYS[0], DAYS[2]),
            ("EEE", DAYS[2], None),
        )
    )
    assert problems == [
        "line 2: the symbol is missing",
        "line 3: AAA has no member_from; expected a date such as 2018-06-26",
        "line 4: BBB leaves on 2018-01-02, not after 2018-01-02, when it joined",
        "line 6: CCC joins on 2018-01-02, and belongs already, until 2018-01-03, by line 5",
        "line 7: DDD joins on 2018-01-04, and belongs already, without an end, by line 8",
    ]


def test_require_members_stops_at_an_invalid_or_empty_list() -> None:
    require_members(numbered(("AAA", DAYS[0], DAYS[2]), ("AAA", DAYS[2], None)), "sound.csv")
    with pytest.raises(PanelContractError, match=r"mine\.csv cannot be used") as caught:
        require_members(numbered((None, DAYS[0], None), ("AAA", None, None)), "mine.csv")
    assert "line 2" in str(caught.value)
    assert "line 3" in str(caught.value)
    with pytest.raises(PanelContractError, match="it has no rows"):
        require_members(numbered(), "empty.csv")
