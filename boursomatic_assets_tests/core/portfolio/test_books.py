from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.labels import LABEL_TYPE
from boursomatic_assets.core.portfolio.book import (
    TrancheBook,
    closes_of_books,
    labels_hold_closes,
    positions,
    trades,
    tranche_book,
)
from boursomatic_assets.core.portfolio.books import (
    BOOK_NAMES,
    BOOK_TYPE,
    book_calls,
    books_of,
    detail_table,
    index_book,
    judged_books,
    portfolio_faults,
    portfolio_table,
)
from boursomatic_assets_tests.support.strategies import flat_bars, random_walk_bars, weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

D = weekdays(30)
Row = tuple[str, int, str, float | None, float | None]


def judged_panel(*rows: Row) -> pl.DataFrame:
    """Symbol, number of the session, call, the volatility classifier's p(BUY), momentum."""
    return pl.DataFrame(
        [(symbol, D[number], *others) for symbol, number, *others in rows],
        schema={
            "symbol": pl.String,
            "session": pl.Date,
            "call": LABEL_TYPE,
            "volatility_probability_buy": pl.Float64,
            "momentum_12_1": pl.Float64,
        },
        orient="row",
    ).sort("symbol", "session")


# At 0 two names are bought and one sold, at 1 nothing is bought, at 2 one is.
JUDGED = judged_panel(
    ("A", 0, "BUY", 0.2, 0.3), ("B", 0, "BUY", 0.5, None), ("C", 0, "SELL", 0.4, -0.1),
    ("A", 1, "HOLD", 0.9, 0.3), ("B", 1, "SELL", 0.1, 0.2),
    ("A", 2, "HOLD", 0.3, None), ("B", 2, "BUY", 0.3, None), ("C", 2, "HOLD", 0.1, None),
)  # fmt: skip
CLOSES = flat_bars({"A": [10, 10, 11, 12, 12, 12], "B": [5, 5, 5, 6, 6, 6], "C": [8, 8, 8, 8, 4, 4]})


def followed(name: str, judged: pl.DataFrame = JUDGED) -> list[tuple[str, int, int]]:
    return [(symbol, D.index(session), side) for symbol, session, side in book_calls(judged)[name].rows()]


def test_book_calls_by_hand() -> None:
    everything = [
        ("A", 0, 1), ("B", 0, 1), ("C", 0, 1), ("A", 1, 1), ("B", 1, 1), ("A", 2, 1), ("B", 2, 1), ("C", 2, 1),
    ]  # fmt: skip
    expected = {
        "buy": [("A", 0, 1), ("B", 0, 1), ("B", 2, 1)],
        "long_short": [("A", 0, 1), ("B", 0, 1), ("C", 0, -1), ("B", 1, -1), ("B", 2, 1)],
        "equal_weight": everything,
        "equal_weight_matched": [call for call in everything if call[1] != 1],
    }
    assert {name: followed(name) for name in expected} == expected


def test_book_calls_of_baselines_hold_as_many_names_as_the_model() -> None:
    # two at 0: B and C are the most probable; none at 1; one at 2, where A and B are alike
    volatility = followed("volatility")
    assert sorted(volatility[:2]) == [("B", 0, 1), ("C", 0, 1)]
    assert [session for _, session, _ in volatility] == [0, 0, 2]
    assert volatility[2][0] in {"A", "B"}
    # two at 0: A and C, B has no momentum; at 2 no symbol has one
    assert sorted(followed("momentum")) == [("A", 0, 1), ("C", 0, 1)]


def test_book_calls_do_not_depend_on_row_order() -> None:
    turned = {name: calls.rows() for name, calls in book_calls(JUDGED.reverse()).items()}
    assert turned == {name: calls.rows() for name, calls in book_calls(JUDGED).items()}


def test_judged_books_cover_the_same_sessions() -> None:
    late = JUDGED.with_columns(
        call=pl.when(pl.col("session") > D[0]).then("call").otherwise(pl.lit("HOLD", LABEL_TYPE))
    )
    books = judged_books(late, CLOSES, 2, 10.0, benchmark=CLOSES.filter(pl.col("symbol") == "C"))
    assert tuple(books) == BOOK_NAMES
    # judged from 0 to 2: filled from 1 on, the last of them sold at 5
    assert {book.sessions for book in books.values()} == {tuple(D[1:6])}
    # the first BUY call, at 2, is filled at 3
    assert books["buy"].turnover.tolist() == [0, 0, 0.5, 0, 0.5]


def test_judged_books_without_calls_are_cash() -> None:
    silent = JUDGED.with_columns(call=pl.lit("HOLD", LABEL_TYPE))
    books = judged_books(silent, CLOSES, 2, 10.0)
    for name in ("buy", "long_short", "equal_weight_matched", "volatility", "momentum"):
        assert books[name].returns.tolist() == [0.0] * 5
    assert books["equal_weight"].turnover.any()
    assert "benchmark" not in books


def test_judged_books_of_calls_for_all_are_equal_weight() -> None:
    books = judged_books(JUDGED.with_columns(call=pl.lit("BUY", LABEL_TYPE)), CLOSES, 2, 10.0)
    for name in ("buy", "equal_weight_matched", "volatility"):
        np.testing.assert_array_equal(books[name].returns, books["equal_weight"].returns)


def test_judged_books_bear_cost_and_sides() -> None:
    books = judged_books(JUDGED, CLOSES, 2, 25.0)
    calls = book_calls(JUDGED)
    for name, legs in (("buy", "long"), ("long_short", "long_short")):
        alone = tranche_book(calls[name], CLOSES, 2, 25.0, legs=legs, span=(D[0], D[2]))
        np.testing.assert_array_equal(books[name].returns, alone.returns)
    # C is short after 1: half of half of the capital
    assert positions(books["long_short"]).filter(pl.col("symbol") == "C")["weight"][0] == -0.25
    assert trades(books["buy"])["weight_change"][0] == 0.25


@given(st.integers(0, 2**32 - 1))
def test_book_calls_of_baselines_match_the_model_in_each_session(seed: int) -> None:
    random = np.random.default_rng(seed)
    closes = random_walk_bars(symbols=6, sessions=12, seed=seed)
    judged = closes.select("symbol", "session").with_columns(
        call=pl.Series(random.choice(["BUY", "HOLD", "SELL"], closes.height), dtype=LABEL_TYPE),
        volatility_probability_buy=pl.Series(random.integers(0, 3, closes.height) / 3),
        momentum_12_1=pl.Series(random.normal(size=closes.height)),
    )
    counts = {name: dict(calls.group_by("session").len().iter_rows()) for name, calls in book_calls(judged).items()}
    assert counts["volatility"] == counts["momentum"] == counts["buy"]
    chosen = judged.join(book_calls(judged)["momentum"], on=["symbol", "session"], how="left")
    for _, group in chosen.group_by("session"):
        inside, outside = (
            group.filter(pl.col("side").is_null() == left)["momentum_12_1"] for left in (False, True)
        )
        assert not len(inside) or not len(outside) or inside.min() > outside.max()


def index_of(closes: Sequence[float | None]) -> pl.DataFrame:
    return flat_bars({"I": closes}).select("session", "close")


def test_index_book_earns_first_when_the_other_books_do() -> None:
    # called at 0, filled at the closes of 1: every book earns from 2 on. That the index doubles from 0 to 1 does
    # not count; from 1 to 2 it doubles again: +100 %. So do A and B, in one of two tranches: +50 %
    closes = flat_bars({"A": [10, 10, 20, 20, 20, 20], "B": [5, 5, 10, 10, 10, 10]})
    judged = judged_panel(*((name, number, "BUY", 0.5, 0.5) for name in "AB" for number in range(3)))
    books = judged_books(judged, closes, 2, 0.0, benchmark=index_of([10, 20, 40, 40, 40, 40]))
    assert {name: np.flatnonzero(book.returns)[0] for name, book in books.items()} == dict.fromkeys(BOOK_NAMES, 1)
    assert books["equal_weight"].sessions[1] == books["benchmark"].sessions[1] == D[2]
    assert books["equal_weight"].returns[:2].tolist() == [0.0, 0.5]
    assert books["benchmark"].returns[:2].tolist() == [0.0, 1.0]
    assert books["benchmark"].exposure[:2].tolist() == [0.0, 1.0]


def test_judged_books_ignore_a_stray_saturday_bar() -> None:
    # D[4] is a Friday, D[5] the Monday after it; S07 alone trades on the Saturday, at ten times its price
    saturday = D[4] + timedelta(days=1)
    closes = flat_bars({f"S{number:02d}": [10.0] * 10 for number in range(40)}).select("symbol", "session", "close")
    stray = pl.DataFrame({"symbol": ["S07"], "session": [saturday], "close": [100.0]})
    with_stray = pl.concat([closes, stray]).sort("symbol", "session")
    columns = {"call": pl.lit("BUY", LABEL_TYPE), "volatility_probability_buy": 0.5, "momentum_12_1": 0.0}
    judged = with_stray.filter(pl.col("session") < D[7]).with_columns(**columns)
    for name, book in judged_books(judged, with_stray, 2, 10.0).items():
        # called up to D[6], filled up to D[7], the last out at D[9]
        assert book.sessions == tuple(D[1:10]), name
        assert (book.gross == 0).all()
    on_time = judged.filter(pl.col("session") != saturday)
    expected = judged_books(on_time, closes, 2, 10.0)
    for name, book in judged_books(judged, with_stray, 2, 10.0).items():
        np.testing.assert_array_equal(book.returns, expected[name].returns)
        assert trades(book).equals(trades(expected[name]))


def test_judged_books_trade_on_a_holiday_of_one_exchange() -> None:
    # New York is closed on 2018-01-15: only the one symbol in Paris trades, and rises by half
    days = [day for day in weekdays(15) if day != D[0]]
    holiday = date(2018, 1, 15)
    assert days[9] == holiday
    paths = {"US": [10.0] * 14, "FR": [10.0] * 9 + [15.0] * 5}
    rows = [
        (symbol, day, price, "XNYS" if symbol == "US" else "XPAR")
        for symbol, path in paths.items()
        for day, price in zip(days, path, strict=True)
        if (symbol, day) != ("US", holiday)
    ]
    schema = {"symbol": pl.String, "session": pl.Date, "close": pl.Float64, "exchange": pl.String}
    closes = pl.DataFrame(rows, schema=schema, orient="row").sort("symbol", "session")
    columns = {"call": pl.lit("HOLD", LABEL_TYPE), "volatility_probability_buy": 0.5, "momentum_12_1": 0.0}
    judged = closes.filter(pl.col("session") == days[7]).with_columns(**columns)
    book = judged_books(judged, closes, 1, 0.0)["equal_weight"]
    # called at 7, filled at 8, out at 9, the holiday: half of the book is in FR
    assert book.sessions == (days[8], holiday)
    np.testing.assert_allclose(book.returns, [0, 0.25], rtol=0, atol=1e-15)


def test_judged_books_hold_a_former_member_to_its_horizon() -> None:
    # A is a member, and judged, up to 1 only, and goes on trading: it doubles at 3, its last session in the book
    closes = flat_bars({"A": [10, 10, 10, 20, 20, 20], "B": [5] * 6, "Z": [7] * 6}).with_columns(
        exchange=pl.lit("unknown")
    )
    judged = judged_panel(("A", 0, "BUY", 0.5, 0.5), ("A", 1, "BUY", 0.5, 0.5), ("B", 2, "BUY", 0.5, 0.5))
    labels = closes.filter((pl.col("symbol") == "B") | ((pl.col("symbol") == "A") & (pl.col("session") <= D[1])))
    kept = closes_of_books(closes, labels, D[0])
    assert kept.columns == ["symbol", "session", "close", "exchange"]
    # A after it left as well; Z belongs to nothing
    assert kept["symbol"].unique().sort().to_list() == ["A", "B"]
    assert kept.filter(symbol="A").height == 6
    book = judged_books(judged, kept, 2, 0.0)["buy"]
    # called at 0, in at 1, out at 3: +100 % of one of two tranches at 3, as the tranche called at 1, in at 2
    np.testing.assert_allclose(book.returns, [0, 0, 1.0, 0, 0], rtol=0, atol=1e-15)
    assert book.early_exits == 0
    # by closes of members alone both were sold at 10, before the rise
    false = judged_books(judged, labels, 2, 0.0)["buy"]
    assert (false.early_exits, false.returns.any()) == (2, False)
    assert not labels_hold_closes(kept, labels)


def test_labels_hold_closes_with_a_row_for_each() -> None:
    closes = flat_bars({f"S{number}": [10.0] * 10 for number in range(8)}).select("symbol", "session", "close")
    placed = closes.with_columns(exchange=pl.lit("unknown"))
    later = placed.filter(pl.col("session") >= D[3])
    assert labels_hold_closes(later, closes)
    assert not labels_hold_closes(later, closes.filter(pl.col("session") < D[9]))
    assert not labels_hold_closes(later, closes.with_columns(pl.col("close") * 2))
    # a bar on a stray day has a row, and is no close of the books: only its exchange shows it
    stray = pl.DataFrame({"symbol": ["S3"], "session": [D[4] + timedelta(days=1)], "close": [10.0]})
    every = pl.concat([closes, stray]).sort("symbol", "session")
    assert not labels_hold_closes(
        every.filter(pl.col("session") >= D[3]).with_columns(exchange=pl.lit("unknown")), every
    )


@pytest.mark.parametrize(
    ("closes", "sessions", "covered", "returns", "exposure"),
    [
        # paid 10 at 1; 12/10, 9/12
        ([8, 10, 12, 9, 20], D[1:4], D[1:4], [0, 0.2, -0.25], [0, 1, 1]),
        # no bar at 1, where it is bought at the 10 of 0, nor at 3
        ([10, None, 12, None, 15], D[1:5], D[1:5], [0, 0.2, 0, 0.25], [0, 1, 1, 1]),
        # its first close is at 2: bought there; before 3 it has no return, not even zero
        ([None, None, 10, 11], D[:4], D[3:4], [0.1], [1]),
        # 11/10, then nothing is known
        ([10, 11, None, None], D[:4], D[:2], [0, 0.1], [0, 1]),
        *((closes, D[:4], [], [], []) for closes in ([], [None, None], [10, None])),
        *(([10, 11], D[:count], D[:count], [0.0] * count, [0] * count) for count in (0, 1)),
    ],
    ids=[
        "whole",
        "gaps",
        "begins later",
        "ends earlier",
        "empty",
        "all null",
        "one row",
        "no session",
        "one session",
    ],
)
def test_index_book_covers_only_its_closes(
    closes: list[float | None],
    sessions: list[date],
    covered: list[date],
    returns: list[float],
    exposure: list[float],
) -> None:
    book = index_book(index_of(closes), sessions)
    assert book.sessions == tuple(covered)
    np.testing.assert_allclose(book.returns, returns, rtol=0, atol=1e-15)
    assert book.exposure.tolist() == exposure
    assert not book.turnover.any()


def test_portfolio_table_by_hand() -> None:
    # returns 0, +50 %, -50 % net of 100 bp of a turnover of 1: wealth 1, 1.5, 0.75; the last is half of its peak
    book = TrancheBook(
        tuple(D[:3]), np.array([0.01, 0.5, -0.5]), np.array([1.0, 0, 0]), np.array([0, 1.0, 0.5]), 100.0
    )
    table = portfolio_table({"buy": book})
    np.testing.assert_allclose(table["equity"], [1, 1.5, 0.75], rtol=1e-12)
    np.testing.assert_allclose(table["drawdown"], [0, 0, -0.5], rtol=0, atol=1e-12)
    np.testing.assert_allclose(table["return"], [0, 0.5, -0.5], rtol=0, atol=1e-15)
    assert table["gross"].to_list() == [0.01, 0.5, -0.5]
    assert table["exposure"].to_list() == [0, 1, 0.5]
    assert table["book"].to_list() == ["buy"] * 3


def test_books_of_reads_a_portfolio_table() -> None:
    books = judged_books(JUDGED, CLOSES, 2, 10.0)
    back = books_of(portfolio_table(books), 10.0)
    assert list(back) == list(books)
    for name, book in back.items():
        assert book.sessions == books[name].sessions
        np.testing.assert_array_equal(book.returns, books[name].returns)
        np.testing.assert_array_equal(book.exposure, books[name].exposure)
    assert portfolio_table({}).is_empty()
    assert books_of(portfolio_table({}), 10.0) == {}


def test_detail_table_names_the_book() -> None:
    books = judged_books(JUDGED, CLOSES, 2, 10.0)
    held = detail_table(books, positions)
    assert held.columns == ["book", "session", "symbol", "weight"]
    assert held.filter(pl.col("book") == "long_short").drop("book").equals(positions(books["long_short"]))
    assert held.filter(pl.col("book") == "buy").drop("book").equals(positions(books["buy"]))


PORTFOLIO = portfolio_table(judged_books(JUDGED, CLOSES, 2, 10.0))
TRADES = detail_table(judged_books(JUDGED, CLOSES, 2, 10.0), trades)


def test_portfolio_faults_of_sound_or_missing_books() -> None:
    assert portfolio_faults(PORTFOLIO, TRADES) == []
    assert portfolio_faults(PORTFOLIO.clear(), TRADES.clear()) == [
        "no session of the book buy", "no session of the book long_short"
    ]  # fmt: skip
    assert PORTFOLIO.schema["book"] == BOOK_TYPE
    assert PORTFOLIO["book"].unique(maintain_order=True).to_list() == list(BOOK_NAMES[:-1])


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("equity", (float("nan"), None, float("inf"), -0.1), "an equity that is no number"),
        ("drawdown", (-1.1, 0.1, float("nan"), None), "a drawdown outside"),
        ("turnover", (0.9, None), "trades that do not sum"),
    ],
)
def test_portfolio_faults_name_an_impossible_value(column: str, values: tuple[float | None], said: str) -> None:
    here = (pl.col("session") == D[1]) & (pl.col("book") == "buy")
    for value in values:
        broken = PORTFOLIO.with_columns(pl.when(~here).then(column).otherwise(pl.lit(value)).alias(column))
        (fault,) = portfolio_faults(broken, TRADES)
        assert fault.startswith(f"sessions with {said}")
        assert fault.endswith(f": 1, first buy {D[1]}")


def test_portfolio_faults_find_a_lost_or_extra_trade() -> None:
    lost = TRADES.filter(~((pl.col("session") == D[1]) & (pl.col("book") == "buy")))
    assert "first buy 2018-01-02" in portfolio_faults(PORTFOLIO, lost)[0]
    more = TRADES.head(1).with_columns(session=pl.lit(D[20]))
    assert "first buy 2018-01-29" in portfolio_faults(PORTFOLIO, pl.concat([TRADES, more]))[0]
