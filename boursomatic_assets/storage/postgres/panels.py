"""Tables that hold a panel, one row per instrument and session; a write touches only rows that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.errors import PanelContractError
from boursomatic_assets.storage.postgres.database import (
    STAGING,
    Cursor,
    UpsertCounts,
    advisory_lock,
    fetch,
    id_prefix,
    merge,
    stage,
)
from boursomatic_assets.storage.postgres.tables import DAILY, KEYS, NOW

# Separates symbols that are passed as one text.
SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Selection:
    """Rows to read: `lookback_days` before the newest bar, `first_symbols` in the alphabet; None is no limit."""

    lookback_days: int | None = None
    first_symbols: int | None = None
    symbols: Sequence[str] | None = None
    since: date | None = None

    @property
    def is_from_the_first_bar(self) -> bool:
        """Whether each symbol's history is read from its beginning."""
        return self.lookback_days is None and self.since is None


EVERYTHING = Selection()


@dataclass(frozen=True)
class PanelTable:
    """A table that holds a panel; `columns` maps frame to table columns, `kind` is the interval of daily bars."""

    name: str
    columns: Mapping[str, str]
    tolerance: float
    kind: str | None = None


def read_panel(
    cursor: Cursor, table: PanelTable, columns: Sequence[str], selection: Selection = EVERYTHING
) -> pl.DataFrame:
    """Read columns of the selected rows, sorted by symbol and session."""
    chosen = ", ".join(f't.{table.columns[name]} AS "{name}"' for name in columns)
    conditions, parameters = _limits(table, selection)
    query = (
        f"WITH {KEYS}, wanted AS (SELECT * FROM keys ORDER BY symbol LIMIT {selection.first_symbols or 'ALL'}) "  # noqa: S608
        f"SELECT k.symbol, t.ts::date AS session, {chosen} FROM {table.name} t "
        f"JOIN wanted k ON k.id = t.instrument_id WHERE {' AND '.join(conditions)}"
    )
    panel = fetch(cursor, query, parameters)
    # Sorting here is faster than in the database, and independent of its collation.
    return panel.with_columns(pl.col("symbol").cast(pl.String), pl.col("session").cast(pl.Date)).sort(PANEL_KEY)


def among(place: int, column: str = "k.symbol") -> str:
    """Condition that a symbol is one of those in parameter `place`, a text with `SEPARATOR` between them."""
    return f"{column} = ANY (string_to_array(${place}, '{SEPARATOR}'))"


def _limits(table: PanelTable, selection: Selection) -> tuple[list[str], list[Any]]:
    conditions = [f"t.interval = '{table.kind}'" if table.kind else "true"]
    parameters: list[Any] = []
    if selection.lookback_days is not None:
        parameters.append(selection.lookback_days)
        newest = f"(SELECT max(ts) FROM price_bars WHERE interval = '{DAILY}')"  # noqa: S608
        conditions.append(f"t.ts >= {newest} - make_interval(days => ${len(parameters)}::int)")
    if selection.symbols is not None:
        parameters.append(SEPARATOR.join(selection.symbols))
        conditions.append(among(len(parameters)))
    if selection.since is not None:
        parameters.append(selection.since.isoformat())
        conditions.append(f"t.ts >= ${len(parameters)}::text::timestamp")
    return conditions, parameters


def upsert_panel(cursor: Cursor, table: PanelTable, panel: pl.DataFrame) -> tuple[UpsertCounts, pl.DataFrame]:
    """Write the rows that are new or differ by more than the table's tolerance.

    Returns the counts, and the key of the stored rows that were replaced.
    """
    advisory_lock(cursor, table.name)
    first: date | None = panel["session"].min()  # type: ignore[assignment]
    selection = Selection(symbols=panel["symbol"].unique().sort().to_list(), since=first)
    changed = _changed_rows(panel, read_panel(cursor, table, list(table.columns), selection), table)
    replaced = changed.filter("is_stored").select(PANEL_KEY)
    if changed.is_empty():
        return UpsertCounts(0, 0, panel.height), replaced
    stage(cursor, changed.drop("is_stored"))
    _require_known_symbols(cursor)
    inserted, updated = merge(cursor, _merge_statement(table))
    return UpsertCounts(inserted, updated, panel.height - inserted - updated), replaced


def _changed_rows(panel: pl.DataFrame, stored: pl.DataFrame, table: PanelTable) -> pl.DataFrame:
    found = panel.join(stored.with_columns(is_stored=True), on=PANEL_KEY, how="left", suffix="_stored")
    same = pl.all_horizontal(_agrees(name, table.tolerance) for name in table.columns)
    kept = found.with_columns(pl.col("is_stored").fill_null(value=False)).filter(~pl.col("is_stored") | ~same)
    return kept.select(*PANEL_KEY, *table.columns, "is_stored")


def _agrees(name: str, tolerance: float) -> pl.Expr:
    new, old = pl.col(name), pl.col(f"{name}_stored")
    scale = pl.max_horizontal(new.abs(), old.abs())
    return new.eq_missing(old) | ((new - old).abs() <= tolerance * scale).fill_null(value=False)


def _require_known_symbols(cursor: Cursor) -> None:
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


def _merge_statement(table: PanelTable) -> str:
    targets, values = ", ".join(table.columns.values()), ", ".join(f"s.{name}" for name in table.columns)
    assigned = ", ".join(f"{column} = excluded.{column}" for column in table.columns.values())
    kind, stored_kind = (", interval", f", '{table.kind}'") if table.kind else ("", "")
    identity = f"overlay(gen_random_uuid()::text PLACING '{id_prefix()}' FROM 1 FOR 13)::uuid"
    return (
        f"INSERT INTO {table.name} (id, instrument_id, ts, {targets}{kind}, created_at) "  # noqa: S608
        f"SELECT {identity}, k.id, s.session, {values}{stored_kind}, {NOW} FROM {STAGING} s "
        f"JOIN (WITH {KEYS} SELECT * FROM keys) k ON k.symbol = s.symbol ORDER BY k.id, s.session "
        f"ON CONFLICT (instrument_id, ts{kind}) DO UPDATE SET {assigned}"
    )
