"""The table `instruments`."""

from __future__ import annotations

import polars as pl

from boursomatic_assets.storage.postgres.database import (
    STAGING,
    Database,
    UpsertCounts,
    advisory_lock,
    fetch,
    merge,
    stage,
)
from boursomatic_assets.storage.postgres.tables import EXCHANGES, NOW

_DESCRIBED = ("name", "sector", "market_cap_bucket", "pe_bucket", "currency")


def write_instruments(database: Database, instruments: pl.DataFrame) -> UpsertCounts:
    """Add missing instruments (`INSTRUMENT_SCHEMA`) and fill blanks of existing ones; overwrite nothing.

    An existing instrument of that symbol counts as the same one, whatever its exchange.
    """
    filled = ", ".join(f"{name} = coalesce(i.{name}, s.{name})" for name in _DESCRIBED)
    blank = " OR ".join(f"(i.{name} IS NULL AND s.{name} IS NOT NULL)" for name in _DESCRIBED)
    return _upsert(database, instruments, filled, blank)


def write_universe(database: Database, universe: pl.DataFrame) -> tuple[UpsertCounts, list[str]]:
    """Update the instruments from a universe (`INSTRUMENT_SCHEMA`).

    Returns the counts, and the symbols that left it; those become inactive. Blanks of the universe change nothing,
    and only the exchange `US` is replaced.
    """
    stated = ", ".join(f"{name} = coalesce(s.{name}, i.{name})" for name in _DESCRIBED)
    exchange = "exchange = CASE WHEN i.exchange = 'US' THEN s.exchange ELSE i.exchange END"
    differs = " OR ".join(f"(s.{name} IS NOT NULL AND i.{name} IS DISTINCT FROM s.{name})" for name in _DESCRIBED)
    differs += " OR NOT i.is_active OR (i.exchange = 'US' AND s.exchange <> 'US')"
    counts = _upsert(database, universe, f"{stated}, {exchange}, is_active = true", differs)
    with database.bulk() as cursor:
        advisory_lock(cursor, "instruments")
        stage(cursor, universe.select("symbol"))
        left = fetch(
            cursor,
            f"UPDATE instruments i SET is_active = false, updated_at = {NOW} WHERE i.is_active "  # noqa: S608
            f"AND NOT EXISTS (SELECT FROM {STAGING} s WHERE s.symbol = i.symbol) RETURNING i.symbol",
        )
    return counts, sorted(left["symbol"].to_list())


def _upsert(database: Database, instruments: pl.DataFrame, assigned: str, condition: str) -> UpsertCounts:
    names = ", ".join(_DESCRIBED)
    with database.bulk() as cursor:
        advisory_lock(cursor, "instruments")
        # Control characters in a name would drive the terminal that shows it.
        texts = pl.col(_DESCRIBED).cast(pl.String).str.replace_all(r"[\p{Cc}\p{Cf}]+", " ")
        stage(cursor, instruments.with_columns(texts))
        updated = fetch(
            cursor,
            f"WITH changed AS (UPDATE instruments i SET {assigned}, updated_at = {NOW} FROM {STAGING} s "  # noqa: S608
            f"WHERE s.symbol = i.symbol AND ({condition}) RETURNING s.symbol) "
            "SELECT count(DISTINCT symbol) AS rows FROM changed",
        )["rows"].item()
        inserted, _ = merge(
            cursor,
            f"INSERT INTO instruments (id, symbol, exchange, {names}, is_active, created_at, updated_at) "  # noqa: S608
            f"SELECT gen_random_uuid(), symbol, exchange, {names}, true, {NOW}, {NOW} FROM {STAGING} s "
            "WHERE NOT EXISTS (SELECT FROM instruments i WHERE i.symbol = s.symbol)",
        )
    return UpsertCounts(inserted, updated, instruments.height - inserted - updated)


def read_instruments(database: Database) -> pl.DataFrame:
    """Every instrument, by symbol."""
    return database.read(
        "SELECT symbol, exchange, name, sector, market_cap_bucket, pe_bucket, currency, is_active "
        "FROM instruments ORDER BY symbol, exchange"
    )


def read_exchanges(database: Database) -> pl.DataFrame:
    """`symbol` and `exchange` of every instrument, as panels name them."""
    return database.read(EXCHANGES)
