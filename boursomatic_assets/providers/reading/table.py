"""One price table: the positions of its columns, and its cells as stored."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import polars as pl

from boursomatic_assets.core.market.bars import BAR_SCHEMA, PRICE_COLUMNS
from boursomatic_assets.errors import SourceFileError
from boursomatic_assets.providers.exchanges import market_named
from boursomatic_assets.providers.reading.columns import ALIASES, is_only_a_name, match_columns, plain
from boursomatic_assets.providers.reading.dialect import Layout, find_layout
from boursomatic_assets.providers.reading.opening import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from boursomatic_assets.providers.reading.opening import Content

_Read = TypeVar("_Read")
# Appended to a number that is broken off, so that it is none.
CUT_OFF = " (the file ends here)"
BYTES_AT_THE_END, FEWEST_NUMBERS = 10_000, 20
# Of a Parquet file of any size.
ALWAYS_ROWS = 1_000_000
SURPLUS = ("surplus 1", "surplus 2", "surplus 3")
# Text that export tools add to the symbol in a file name.
_AROUND_SYMBOL = re.compile(
    r"^(?:daily_adjusted_|daily_|table_)|"
    r"[ ,_-]+(?:historical[ _-]?(?:data|prices)|stock[ _-]price[ _-]history|prices?|history|daily|data|ohlcv?|1d|"
    r"(?:19|20)\d\d(?:-?\d\d-?\d\d)?|to|copy|copie|kopie|max)$|"
    # A browser's second download.
    r" ?\(\d+\)$",
    re.IGNORECASE,
)
_PART = re.compile(
    r"(part|chunk|data|file)([-_.]?[0-9a-f]+)*([-_.][\w-]*)?|prices?|quotes?|bars|ohlcv?|daily|history|eod|(19|20)\d\d([-_]?\d\d)*"
)


@dataclass(frozen=True)
class PriceTable:
    """One price table; `one_of_many` says that its name may be its symbol."""

    content: Content
    one_of_many: bool

    def __str__(self) -> str:
        """Place, for messages."""
        return str(self.content)

    @cached_property
    def layout(self) -> Layout:
        """Layout of the text; for a Parquet file only its columns.

        Raises UnreadableError if the file holds no table, SourceFileError if it is damaged.
        """
        if self.content.is_parquet:
            names = guarded(self, self._names_of_parquet)
            pairs = [re.fullmatch(r"\('([^']+)', '([^']*)'\)", name) for name in names]
            if any(pair and pair[2] for pair in pairs):
                wide = [
                    f"{pair[1]}|{pair[2]}" if pair and pair[2] else name
                    for pair, name in zip(pairs, names, strict=True)
                ]
                return Layout(",", 0, tuple(wide), 0, is_wide=True)
            return Layout(",", 0, tuple(names), 0)
        head = self.content.text_head()
        found = find_layout(head)
        if found is None:
            first = head.decode(errors="replace").strip().partition("\n")[0].strip()
            cells = next(csv.reader([first[:500]]), [])
            message = self._lacks(list(BAR_SCHEMA), cells)
            raise UnreadableError(message)
        return found

    def _names_of_parquet(self) -> list[str]:
        stored = pl.scan_parquet(self.content.path)
        rows, size = stored.select(pl.len()).collect().item(), self.content.path.stat().st_size
        if rows > max(size, ALWAYS_ROWS):
            message = f"{self} has {rows:,} rows in {size:,} bytes: they cannot hold prices"
            raise SourceFileError(message)
        return stored.collect_schema().names()

    @cached_property
    def places(self) -> dict[str, int]:
        """Positions of the columns, by our names; for a wide table those of its first symbol."""
        columns = self.layout.columns
        if self.layout.is_wide:
            return next(iter(self._blocks.values()))
        found = match_columns(columns)
        named_after_file = self.one_of_many and "symbol" in found and is_only_a_name(columns, found["symbol"])
        if named_after_file and self._symbol_of_file is not None:
            del found["symbol"]
        return found

    @cached_property
    def _blocks(self) -> dict[str, dict[str, int]]:
        """Positions of each symbol's columns and of the index, in a wide table."""
        blocks: dict[str, dict[int, str]] = {}
        index = 0
        for place, column in enumerate(self.layout.columns):
            field, bar, symbol = column.partition("|")
            if bar:
                blocks.setdefault(symbol, {})[place] = field
            elif plain(field) in (*ALIASES["session"], "", "indexlevel0", "index"):
                index = place
        found = {}
        for symbol, fields in blocks.items():
            matched = match_columns(list(fields.values()))
            places = list(fields)
            found[symbol] = {"session": index} | {
                n: places[p] for n, p in matched.items() if n not in {"session", "symbol"}
            }
        return found

    @cached_property
    def header(self) -> dict[str, str]:
        """The file's column names, by our names; empty for Parquet files and wide tables."""
        if self.content.is_parquet or self.layout.is_wide:
            return {}
        return {name: self.layout.columns[place] for name, place in self.places.items()}

    @cached_property
    def constants(self) -> dict[str, str]:
        """Values from the names of the file and its folders, by our column names."""
        said = {
            name: value
            for key, value in self.content.hive.items()
            for name in ("symbol", "session", "exchange")
            if plain(key) in ALIASES[name]
        }
        if self._symbol_of_file is not None:
            said.setdefault("symbol", self._symbol_of_file)
        return {name: value for name, value in said.items() if name not in self.places}

    @property
    def _symbol_of_file(self) -> str | None:
        if not self.one_of_many or self.layout.is_wide:
            return None
        for name in (self.content.name, *reversed(self.content.folders)):
            while (shorter := _AROUND_SYMBOL.sub("", name)) not in (name, ""):
                name = shorter  # noqa: PLW2901 (one ending after the other)
            if name and not _PART.fullmatch(name) and "=" not in name:
                return _with_colon(name)
            if not self.content.folders:
                break
        return None

    @property
    def is_adjusted(self) -> bool:
        """Whether there is an adjusted close."""
        return "adj_close" in self.places

    @property
    def is_stooq(self) -> bool:
        """Whether Stooq wrote the file; its country suffixes differ from those of other sources."""
        return any(column.startswith("<") for column in self.layout.columns)

    @property
    def separator(self) -> str:
        """Separator between the cells."""
        return self.layout.separator

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Our names of the available columns."""
        known = {**self.places, **self.constants}
        if self.layout.is_wide:
            known["symbol"] = 0
        return tuple(
            name for name in (*BAR_SCHEMA, "adj_close", "adj_volume", "exchange", "period") if name in known
        )

    def missing(self) -> str | None:
        """Message about missing columns; None if no column is missing.

        Raises UnreadableError if there is no price column at all: the table holds something else.
        """
        absent = [name for name in BAR_SCHEMA if name not in self.names]
        if not absent:
            return self._named_twice()
        message = self._lacks(absent, list(self.layout.columns))
        if all(name in absent for name in PRICE_COLUMNS):
            raise UnreadableError(message)
        return message

    def _named_twice(self) -> str | None:
        """Message about a recognised column whose name another column has, too."""
        names = Counter(map(plain, self.layout.columns))
        twice = [column for column in self.header.values() if len(plain(column)) > 1 and names[plain(column)] > 1]
        return f"{self}: two columns are named {twice[0]!r}; rename or delete one" if twice else None

    def _lacks(self, absent: list[str], found: list[str]) -> str:
        return (
            f"{self}: expected columns for {', '.join(BAR_SCHEMA)} (and adj_close where there is one); "
            f"none found for {', '.join(absent)} among {found}.\nRename them, for example to "
            "Date, Symbol, Open, High, Low, Close, Volume"
        )

    def scan(self, *, lazily: bool = False) -> pl.LazyFrame:
        """Cells by our names: texts of a CSV, values of a Parquet file; `lazily` leaves a large file on disk."""
        if self.layout.is_wide:
            cells = self._cells(lazily=lazily)
            names = cells.collect_schema().names()
            return pl.concat(
                cells.select(
                    pl.lit(symbol).alias("symbol"), *(pl.col(names[place]).alias(n) for n, place in places.items())
                )
                for symbol, places in self._blocks.items()
            )
        cells = self._cells(lazily=lazily)
        names = cells.collect_schema().names()
        chosen = [
            pl.col(names[self.places[name]]).alias(name)
            if name in self.places
            else pl.lit(self.constants[name]).alias(name)
            for name in self.names
        ]
        return cells.select(*chosen, *(name for name in SURPLUS if name in names))

    def _cells(self, *, lazily: bool) -> pl.LazyFrame:
        if self.content.is_parquet:
            return pl.scan_parquet(self.content.path)
        layout = self.layout
        columns = [f"c{place}" for place in range(len(layout.columns))]
        source = self.content.path if lazily and self.content.is_plain else self._lines_of(self.content.text())
        return pl.scan_csv(
            source,
            has_header=False,
            separator=layout.separator,
            skip_lines=layout.skipped,
            comment_prefix=layout.comment,
            # As text: with inferred types, the first value that does not fit would raise. The surplus columns on
            # the right show rows with more cells than the header.
            schema=dict.fromkeys((*columns, *SURPLUS), pl.String),
            missing_columns="insert",
            extra_columns="ignore",
            truncate_ragged_lines=True,
        )

    def _lines_of(self, text: bytes) -> bytes:
        # Line ends of classic Mac OS.
        whole = text if b"\n" in text or b"\r" not in text else text.replace(b"\r", b"\n")
        return whole + CUT_OFF.encode() if _is_cut_off(whole, self.separator.encode()) else whole


def _is_cut_off(text: bytes, separator: bytes) -> bool:
    """Whether the text ends within its last number, as after a broken download.

    It has no last line end, and the number has fewer decimals than all others of its column, or two digits less.
    """
    if text.endswith(b"\n"):
        return False
    *others, last = (line.rpartition(separator)[2].strip(b' "\r') for line in text[-BYTES_AT_THE_END:].split(b"\n"))
    numbers = [(len(number), len(number.partition(b".")[2])) for number in others[1:] if number]
    if len(numbers) < FEWEST_NUMBERS or not last:
        return False
    shortest, fewest = min(length for length, _ in numbers), min(decimals for _, decimals in numbers)
    return len(last.partition(b".")[2]) < fewest or len(last) <= shortest - 2


def _with_colon(name: str) -> str:
    """TradingView's file name of a symbol, `NASDAQ_AAPL`, with the colon that it writes elsewhere."""
    exchange, underscore, code = name.partition("_")
    return f"{exchange}:{code}" if underscore and code and market_named(exchange) else name


def guarded(table: PriceTable, read: Callable[[], _Read]) -> _Read:
    """Result of `read`; raises SourceFileError if the file is damaged or cannot be read."""
    try:
        return read()
    except (pl.exceptions.PolarsError, OSError) as error:
        what = str(error).partition("\n")[0]
        if "could not parse" in str(error) or "malformed" in str(error):
            what = "a quote is left open, or a row is broken off"
        message = f"{table} cannot be read; it may be truncated or of another format: {what}"
        raise SourceFileError(message) from error
