"""Header and rows of a list of instruments or members, each with its line number."""

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
    """Non-blank lines from the header on, each as its line number and cells.

    The file is text in any encoding, separated by commas, semicolons, tabs or bars, or an archive of one such text.
    `columns` are possible header names in lower case. The header is the first line with the first of them, else the
    first non-blank line. Lines that begin with # are comments.

    Raises SourceFileError if the file is not text, OSError if it cannot be read, and csv.Error for an open quote,
    with its line.
    """
    text = text_of(path)
    lines = text.splitlines()
    separator, header = _header(lines, list(columns))
    return list(_records(text, separator, header))


def _header(lines: list[str], columns: list[str]) -> tuple[str, int]:
    """Separator, and line number of the header, from 1."""
    first = next((number for number, line in enumerate(lines, 1) if line.strip() and not _is_remark(line)), 1)
    for number, line in enumerate(lines[:LINES_SEARCHED], 1):
        names = {
            separator: [cell.strip(" \"'").lower() for cell in line.split(separator)] for separator in SEPARATORS
        }
        known = {separator: sum(cell in columns for cell in cells) for separator, cells in names.items()}
        best = max(SEPARATORS, key=lambda separator: known[separator])
        if columns[0] in names[best]:
            # In a list of one column, every separator fits.
            return best, number
    head = lines[first - 1] if lines else ""
    return next((separator for separator in SEPARATORS if separator in head), ","), first


def _is_remark(line: str) -> bool:
    return line.lstrip().startswith("#")


def _records(text: str, separator: str, header: int) -> Iterator[tuple[int, list[str]]]:
    # Strict: otherwise an open quote would swallow all rows after it.
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
