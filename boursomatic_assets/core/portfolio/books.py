"""The model's books and those of the baselines, all over the same sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.market.bars import require_rows
from boursomatic_assets.core.measures.performance import drawdown, wealth
from boursomatic_assets.core.portfolio.benchmark import benchmark_closes, covered_sessions
from boursomatic_assets.core.portfolio.book import BookSpec, TrancheBook, tranche_books
from boursomatic_assets.errors import NoRowsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date


# Column by which a baseline's book chooses its names, the highest first.
CHOSEN_BY = {"volatility": "volatility_probability_buy", "momentum": "momentum_12_1"}
# Books whose positions and trades are stored.
MODEL_BOOKS = ("buy", "long_short")
BOOK_NAMES = (*MODEL_BOOKS, "equal_weight", "equal_weight_matched", *CHOSEN_BY, "benchmark")
BOOK_TYPE = pl.Enum(BOOK_NAMES)
PORTFOLIO_SCHEMA: dict[str, pl.DataType] = {
    "book": BOOK_TYPE,
    "session": pl.Date(),
    **dict.fromkeys(("return", "gross", "equity", "drawdown", "turnover", "exposure"), pl.Float64()),
}
# Relative difference of the same sum in another order.
ROUNDING = 1e-9


def judged_books(
    judged: pl.DataFrame, closes: pl.DataFrame, horizon: int, cost_bps: float, benchmark: pl.DataFrame | None = None
) -> dict[str, TrancheBook]:
    """Account for the model's books and their baselines, each over the same sessions, in the order of `BOOK_NAMES`.

    - `buy`: the BUY calls; `long_short`: the BUY calls against the SELL calls, half of the capital each.
    - `equal_weight`: every instrument, in every session; `equal_weight_matched`: every instrument, in the
      sessions with a BUY call, as for a model that only times the market.
    - `volatility`, `momentum`: as many names per session as there are BUY calls, those with the highest
      p(BUY) of the volatility-only classifier, or the highest 12-1 momentum.
    - `benchmark`: the instrument whose `session` and `close` are given, over the sessions that it covers.

    `judged` has a row per symbol and session that was predicted, with its `call` and the baselines' columns; the
    other arguments are as for `tranche_book`. Raises NoRowsError if no row was judged.
    """
    require_rows(judged, "books need judged rows")
    span: Any = (judged["session"].min(), judged["session"].max())
    specs = {
        name: BookSpec(calls, "long_short" if name == "long_short" else "long", span)
        for name, calls in book_calls(judged).items()
    }
    books = tranche_books(specs, closes, horizon, cost_bps)
    if benchmark is not None:
        books["benchmark"] = index_book(benchmark, books["equal_weight"].sessions)
    return books


def book_calls(judged: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Calls of each book of `judged_books` except the benchmark: `symbol`, `session`, `side`."""
    sides = judged.sort("session", "symbol").with_columns(
        side=pl.col("call").cast(pl.String).replace_strict({"BUY": 1, "HOLD": 0, "SELL": -1}, return_dtype=pl.Int8),
        bought=(pl.col("call") == "BUY").sum().over("session"),
    )
    bought, held = pl.col("side") == 1, pl.lit(1, dtype=pl.Int8).alias("side")
    chosen = {
        name: sides.filter(pl.col(column).rank("ordinal", descending=True).over("session") <= pl.col("bought"))
        for name, column in CHOSEN_BY.items()
    }
    calls = {
        "buy": sides.filter(bought),
        "long_short": sides.filter(pl.col("side") != 0),
        "equal_weight": sides.with_columns(held),
        "equal_weight_matched": sides.filter(pl.col("bought") > 0).with_columns(held),
        **{name: rows.with_columns(held) for name, rows in chosen.items()},
    }
    return {name: rows.select("symbol", "session", "side") for name, rows in calls.items()}


def index_book(closes: pl.DataFrame, sessions: Sequence[date]) -> TrancheBook:
    """Buy one instrument at the close of the first of a book's sessions and hold it, over `covered_sessions`.

    It has no turnover, since nobody trades an index, and earns nothing in the first session, whose close is paid. A
    session without a close keeps the last one; the next close then brings the whole return.
    """
    calendar = pl.DataFrame({"session": sessions}, schema={"session": pl.Date})
    known = benchmark_closes(closes)
    price = calendar.join_asof(known, on="session", strategy="backward")["close"].to_numpy()
    exposure, gross = np.zeros(len(price)), np.zeros(len(price))
    invested = ~np.isnan(price[:-1])
    exposure[1:] = invested
    gross[1:][invested] = (price[1:] / price[:-1] - 1.0)[invested]
    covered = covered_sessions(closes, sessions)
    kept = calendar["session"].is_in(list(covered)).to_numpy()
    return TrancheBook(covered, gross[kept], np.zeros(len(covered)), exposure[kept])


def portfolio_table(books: Mapping[str, TrancheBook]) -> pl.DataFrame:
    """Daily history of books as one long table.

    Columns: `book`, `session`, `return` (net of the book's cost), `gross`, `equity` (wealth after the session, from
    a capital of 1), `drawdown` (in [-1, 0]), `turnover`, `exposure`.
    """
    tables = [pl.DataFrame(schema=PORTFOLIO_SCHEMA)]
    for name, book in books.items():
        columns = {
            "session": pl.Series(book.sessions, dtype=pl.Date),
            "return": book.returns,
            "gross": book.gross,
            # The starting capital has no row.
            "equity": wealth(book.returns)[1:],
            "drawdown": drawdown(book.returns)[1:],
            "turnover": book.turnover,
            "exposure": book.exposure,
        }
        tables.append(pl.DataFrame(columns).select(pl.lit(name, BOOK_TYPE).alias("book"), pl.all()))
    return pl.concat(tables)


def books_of(portfolio: pl.DataFrame, cost_bps: float) -> dict[str, TrancheBook]:
    """Books read from a `portfolio_table`, with the cost that they bore; without exits, positions and trades."""
    return {
        str(name): TrancheBook(
            tuple(rows["session"]),
            rows["gross"].to_numpy(),
            rows["turnover"].to_numpy(),
            rows["exposure"].to_numpy(),
            cost_bps,
        )
        for (name,), rows in portfolio.partition_by("book", as_dict=True, maintain_order=True).items()
    }


def detail_table(books: Mapping[str, TrancheBook], details: Callable[[TrancheBook], pl.DataFrame]) -> pl.DataFrame:
    """Concatenate `positions` or `trades` of the model's two books, with a column `book` first."""
    require_books(books, MODEL_BOOKS)
    return pl.concat(
        details(books[name]).select(pl.lit(name, BOOK_TYPE).alias("book"), pl.all()) for name in MODEL_BOOKS
    )


def require_books(books: Mapping[str, TrancheBook], names: Sequence[str]) -> None:
    """Refuse to continue without books that are read by name.

    Raises NoRowsError, naming the missing books.
    """
    missing = [name for name in names if name not in books]
    if missing:
        message = (
            f"expected the books {', '.join(names)}; missing {', '.join(missing)} of {', '.join(books) or 'none'}"
        )
        raise NoRowsError(message)


def portfolio_faults(portfolio: pl.DataFrame, trades: pl.DataFrame) -> list[str]:
    """Describe what is impossible in a `portfolio_table` and the `detail_table` of its trades.

    A sentence per broken rule: the model's books have sessions, equity is a number of at least zero, drawdown lies
    in [-1, 0], and the turnover of each session is the sum of its trades.
    """
    traded = trades.group_by("book", "session").agg(traded=pl.col("weight_change").abs().sum())
    compared = portfolio.filter(pl.col("book").is_in(MODEL_BOOKS)).join(
        traded, on=["book", "session"], how="full", coalesce=True
    )
    gap = (pl.col("turnover").fill_null(0.0) - pl.col("traded").fill_null(0.0)).abs()
    missing = [name for name in MODEL_BOOKS if portfolio.filter(pl.col("book") == name).is_empty()]
    broken = {
        "an equity that is no number of at least zero": portfolio.filter(
            ~pl.col("equity").is_finite().fill_null(value=False) | (pl.col("equity") < 0)
        ),
        "a drawdown outside [-1, 0]": portfolio.filter(
            ~pl.col("drawdown").is_between(-1, 0).fill_null(value=False) | pl.col("drawdown").is_nan()
        ),
        "trades that do not sum to its turnover": compared.filter(
            gap > ROUNDING * (1 + pl.col("turnover").fill_null(0.0))
        ),
    }
    return [f"no session of the book {name}" for name in missing] + [
        f"sessions with {what}: {rows.height}, first {rows['book'][0]} {rows['session'][0]}"
        for what, rows in broken.items()
        if rows.height
    ]
