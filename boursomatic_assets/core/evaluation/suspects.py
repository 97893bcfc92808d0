"""Symbols and sessions behind figures that prices alone can hardly explain, and what a verdict then says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.evaluation.evaluation import Suspects
from boursomatic_assets.core.evaluation.plausibility import BOOK_GROWTH, BOOK_MOVE, growth_bound, rmse_bound
from boursomatic_assets.core.evaluation.price_moves import close_ratios, suspect_growth, suspect_moves
from boursomatic_assets.core.measures.forecasts import root_mean_squared_error, row_error
from boursomatic_assets.core.measures.performance import SESSIONS_PER_YEAR, total_return
from boursomatic_assets.core.portfolio.books import book_calls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.evaluation.price_moves import Move
    from boursomatic_assets.core.evaluation.verdict import Verdict
    from boursomatic_assets.core.portfolio.book import TrancheBook

# Listed in JSON, and named in a sentence; the others are counted.
LISTED, NAMED = 20, 3
SKILL = "Evidence of skill"
REMEDY = "Mend the source, or explain them: boursomatic adjustments add SYMBOL SESSION RATIO (1 for a real move)"


def suspects_of(
    judged: pl.DataFrame, books: Mapping[str, TrancheBook], closes: pl.DataFrame | None, experiment: Experiment
) -> Suspects:
    """Find what is implausible in the prices and returns from which figures are made.

    Parameters
    ----------
    judged : DataFrame
        Judged rows with `call` and the columns of the baselines.
    books : mapping of str to TrancheBook
        Of the same rows, as `judged_books` returns them.
    closes : DataFrame or None
        As for `suspect_moves`, the benchmark's included; only judged and held sessions count. None: not checked.
    """
    held = _while_held(judged, books, closes)
    moves = sorted(suspect_moves(held), key=lambda move: (move.possible, -abs(np.log(move.ratio)), move.symbol))
    ratios = close_ratios(held)
    sessions = [row for name in books for row in _book_sessions(name, books, judged, ratios, experiment)]
    figures = [*_rmse(judged, experiment), *_book_growth(books, judged, ratios, experiment)]
    grown = [
        {**row, "first": str(row["first"]), "last": str(row["last"])}
        for row in suspect_growth(held).head(LISTED).iter_rows(named=True)
    ]
    named = [
        *map(str, moves),
        *(
            f"{row['symbol']} {row['first']} to {row['last']} \N{MULTIPLICATION SIGN}{row['growth']:.3g}"
            for row in grown
        ),
        *(_said(row, row["book"].replace("_", " "), row["return"]) for row in sessions),
        *(_said(row, row["name"].replace("_", " "), row["value"]) for row in figures),
    ]
    return Suspects(
        instruments=None if closes is None else held["symbol"].n_unique(),
        moves=[move.to_json() for move in moves[:LISTED]],
        moves_found=len(moves),
        instruments_grown=grown,
        book_sessions=sessions[:LISTED],
        figures=figures,
        possible=all(move.possible for move in moves),
        sentence=_sentence(named),
    )


def qualified(verdict: Verdict, suspects: Suspects) -> Verdict:
    """Add suspect prices to a verdict's sentence; withhold skill where a move cannot have happened."""
    sentence = suspects.sentence
    if sentence is None:
        return verdict
    remarks = (*verdict.remarks, f"{sentence}. {REMEDY}.")
    if not verdict.skill:
        return replace(verdict, remarks=remarks)
    lower = sentence[0].lower() + sentence[1:]
    rest = verdict.sentence.removeprefix(SKILL)
    if suspects.possible:
        return replace(verdict, sentence=f"{SKILL}, but {lower}{rest}", remarks=remarks)
    return replace(
        verdict,
        skill=False,
        sentence=f"No evidence of skill can be read from these figures: {lower}. They would have said{rest}",
        remarks=remarks,
    )


def with_benchmark(closes: pl.DataFrame, symbol: str | None, benchmark: pl.DataFrame | None) -> pl.DataFrame:
    """Closes of the judged instruments, and those of the benchmark where there is one."""
    if symbol is None or benchmark is None:
        return closes
    own = benchmark.with_columns(symbol=pl.lit(symbol)).select(
        name for name in closes.columns if name in (*benchmark.columns, "symbol")
    )
    return pl.concat([closes, own], how="diagonal_relaxed")


def impossible_prices(moves: Sequence[Move]) -> str:
    """Say which moves cannot have happened, and what to do about them."""
    more = f" and {len(moves) - NAMED} more" if len(moves) > NAMED else ""
    return f"Prices that cannot be: {', '.join(map(str, moves[:NAMED]))}{more}. {REMEDY}."


def _sentence(named: list[str]) -> str | None:
    if not named:
        return None
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f"The figures rest on suspect prices: {', '.join(named[:NAMED])}{more}"


def _said(row: Mapping[str, Any], what: str, value: float) -> str:
    behind = f", behind it {row['symbol']}" if row["symbol"] else ""
    when = f" {row['session']}" if row["session"] else ""
    return f"{what}{when} {value:+.3g}{behind}"


def _while_held(
    judged: pl.DataFrame, books: Mapping[str, TrancheBook], closes: pl.DataFrame | None
) -> pl.DataFrame:
    """Closes from the first judged session to the last that a book or an outcome reaches."""
    if closes is None:
        return pl.DataFrame(schema={"symbol": pl.String, "session": pl.Date, "close": pl.Float64})
    ends: list[Any] = [judged["session"].max()]
    ends += [session for book in books.values() for session in book.sessions[-1:]]
    ends += [judged["label_end"].max()] if "label_end" in judged.columns else []
    first, last = judged["session"].min(), max(end for end in ends if end is not None)
    return closes.filter(pl.col("session").is_between(first, last))


def _book_sessions(
    name: str, books: Mapping[str, TrancheBook], judged: pl.DataFrame, ratios: pl.DataFrame, experiment: Experiment
) -> list[dict[str, Any]]:
    """Sessions in which a book moved by more than `BOOK_MOVE`."""
    book = books[name]
    far = np.flatnonzero(np.abs(book.returns) > BOOK_MOVE)
    return [
        {
            "book": name,
            "session": str(book.sessions[place]),
            "return": float(book.returns[place]),
            **_behind(name, book, int(place), judged, ratios, experiment),
        }
        for place in far
    ]


def _behind(  # noqa: PLR0913, PLR0917 (a book's session, and what may explain it)
    name: str, book: TrancheBook, place: int, judged: pl.DataFrame, ratios: pl.DataFrame, experiment: Experiment
) -> dict[str, Any]:
    """The instrument that moved a book most in a session: `symbol` and `ratio` of its closes, None for none."""
    moved = ratios.filter(pl.col("session") == book.sessions[place]).select("symbol", "ratio").drop_nulls()
    if name == "benchmark":
        weights = pl.DataFrame(
            {"symbol": [experiment.benchmark], "weight": [1.0]}, schema_overrides={"symbol": pl.String}
        )
    else:
        weights = _weights(book_calls(judged)[name], book.sessions, place, experiment.horizon)
    by_size = moved.join(weights, on="symbol").sort(
        (pl.col("weight") * (pl.col("ratio") - 1)).abs(), "symbol", descending=[True, False]
    )
    if by_size.is_empty():
        return {"symbol": None, "ratio": None}
    return by_size.select("symbol", "ratio").row(0, named=True)


def _weights(calls: pl.DataFrame, sessions: tuple[date, ...], place: int, horizon: int) -> pl.DataFrame:
    """Weights at filling of what a book holds over a session; drift is left out."""
    # A book holds over a session what was called in the `horizon` sessions that end two before it.
    called = pl.col("session") < sessions[place - 1]
    if place > horizon:
        called &= pl.col("session") >= sessions[place - horizon - 1]
    share = pl.col("side") / pl.len().over("session") / horizon
    return calls.filter(called).with_columns(weight=share).group_by("symbol").agg(pl.col("weight").sum())


def _rmse(judged: pl.DataFrame, experiment: Experiment) -> list[dict[str, Any]]:
    value, bound = root_mean_squared_error(judged), rmse_bound(experiment.horizon)
    if not value > bound:
        return []
    by_size = judged.sort(row_error().abs(), "symbol", "session", descending=[True, False, False])
    worst = by_size.row(0, named=True)
    where = {"symbol": worst["symbol"], "session": str(worst["session"])}
    return [{"name": "rmse", "value": value, "bound": bound, **where}]


def _book_growth(
    books: Mapping[str, TrancheBook], judged: pl.DataFrame, ratios: pl.DataFrame, experiment: Experiment
) -> list[dict[str, Any]]:
    """Books that grew beyond `BOOK_GROWTH` a year, each with its largest session and the instrument behind it."""
    found = []
    for name, book in books.items():
        if not len(book.returns):
            continue
        value = total_return(book.returns)
        bound = growth_bound(BOOK_GROWTH, len(book.returns) / SESSIONS_PER_YEAR) - 1
        if value > bound:
            place = int(book.returns.argmax())
            behind = _behind(name, book, place, judged, ratios, experiment)
            where = {"symbol": behind["symbol"], "session": str(book.sessions[place])}
            found.append({"name": f"total_return_{name}", "value": value, "bound": bound, **where})
    return found
