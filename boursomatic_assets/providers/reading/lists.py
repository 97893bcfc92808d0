"""Lists of instruments and of members: their header and rows, each with its line."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from boursomatic_assets.providers.reading.dialect import SEPARATORS
from boursomatic_assets.providers.reading.opening import text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

LINES_SEARCHED = 60


def read_records(path: Path, columns: Collection[str]) -> list[tuple[int, list[str]]]:
    """Lines that hold anything from the header on, each with its number, as cells.

    Parameters
    ----------
    path : Path
        Text in any encoding, its cells separated by commas, semicolons, tabs or bars, or an archive of one such.
    columns : collection of str
        Names that the header may hold, in small letters. The first line with the first of them is the header, else
        the first line that holds anything; lines that begin with a # are remarks.

    Raises
    ------
    SourceFileError
        If it is no text.
    OSError
        If it cannot be read.
    csv.Error
        If a quote is left open; names the line.
    """
    text = text_of(path)
    lines = text.splitlines()
    separator, header = _header(lines, list(columns))
    return list(_records(text, separator, header))


def _header(lines: list[str], columns: list[str]) -> tuple[str, int]:
    """Separator, and number of the header's line from 1."""
    first = next((number for number, line in enumerate(lines, 1) if line.strip() and not _is_remark(line)), 1)
    for number, line in enumerate(lines[:LINES_SEARCHED], 1):
        names = {
            separator: [cell.strip(" \"'").lower() for cell in line.split(separator)] for separator in SEPARATORS
        }
        known = {separator: sum(cell in columns for cell in cells) for separator, cells in names.items()}
        best = max(SEPARATORS, key=lambda separator: known[separator])
        if columns[0] in names[best]:
            # A list of one column has no separator.
            return best, number
    head = lines[first - 1] if lines else ""
    return next((separator for separator in SEPARATORS if separator in head), ","), first


def _is_remark(line: str) -> bool:
    return line.lstrip().startswith("#")


def _records(text: str, separator: str, header: int) -> Iterator[tuple[int, list[str]]]:
    # Strict: an open quote would else swallow all the rows after it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            if line >= header and any(cell.strip() for cell in cells) and not _is_remark(cells[0]):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        message = f"line {line}: {error}"
        raise csv.Error(message) from error
