from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.evaluation.price_moves import close_ratios, suspect_growth, suspect_moves
from boursomatic_assets_tests.support.oracles import shared_file
from boursomatic_assets_tests.support.strategies import weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

D, TIMES = weekdays(400), "\N{MULTIPLICATION SIGN}"


def closes_of(closes: Sequence[float | None], symbol: str = "A", explained: Sequence[int] = ()) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "symbol": [symbol] * len(closes),
            "session": D[: len(closes)],
            "close": closes,
            "explained": [place in explained for place in range(len(closes))],
        },
        schema_overrides={"close": pl.Float64, "symbol": pl.String, "session": pl.Date, "explained": pl.Boolean},
    )


def test_suspect_moves_take_a_price_and_its_return_for_one_impossible_move() -> None:
    # 10 -> 860 -> 10.2: x86, then 10.2 / 860 = 0.01186; 10.2 is within a factor of two of 10
    (move,) = suspect_moves(closes_of([10, 10, 860, 10.2, 10.1], "ENGI.PA"))
    assert (move.symbol, move.session, move.ratio) == ("ENGI.PA", D[2], 86.0)
    assert (move.back_on, move.back_ratio) == (D[3], pytest.approx(10.2 / 860, rel=1e-12))
    assert not move.possible
    assert str(move) == f"ENGI.PA {D[2]} {TIMES}86 (back on {D[3]})"


def test_suspect_moves_find_a_missed_reverse_split() -> None:
    # 0.5 -> 10.5: twenty times, and 5 % on the day
    (move,) = suspect_moves(closes_of([0.5, 0.5, 10.5, 10.4]))
    assert (move.ratio, move.back_on, move.back_ratio, move.possible) == (21.0, None, None, False)


@pytest.mark.parametrize(
    ("closes", "ratio"),
    [
        # HealthSouth, 2003-03-26: trading resumed at 11 cents
        ([3.91, 0.11], 0.11 / 3.91),
        # Lehman, 2008-09-15
        ([3.65, 0.21], 0.21 / 3.65),
        # Kodak, 2020-07-29
        ([7.94, 33.2], 33.2 / 7.94),
    ],
)
def test_suspect_moves_take_known_extremes_for_possible(closes: list[float], ratio: float) -> None:
    (move,) = suspect_moves(closes_of(closes))
    assert move.possible
    assert move.ratio == pytest.approx(ratio, rel=1e-12)


@pytest.mark.parametrize(
    "closes",
    [
        # earnings, a squeeze that doubles, March 2020, the exact bounds
        [100, 70], [10, 20, 21], [100, 88, 97, 87], [100, 25], [10, 40], [10], [],
    ],
)  # fmt: skip
def test_suspect_moves_pass_what_markets_do(closes: list[float]) -> None:
    assert suspect_moves(closes_of(closes)) == []


def test_suspect_moves_undone_within_five_bars_are_impossible() -> None:
    # x5 and back after five bars; the same after six
    soon, late = [10.0, *[50.0] * 5, 10.0], [10.0, *[50.0] * 6, 10.0]
    assert [(move.back_on, move.possible) for move in suspect_moves(closes_of(soon))] == [(D[6], False)]
    assert [(move.back_on, move.possible) for move in suspect_moves(closes_of(late))] == [(D[7], True)]


def test_suspect_moves_tell_a_later_move_from_one_that_is_undone() -> None:
    # 100 -> 1 -> 100 -> 20
    first, second = suspect_moves(closes_of([100, 1, 100, 100, 20]))
    assert (first.ratio, first.back_on) == (0.01, D[2])
    assert (second.ratio, second.back_on) == (0.2, None)
    assert str(second) == f"A {D[4]} -80 %"


def test_suspect_moves_tell_two_missed_splits_apart() -> None:
    # 1 -> 20 -> 100: neither undoes the other
    moves = suspect_moves(closes_of([1, 20, 100]))
    assert [(move.ratio, move.back_on) for move in moves] == [(20, None), (5, None)]


def test_suspect_moves_leave_out_explained_ones() -> None:
    assert suspect_moves(closes_of([1, 20, 20], explained=[1])) == []
    assert len(suspect_moves(closes_of([1, 20, 400], explained=[1]))) == 1


def test_close_ratios_leave_out_closes_that_are_no_prices() -> None:
    panel = pl.concat([closes_of([1, None, 0, float("nan"), 1.1], "A"), closes_of([900, 901], "B")])
    assert suspect_moves(panel) == []
    assert close_ratios(panel)["ratio"].to_list() == [None, pytest.approx(1.1), None, pytest.approx(901 / 900)]


def test_move_is_strict_json() -> None:
    (move,) = suspect_moves(closes_of([1, 20]))
    assert move.to_json() == {
        "symbol": "A", "session": str(D[1]), "ratio": 20.0, "back_on": None, "back_ratio": None, "possible": False,
    }  # fmt: skip


def test_suspect_growth_is_a_hundredfold_within_a_year_unless_explained() -> None:
    # 60 sessions at 9 % each: 1.09^59 = 161.6 > 100; at 8 %: 93.8
    assert suspect_growth(closes_of([1.09**day for day in range(60)])).rows() == [
        ("A", D[0], D[59], pytest.approx(1.09**59, rel=1e-9))
    ]
    assert suspect_growth(closes_of([1.08**day for day in range(60)])).is_empty()
    jumped = [1.0, *[150.0] * 9]
    assert suspect_growth(closes_of(jumped)).height == 1
    assert suspect_growth(closes_of(jumped, explained=[1])).is_empty()
    assert suspect_growth(closes_of([])).is_empty()


@given(st.lists(st.floats(0.26, 3.9), max_size=40))
def test_suspect_moves_within_the_bounds_are_none(ratios: list[float]) -> None:
    path = [1.0]
    for ratio in ratios:
        path.append(path[-1] * ratio)
    assert suspect_moves(closes_of(path)) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("us_sp500_2013_2018", []),
        ("europe_1989_2017", []),
        ("benchmarks_to_2018", []),
        # HealthSouth's fraud was real; EP is the ticker of a company that left in 2012, and of another one since.
        ("us_sp500_members_2000_2016", [("EHC", "2003-03-26", 0.028, True), ("EP", "2014-03-07", 5.091, True)]),
    ],
)
def test_suspect_moves_of_real_panels_are_known(name: str, found: list[tuple[str, str, float, bool]]) -> None:
    bars = pl.read_parquet(shared_file(f"data/{name}.parquet")).rename({"date": "session"})
    closes = bars.select("symbol", pl.col("session").cast(pl.Date), "close")
    moves = [
        (move.symbol, str(move.session), round(move.ratio, 3), move.possible) for move in suspect_moves(closes)
    ]
    assert moves == found
    assert suspect_growth(closes).is_empty()
