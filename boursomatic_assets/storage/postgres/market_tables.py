"""Bars and rejected bars, read and written in whole columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from boursomatic_assets.core.market.bars import (
    BAR_SCHEMA,
    ISOLATED,
    NO_TRADE,
    PANEL_KEY,
    CheckedBars,
    symbol_groups,
)
from boursomatic_assets.core.market.usable_bars import usable_bars
from boursomatic_assets.storage.postgres.adjustments_table import read_corrections
from boursomatic_assets.storage.postgres.database import (
    STAGING,
    Cursor,
    Database,
    UpsertCounts,
    execute,
    fetch,
    stage,
)
from boursomatic_assets.storage.postgres.panels import (
    EVERYTHING,
    SEPARATOR,
    PanelTable,
    Selection,
    among,
    read_panel,
    upsert_panel,
)
from boursomatic_assets.storage.postgres.tables import BAR_COLUMNS, DAILY, EXCHANGES, KEYS, NOW

# Batch size, in rows, where a whole table is read.
ROWS_AT_ONCE = 1_000_000
_VALUES = ", ".join(f't.{stored} AS "{name}"' for name, stored in BAR_COLUMNS.items())
_BARS = PanelTable("price_bars", BAR_COLUMNS, tolerance=0.0, kind=DAILY)


@dataclass(frozen=True)
class WrittenBars:
    """Counts of a write of bars; `rewritten` has `symbol`, `rows` and `since` of stored bars that changed."""

    counts: UpsertCounts
    rewritten: pl.DataFrame


def write_bars(database: Database, bars: CheckedBars, source: str) -> UpsertCounts:
    """Store accepted and rejected bars, both or none; PanelContractError for an unknown or ambiguous symbol."""
    with database.bulk() as cursor:
        return upsert_bars(cursor, bars, source).counts


def upsert_bars(cursor: Cursor, bars: CheckedBars, source: str) -> WrittenBars:
    """`write_bars` in the transaction of `cursor`."""
    counts, replaced = upsert_panel(cursor, _BARS, bars.accepted)
    if bars.rejected.height:
        stage(cursor, bars.rejected)
        execute(cursor, _REJECTED, [source])
        execute(cursor, _SET_ASIDE, [ISOLATED, NO_TRADE])
    rewritten = replaced.group_by("symbol").agg(rows=pl.len(), since=pl.col("session").min()).sort("symbol")
    return WrittenBars(counts, rewritten)


def read_bars(
    database: Database, columns: Sequence[str] = tuple(BAR_COLUMNS), selection: Selection = EVERYTHING
) -> pl.DataFrame:
    """Raw daily bars as a panel, as the sources gave them; `columns` among open, high, low, close and volume."""
    with database.bulk() as cursor:
        return read_panel(cursor, _BARS, columns, selection)


def read_tails(database: Database, symbols: Sequence[str], sessions: int) -> pl.DataFrame:
    """The newest stored bars of each symbol, at most `sessions` of them, as a panel."""
    tails = database.read(
        f"WITH {KEYS} SELECT k.symbol, t.ts::date AS session, {_VALUES} FROM keys k CROSS JOIN LATERAL ("  # noqa: S608
        f"SELECT * FROM price_bars b WHERE b.instrument_id = k.id AND b.interval = '{DAILY}' "
        f"ORDER BY b.ts DESC LIMIT $2::int) t WHERE {among(1)}",
        [SEPARATOR.join(symbols), sessions],
    )
    return tails.cast(BAR_SCHEMA).sort(PANEL_KEY)  # type: ignore[arg-type]


def read_beside(cursor: Cursor, bars: pl.DataFrame, before: int, after: int) -> pl.DataFrame:
    """Stored bars next to a panel: `before` sessions before a symbol's first one, `after` behind its last one."""
    if bars.is_empty():
        return pl.DataFrame(schema=BAR_SCHEMA)
    spans = bars.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    stage(cursor, spans)
    mine = f"price_bars b WHERE b.instrument_id = k.id AND b.interval = '{DAILY}'"
    beside = fetch(
        cursor,
        f"WITH {KEYS} SELECT k.symbol, t.ts::date AS session, {_VALUES} FROM {STAGING} s "  # noqa: S608
        "JOIN keys k ON k.symbol = s.symbol CROSS JOIN LATERAL ("
        f"(SELECT * FROM {mine} AND b.ts < s.first ORDER BY b.ts DESC LIMIT $1::int) UNION ALL "
        f"(SELECT * FROM {mine} AND b.ts >= s.last + interval '1 day' ORDER BY b.ts LIMIT $2::int)) t",
        [before, after],
    )
    return beside.cast(BAR_SCHEMA).sort(PANEL_KEY)  # type: ignore[arg-type]


def first_sessions(database: Database, symbols: Sequence[str]) -> dict[str, date]:
    """The oldest stored session of each symbol."""
    found = database.read(
        f"WITH {KEYS} SELECT k.symbol, min(b.ts)::date FROM keys k JOIN price_bars b ON b.instrument_id = k.id "  # noqa: S608
        f"WHERE b.interval = '{DAILY}' AND {among(1)} GROUP BY 1",
        [SEPARATOR.join(symbols)],
    )
    return dict(found.iter_rows())


def newest_session(database: Database) -> date | None:
    """Session of the newest daily bar; None without bars."""
    newest: date | None = database.value(f"SELECT max(ts)::date FROM price_bars WHERE interval = '{DAILY}'")  # noqa: S608
    return newest


def read_newest_sessions(database: Database) -> pl.DataFrame:
    """`symbol`, `exchange` and session of the `newest` daily bar of each active instrument; null without bars."""
    found = database.read(
        f"WITH {KEYS} SELECT k.symbol, k.exchange, (SELECT max(b.ts)::date FROM price_bars b "  # noqa: S608
        f"WHERE b.instrument_id = k.id AND b.interval = '{DAILY}') AS newest "
        "FROM keys k JOIN instruments i ON i.id = k.id WHERE i.is_active"
    )
    schema = {"symbol": pl.String, "exchange": pl.String, "newest": pl.Date}
    return found.cast(schema).sort("symbol")  # type: ignore[arg-type]


def read_spans(database: Database, table: str = "price_bars", since: date | None = None) -> pl.DataFrame:
    """`rows`, `first` and `last` session of each symbol in `price_bars` or `features`, from a date on."""
    daily = f"t.interval = '{DAILY}'" if table == "price_bars" else "true"
    spans = database.read(
        f"WITH {KEYS} SELECT k.symbol, s.rows, s.first, s.last FROM keys k JOIN ("  # noqa: S608
        "SELECT instrument_id, count(*) AS rows, min(ts)::date AS first, max(ts)::date AS last "
        f"FROM {table} t WHERE {daily} AND ts >= $1::text::timestamp GROUP BY 1) s ON s.instrument_id = k.id",
        [since.isoformat() if since else "-infinity"],
    )
    return spans.cast({"symbol": pl.String, "first": pl.Date, "last": pl.Date}).sort("symbol")


def read_usable_bars(
    database: Database, columns: Sequence[str] = tuple(BAR_COLUMNS), selection: Selection = EVERYTHING
) -> pl.DataFrame:
    """Daily bars for features and labels: adjusted, without quarantined symbols and filled-in rows.

    `columns` are among open, high, low, close, volume and exchange.
    """
    with database.bulk() as cursor:
        corrections = read_corrections(cursor)
        exchanges = fetch(cursor, EXCHANGES)
        needed = [name for name in BAR_COLUMNS if name in {*columns, "close", "volume"}]
        bars = read_panel(cursor, _BARS, needed, selection)
    placed = bars.join(exchanges, on="symbol", how="left", maintain_order="left")
    usable = usable_bars(
        placed, corrections.applied, corrections.quarantined, from_the_first_bar=selection.is_from_the_first_bar
    )
    return usable.select(*PANEL_KEY, *columns)


def symbols_with_bars(database: Database) -> list[str]:
    """Symbols with at least one daily bar, in alphabetical order."""
    found = database.read(
        f"WITH {KEYS} SELECT k.symbol FROM keys k WHERE EXISTS (SELECT FROM price_bars b "  # noqa: S608
        f"WHERE b.instrument_id = k.id AND b.interval = '{DAILY}') ORDER BY 1"
    )
    return found["symbol"].to_list()


def symbol_batches(
    database: Database, symbols: Sequence[str] | None = None, rows: int = ROWS_AT_ONCE
) -> list[list[str]]:
    """Split the symbols with daily bars into groups of about `rows` rows, in alphabetical order."""
    spans = read_spans(database)
    chosen = spans if symbols is None else spans.filter(pl.col("symbol").is_in(list(symbols)))
    return symbol_groups(chosen, rows)


def newest_bars(database: Database, symbols: int = 5) -> pl.DataFrame:
    """The newest bar of the first symbols in the alphabet, as a preview."""
    with database.bulk() as cursor:
        bars = read_panel(cursor, _BARS, list(BAR_COLUMNS), Selection(first_symbols=symbols))
    return bars.group_by("symbol", maintain_order=True).last()


# A wrong tick shows only when the next bar arrives, so it may be stored already.
_SET_ASIDE = f"""
    DELETE FROM price_bars b USING {STAGING} s, (WITH {KEYS} SELECT * FROM keys) k
    WHERE s.reason IN ($1, $2) AND k.symbol = s.symbol AND b.instrument_id = k.id AND b.ts = s.session
        AND b.interval = '{DAILY}' AND (b.o, b.h, b.l, b.c) = (s.open, s.high, s.low, s.close)
"""  # noqa: S608
_REJECTED = f"""
    INSERT INTO rejected_bars AS r
        (source, symbol, session, open, high, low, close, volume, reason, copies, row_hash)
    SELECT $1, symbol, session, open, high, low, close, volume, reason, count(*),
           md5(ROW($1::text, symbol, session, open, high, low, close, volume, reason)::text)
    FROM {STAGING} GROUP BY symbol, session, open, high, low, close, volume, reason
    ON CONFLICT (row_hash) DO UPDATE
        SET copies = excluded.copies, last_seen_at = {NOW}
        -- Seen again on the same day is nothing new: nothing is written.
        WHERE r.copies <> excluded.copies OR r.last_seen_at < {NOW} - interval '1 day'
"""  # noqa: S608


def count_broken_bars(database: Database) -> int:
    """Stored daily bars that break the contract's rules on prices and volume."""
    prices = "least(o, h, l, c) > 0 AND greatest(o, h, l, c, v) < 'Infinity' AND v >= 0"
    order = "h >= greatest(o, l, c) AND l <= least(o, c)"
    query = f"SELECT count(*) FROM price_bars WHERE interval = '{DAILY}' AND NOT ({prices} AND {order})"  # noqa: S608
    return int(database.value(query))
