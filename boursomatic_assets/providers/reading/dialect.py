"""Layout of a text table: its separator, its header, and the lines above the header."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from boursomatic_assets.providers.reading.columns import ALIASES, likeness, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SEPARATORS = (",", ";", "\t", "|")
LINES_SEARCHED = 60
COMMENTS = ("#", "//")
_FIELDS = {
    plain(alias) for name in ("open", "high", "low", "close", "volume", "adj_close") for alias in ALIASES[name]
}


@dataclass(frozen=True)
class Layout:
    """Layout of a text table.

    `header` is the number of the header line, from 0; `skipped` counts the lines before the first row; `comment` is
    the prefix of comment lines. `is_wide` marks yfinance's layout with several header rows; each of its `columns`
    is `field|symbol`.
    """

    separator: str
    header: int
    columns: tuple[str, ...]
    skipped: int
    comment: str | None = None
    is_wide: bool = False


def find_layout(head: bytes, score: Callable[[Sequence[str]], int] = likeness) -> Layout | None:
    """Find the separator and header of a text, from its beginning as UTF-8; None if no line is a header.

    `score` rates the cells of a line as a header; 0 means that it is none.
    """
    text = head.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")[:LINES_SEARCHED]
    if score is likeness and lines:
        # Files of one tool begin with the same line: its layout is cached.
        plainly = _plain_layout(lines[0], *(lines[1:2] or [""]))
        if plainly:
            return plainly
    return _searched(lines, score)


@lru_cache(maxsize=256)
def _plain_layout(first: str, second: str) -> Layout | None:
    """Layout of a text whose first line is its header; None if more lines must be examined."""
    if second.lower().startswith(("ticker", "price")) or first.lower().startswith(("ticker,", "price,", ",")):
        return None
    return _searched([first], likeness)


def _searched(lines: Sequence[str], score: Callable[[Sequence[str]], int]) -> Layout | None:
    best: tuple[int, Layout] | None = None
    comment = next((mark for mark in COMMENTS if any(line.startswith(mark) for line in lines)), None)
    for separator in SEPARATORS:
        for number, line in enumerate(lines):
            if separator not in line and best is not None:
                continue
            cells = _cells(line.lstrip("#/ ") if line.startswith(COMMENTS) else line, separator)
            wide = _wide_columns(lines, number, separator)
            points = score(cells) + 1 if wide is None else len(cells)
            if points > (best[0] if best else 1):
                columns, skipped = (tuple(cells), number + 1) if wide is None else wide
                is_comment = line.startswith(COMMENTS)
                mark = None if is_comment and not _has_comments(lines[number + 1 :]) else comment
                best = points, Layout(separator, number, columns, skipped, mark, is_wide=wide is not None)
    return best[1] if best else None


def _has_comments(lines: Sequence[str]) -> bool:
    return any(line.startswith(COMMENTS) for line in lines)


def _cells(line: str, separator: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        cells = []
    return [cell.strip() for cell in cells]


def _wide_columns(lines: Sequence[str], number: int, separator: str) -> tuple[tuple[str, ...], int] | None:
    """Columns and first row of yfinance's `to_csv`: rows of fields, of tickers, and of the index name."""
    rows = [_cells(line, separator) for line in lines[number : number + 3]]
    if len(rows) < 2 or len(rows[0]) < 2 or len(rows[0]) != len(rows[1]):  # noqa: PLR2004 (two rows, two cells)
        return None
    tops = [row[1:] for row in rows[:2]]
    fields = [sum(plain(cell) in _FIELDS for cell in row) for row in tops]
    if max(fields) < len(tops[0]) or min(fields) or not all(map(all, tops)):
        return None
    names, symbols = tops if fields[0] else tops[::-1]
    if {row[0].lower() for row in rows[:2]} - {"price", "ticker", "", "date", "attributes", "symbols"}:
        return None
    third = rows[2] if len(rows) > 2 else []  # noqa: PLR2004
    has_index_row = bool(third) and plain(third[0]) in {"date", "datetime", "", "index"} and not any(third[1:])
    index = third[0] if has_index_row and third[0] else "Date"
    columns = (index, *(f"{name}|{symbol}" for name, symbol in zip(names, symbols, strict=True)))
    return columns, number + 2 + has_index_row
