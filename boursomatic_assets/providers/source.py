"""Protocol of a price source: requests, batches, and one report per symbol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import polars as pl

from boursomatic_assets.core.market.fetch_report import Outcome, SymbolReport
from boursomatic_assets.core.market.vendor_actions import ACTION_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

__all__ = ["BarBatch", "BarRequest", "Outcome", "Provider", "SymbolReport", "reports_of"]


@dataclass(frozen=True)
class BarRequest:
    """A request for the bars of one symbol.

    `symbol` has the universe's spelling (`BRK.B`, `MC.PA`); `exchange` is its ISO 10383 code, `currency` the
    expected ISO 4217 code. `first` is the first requested session, None for all history. `last` is the newest
    closed session; a source must not deliver a later one. `stored` says that bars of the symbol are stored: an
    unknown symbol then counts as delisted or renamed, otherwise as not found.
    """

    symbol: str
    exchange: str
    first: date | None
    last: date
    currency: str | None = None
    stored: bool = False


@dataclass(frozen=True)
class BarBatch:
    """Bars of complete symbols: no symbol is split over two batches.

    `bars` have the columns of `BAR_SCHEMA`, unchecked, in any order; `reports` has one entry per symbol. `adjusted`
    says that the source adjusts prices for splits; jumps are searched for in either case. `actions`, of
    `ACTION_SCHEMA`, are splits and dividends for raw prices. `left_out` counts rows without trading by reason; they
    are not in `bars`.
    """

    bars: pl.DataFrame
    reports: tuple[SymbolReport, ...]
    adjusted: bool
    actions: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ACTION_SCHEMA))
    left_out: Mapping[str, int] = field(default_factory=dict)


def reports_of(bars: pl.DataFrame, source: str) -> tuple[SymbolReport, ...]:
    """One report per symbol, for a source that holds all bars locally."""
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
        """Content and origin of the bars, for messages and metadata."""

    @property
    def fetches_by_symbol(self) -> bool:
        """Whether bars are fetched symbol by symbol over a network; otherwise all bars are local."""

    def instruments(self) -> pl.DataFrame:
        """Instruments with the columns of `INSTRUMENT_SCHEMA`, one row per symbol."""

    def batches(self, requests: Sequence[BarRequest] = ()) -> Iterator[BarBatch]:
        """Deliver bars in pieces that fit in memory; a provider with local bars delivers all of them."""
