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
    source said before a fallback delivered. Signs that cannot be printed, and could drive a terminal, become blanks
    in `symbol` and `detail`.
    """

    symbol: str
    outcome: Outcome
    source: str | None = None
    rows: int = 0
    first: date | None = None
    last: date | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        for name in ("symbol", "detail"):
            object.__setattr__(self, name, printable(getattr(self, name)))


def printable(text: str) -> str:
    r"""The text with a blank for each sign that cannot be printed.

    Examples
    --------
    >>> printable("A\x1b[31m\n")
    'A [31m '
    """
    return text if text.isprintable() else "".join(sign if sign.isprintable() else " " for sign in text)
