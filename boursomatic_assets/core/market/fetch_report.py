"""Outcome of fetching each symbol from a source."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date


class Outcome(StrEnum):
    """Outcome of fetching a symbol; only `FETCHED` brings bars."""

    FETCHED = "fetched"
    SOURCE_FAILED = "source failed"
    NOT_FOUND = "not found"
    EMPTY = "empty for these dates"
    DELISTED = "delisted"
    REFUSED = "refused"


@dataclass(frozen=True)
class SymbolReport:
    """Outcome of fetching one symbol.

    `source` delivered the bars, `rows` of them, from `first` to `last`. `detail` says why not, or what the first
    source said before a fallback delivered.
    """

    symbol: str
    outcome: Outcome
    source: str | None = None
    rows: int = 0
    first: date | None = None
    last: date | None = None
    detail: str = ""
