"""Row counts, spans and hashes of the symbols of a table, computed in the database."""

from __future__ import annotations

import hashlib

import polars as pl

from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.tables import BAR_COLUMNS, DAILY, FEATURE_COLUMNS, KEYS

_TABLES = {
    "price_bars": (tuple(BAR_COLUMNS.values()), f"t.interval = '{DAILY}'"),
    "features": (tuple(FEATURE_COLUMNS.values()), "true"),
}
# PostgreSQL hashes 0.0 to the seed and null to 0, so the seed must not be 0. A row's hash is linear in those of its
# values; it is hashed once more, so that values which swap rows change the sum.
_SEED = 1
_SCHEMA = {
    "symbol": pl.String, "exchange": pl.String, "rows": pl.Int64, "first": pl.Date, "last": pl.Date,
    "content": pl.String,
}  # fmt: skip


def read_content(database: Database, table: str) -> pl.DataFrame:
    """`rows`, `first`, `last` and `content` of each symbol in `price_bars` or `features`, with its exchange.

    `content` is a sum of 64-bit row hashes: it depends on the values, not on order, ids or time of writing.
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
    """SQL aggregate for `content`, over rows `t` with the columns of `price_bars` or `features`."""
    row = ", ".join(f"t.{name}" for name in ("ts", *_TABLES[table][0]))
    return f"sum(hashtextextended(hash_record_extended(ROW({row}), {_SEED})::text, 0)::numeric)::text"


def count_nulls(database: Database) -> dict[str, int]:
    """Rows of `features` without a value, by feature."""
    counts = ", ".join(f"count(*) - count({name}) AS {name}" for name in FEATURE_COLUMNS)
    return database.read(f"SELECT {counts} FROM features").row(0, named=True)  # noqa: S608


def version_of(content: pl.DataFrame, *more: str) -> str:
    """SHA-256, as 64 hexadecimal digits, of a table's content and of texts that shape what is read from it."""
    digest = hashlib.sha256()
    for symbol, described in content.select("symbol", "content").iter_rows():
        digest.update(f"{len(symbol)}:{symbol}:{described};".encode())
    digest.update("".join(f"{len(text)}:{text};" for text in more).encode())
    return digest.hexdigest()
