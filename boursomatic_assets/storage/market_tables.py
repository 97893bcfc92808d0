"""Instruments, bars, rejected bars and features: from frames to rows and back, whole columns at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.features import FEATURE_NAMES
from boursomatic_assets.core.market_data import PANEL_KEY
from boursomatic_assets.errors import PanelContractError
from boursomatic_assets.storage.database import STAGING, UpsertCounts, fetch, merge, stage, take_turns
from boursomatic_assets.storage.tables import BAR_COLUMNS, DAILY, FEATURE_COLUMNS, KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.market_data import CheckedBars
    from boursomatic_assets.storage.database import Database

# Two computations of one feature agree to this relative difference; a stored row that does is left untouched.
FEATURE_TOLERANCE = 1e-9


def write_instruments(database: Database, instruments: pl.DataFrame) -> UpsertCounts:
    """Add instruments that are missing and fill blanks of those that are there; overwrite nothing.

    Parameters
    ----------
    database : Database
    instruments : DataFrame
        Columns of `INSTRUMENT_SCHEMA`.

    Notes
    -----
    An existing instrument of that symbol counts as the same one, whatever its exchange is called there.
    """
    described = ("name", "sector", "market_cap_bucket", "pe_bucket")
    names = ", ".join(described)
    filled = ", ".join(f"{name} = coalesce(i.{name}, s.{name})" for name in described)
    blank = " OR ".join(f"(i.{name} IS NULL AND s.{name} IS NOT NULL)" for name in described)
    with database.bulk() as cursor:
        take_turns(cursor, "instruments")
        stage(cursor, instruments)
        updated = fetch(
            cursor,
            f"WITH filled AS (UPDATE instruments i SET {filled}, updated_at = {_NOW} FROM {STAGING} s "  # noqa: S608
            f"WHERE s.symbol = i.symbol AND ({blank}) RETURNING s.symbol) "
            "SELECT count(DISTINCT symbol) AS rows FROM filled",
        )["rows"].item()
        inserted, _ = merge(
            cursor,
            f"INSERT INTO instruments (id, symbol, exchange, {names}, is_active, created_at, updated_at) "  # noqa: S608
            f"SELECT gen_random_uuid(), symbol, exchange, {names}, true, {_NOW}, {_NOW} FROM {STAGING} s "
            "WHERE NOT EXISTS (SELECT FROM instruments i WHERE i.symbol = s.symbol)",
        )
    return UpsertCounts(inserted, updated, instruments.height - inserted - updated)


def read_instruments(database: Database) -> pl.DataFrame:
    """Every instrument, by symbol."""
    return database.read(
        "SELECT symbol, exchange, name, sector, market_cap_bucket, pe_bucket, is_active "
        "FROM instruments ORDER BY symbol, exchange"
    )


def write_bars(database: Database, bars: CheckedBars, source: str) -> UpsertCounts:
    """Store accepted and rejected bars, both or none.

    Raises
    ------
    PanelContractError
        If a symbol is no instrument of the database, or names two.
    """
    with database.bulk() as cursor:
        counts = _upsert_panel(cursor, _BARS, bars.accepted)
        if bars.rejected.height:
            stage(cursor, bars.rejected)
            cursor.execute(_REJECTED, [source])
        return counts


def read_bars(
    database: Database,
    columns: Sequence[str] = tuple(BAR_COLUMNS),
    lookback_days: int | None = None,
    first_symbols: int | None = None,
) -> pl.DataFrame:
    """Daily bars as a panel.

    Parameters
    ----------
    database : Database
    columns : sequence of str
        Which of open, high, low, close, volume.
    lookback_days : int, optional
        Only bars of so many calendar days before the newest one; all of them without it.
    first_symbols : int, optional
        Only so many symbols, in alphabetical order.
    """
    with database.bulk() as cursor:
        return _read_panel(cursor, _BARS, columns, lookback_days, first_symbols)


def write_features(database: Database, features: pl.DataFrame) -> UpsertCounts:
    """Store features; rows that agree with the stored ones to 1e-9 are left untouched."""
    with database.bulk() as cursor:
        return _upsert_panel(cursor, _FEATURES, features)


def read_features(
    database: Database,
    columns: Sequence[str] = FEATURE_NAMES,
    lookback_days: int | None = None,
    first_symbols: int | None = None,
) -> pl.DataFrame:
    """Stored features as a panel; limited as for `read_bars`."""
    with database.bulk() as cursor:
        return _read_panel(cursor, _FEATURES, columns, lookback_days, first_symbols)


@dataclass(frozen=True)
class _PanelTable:
    """A table that holds a panel: a row per instrument and session.

    `columns` maps frame columns to table columns; `kind` is the interval that marks daily bars in a table
    that holds others too.
    """

    name: str
    columns: Mapping[str, str]
    tolerance: float
    kind: str | None = None

    @property
    def key(self) -> str:
        return "instrument_id, ts, interval" if self.kind else "instrument_id, ts"


_BARS = _PanelTable("price_bars", BAR_COLUMNS, tolerance=0.0, kind=DAILY)
_FEATURES = _PanelTable("features", FEATURE_COLUMNS, tolerance=FEATURE_TOLERANCE)


def _read_panel(
    cursor: Any,  # noqa: ANN401 (an ADBC cursor)
    table: _PanelTable,
    columns: Sequence[str],
    lookback_days: int | None = None,
    first_symbols: int | None = None,
) -> pl.DataFrame:
    chosen = ", ".join(f't.{table.columns[name]} AS "{name}"' for name in columns)
    daily = f"t.interval = '{table.kind}'" if table.kind else "true"
    newest = f"(SELECT max(ts) FROM price_bars WHERE interval = '{DAILY}')"  # noqa: S608
    recent = f"t.ts >= {newest} - make_interval(days => $1::int)" if lookback_days is not None else "true"
    query = (
        f"WITH {KEYS}, wanted AS (SELECT * FROM keys ORDER BY symbol LIMIT {first_symbols or 'ALL'}) "  # noqa: S608
        f"SELECT k.symbol, t.ts::date AS session, {chosen} FROM {table.name} t "
        f"JOIN wanted k ON k.id = t.instrument_id WHERE {daily} AND {recent}"
    )
    panel = fetch(cursor, query, [] if lookback_days is None else [lookback_days])
    # Sorting here is faster than in the database, and independent of its collation.
    return panel.with_columns(pl.col("symbol").cast(pl.String), pl.col("session").cast(pl.Date)).sort(PANEL_KEY)


def _upsert_panel(cursor: Any, table: _PanelTable, panel: pl.DataFrame) -> UpsertCounts:  # noqa: ANN401
    """Write the rows that are new or differ; the others are not written, so their versions stay."""
    take_turns(cursor, table.name)
    changed = _changed_rows(panel, _read_panel(cursor, table, list(table.columns)), table)
    if changed.is_empty():
        return UpsertCounts(0, 0, panel.height)
    stage(cursor, changed)
    _require_known_symbols(cursor)
    inserted, updated = merge(cursor, _merge_statement(table))
    return UpsertCounts(inserted, updated, panel.height - inserted - updated)


def _changed_rows(panel: pl.DataFrame, stored: pl.DataFrame, table: _PanelTable) -> pl.DataFrame:
    found = panel.join(stored.with_columns(is_stored=True), on=PANEL_KEY, how="left", suffix="_stored")
    same = pl.all_horizontal(_agrees(name, table.tolerance) for name in table.columns)
    return found.filter(pl.col("is_stored").is_null() | ~same).select(*PANEL_KEY, *table.columns)


def _agrees(name: str, tolerance: float) -> pl.Expr:
    new, old = pl.col(name), pl.col(f"{name}_stored")
    scale = pl.max_horizontal(new.abs(), old.abs())
    return new.eq_missing(old) | ((new - old).abs() <= tolerance * scale).fill_null(value=False)


def _require_known_symbols(cursor: Any) -> None:  # noqa: ANN401
    unknown = fetch(
        cursor,
        f"WITH {KEYS} SELECT DISTINCT symbol FROM {STAGING} WHERE symbol NOT IN (SELECT symbol FROM keys) "  # noqa: S608
        "ORDER BY symbol LIMIT 10",
    )
    if unknown.height:
        message = (
            f"symbols that name no instrument, or more than one: {unknown['symbol'].to_list()}. "
            "Nothing was stored.\n"
            "Bring the instruments in first: boursomatic materialize --select instruments,price_bars"
        )
        raise PanelContractError(message)


def _merge_statement(table: _PanelTable) -> str:
    targets, values = ", ".join(table.columns.values()), ", ".join(f"s.{name}" for name in table.columns)
    assigned = ", ".join(f"{column} = excluded.{column}" for column in table.columns.values())
    kind, stored_kind = (", interval", f", '{table.kind}'") if table.kind else ("", "")
    return (
        f"INSERT INTO {table.name} (id, instrument_id, ts, {targets}{kind}, created_at) "  # noqa: S608
        f"SELECT gen_random_uuid(), k.id, s.session, {values}{stored_kind}, {_NOW} FROM {STAGING} s "
        f"JOIN (WITH {KEYS} SELECT * FROM keys) k ON k.symbol = s.symbol ORDER BY k.id, s.session "
        f"ON CONFLICT ({table.key}) DO UPDATE SET {assigned}"
    )


# In the existing database no column can be trusted to have a default: every insert supplies all of them.
_NOW = "timezone('utc', now())"
_REJECTED = f"""
    INSERT INTO rejected_bars (source, symbol, session, open, high, low, close, volume, reason, copies, row_hash)
    SELECT $1, symbol, session, open, high, low, close, volume, reason, count(*),
           md5(ROW($1::text, symbol, session, open, high, low, close, volume, reason)::text)
    FROM {STAGING} GROUP BY symbol, session, open, high, low, close, volume, reason
    ON CONFLICT (row_hash) DO UPDATE
        SET copies = excluded.copies, last_seen_at = {_NOW}
"""  # noqa: S608


def count_broken_features(database: Database) -> int:
    """Rows of features with a value that cannot be: infinite, an index outside 0 to 100, a negative deviation."""
    infinite = " OR ".join(f"abs({name}) = 'Infinity'" for name in FEATURE_NAMES)
    beyond = "rsi_14 NOT BETWEEN 0 AND 100 OR vol_20d < 0 OR atr_14 < 0"
    broken = database.read(f"SELECT count(*) AS rows FROM features WHERE {infinite} OR {beyond}")  # noqa: S608
    return int(broken["rows"].item())


def count_broken_bars(database: Database) -> int:
    """Daily bars in the table that break the contract's rules on prices and volume, whoever wrote them."""
    prices = "least(o, h, l, c) > 0 AND greatest(o, h, l, c, v) < 'Infinity' AND v >= 0"
    order = "h >= greatest(o, l, c) AND l <= least(o, c)"
    broken = database.read(
        f"SELECT count(*) AS rows FROM price_bars WHERE interval = '{DAILY}' AND NOT ({prices} AND {order})"  # noqa: S608
    )
    return int(broken["rows"].item())
