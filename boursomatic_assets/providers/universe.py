"""The universe: the instruments to follow, from a list of the user or the one shipped with the package.

Columns are those of `INSTRUMENT_SCHEMA`; only `symbol` is required. `universe_check` validates a list.
"""

from __future__ import annotations

import csv
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from boursomatic_assets.core.market.bars import INSTRUMENT_SCHEMA
from boursomatic_assets.errors import ConfigurationError, SourceFileError
from boursomatic_assets.providers.reading.lists import read_records
from boursomatic_assets.providers.universe_check import Listing, Row, check_universe, instruments_of

if TYPE_CHECKING:
    import polars as pl

    from boursomatic_assets.settings import Settings

FILE_NAME = "universe.csv"
SHIPPED = Path(__file__).with_name(FILE_NAME)


def universe_place(settings: Settings) -> Path:
    """Path of the list in use: `BOURSOMATIC_UNIVERSE`, else `universe.csv` in the home, else the shipped one."""
    if settings.universe is not None:
        return Path(settings.universe).expanduser()
    own = settings.home / FILE_NAME
    return own if own.exists() else SHIPPED


def read_universe(settings: Settings) -> pl.DataFrame:
    """Read the instruments to follow: columns of `INSTRUMENT_SCHEMA`, one row per symbol, in file order.

    A blank exchange follows from the symbol's suffix, a blank currency from the exchange; other blanks are null.

    Raises SourceFileError if the file cannot be read or has errors; the message names each error with its line.
    """
    place = universe_place(settings)
    listing = read_listing(place)
    errors = check_universe(listing).errors
    if errors:
        count = f"{len(errors)} problem{'s' if len(errors) > 1 else ''}"
        listed = "".join(f"\n  {error}" for error in errors)
        message = (
            f"{place}: expected a list of instruments that can be used; found {count}:{listed}\n"
            f"Correct the file, then: boursomatic universe check {place}"
        )
        raise SourceFileError(message)
    return instruments_of(listing)


def read_listing(path: Path) -> Listing:
    """Read a list without checks; columns may have any order, and the CSV any dialect.

    Raises SourceFileError if the file is missing, is not text, or leaves a quote open.
    """
    try:
        records = read_records(path, tuple(INSTRUMENT_SCHEMA))
    except FileNotFoundError as error:
        message = (
            f"there is no list of instruments at {path}. Correct the path (or BOURSOMATIC_UNIVERSE), or start from "
            "the shipped list: boursomatic universe init"
        )
        raise SourceFileError(message) from error
    except (OSError, csv.Error) as error:
        message = f"{path} cannot be read as CSV: {error}"
        raise SourceFileError(message) from error
    line, header = records[0] if records else (1, [])
    columns = tuple(name.strip().lower() for name in header)
    return Listing(columns, tuple(_row(number, columns, cells) for number, cells in records[1:]), line)


def _row(line: int, columns: tuple[str, ...], cells: list[str]) -> Row:
    surplus = sum(1 for cell in cells[len(columns) :] if cell.strip())
    return Row(line, dict(zip(columns, cells, strict=False)), surplus)


def copy_shipped(settings: Settings, *, overwrite: bool) -> Path:
    """Copy the shipped list atomically into the home, for editing.

    Raises ConfigurationError if a list exists already, or the home cannot be written.
    """
    place = settings.home / FILE_NAME
    if place.exists() and not overwrite:
        message = f"{place} exists already. Replace it with the shipped list: boursomatic universe init --force"
        raise ConfigurationError(message)
    beside = place.with_name(f".{FILE_NAME}.{os.getpid()}.partial")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(SHIPPED.read_bytes())
        beside.replace(place)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        message = f"{place} cannot be written: {error}. Name another folder, such as BOURSOMATIC_HOME=~/boursomatic"
        raise ConfigurationError(message) from error
    return place
