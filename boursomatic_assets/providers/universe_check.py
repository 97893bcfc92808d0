"""Validation of a list of instruments: all problems at once, each with its line.

Pure: rows in, problems or instruments out. `providers.universe` reads the files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import INSTRUMENT_SCHEMA
from boursomatic_assets.core.market.calendars import CURRENCY_OF_CALENDAR, calendar_of
from boursomatic_assets.providers.exchanges import US, market_named
from boursomatic_assets.providers.symbols import EXCHANGE_OF_SUFFIX, exchange_of, is_isin, spelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BUCKETS = {"market_cap_bucket": ("small", "mid", "large"), "pe_bucket": ("low", "medium", "high")}


def _exchange(text: str) -> str:
    """Code of a supported exchange for another source's name of it; any other text in capitals."""
    market = market_named(text)
    is_other = calendar_of(text) is None and market is not None and calendar_of(market.exchange) is not None
    return market.exchange if is_other and market else text.upper()


_CASE = {"symbol": spelled, "exchange": _exchange, **dict.fromkeys(BUCKETS, str.lower)}
_SYMBOL = re.compile(r"\^?[A-Z0-9]+([.-][A-Z0-9]+)*")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True)
class Row:
    """One row of a list, as the file has it.

    `line` is its first line, from 1; `cells` are by column; `surplus` counts values beyond the header's columns.
    """

    line: int
    cells: Mapping[str, str]
    surplus: int = 0

    def value(self, column: str) -> str:
        """Value of a column, stripped and in the column's usual case; empty if missing."""
        return _CASE.get(column, str)(self.cells.get(column, "").strip())


@dataclass(frozen=True)
class Listing:
    """A list of instruments before checks: header in lower case, rows, and the line of the header."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    line: int = 1


@dataclass(frozen=True)
class UniverseCheck:
    """Errors, which make a list unusable, and warnings; each text names its line."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def check_universe(listing: Listing) -> UniverseCheck:
    """Find all errors and warnings of a list, from its first line to its last."""
    errors = [f"line {listing.line}: {error}" for error in _column_errors(listing)]
    warnings = [f"line {listing.line}: {warning}" for warning in _column_warnings(listing)]
    first_lines: dict[str, int] = {}
    # Without a symbol column every row would repeat the same error.
    for row in listing.rows if "symbol" in listing.columns else ():
        first_line = first_lines.setdefault(row.value("symbol"), row.line)
        found = [f"line {row.line}: {error}" for error in _row_errors(row, first_line)]
        errors += found
        warnings += [] if found else [f"line {row.line}: {warning}" for warning in _row_warnings(row)]
    return UniverseCheck(tuple(errors), tuple(warnings))


def _column_errors(listing: Listing) -> Iterator[str]:
    if "symbol" not in listing.columns:
        found = ", ".join(listing.columns) or "nothing"
        yield f"expected a header with a column symbol; found {found}"
    elif not listing.rows:
        yield "expected at least one instrument below the header; the list is empty"
    for name in INSTRUMENT_SCHEMA:
        if listing.columns.count(name) > 1:
            yield f"expected each column once; {name} is there {listing.columns.count(name)} times"


def _column_warnings(listing: Listing) -> Iterator[str]:
    for name in listing.columns:
        if name and name not in INSTRUMENT_SCHEMA:
            yield f"column {name!r} is not known and left out; known are {', '.join(INSTRUMENT_SCHEMA)}"


def _row_errors(row: Row, first_line: int) -> Iterator[str]:
    symbol = row.value("symbol")
    if row.surplus:
        yield f"{row.surplus} more than the header's columns; put a text that holds a comma in double quotes"
    if not symbol:
        yield "blank symbol"
    elif not _SYMBOL.fullmatch(symbol):
        yield f"symbol {symbol!r}; expected letters and digits with dots or hyphens between, such as BRK.B"
    elif first_line != row.line:
        yield f"{symbol} is on line {first_line} already"
    yield from _exchange_errors(row)
    for name, buckets in BUCKETS.items():
        if row.value(name) not in ("", *buckets):
            yield f"{name} {row.value(name)!r}; expected {', '.join(buckets)} or nothing"
    currency = row.value("currency")
    if currency and not _CURRENCY.fullmatch(currency):
        yield f"currency {currency!r}; expected three capital letters, such as EUR"


def _exchange_errors(row: Row) -> Iterator[str]:
    symbol, exchange = row.value("symbol"), row.value("exchange")
    follows = exchange_of(symbol)
    if exchange and calendar_of(exchange) is None:
        yield f"unknown exchange {exchange!r}; known are US, XNYS, XNAS, XPAR, XAMS and XBRU"
    elif is_isin(symbol):
        yield f"{symbol} is an ISIN; expected the exchange's own symbol, such as MC.PA"
    elif follows is None:
        known = ", ".join(f".{suffix}" for suffix in EXCHANGE_OF_SUFFIX)
        yield f"{symbol} ends like no known exchange; known are {known}, and a class as in BRK.B"
    elif exchange and follows != US and calendar_of(exchange) != follows:
        yield f"{symbol} is on {follows} by its suffix, on {exchange} by its exchange"


def _row_warnings(row: Row) -> Iterator[str]:
    values = completed(row)
    symbol, exchange, currency = (values[name] for name in ("symbol", "exchange", "currency"))
    usual = _usual_currency(exchange)
    if currency != usual:
        yield (
            f"{symbol} trades in another currency than its exchange's list says: "
            f"{currency}, where {exchange} has {usual}"
        )
    for suffix, code in EXCHANGE_OF_SUFFIX.items():
        if calendar_of(exchange) == code and exchange_of(row.value("symbol")) != code:
            yield f"{symbol} on {exchange} lacks the suffix .{suffix}; a source may take it for a US symbol"


def completed(row: Row) -> dict[str, str | None]:
    """Values of a row by the columns of `INSTRUMENT_SCHEMA`; a blank exchange or currency is derived."""
    values = {name: row.value(name) or None for name in INSTRUMENT_SCHEMA}
    values["exchange"] = values["exchange"] or exchange_of(row.value("symbol"))
    values["currency"] = values["currency"] or _usual_currency(values["exchange"])
    return values


def _usual_currency(exchange: str | None) -> str | None:
    calendar = calendar_of(exchange)
    return CURRENCY_OF_CALENDAR[calendar] if calendar else None


def instruments_of(listing: Listing) -> pl.DataFrame:
    """Instruments of a list, with the columns of `INSTRUMENT_SCHEMA`; each row is completed."""
    return pl.DataFrame([completed(row) for row in listing.rows], schema=INSTRUMENT_SCHEMA)
