"""What a source of prices is asked, and what it answers: wishes, deliveries, and one report per symbol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import polars as pl

from boursomatic_assets.core.market.fetch_report import Outcome, SymbolReport
from boursomatic_assets.core.market.vendor_actions import ACTION_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

__all__ = ["Delivery", "Outcome", "Provider", "SymbolReport", "Wish", "reports_of"]


@dataclass(frozen=True)
class Wish:
    """The bars of one symbol that are wanted.

    Attributes
    ----------
    symbol : str
        As the universe writes it: `BRK.B`, `MC.PA`, `ASML.AS`, `UCB.BR`.
    exchange : str
        ISO 10383 code of its exchange.
    first : date or None
        First session wanted; None for all there is.
    last : date
        Newest session that was over; a source must not deliver a later one.
    currency : str or None
        ISO 4217 code that the universe expects.
    stored : bool
        Whether bars of this symbol were stored before: a symbol that was known and no longer is has been
        delisted or renamed, one that never was is not found.
    """

    symbol: str
    exchange: str
    first: date | None
    last: date
    currency: str | None = None
    stored: bool = False


@dataclass(frozen=True)
class Delivery:
    """Bars of some symbols, whole: no symbol is spread over two deliveries.

    Attributes
    ----------
    bars : DataFrame
        Columns of `BAR_SCHEMA`, unchecked, in any order.
    reports : tuple of SymbolReport
        One per symbol.
    adjusted : bool
        Whether the source says that it has taken splits out of the prices. Jumps are looked for either way.
    actions : DataFrame
        Of `ACTION_SCHEMA`: splits and dividends beside raw prices.
    left_out : mapping of str to int
        Rows that are no trading, by reason; they are not among the bars.
    """

    bars: pl.DataFrame
    reports: tuple[SymbolReport, ...]
    adjusted: bool
    actions: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ACTION_SCHEMA))
    left_out: Mapping[str, int] = field(default_factory=dict)


def reports_of(bars: pl.DataFrame, source: str) -> tuple[SymbolReport, ...]:
    """Report the symbols of a source that has everything at hand."""
    spans = (
        bars.drop_nulls("symbol")
        .group_by("symbol")
        .agg(rows=pl.len(), first=pl.col("session").min(), last=pl.col("session").max())
    )
    return tuple(
        SymbolReport(symbol, Outcome.FETCHED, source, rows, first, last)
        for symbol, rows, first, last in spans.sort("symbol").iter_rows()
    )


class Provider(Protocol):
    """A source of instruments and their daily bars."""

    @property
    def description(self) -> str:
        """What the bars are and where they come from, for messages and metadata."""

    @property
    def asks_for_wishes(self) -> bool:
        """Whether bars are fetched symbol by symbol over a network; else everything is at hand and delivered."""

    def instruments(self) -> pl.DataFrame:
        """Instruments with the columns of `INSTRUMENT_SCHEMA`, a row per symbol."""

    def deliveries(self, wishes: Sequence[Wish] = ()) -> Iterator[Delivery]:
        """Deliver bars in pieces that fit in memory; a source that does not ask for wishes delivers all it has."""
