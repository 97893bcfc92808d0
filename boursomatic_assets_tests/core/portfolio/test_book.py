from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.measures.performance import max_drawdown
from boursomatic_assets.core.portfolio.book import TrancheBook, positions, trades, tranche_book
from boursomatic_assets.errors import PanelContractError
from boursomatic_assets_tests.support.oracles import slow_tranche_book
from boursomatic_assets_tests.support.strategies import (
    bar_panels,
    flat_bars,
    random_walk_bars,
    weekdays,
    with_other_future,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn

    from boursomatic_assets.core.portfolio.tranches import Legs

D = weekdays(30)


def calls_of(*calls: tuple[str, int]) -> pl.DataFrame:
    """Calls as symbol and number of the session whose close makes them."""
    rows = [(symbol, D[number]) for symbol, number in calls]
    return pl.DataFrame(rows, schema={"symbol": pl.String, "session": pl.Date}, orient="row")


def book_of(
    *calls: tuple[str, int], horizon: int = 2, cost_bps: float = 0.0, **closes: Sequence[float | None]
) -> TrancheBook:
    return tranche_book(calls_of(*calls), flat_bars(closes), horizon, cost_bps)


def assert_close(values: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-15)


BY_HAND: dict[str, tuple[list[tuple[str, int]], int, float, dict[str, Any], dict[str, list[float]]]] = {
    # Called at 0, filled at 1 in halves; half of the capital is in this tranche (horizon 2).
    # At 2 A doubles: 0.5 x 2 + 0.5 x 1 = 1.5, +50 %, the book half of it.
    # At 3 B doubles: 0.5 x 2 + 0.5 x 2 = 2.0, 2.0 / 1.5 - 1 = +1/3, the book 1/6; rebalanced it would be +1/2.
    # 100 basis points of what is traded: half of the capital in at 1 and out at 3
    "weights drift and trades cost": (
        [("A", 0), ("B", 0)], 2, 100, {"A": [10, 10, 20, 20, 20], "B": [10, 10, 10, 20, 20]},
        {"gross": [0, 0.25, 1 / 6], "turnover": [0.5, 0, 0.5], "returns": [-0.005, 0.25, 1 / 6 - 0.005]},
    ),
    # A doubles from 0 to 1, before the fill, and again from 3 to 4, after the exit
    "before the fill and after the exit": ([("A", 0)], 2, 0, {"A": [10, 20, 20, 20, 40]}, {"returns": [0, 0, 0]}),
    # filled at 1, sold at the close of 3: the rise into 3 is earned, the one into 4 is not
    "exit": (
        [("A", 0)], 2, 0, {"A": [10, 10, 10, 15, 30]}, {"returns": [0, 0, 0.25], "exposure": [0, 0.5, 0.5]},
    ),
    # Horizon 2, called at 0, 1 and 2, filled at 1, 2 and 3. Doubling at 2 finds one tranche of two invested, at 3
    # both, at 4 both; at 5 only the one filled at 3, sold then. In at 1 and at 2; at 3 the same name leaves and
    # enters, nothing is traded; out at 4 and at 5.
    "tranches in turn": (
        [("A", 0), ("A", 1), ("A", 2)], 2, 0, {"A": [10, 10, 20, 40, 80, 160, 160]},
        {"returns": [0, 0.5, 1, 1, 0.5], "exposure": [0, 0.5, 1, 1, 0.5], "turnover": [0.5, 0.5, 0, 0.5, 0.5]},
    ),
    # Horizon 1: filled in halves at 1, A doubles: 2/3 and 1/3 at 2, back to halves: 1/6 + 1/6 traded. Out at 3.
    "only the difference is traded": (
        [("A", 0), ("B", 0), ("A", 1), ("B", 1)], 1, 0, {"A": [10, 10, 20, 20], "B": [10, 10, 10, 10]},
        {"turnover": [1, 1 / 3, 1], "returns": [0, 0.5, 0]},
    ),
    # Horizon 1: A in at 1, at 2 A out and B in, at 3 B out
    "other names": (
        [("A", 0), ("B", 1)], 1, 10, {"A": [10] * 4, "B": [10] * 4},
        {"turnover": [1, 2, 1], "returns": [-0.001, -0.002, -0.001]},
    ),
    # Horizon 1, called at 0 and 2 but not at 1: invested from 1 to 2 and from 3 to 4, in cash from 2 to 3.
    # 20/10 - 1 = 1; nothing of 40/20; 60/40 - 1 = 0.5; each session trades once, at 1 %
    "cash in a session without calls": (
        [("A", 0), ("A", 2)], 1, 100, {"A": [10, 10, 20, 40, 60]},
        {"exposure": [0, 1, 0, 1], "turnover": [1] * 4, "returns": [-0.01, 1 - 0.01, -0.01, 0.5 - 0.01]},
    ),
    # Horizon 2: two names called at 0, one at 1. At 3 A is +20 %, B 0 %, C +50 %:
    # the first tranche has +10 %, the second +50 %; the book (0.10 + 0.50) / 2.
    "mean over tranches": (
        [("A", 0), ("B", 0), ("C", 1)], 2, 0, {"A": [10, 10, 10, 12, 12], "B": [7] * 5, "C": [4, 4, 4, 6, 6]},
        {"returns": [0, 0, 0.3, 0]},
    ),
    # A rises 20 % at 2 and never trades again: its tranche, a third of the capital, stands still and leaves at 4
    "stopped": (
        [("A", 0)], 3, 100, {"A": [10, 10, 12, None, None, None], "B": [5] * 6},
        {"returns": [-0.01 / 3, 0.2 / 3, 0, -0.01 / 3], "exposure": [0, 1 / 3, 1 / 3, 1 / 3]},
    ),
    # At 3, A at its last 12 and B doubled: (1.2 + 2) / (1.2 + 1) - 1 = 1 / 2.2, a third of it for the book
    "beside a stopped one": (
        [("A", 0), ("B", 0)], 3, 0, {"A": [10, 10, 12, None, None], "B": [5, 5, 5, 10, 10]},
        {"returns": [0, 0.1 / 3, 1 / 2.2 / 3, 0]},
    ),
    # Horizon 3, called at 0 and 1, filled at 1 and 2; the data end at 3, before either leaves. The third tranche
    # would be filled at 3, the last session: no fill. At 2 the first tranche doubles; at 3 both rise by a half.
    "open at the end of the data": (
        [("A", 0), ("A", 1), ("A", 2)], 3, 100, {"A": [10, 10, 20, 30]},
        {
            "turnover": [1 / 3, 1 / 3, 2 / 3],
            "returns": [-0.01 / 3, 1 / 3 - 0.01 / 3, 0.5 * 2 / 3 - 0.02 / 3],
        },
    ),
    # Horizon 2: filled at 1, leaves at 3, where the data end
    "leaves as the data end": ([("A", 0)], 2, 0, {"A": [10] * 4}, {"turnover": [0.5, 0, 0.5]}),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND.values(), ids=BY_HAND)
def test_tranche_book_by_hand(
    case: tuple[list[tuple[str, int]], int, float, dict[str, Any], dict[str, Any]],
) -> None:
    calls, horizon, cost_bps, paths, expected = case
    book = book_of(*calls, horizon=horizon, cost_bps=cost_bps, **paths)
    for name, values in expected.items():
        assert_close(getattr(book, name), values)
        assert book.sessions == tuple(D[1 : len(values) + 1])


def test_tranche_book_never_fills_in_its_last_session() -> None:
    book = book_of(("A", 2), horizon=2, cost_bps=10, A=[10, 10, 10, 20])
    assert book.sessions == (D[3],)
    assert_close(book.returns, [0])
    assert_close(book.turnover, [0])


@pytest.mark.parametrize(
    ("calls", "horizon", "path", "returns", "exits"),
    [
        # rises 20 % at 2 and never trades again: its tranche, a third of the capital, stands still and leaves at 4
        ([0], 3, [10, 10, 12, None, None, None], [0, 0.2 / 3, 0, 0], 1),
        # filled at 1, sold at 3, which is its last bar
        ([0], 2, [10, 10, 10, 20, None, None], [0, 0, 0.5], 0),
        # no bar at 2: worth its last close then, and the whole move at 3
        ([0], 2, [10, 10, None, 20, 20, 20], [0, 0, 0.5], 0),
        # no bar at 3, where the book ends; it trades again at 5
        ([0], 2, [10, 10, 12, None, None, 30], [0, 0.1, 0], 0),
        # called at 0 and 1, filled at 1 and 2, never traded after 2; both would have left later
        ([0, 1], 3, [10, 10, 10, None, None, None], [0, 0, 0, 0, 0], 2),
        # no bar at 1; bought at 2 for 20, it doubles at 3 and stands at 4. From 10 to 20 nothing is earned.
        ([0], 3, [10, None, 20, 40, 40, 40], [0, 0, 1 / 3, 0], 0),
        # no bar at 1, 2 and 3, then 40
        ([0], 2, [10, None, None, None, 40, 40], [0, 0, 0], 0),
        # called on its last bar
        ([1], 2, [10, 20, None, None, None, None], [0, 0, 0], 1),
    ],
    ids=[
        "stops trading", "stops at its exit", "pauses", "trades again later", "two tranches", "late fill",
        "no bar until its exit", "last bar",
    ],
)  # fmt: skip
def test_tranche_book_without_a_bar(
    calls: list[int], horizon: int, path: list[float | None], returns: list[float], exits: int
) -> None:
    book = book_of(*(("A", call) for call in calls), horizon=horizon, A=path, B=[5] * 6)
    assert_close(book.returns, returns)
    assert book.early_exits == exits


@pytest.mark.parametrize("calls", [[("A", 3)], []], ids=["on the last session", "none"])
def test_tranche_book_without_a_possible_fill_is_empty(calls: list[tuple[str, int]]) -> None:
    book = book_of(*calls, horizon=2, cost_bps=10, A=[10, 10, 10, 10])
    assert book.sessions == ()
    assert book.returns.shape == book.turnover.shape == book.exposure.shape == (0,)
    assert book.early_exits == 0


def test_tranche_book_ignores_repeated_calls_and_other_instruments() -> None:
    paths = {"A": [10, 11, 12, 13, 14, 15], "B": [10, 9, 8, 7, 6, 5]}
    calls = [("A", 0), ("B", 1)]
    alone = book_of(*calls, A=paths["A"], B=paths["B"])
    np.testing.assert_array_equal(book_of(*calls, calls[0], A=paths["A"], B=paths["B"]).returns, alone.returns)
    beside = book_of(*calls, A=paths["A"], B=paths["B"], C=[1, 100, 1, 100, 1, 100])
    np.testing.assert_array_equal(beside.returns, alone.returns)


@pytest.mark.parametrize(
    ("symbol", "session"),
    [("A", date(2018, 1, 6)), ("A", D[25]), ("A", date(2017, 12, 29)), ("A", D[3]), ("Z", D[0])],
    ids=["a weekend inside", "after the last", "before the first", "a session of others", "an unknown symbol"],
)
def test_tranche_book_refuses_a_call_without_a_close(symbol: str, session: date) -> None:
    calls = pl.DataFrame({"symbol": [symbol, "A"], "session": [session, D[0]]})
    closes = flat_bars({"A": [10.0, 10.0, 10.0, None, 10.0, 10.0], "B": [10.0] * 10})
    with pytest.raises(ValueError, match=str(session)):
        tranche_book(calls, closes, 2, 0.0)


def short_book(*calls: tuple[str, int, int], horizon: int = 2, **closes: Sequence[float | None]) -> TrancheBook:
    """A long-short book of calls as symbol, session's number and side."""
    sided = calls_of(*[(symbol, number) for symbol, number, _ in calls])
    sided = sided.with_columns(side=pl.Series([side for *_, side in calls], dtype=pl.Int64))
    return tranche_book(sided, flat_bars(closes), horizon, 0.0, legs="long_short")


@pytest.mark.parametrize(
    ("calls", "horizon", "paths", "expected"),
    [
        # Horizon 1, filled at 1: +1/2 A, -1/2 B. At 2 A is +20 %, B -10 %: 1 + 0.5 x 0.2 + 0.5 x 0.1 = 1.15.
        # Worth 0.6 and -0.45 of 1.15 then, which is what is traded to close.
        (
            [("A", 0, 1), ("B", 0, -1)], 1, {"A": [10, 10, 12, 12], "B": [10, 10, 9, 9]},
            {"gross": [0, 0.15], "turnover": [1, 1.05 / 1.15], "exposure": [0, 1]},
        ),
        # Horizon 2, half of the capital. At 2 A doubles: wealth 1 + 0.5 = 1.5, the book +0.25; A is worth 1.0, B
        # -0.5: exposure 1.5 / 1.5 = 1, half of it. At 3 B doubles: wealth 1.5 - 0.5 = 1.0, 1.0 / 1.5 - 1 = -1/3,
        # book -1/6. Closed at 3: A worth 1.0, B -1.0, over a wealth of 1.0; half of it
        (
            [("A", 0, 1), ("B", 0, -1)], 2, {"A": [10, 10, 20, 20, 20], "B": [10, 10, 10, 20, 20]},
            {"gross": [0, 0.25, -1 / 6], "exposure": [0, 0.5, 0.5], "turnover": [0.5, 0, 1]},
        ),
        # Filled at 1: B doubles at 2: wealth 1 - 0.5 = 0.5, A 0.5 and B -1.0: 1.5 / 0.5 = 3 over session 3, half of
        # it.
        (
            [("A", 0, 1), ("B", 0, -1)], 2, {"A": [10] * 5, "B": [10, 10, 20, 20, 20]},
            {"exposure": [0, 0.5, 1.5], "gross": [0, -0.25, 0]},
        ),
        # Horizon 1: half of the capital in A, which rises 20 %; the other half is cash
        ([("A", 0, 1)], 1, {"A": [10, 10, 12, 12]}, {"gross": [0, 0.1], "exposure": [0, 0.5]}),
        ([("A", 0, -1)], 1, {"A": [10, 10, 12, 12]}, {"gross": [0, -0.1], "exposure": [0, 0.5]}),
        # 1 - 0.5 x (30 / 10 - 1) = 0: losing exactly all is ruin
        ([("A", 0, 1), ("B", 0, -1)], 1, {"A": [10] * 3, "B": [10, 10, 30]}, {"gross": [0, -1], "ruined": 1}),
    ],
    ids=["both sides", "drift", "losing shorts", "longs only", "shorts only", "ruin"],
)  # fmt: skip
def test_long_short_book_by_hand(
    calls: list[tuple[str, int, int]], horizon: int, paths: dict[str, Any], expected: dict[str, Any]
) -> None:
    book = short_book(*calls, horizon=horizon, **paths)
    for name, values in expected.items():
        assert_close(getattr(book, name), values)


def test_long_short_book_weights_are_equal_within_a_side() -> None:
    # Horizon 1: A and B a quarter each, C minus a half. At 2: 0.25 x 0.2 + 0.25 x 0 - 0.5 x 0.1 = 0
    book = short_book(
        ("A", 0, 1), ("B", 0, 1), ("C", 0, -1), horizon=1, A=[10, 10, 12], B=[10, 10, 10], C=[10, 10, 11]
    )
    assert_close(book.gross, [0, 0])
    found = positions(book).filter(pl.col("session") == D[1])
    assert found["weight"].to_list() == [0.25, 0.25, -0.5]


def test_long_book_ignores_calls_to_sell() -> None:
    calls = calls_of(("A", 0), ("B", 0)).with_columns(side=pl.Series([1, -1]))
    closes = flat_bars({"A": [10, 10, 12, 12], "B": [10, 10, 20, 20]})
    alone = tranche_book(calls.head(1), closes, 1, 10.0)
    np.testing.assert_array_equal(tranche_book(calls, closes, 1, 10.0).returns, alone.returns)


def test_long_short_book_closes_a_ruined_tranche_at_zero() -> None:
    # Horizon 2: B is short with a half and rises from 10 to 40 at 2: 1 - 0.5 x 3 = -0.5, closed at 0: the tranche
    # loses all, the book half. That it falls back at 3 does not count. Nothing is left to trade at 3.
    book = short_book(("A", 0, 1), ("B", 0, -1), A=[10] * 5, B=[10, 10, 40, 10, 10])
    assert_close(book.gross, [0, -0.5, 0])
    assert_close(book.turnover, [0.5, 0, 0])
    assert_close(book.exposure, [0, 0.5, 0])
    assert book.ruined == 1
    assert positions(book)["session"].unique().to_list() == [D[1]]
    assert trades(book)["session"].unique().to_list() == [D[1]]


def test_net_return_is_at_least_minus_one() -> None:
    # All in at 1 and nothing earned: 10,000 basis points are the capital, 20,000 would be twice that
    book = book_of(("A", 0), horizon=1, A=[10] * 4)
    assert book.net(10_000).tolist() == [-1, -1]
    assert book.net(20_000).tolist() == [-1, -1]
    assert book.net(0).tolist() == [0, 0]


def test_long_short_book_nets_opposite_tranches_at_its_close() -> None:
    # Horizon 2, A bought at 1 and sold short at 2, prices flat: at 3, where the data end, both tranches close.
    # +1/2 and -1/2 of half of the capital each: nothing.
    book = short_book(("A", 0, 1), ("A", 1, -1), A=[10] * 4)
    assert_close(book.turnover, [0.25, 0.25, 0])
    # held: a quarter after 1, nothing after 2
    assert positions(book).rows() == [(D[1], "A", 0.25)]
    assert trades(book).rows() == [(D[1], "A", 0.25, 10.0), (D[2], "A", -0.25, 10.0)]


@pytest.mark.parametrize("sides", [[1, -1], [0, 1], [2, -1], [None, 1]], ids=["both", "none", "twofold", "unknown"])
def test_tranche_book_refuses_a_call_on_both_sides_or_none(sides: list[int | None]) -> None:
    calls = calls_of(("A", 0), ("A", 0)).with_columns(side=pl.Series(sides, dtype=pl.Int64))
    with pytest.raises(PanelContractError, match="first 'A' 2018-01-01"):
        tranche_book(calls, flat_bars({"A": [10.0] * 4}), 1, 0.0, legs="long_short")


def test_exits_have_their_fill_and_last_bar() -> None:
    # called at 0 and 1, filled at 1 and 2, never traded after 2; B trades on
    book = book_of(("A", 0), ("B", 0), ("A", 1), horizon=3, A=[10, 10, 10, None, None, None], B=[5] * 6)
    assert book.exits.rows() == [("A", D[1], D[2]), ("A", D[2], D[2])]


def test_tranche_book_spans_sessions_without_calls() -> None:
    # Calls could come from 0 to 3, one came at 2: cash at 1 and 2, filled at 3, sold at 4; the last call could have
    # been filled at 4 and sold at 5.
    closes = flat_bars({"A": [10, 10, 10, 10, 20, 20, 20, 20]})
    book = tranche_book(calls_of(("A", 2)), closes, 1, 0.0, span=(D[0], D[3]))
    assert book.sessions == tuple(D[1:6])
    assert_close(book.gross, [0, 0, 0, 1, 0])


def test_tranche_book_with_a_span_but_no_calls_is_cash() -> None:
    book = tranche_book(calls_of(), flat_bars({"A": [10.0] * 8}), 2, 10.0, span=(D[0], D[3]))
    assert book.sessions == tuple(D[1:7])
    assert_close(book.returns, [0] * 6)
    assert_close(book.exposure, [0] * 6)
    assert positions(book).is_empty()
    assert trades(book).is_empty()


def test_positions_are_weights_after_the_trades() -> None:
    # Horizon 2, half of the capital in halves: a quarter each. At 2 A doubles: 2/3 and 1/3 of the tranche.
    book = book_of(("A", 0), ("B", 0), A=[10, 10, 20, 20], B=[10, 10, 10, 10])
    found = positions(book)
    assert found.rows() == [(D[1], "A", 0.25), (D[1], "B", 0.25), (D[2], "A", 1 / 3), (D[2], "B", 1 / 6)]


def test_trades_are_changes_in_weight_at_a_close() -> None:
    # as above: in at 1, out at 3, where they are 3 and 1 of 4, of half of the capital
    book = book_of(("A", 0), ("B", 0), A=[10, 10, 20, 30], B=[10, 10, 10, 10])
    assert trades(book).rows() == [
        (D[1], "A", 0.25, 10.0),
        (D[1], "B", 0.25, 10.0),
        (D[3], "A", -0.375, 30.0),
        (D[3], "B", -0.125, 10.0),
    ]


def test_trades_without_a_bar_take_the_next_or_last_close() -> None:
    # A: no bar at 1, bought at 2 for 20; no bar at 4, where it leaves: the 40 of 3
    book = book_of(("A", 0), horizon=3, A=[10, None, 20, 40, None, 50], B=[5] * 6)
    assert trades(book).select("session", "price").rows() == [(D[1], 20.0), (D[4], 40.0)]


def test_a_book_without_matrices_has_no_positions_or_trades() -> None:
    book = TrancheBook((D[0],), np.zeros(1), np.zeros(1), np.zeros(1))
    assert positions(book).columns == ["session", "symbol", "weight"]
    assert trades(book).columns == ["session", "symbol", "weight_change", "price"]
    assert positions(book).height == trades(book).height == 0


Case = tuple[pl.DataFrame, pl.DataFrame, int, float]


@st.composite
def books(draw: DrawFn) -> Case:
    """Closes, calls on any of their bars, a horizon and a cost."""
    closes = draw(bar_panels(symbols=4, min_sessions=2, max_sessions=15))
    each_bar = st.lists(st.booleans(), min_size=closes.height, max_size=closes.height)
    chosen = draw(each_bar.filter(any), label="called")
    calls = closes.filter(pl.Series(chosen)).select("symbol", "session")
    horizon = draw(st.integers(1, 6), label="horizon")
    return calls, closes, horizon, draw(st.sampled_from([0.0, 10.0, 50.0]), label="cost_bps")


@given(books())
def test_tranche_book_agrees_with_a_slow_implementation(made: Case) -> None:
    book, slow = tranche_book(*made), slow_tranche_book(*made)
    assert list(book.sessions) == slow.sessions
    for ours, theirs in (
        (book.returns, slow.returns),
        (book.turnover, slow.turnover),
        (book.exposure, slow.exposure),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_tranche_book_of_long_walks_agrees_with_a_slow_implementation() -> None:
    closes = random_walk_bars(symbols=10, sessions=120, seed=7)
    calls = closes.sample(fraction=0.2, seed=1).select("symbol", "session")
    book, slow = tranche_book(calls, closes, 20, 10.0), slow_tranche_book(calls, closes, 20, 10.0)
    np.testing.assert_allclose(book.returns, slow.returns, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(book.turnover, slow.turnover, rtol=1e-12, atol=1e-14)


@given(books())
def test_tranche_book_is_finite_and_bounded(made: Case) -> None:
    book = tranche_book(*made)
    assert np.isfinite(book.returns).all()
    assert ((book.exposure >= 0) & (book.exposure <= 1 + 1e-12)).all()
    # a tranche is sold and bought whole at most
    assert ((book.turnover >= 0) & (book.turnover <= 2 + 1e-12)).all()
    assert not len(book.gross) or -1 <= max_drawdown(book.gross) <= 0
    # A book of no session has no drawdown.
    assert not book.sessions or -1 <= max_drawdown(book.returns) <= 0
    # a cost is taken beside the return: it could take more than what a ruined book has left, but for the floor
    net = np.maximum(book.gross - book.turnover * made[3] / 10_000, -1)
    np.testing.assert_allclose(book.returns, net, rtol=0, atol=1e-12)


@st.composite
def sided_books(draw: DrawFn) -> Case:
    """As `books`, each call on one side."""
    calls, *others = draw(books())
    sides = draw(st.lists(st.sampled_from([1, -1]), min_size=calls.height, max_size=calls.height), label="sides")
    return calls.with_columns(side=pl.Series(sides)), *others


@given(sided_books(), st.sampled_from(["long", "long_short"]))
def test_sided_book_agrees_with_a_slow_implementation(made: Case, legs: Legs) -> None:
    book, slow = tranche_book(*made, legs=legs), slow_tranche_book(*made, legs=legs)
    assert list(book.sessions) == slow.sessions
    for ours, theirs in (
        (book.gross, slow.gross),
        (book.returns, slow.returns),
        (book.turnover, slow.turnover),
        (book.exposure, slow.exposure),
    ):
        # A leverage of a thousand magnifies rounding as much.
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)
    for table, slow_weights in ((positions(book), slow.positions), (trades(book), slow.trades)):
        found = {(session, symbol): value for session, symbol, value, *_ in table.rows()}
        expected = {
            (session, symbol): value
            for session, each in zip(slow.sessions, slow_weights, strict=True)
            for symbol, value in each.items()
        }
        for key in found.keys() | expected.keys():
            assert found.get(key, 0.0) == pytest.approx(expected.get(key, 0.0), rel=1e-8, abs=1e-8)


@given(sided_books(), st.sampled_from(["long", "long_short"]))
def test_positions_and_trades_add_up_to_the_book(made: Case, legs: Legs) -> None:
    book = tranche_book(*made, legs=legs)
    traded = dict(trades(book).group_by("session").agg(pl.col("weight_change").abs().sum()).iter_rows())
    for session, turnover in zip(book.sessions, book.turnover, strict=True):
        assert traded.get(session, 0.0) == pytest.approx(turnover, rel=1e-9, abs=1e-12)
    held = dict(positions(book).group_by("session").agg(pl.col("weight").abs().sum()).iter_rows())
    for session, exposure in zip(book.sessions, book.exposure[1:], strict=False):
        # longs of one tranche and shorts of another may cancel out
        assert held.get(session, 0.0) <= exposure * (1 + 1e-9) + 1e-12
        if legs == "long":
            assert held.get(session, 0.0) == pytest.approx(exposure, rel=1e-9, abs=1e-12)


@given(sided_books())
def test_long_short_book_never_loses_more_than_all(made: Case) -> None:
    book = tranche_book(*made, legs="long_short")
    assert np.isfinite(book.gross).all()
    assert np.isfinite(book.exposure).all()
    assert (book.exposure >= 0).all()
    for cost_bps in (0, 5, 10, 20, 50):
        assert not book.sessions or -1 <= max_drawdown(book.net(cost_bps)) <= 0


def test_positions_earn_the_next_gross_return() -> None:
    # Flat walks without gaps or ruin: sum of weight x return of the instrument
    closes = random_walk_bars(symbols=6, sessions=60, seed=3)
    calls = closes.filter(closes["session"] < weekdays(60)[40]).sample(fraction=0.4, seed=3)
    sides = pl.Series(np.random.default_rng(3).choice([1, -1], calls.height))
    book = tranche_book(calls.with_columns(side=sides), closes, 5, 0.0, legs="long_short")
    moves = closes.with_columns(move=pl.col("close").shift(-1).over("symbol") / pl.col("close") - 1)
    earned = (
        positions(book)
        .join(moves, on=["session", "symbol"])
        .group_by("session")
        .agg(earned=(pl.col("weight") * pl.col("move")).sum())
    )
    by_session = dict(earned.iter_rows())
    expected = [by_session.get(session, 0.0) for session in book.sessions[:-1]]
    np.testing.assert_allclose(book.gross[1:], expected, rtol=1e-9, atol=1e-12)
    assert book.ruined == 0


@given(books(), st.integers(0, 2**32 - 1))
def test_tranche_book_does_not_depend_on_row_order(made: Case, seed: int) -> None:
    calls, closes, horizon, cost_bps = made
    book = tranche_book(calls, closes, horizon, cost_bps)
    shuffled = [frame.sample(fraction=1.0, shuffle=True, seed=seed) for frame in (calls, closes)]
    again = tranche_book(*shuffled, horizon, cost_bps)
    np.testing.assert_array_equal(again.returns, book.returns)
    assert again.early_exits == book.early_exits


@given(st.integers(0, 2**32 - 1), st.integers(10, 50))
def test_tranche_book_never_changes_with_the_future(seed: int, known: int) -> None:
    closes = random_walk_bars(symbols=5, sessions=60, seed=seed)
    present = weekdays(60)[known]
    calls = closes.sample(fraction=0.3, seed=seed).select("symbol", "session")
    past = sum(session <= present for session in tranche_book(calls, closes, 5, 10.0).sessions)
    other = tranche_book(calls, _keep_sessions(with_other_future(closes, present, seed), closes), 5, 10.0)
    np.testing.assert_array_equal(other.returns[:past], tranche_book(calls, closes, 5, 10.0).returns[:past])


def _keep_sessions(other: pl.DataFrame, closes: pl.DataFrame) -> pl.DataFrame:
    """`other` with its missing bars put back, so that every call still has a close."""
    missing = closes.join(other, on=["symbol", "session"], how="anti")
    return pl.concat([other, missing]).sort("symbol", "session")
