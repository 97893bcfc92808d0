from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.portfolio.benchmark import (
    NO_BENCHMARK,
    benchmark_coverage,
    covered_sessions,
    unknown_benchmark,
)
from boursomatic_assets.core.portfolio.books import index_book
from boursomatic_assets_tests.support.strategies import weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

D = weekdays(12)


def index_on(places: Sequence[int], closes: Sequence[float | None] | None = None) -> pl.DataFrame:
    """An index with a bar at some of the weekdays."""
    values = closes or [100.0 + place for place in places]
    return pl.DataFrame(
        {"session": [D[place] for place in places], "close": values}, schema_overrides={"close": pl.Float64}
    )


@pytest.mark.parametrize(
    ("symbol", "known", "found"),
    [
        ("SPX", ["SPY", "AAPL", "MSFT"], "among 3 symbols that have (near it: SPY): add its bars"),
        ("ZZZ", ["AAPL"], "among 1 symbols that have: add its bars"),
        ("SPY", [], "among 0 symbols that have: add its bars"),
        # small letters
        ("spy", ["SPY", "AAPL"], "among 2 symbols that have (near it: SPY): add its bars"),
    ],
)
def test_unknown_benchmark_names_similar_symbols_and_the_remedy(symbol: str, known: list[str], found: str) -> None:
    assert unknown_benchmark(symbol, known, "add its bars") == f"the benchmark '{symbol}' has no bars, {found}"


def test_benchmark_coverage_of_all_sessions() -> None:
    assert benchmark_coverage("SPY", index_on(range(12)), D[1:11]) == {
        "symbol": "SPY", "first": str(D[1]), "last": str(D[10]), "sessions": 10, "covered": 10,
        "before_its_first": 0, "after_its_last": 0, "without_bar": 0, "sentence": "SPY covers 10 of 10 sessions",
    }  # fmt: skip


def test_benchmark_coverage_names_what_is_missing() -> None:
    # Sessions 0 to 11; bars at 3, 4, 7, 8. The first return is that of 4; compared are 4 to 8, where 5 and 6 have
    # no bar; before lie 0 to 3, after 9 to 11.
    found = benchmark_coverage("SPY", index_on([3, 4, 7, 8]), D)
    assert (found["first"], found["last"], found["covered"], found["sessions"]) == (str(D[4]), str(D[8]), 5, 12)
    assert (found["before_its_first"], found["after_its_last"], found["without_bar"]) == (4, 3, 2)
    assert found["sentence"] == (
        "SPY covers 5 of 12 sessions: 4 before it has a return and not compared, 3 after its last bar and not "
        "compared, 2 without a bar, whose return comes with its next close"
    )


def test_covered_sessions_begin_with_the_first_close() -> None:
    assert covered_sessions(index_on([0, 1, 2]), D[:3]) == tuple(D[:3])
    assert covered_sessions(index_on([1, 2]), D[:3]) == (D[2],)


@pytest.mark.parametrize(
    ("closes", "bars"),
    [
        (index_on([]), "no bar"),
        (index_on([4, 5], [None, None]), "no bar"),
        (index_on([4]), f"its 1 bars ({D[4]} to {D[4]})"),
        (index_on([0, 1]), f"its 2 bars ({D[0]} to {D[1]})"),
    ],
    ids=["empty", "all null", "one row", "before all sessions"],
)
def test_benchmark_coverage_without_two_closes(closes: pl.DataFrame, bars: str) -> None:
    found = benchmark_coverage("SPY", closes, D[3:])
    undefined = dict.fromkeys(("first", "last", "before_its_first", "after_its_last", "without_bar"))
    assert found == undefined | {
        "symbol": "SPY", "sessions": 9, "covered": 0,
        "sentence": f"SPY is not compared: it has {bars}, and needs two around the 9 sessions",
    }  # fmt: skip


def test_benchmark_coverage_without_a_benchmark_or_its_bars() -> None:
    assert benchmark_coverage(None, None, D)["sentence"] == NO_BENCHMARK
    assert benchmark_coverage("SPY", None, D)["sentence"] == "nobody looked at the bars of SPY"


@given(st.sets(st.integers(0, 11), min_size=2))
def test_index_book_wealth_is_that_of_its_closes(places: set[int]) -> None:
    known = sorted(places)
    book = index_book(index_on(known), D)
    assert book.sessions == covered_sessions(index_on(known), D)
    # close of the last bar over that of the first, whatever is missing between
    assert np.prod(1 + book.returns) == pytest.approx((100 + known[-1]) / (100 + known[0]), rel=1e-12)
