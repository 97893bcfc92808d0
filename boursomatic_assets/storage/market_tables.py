"""Bars, rejected bars and features: from frames to rows and back, whole columns at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.features import FEATURE_NAMES
from boursomatic_assets.core.market_data import BAR_SCHEMA, PANEL_KEY
from boursomatic_assets.core.usable_bars import usable_bars
from boursomatic_assets.errors import PanelContractError
from boursomatic_assets.storage.adjustments_table import read_corrections
from boursomatic_assets.storage.database import STAGING, UpsertCounts, fetch, merge, stage, take_turns
from boursomatic_assets.storage.tables import BAR_COLUMNS, DAILY, FEATURE_COLUMNS, KEYS, NOW

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from boursomatic_assets.core.market_data import CheckedBars
    from boursomatic_assets.storage.database import Database

# Two computations of one feature agree to this relative difference; a stored row that does is left untouched.
FEATURE_TOLERANCE = 1e-9
# Rows that are held in memory at a time where all of a table passes through.
ROWS_AT_ONCE = 1_000_000
# Between symbols that are handed over as one text.
_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Part:
    """Which part of a panel is read; everything that is None does not limit it.

    Attributes
    ----------
    lookback_days : int or None
        Only rows of so many calendar days before the newest bar.
    first_symbols : int or None
        Only so many symbols, in alphabetical order.
    symbols : sequence of str or None
        Only these symbols.
    since : date or None
        Only sessions from this one on.
    """

    lookback_days: int | None = None
    first_symbols: int | None = None
    symbols: Sequence[str] | None = None
    since: date | None = None


EVERYTHING = Part()


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
    counts, replaced = _upsert_panel(cursor, _BARS, bars.accepted)
    if bars.rejected.height:
        stage(cursor, bars.rejected)
        cursor.execute(_REJECTED, [source])
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
        return _read_panel(cursor, _BARS, columns, part)


def read_tails(database: Database, symbols: Sequence[str], sessions: int) -> pl.DataFrame:
    """Bars of the newest sessions that are stored of each symbol, as a panel."""
    chosen = ", ".join(f't.{stored} AS "{name}"' for name, stored in BAR_COLUMNS.items())
    tails = database.read(
        f"WITH {KEYS} SELECT k.symbol, t.ts::date AS session, {chosen} FROM keys k CROSS JOIN LATERAL ("  # noqa: S608
        f"SELECT * FROM price_bars b WHERE b.instrument_id = k.id AND b.interval = '{DAILY}' "
        "ORDER BY b.ts DESC LIMIT $2::int) t WHERE k.symbol = ANY (string_to_array($1, "
        f"'{_SEPARATOR}'))",
        [_SEPARATOR.join(symbols), sessions],
    )
    return tails.cast(BAR_SCHEMA).sort(PANEL_KEY)  # type: ignore[arg-type]


def first_sessions(database: Database, symbols: Sequence[str]) -> dict[str, date]:
    """The oldest session that is stored of each symbol."""
    found = database.read(
        f"WITH {KEYS} SELECT k.symbol, min(b.ts)::date FROM keys k JOIN price_bars b ON b.instrument_id = k.id "  # noqa: S608
        f"WHERE b.interval = '{DAILY}' AND k.symbol = ANY (string_to_array($1, '{_SEPARATOR}')) GROUP BY 1",
        [_SEPARATOR.join(symbols)],
    )
    return dict(found.iter_rows())


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
        bars = _read_panel(cursor, _BARS, needed, part)
    placed = bars.join(exchanges, on="symbol", how="left", maintain_order="left")
    usable = usable_bars(placed, corrections.adjustments, corrections.quarantined)
    return usable.select(*PANEL_KEY, *columns)


def symbol_batches(
    database: Database, among: Sequence[str] | None = None, rows: int = ROWS_AT_ONCE
) -> list[list[str]]:
    """Split the symbols that have daily bars into groups of about so many rows each, in alphabetical order."""
    counts = database.read(
        f"WITH {KEYS} SELECT k.symbol, b.rows FROM keys k JOIN (SELECT instrument_id, count(*) AS rows "  # noqa: S608
        f"FROM price_bars WHERE interval = '{DAILY}' GROUP BY 1) b ON b.instrument_id = k.id"
    ).sort("symbol")
    chosen = counts if among is None else counts.filter(pl.col("symbol").is_in(list(among)))
    number = (pl.col("rows").cum_sum() - pl.col("rows")) // rows
    return chosen.group_by(number.alias("batch"), maintain_order=True).agg("symbol")["symbol"].to_list()


def newest_bars(database: Database, symbols: int = 5) -> pl.DataFrame:
    """The newest bar of the first few symbols in the alphabet, for people to look at."""
    with database.bulk() as cursor:
        bars = _read_panel(cursor, _BARS, list(BAR_COLUMNS), Part(first_symbols=symbols))
    return bars.group_by("symbol", maintain_order=True).last()


def newest_features(database: Database, symbols: int = 5) -> pl.DataFrame:
    """The newest features of the first few symbols in the alphabet, for people to look at."""
    features = read_features(database, part=Part(first_symbols=symbols))
    return features.group_by("symbol", maintain_order=True).last()


def write_features(database: Database, features: pl.DataFrame) -> UpsertCounts:
    """Store features; rows that agree with the stored ones to 1e-9 are left untouched."""
    with database.bulk() as cursor:
        return upsert_features(cursor, features)


def upsert_features(cursor: Any, features: pl.DataFrame) -> UpsertCounts:  # noqa: ANN401 (an ADBC cursor)
    """Store features in the transaction of `cursor`."""
    return _upsert_panel(cursor, _FEATURES, features)[0]


def read_features(
    database: Database, columns: Sequence[str] = FEATURE_NAMES, part: Part = EVERYTHING
) -> pl.DataFrame:
    """Stored features as a panel."""
    with database.bulk() as cursor:
        return _read_panel(cursor, _FEATURES, columns, part)


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
    part: Part = EVERYTHING,
) -> pl.DataFrame:
    chosen = ", ".join(f't.{table.columns[name]} AS "{name}"' for name in columns)
    conditions, parameters = _limits(table, part)
    query = (
        f"WITH {KEYS}, wanted AS (SELECT * FROM keys ORDER BY symbol LIMIT {part.first_symbols or 'ALL'}) "  # noqa: S608
        f"SELECT k.symbol, t.ts::date AS session, {chosen} FROM {table.name} t "
        f"JOIN wanted k ON k.id = t.instrument_id WHERE {' AND '.join(conditions)}"
    )
    panel = fetch(cursor, query, parameters)
    # Sorting here is faster than in the database, and independent of its collation.
    return panel.with_columns(pl.col("symbol").cast(pl.String), pl.col("session").cast(pl.Date)).sort(PANEL_KEY)


def _limits(table: _PanelTable, part: Part) -> tuple[list[str], list[Any]]:
    conditions = [f"t.interval = '{table.kind}'" if table.kind else "true"]
    parameters: list[Any] = []
    if part.lookback_days is not None:
        parameters.append(part.lookback_days)
        newest = f"(SELECT max(ts) FROM price_bars WHERE interval = '{DAILY}')"  # noqa: S608
        conditions.append(f"t.ts >= {newest} - make_interval(days => ${len(parameters)}::int)")
    if part.symbols is not None:
        parameters.append(_SEPARATOR.join(part.symbols))
        conditions.append(f"k.symbol = ANY (string_to_array(${len(parameters)}, '{_SEPARATOR}'))")
    if part.since is not None:
        parameters.append(part.since.isoformat())
        conditions.append(f"t.ts >= ${len(parameters)}::text::timestamp")
    return conditions, parameters


def _upsert_panel(cursor: Any, table: _PanelTable, panel: pl.DataFrame) -> tuple[UpsertCounts, pl.DataFrame]:  # noqa: ANN401
    """Write the rows that are new or differ; the others are not written, so their versions stay.

    Returns the counts, and the key of the rows that were stored before and differ.
    """
    take_turns(cursor, table.name)
    first: date | None = panel["session"].min()  # type: ignore[assignment]
    part = Part(symbols=panel["symbol"].unique().sort().to_list(), since=first)
    changed = _changed_rows(panel, _read_panel(cursor, table, list(table.columns), part), table)
    replaced = changed.filter("is_stored").select(PANEL_KEY)
    if changed.is_empty():
        return UpsertCounts(0, 0, panel.height), replaced
    stage(cursor, changed.drop("is_stored"))
    _require_known_symbols(cursor)
    inserted, updated = merge(cursor, _merge_statement(table))
    return UpsertCounts(inserted, updated, panel.height - inserted - updated), replaced


def _changed_rows(panel: pl.DataFrame, stored: pl.DataFrame, table: _PanelTable) -> pl.DataFrame:
    found = panel.join(stored.with_columns(is_stored=True), on=PANEL_KEY, how="left", suffix="_stored")
    same = pl.all_horizontal(_agrees(name, table.tolerance) for name in table.columns)
    kept = found.with_columns(pl.col("is_stored").fill_null(value=False)).filter(~pl.col("is_stored") | ~same)
    return kept.select(*PANEL_KEY, *table.columns, "is_stored")


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
        f"SELECT gen_random_uuid(), k.id, s.session, {values}{stored_kind}, {NOW} FROM {STAGING} s "
        f"JOIN (WITH {KEYS} SELECT * FROM keys) k ON k.symbol = s.symbol ORDER BY k.id, s.session "
        f"ON CONFLICT ({table.key}) DO UPDATE SET {assigned}"
    )


_REJECTED = f"""
    INSERT INTO rejected_bars (source, symbol, session, open, high, low, close, volume, reason, copies, row_hash)
    SELECT $1, symbol, session, open, high, low, close, volume, reason, count(*),
           md5(ROW($1::text, symbol, session, open, high, low, close, volume, reason)::text)
    FROM {STAGING} GROUP BY symbol, session, open, high, low, close, volume, reason
    ON CONFLICT (row_hash) DO UPDATE
        SET copies = excluded.copies, last_seen_at = {NOW}
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
