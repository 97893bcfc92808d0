"""Metadata of the books: equity and drawdown, the newest rows, early exits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.measures import performance
from boursomatic_assets.core.portfolio.books import MODEL_BOOKS
from boursomatic_assets.display.ui.metadata import numeric_metadata, picture, table, table_metadata
from boursomatic_assets.display.ui.model_pictures import equity_picture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.portfolio.book import TrancheBook

_PICTURED = {
    "buy": "BUY calls",
    "long_short": "BUY against SELL calls",
    "equal_weight": "every instrument",
    "benchmark": "benchmark",
}
EXITS_SHOWN = 20


def book_metadata(
    asset: str, value: pl.DataFrame, books: Mapping[str, TrancheBook], benchmark: str
) -> dict[str, Any]:
    """Metadata of `portfolio`, `positions` or `trades`. `benchmark` says in a sentence what it covers."""
    # The first rows would all be of one book that holds nothing yet.
    newest = value.group_by("book", maintain_order=True).last().select(value.columns)
    own = _performance(books, benchmark) if asset == "portfolio" else {}
    return {**table_metadata(value), "preview": table(newest), **own, **_exits(books)}


def _performance(books: Mapping[str, TrancheBook], benchmark: str) -> dict[str, Any]:
    pictured = {title: books[name] for name, title in _PICTURED.items() if name in books}
    return {
        "equity_and_drawdown": picture(equity_picture(pictured), "Equity and drawdown of the books, test set"),
        **numeric_metadata(
            {f"{name}_total_return": performance.total_return(book.returns) for name, book in books.items()}
        ),
        "benchmark": benchmark,
    }


def _exits(books: Mapping[str, TrancheBook]) -> dict[str, Any]:
    exits = pl.concat(books[name].exits.select(pl.lit(name).alias("book"), pl.all()) for name in MODEL_BOOKS)
    return {
        "early_exits": exits.height,
        **({"early_exits_listed": table(exits.head(EXITS_SHOWN))} if exits.height else {}),
        "ruined_tranches": sum(book.ruined for book in books.values()),
    }
