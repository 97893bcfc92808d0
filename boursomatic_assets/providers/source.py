"""What a source of prices is asked, and what it answers: wishes, deliveries, and one report per symbol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    import polars as pl


class Outcome(StrEnum):
    """What became of one symbol; only `FETCHED` brings bars."""

    FETCHED = "fetched"
    SOURCE_FAILED = "source failed"
    NOT_FOUND = "not found"
    EMPTY = "empty for these dates"
    DELISTED = "delisted"
    REFUSED = "refused"


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
class SymbolReport:
    """What became of one symbol.

    Attributes
    ----------
    symbol : str
    outcome : Outcome
    source : str or None
        Who delivered, such as `yahoo`; None where nobody did.
    rows : int
        Bars delivered.
    first, last : date or None
        Span of the bars delivered.
    detail : str
        For a person: why not, or what the first choice said before a fallback delivered.
    """

    symbol: str
    outcome: Outcome
    source: str | None = None
    rows: int = 0
    first: date | None = None
    last: date | None = None
    detail: str = ""


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
        Whether the source has taken splits out of the prices. Where it has not, or does not say, a jump near a
        split ratio needs an explanation.
    """

    bars: pl.DataFrame
    reports: tuple[SymbolReport, ...]
    adjusted: bool


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
