"""Bars and rejected bars: from frames to rows and back, whole columns at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.market.bars import BAR_SCHEMA, PANEL_KEY, symbol_groups
from boursomatic_assets.core.market.isolated_prices import ISOLATED, NO_TRADE
from boursomatic_assets.core.market.usable_bars import usable_bars
from boursomatic_assets.storage.postgres.adjustments_table import read_corrections
from boursomatic_assets.storage.postgres.database import STAGING, UpsertCounts, execute, fetch, stage
from boursomatic_assets.storage.postgres.panels import (
    EVERYTHING,
    SEPARATOR,
    PanelTable,
    Part,
    read_panel,
    upsert_panel,
)
from boursomatic_assets.storage.postgres.tables import BAR_COLUMNS, DAILY, KEYS, NOW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from boursomatic_assets.core.market.bars import CheckedBars
    from boursomatic_assets.storage.postgres.database import Database

# Rows that are held in memory at a time where all of a table passes through.
ROWS_AT_ONCE = 1_000_000
_BARS = PanelTable("price_bars", BAR_COLUMNS, tolerance=0.0, kind=DAILY)


@dataclass(frozen=True)
class Written:
    """What a write of bars did.

    Attributes
    ----------
    counts : UpsertCounts
    rewritten : DataFrame
        `symbol`, `rows` and `since` of bars that were stored before and now say something else.
    """

    counts: UpsertCounts
    rewritten: pl.DataFrame


def write_bars(database: Database, bars: CheckedBars, source: str) -> UpsertCounts:
    """Store accepted and rejected bars, both or none.

    Raises
    ------
    PanelContractError
        If a symbol is no instrument of the database, or names two.
    """
    with database.bulk() as cursor:
        return upsert_bars(cursor, bars, source).counts


def upsert_bars(cursor: Any, bars: CheckedBars, source: str) -> Written:  # noqa: ANN401 (an ADBC cursor)
    """Store accepted and rejected bars in the transaction of `cursor`; errors as for `write_bars`."""
    counts, replaced = upsert_panel(cursor, _BARS, bars.accepted)
    if bars.rejected.height:
        stage(cursor, bars.rejected)
        execute(cursor, _REJECTED, [source])
        execute(cursor, _SET_ASIDE, [ISOLATED, NO_TRADE])
    rewritten = replaced.group_by("symbol").agg(rows=pl.len(), since=pl.col("session").min()).sort("symbol")
    return Written(counts, rewritten)


def read_bars(
    database: Database, columns: Sequence[str] = tuple(BAR_COLUMNS), part: Part = EVERYTHING
) -> pl.DataFrame:
    """Daily bars as a panel, as the sources gave them.

    Parameters
    ----------
    database : Database
    columns : sequence of str
        Which of open, high, low, close, volume.
    part : Part, optional
    """
    with database.bulk() as cursor:
        return read_panel(cursor, _BARS, columns, part)


def read_tails(database: Database, symbols: Sequence[str], sessions: int) -> pl.DataFrame:
    """Bars of the newest sessions that are stored of each symbol, as a panel."""
    chosen = ", ".join(f't.{stored} AS "{name}"' for name, stored in BAR_COLUMNS.items())
    tails = database.read(
        f"WITH {KEYS} SELECT k.symbol, t.ts::date AS session, {chosen} FROM keys k CROSS JOIN LATERAL ("  # noqa: S608
        f"SELECT * FROM price_bars b WHERE b.instrument_id = k.id AND b.interval = '{DAILY}' "
        "ORDER BY b.ts DESC LIMIT $2::int) t WHERE k.symbol = ANY (string_to_array($1, "
        f"'{SEPARATOR}'))",
        [SEPARATOR.join(symbols), sessions],
    )
    return tails.cast(BAR_SCHEMA).sort(PANEL_KEY)  # type: ignore[arg-type]


def read_beside(cursor: Any, bars: pl.DataFrame, before: int, after: int) -> pl.DataFrame:  # noqa: ANN401
    """Stored bars next to those of a panel, itself a panel.

    Parameters
    ----------
    cursor : ADBC cursor
    bars : DataFrame
        With `symbol` and `session`.
    before, after : int
        So many sessions of each symbol before its first one in `bars`, and behind its last one.
    """
    if bars.is_empty():
        return pl.DataFrame(schema=BAR_SCHEMA)
    spans = bars.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    stage(cursor, spans)
    mine = f"price_bars b WHERE b.instrument_id = k.id AND b.interval = '{DAILY}'"
    chosen = ", ".join(f't.{stored} AS "{name}"' for name, stored in BAR_COLUMNS.items())
    beside = fetch(
        cursor,
        f"WITH {KEYS} SELECT k.symbol, t.ts::date AS session, {chosen} FROM {STAGING} s "  # noqa: S608
        "JOIN keys k ON k.symbol = s.symbol CROSS JOIN LATERAL ("
        f"(SELECT * FROM {mine} AND b.ts < s.first ORDER BY b.ts DESC LIMIT $1::int) UNION ALL "
        f"(SELECT * FROM {mine} AND b.ts >= s.last + interval '1 day' ORDER BY b.ts LIMIT $2::int)) t",
        [before, after],
    )
    return beside.cast(BAR_SCHEMA).sort(PANEL_KEY)  # type: ignore[arg-type]


def first_sessions(database: Database, symbols: Sequence[str]) -> dict[str, date]:
    """The oldest session that is stored of each symbol."""
    found = database.read(
        f"WITH {KEYS} SELECT k.symbol, min(b.ts)::date FROM keys k JOIN price_bars b ON b.instrument_id = k.id "  # noqa: S608
        f"WHERE b.interval = '{DAILY}' AND k.symbol = ANY (string_to_array($1, '{SEPARATOR}')) GROUP BY 1",
        [SEPARATOR.join(symbols)],
    )
    return dict(found.iter_rows())


def newest_session(database: Database) -> date | None:
    """Session of the newest daily bar of all; None without bars."""
    newest = database.read(f"SELECT max(ts)::date AS newest FROM price_bars WHERE interval = '{DAILY}'")  # noqa: S608
    found: date | None = newest["newest"].item()
    return found


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
    """Number of `rows`, `first` and `last` session of each symbol in `price_bars` or `features`, from a date on."""
    daily = f"t.interval = '{DAILY}'" if table == "price_bars" else "true"
    spans = database.read(
        f"WITH {KEYS} SELECT k.symbol, s.rows, s.first, s.last FROM keys k JOIN ("  # noqa: S608
        "SELECT instrument_id, count(*) AS rows, min(ts)::date AS first, max(ts)::date AS last "
        f"FROM {table} t WHERE {daily} AND ts >= $1::text::timestamp GROUP BY 1) s ON s.instrument_id = k.id",
        [since.isoformat() if since else "-infinity"],
    )
    return spans.cast({"symbol": pl.String, "first": pl.Date, "last": pl.Date}).sort("symbol")


def read_usable_bars(
    database: Database, columns: Sequence[str] = tuple(BAR_COLUMNS), part: Part = EVERYTHING
) -> pl.DataFrame:
    """Daily bars as features and labels may use them: adjusted, without quarantined symbols and filled-in rows.

    Parameters
    ----------
    database : Database
    columns : sequence of str
        Which of open, high, low, close, volume and exchange.
    part : Part, optional
    """
    with database.bulk() as cursor:
        corrections = read_corrections(cursor)
        exchanges = fetch(cursor, f"WITH {KEYS} SELECT symbol, exchange FROM keys")  # noqa: S608
        needed = [name for name in BAR_COLUMNS if name in {*columns, "close", "volume"}]
        bars = read_panel(cursor, _BARS, needed, part)
    placed = bars.join(exchanges, on="symbol", how="left", maintain_order="left")
    usable = usable_bars(
        placed, corrections.applied, corrections.quarantined, from_the_first_bar=part.is_from_the_first_bar
    )
    return usable.select(*PANEL_KEY, *columns)


def symbols_with_bars(database: Database) -> list[str]:
    """Symbols that have at least one daily bar, in alphabetical order."""
    found = database.read(
        f"WITH {KEYS} SELECT k.symbol FROM keys k WHERE EXISTS (SELECT FROM price_bars b "  # noqa: S608
        f"WHERE b.instrument_id = k.id AND b.interval = '{DAILY}') ORDER BY 1"
    )
    return found["symbol"].to_list()


def symbol_batches(
    database: Database, among: Sequence[str] | None = None, rows: int = ROWS_AT_ONCE
) -> list[list[str]]:
    """Split the symbols that have daily bars into groups of about so many rows each, in alphabetical order."""
    counts = database.read(
        f"WITH {KEYS} SELECT k.symbol, b.rows FROM keys k JOIN (SELECT instrument_id, count(*) AS rows "  # noqa: S608
        f"FROM price_bars WHERE interval = '{DAILY}' GROUP BY 1) b ON b.instrument_id = k.id"
    ).sort("symbol")
    chosen = counts if among is None else counts.filter(pl.col("symbol").is_in(list(among)))
    return symbol_groups(chosen, rows)


def newest_bars(database: Database, symbols: int = 5) -> pl.DataFrame:
    """The newest bar of the first few symbols in the alphabet, for people to look at."""
    with database.bulk() as cursor:
        bars = read_panel(cursor, _BARS, list(BAR_COLUMNS), Part(first_symbols=symbols))
    return bars.group_by("symbol", maintain_order=True).last()


# The newest bar of a symbol cannot be told from a wrong tick until the next one comes: it may be stored already.
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
    """Daily bars in the table that break the contract's rules on prices and volume, whoever wrote them."""
    prices = "least(o, h, l, c) > 0 AND greatest(o, h, l, c, v) < 'Infinity' AND v >= 0"
    order = "h >= greatest(o, l, c) AND l <= least(o, c)"
    broken = database.read(
        f"SELECT count(*) AS rows FROM price_bars WHERE interval = '{DAILY}' AND NOT ({prices} AND {order})"  # noqa: S608
    )
    return int(broken["rows"].item())
