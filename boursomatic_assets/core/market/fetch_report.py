"""What became of each symbol that a source was asked for: never one word for different causes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date


class Outcome(StrEnum):
    """What became of one symbol; only `FETCHED` brings bars."""

    FETCHED = "fetched"
    SOURCE_FAILED = "source failed"
    NOT_FOUND = "not found"
    EMPTY = "empty for these dates"
    DELISTED = "delisted"
    REFUSED = "refused"


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
