"""The table `universe_members`: who belonged to the universe when, where somebody has said so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.membership import MEMBER_SCHEMA, require_members
from boursomatic_assets.errors import SourceFileError
from boursomatic_assets.storage.database import STAGING, fetch, stage, take_turns

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets.storage.database import Database

_COLUMNS = ", ".join(MEMBER_SCHEMA)


def read_members(database: Database) -> pl.DataFrame:
    """Every membership, by symbol and start; a frame of `MEMBER_SCHEMA`."""
    found = database.read(f"SELECT {_COLUMNS} FROM universe_members")  # noqa: S608
    return found.cast(MEMBER_SCHEMA).sort("symbol", "member_from")  # type: ignore[arg-type]


def read_member_file(path: Path) -> pl.DataFrame:
    """Read a list of members from a CSV file.

    Parameters
    ----------
    path : Path
        With a header that names `symbol`, `member_from` and, where someone has left, `member_until`; dates are
        written as 2018-06-26.

    Raises
    ------
    SourceFileError
        If the file cannot be read or lacks a column, or a date is none.
    PanelContractError
        If a row cannot be a membership; names every one with its line.
    """
    try:
        texts = pl.read_csv(path, infer_schema=False, encoding="utf8-lossy")
    except (OSError, pl.exceptions.PolarsError) as error:
        message = f"{path} cannot be read as CSV: {error}"
        raise SourceFileError(message) from error
    texts = texts.rename({name: name.strip().removeprefix("\ufeff").lower() for name in texts.columns})
    missing = [name for name in ("symbol", "member_from") if name not in texts.columns]
    if missing:
        message = f"{path} lacks the columns {missing}; found {texts.columns}. Its first line names them"
        raise SourceFileError(message)
    if "member_until" not in texts.columns:
        texts = texts.with_columns(member_until=pl.lit(None, pl.String))
    plain = texts.select(pl.col(name).str.strip_chars().replace("", None) for name in MEMBER_SCHEMA)
    # The header is the first line.
    members = _dated(plain.with_row_index("line", offset=2), path).filter(
        pl.any_horizontal(pl.col(name).is_not_null() for name in MEMBER_SCHEMA)
    )
    require_members(members.with_columns(pl.col("line").cast(pl.Int64)), str(path))
    return members.select(list(MEMBER_SCHEMA))


def _dated(texts: pl.DataFrame, path: Path) -> pl.DataFrame:
    dates = [pl.col(name).str.to_date("%Y-%m-%d", strict=False) for name in ("member_from", "member_until")]
    members = texts.with_columns(dates)
    for name in ("member_from", "member_until"):
        wrong = texts.filter(texts[name].is_not_null() & members[name].is_null())
        if wrong.height:
            line, found = wrong.select("line", name).row(0)
            message = f"{path}, line {line}: {name} {found!r} is no date such as 2018-06-26; nothing was changed"
            raise SourceFileError(message)
    return members


def replace_members(database: Database, members: pl.DataFrame) -> tuple[int, int]:
    """Make the table say what the list says, in one transaction; rows that agree are left untouched.

    Parameters
    ----------
    database : Database
    members : DataFrame
        Of `MEMBER_SCHEMA`; may be empty.

    Returns
    -------
    tuple of int
        Rows that were added and removed; one whose end has changed counts as both.
    """
    same = " AND ".join(f"m.{name} IS NOT DISTINCT FROM s.{name}" for name in MEMBER_SCHEMA)
    with database.bulk() as cursor:
        take_turns(cursor, "universe_members")
        stage(cursor, members)
        removed = fetch(
            cursor,
            f"WITH gone AS (DELETE FROM universe_members m WHERE NOT EXISTS (SELECT FROM {STAGING} s "  # noqa: S608
            f"WHERE {same}) RETURNING 1) SELECT count(*) AS rows FROM gone",
        )["rows"].item()
        added = fetch(
            cursor,
            f"WITH new AS (INSERT INTO universe_members ({_COLUMNS}) SELECT {_COLUMNS} FROM {STAGING} s "  # noqa: S608
            f"WHERE NOT EXISTS (SELECT FROM universe_members m WHERE {same}) RETURNING 1) "
            "SELECT count(*) AS rows FROM new",
        )["rows"].item()
    return int(added), int(removed)
