"""What a table of bars or features holds, symbol by symbol, without reading it out: counts, spans, hashes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.storage.postgres.tables import BAR_COLUMNS, DAILY, FEATURE_COLUMNS, KEYS

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

_TABLES = {
    "price_bars": (tuple(BAR_COLUMNS.values()), f"t.interval = '{DAILY}'"),
    "features": (tuple(FEATURE_COLUMNS.values()), "true"),
}
# PostgreSQL hashes the number zero to the seed, and a null to 0: they must not be the same. A row's hash is linear
# in those of its values, so it is hashed once more: else values that change rows would leave the sum as it is.
_SEED = 1
_SCHEMA = {
    "symbol": pl.String, "exchange": pl.String, "rows": pl.Int64, "first": pl.Date, "last": pl.Date,
    "content": pl.String,
}  # fmt: skip


def read_content(database: Database, table: str) -> pl.DataFrame:
    """Describe what a table holds of each symbol.

    Parameters
    ----------
    database : Database
    table : str
        `price_bars` or `features`.

    Returns
    -------
    DataFrame
        `symbol`, `exchange`, `rows`, `first`, `last` and `content`, a sum of 64-bit hashes of the rows: it depends
        on their values and not on their order, their ids or the time at which they were written.
    """
    _, condition = _TABLES[table]
    found = database.read(
        f"WITH {KEYS} SELECT k.symbol, k.exchange, s.rows, s.first, s.last, s.content FROM keys k JOIN ("  # noqa: S608
        "SELECT t.instrument_id, count(*) AS rows, min(t.ts)::date AS first, max(t.ts)::date AS last, "
        f"{content_sum(table)} AS content "
        f"FROM {table} t WHERE {condition} GROUP BY 1) s ON s.instrument_id = k.id"
    )
    return found.cast(_SCHEMA).sort("symbol")  # type: ignore[arg-type]


def content_sum(table: str) -> str:
    """The aggregate that makes `content` of rows `t` with the columns of `price_bars` or `features`, as SQL."""
    row = ", ".join(f"t.{name}" for name in ("ts", *_TABLES[table][0]))
    return f"sum(hashtextextended(hash_record_extended(ROW({row}), {_SEED})::text, 0)::numeric)::text"


def count_nulls(database: Database) -> dict[str, int]:
    """Rows of `features` without a value, by feature."""
    counts = ", ".join(f"count(*) - count({name}) AS {name}" for name in FEATURE_COLUMNS)
    return database.read(f"SELECT {counts} FROM features").row(0, named=True)  # noqa: S608


def version_of(content: pl.DataFrame, *more: str) -> str:
    """Hash a table's content, and whatever else shapes what is read from it: SHA-256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for symbol, described in content.select("symbol", "content").iter_rows():
        digest.update(f"{len(symbol)}:{symbol}:{described};".encode())
    digest.update("".join(f"{len(text)}:{text};" for text in more).encode())
    return digest.hexdigest()
