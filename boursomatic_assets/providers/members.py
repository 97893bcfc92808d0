"""Reader for a list of members: the symbols of the universe, with the dates of their membership."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.membership import MEMBER_SCHEMA, require_members
from boursomatic_assets.errors import SourceFileError
from boursomatic_assets.providers.reading.dates import read_dates
from boursomatic_assets.providers.reading.lists import read_records
from boursomatic_assets.providers.symbols import spelled

if TYPE_CHECKING:
    from pathlib import Path

_DATES = ("member_from", "member_until")


def read_member_file(path: Path) -> pl.DataFrame:
    """Read a list of members.

    The header names `symbol`, `member_from` and, if a member has left, `member_until`. Symbols and dates may have
    any form that a price file may have.

    Raises SourceFileError if the file cannot be read, lacks a column, or has an invalid or ambiguous date;
    PanelContractError if a row is not a valid membership (the message names each with its line).
    """
    try:
        records = read_records(path, tuple(MEMBER_SCHEMA))
    except (OSError, csv.Error) as error:
        message = f"{path} cannot be read as CSV: {error}"
        raise SourceFileError(message) from error
    if not records:
        message = f"{path} cannot be read as CSV: it is empty"
        raise SourceFileError(message)
    columns = [name.strip().lower() for name in records[0][1]]
    missing = [name for name in ("symbol", "member_from") if name not in columns]
    if missing:
        message = f"{path} lacks the columns {missing}; found {columns}. Its header names them"
        raise SourceFileError(message)
    rows = [(line, dict(zip(columns, cells, strict=False))) for line, cells in records[1:]]
    texts = pl.DataFrame(
        [(line, *(cells.get(name, "").strip() or None for name in MEMBER_SCHEMA)) for line, cells in rows],
        schema={"line": pl.Int64, **dict.fromkeys(MEMBER_SCHEMA, pl.String)},
        orient="row",
    ).filter(pl.any_horizontal(pl.col(name).is_not_null() for name in MEMBER_SCHEMA))
    symbols = [symbol and spelled(symbol) for symbol in texts["symbol"]]
    members = _dated(texts.with_columns(symbol=pl.Series(symbols, dtype=pl.String)), path)
    require_members(members, str(path))
    return members.select(list(MEMBER_SCHEMA))


def _dated(texts: pl.DataFrame, path: Path) -> pl.DataFrame:
    # One author wrote both columns, so they share the order of day and month.
    found = read_dates(pl.concat(texts[name].rename("text") for name in _DATES).unique(maintain_order=True))
    if found.problem:
        message = f"{path}: {found.problem}; nothing was changed"
        raise SourceFileError(message)
    for name in _DATES:
        if found.is_iso:
            texts = texts.with_columns(pl.col(name).str.to_date("%Y-%m-%d").alias(f"{name} read"))
        else:
            known = found.known.select("text", pl.col("date").alias(f"{name} read"))
            texts = texts.join(known, left_on=name, right_on="text", how="left", maintain_order="left")
        wrong = texts.filter(pl.col(name).is_not_null() & pl.col(f"{name} read").is_null())
        if wrong.height:
            line, text = wrong.select("line", name).row(0)
            message = f"{path}, line {line}: {name} {text!r} is no date such as 2018-06-26; nothing was changed"
            raise SourceFileError(message)
    return texts.select("line", "symbol", *(pl.col(f"{name} read").alias(name) for name in _DATES))
