"""Adjustments entered by people, splits and dividends stated by vendors, and unexplained price jumps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
import sqlalchemy as sa

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.corporate_actions import ADJUSTMENT_SCHEMA, JUMP_SCHEMA
from boursomatic_assets.core.market.vendor_actions import ACTION_SCHEMA, applied_ratios
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.storage.postgres.database import STAGING, Cursor, Database, advisory_lock, fetch, stage
from boursomatic_assets.storage.postgres.panels import SEPARATOR
from boursomatic_assets.storage.postgres.tables import KEYS

_UNEXPLAINED = """
    SELECT j.symbol, j.session, j.ratio, j.split_ratio FROM unexplained_jumps j
    WHERE NOT EXISTS (SELECT FROM adjustments a WHERE a.symbol = j.symbol AND a.session = j.session)
    ORDER BY j.symbol, j.session
"""
_ACTIONS = "SELECT symbol, session, split, dividend, ratio FROM vendor_actions"


@dataclass(frozen=True)
class Corrections:
    """Adjustments of people (`ADJUSTMENT_SCHEMA`), actions of vendors (`ACTION_SCHEMA`), unexplained jumps."""

    adjustments: pl.DataFrame
    jumps: pl.DataFrame
    actions: pl.DataFrame

    @property
    def applied(self) -> pl.DataFrame:
        """What bars are adjusted by, as `apply_adjustments` takes it."""
        return applied_ratios(self.adjustments, self.actions)

    @property
    def quarantined(self) -> list[str]:
        """Symbols with an unexplained jump."""
        return self.jumps["symbol"].unique().sort().to_list()


def read_corrections(cursor: Cursor) -> Corrections:
    """Read adjustments, vendors' actions and unexplained jumps in the transaction of `cursor`."""
    entered = fetch(cursor, "SELECT symbol, session, ratio FROM adjustments ORDER BY symbol, session")
    jumps = fetch(cursor, _UNEXPLAINED)
    actions = fetch(cursor, f"{_ACTIONS} ORDER BY symbol, session")
    return Corrections(entered.cast(ADJUSTMENT_SCHEMA), jumps.cast(JUMP_SCHEMA), actions.cast(ACTION_SCHEMA))  # type: ignore[arg-type]


def read_actions(cursor: Cursor, symbols: Sequence[str]) -> pl.DataFrame:
    """Read vendors' actions of some symbols: of `ACTION_SCHEMA`."""
    mine = f"{_ACTIONS} WHERE symbol = ANY (string_to_array($1, '{SEPARATOR}')) ORDER BY symbol, session"
    return fetch(cursor, mine, [SEPARATOR.join(symbols)]).cast(ACTION_SCHEMA)  # type: ignore[arg-type]


def replace_actions(cursor: Cursor, spans: pl.DataFrame, actions: pl.DataFrame) -> None:
    """Record the splits and dividends of a batch, and remove those that it no longer states.

    `spans` has `symbol`, `after` and `until`: the sessions of which the batch speaks, later than `after`; null
    for an open end. `actions` of `ACTION_SCHEMA` lie within; a source of adjusted prices has none.
    """
    _replace(cursor, "vendor_actions", spans, actions.select(list(ACTION_SCHEMA)))


def replace_jumps(cursor: Cursor, spans: pl.DataFrame, jumps: pl.DataFrame) -> None:
    """Record the jumps found in some bars, and remove recorded ones that the bars no longer show.

    `spans` has `symbol`, `after` and `until`: the searched bars are later than `after`. `jumps` of `JUMP_SCHEMA`
    lie within.
    """
    _replace(cursor, "unexplained_jumps", spans, jumps.select(list(JUMP_SCHEMA)))


def _replace(cursor: Cursor, table: str, spans: pl.DataFrame, rows: pl.DataFrame) -> None:
    """Make a table's rows within some spans equal to `rows`; a changed row is removed and added."""
    columns = ", ".join(rows.columns)
    advisory_lock(cursor, table)
    stage(cursor, spans)
    known = fetch(
        cursor,
        f"SELECT {', '.join(f't.{name}' for name in rows.columns)} FROM {table} t "  # noqa: S608
        f"JOIN {STAGING} s ON s.symbol = t.symbol AND (s.after IS NULL OR t.session > s.after) "
        "AND (s.until IS NULL OR t.session <= s.until)",
    ).cast(dict(rows.schema))  # type: ignore[arg-type]
    if (gone := known.join(rows, on=rows.columns, how="anti")).height:
        stage(cursor, gone.select(PANEL_KEY))
        cursor.execute(
            f"DELETE FROM {table} t USING {STAGING} s WHERE s.symbol = t.symbol AND s.session = t.session"  # noqa: S608
        )
    if (new := rows.join(known, on=rows.columns, how="anti")).height:
        stage(cursor, new)
        cursor.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {STAGING}")  # noqa: S608


def known_jumps(database: Database, symbol: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All jumps of a symbol and its adjustments: of `JUMP_SCHEMA` and `ADJUSTMENT_SCHEMA`."""
    jumps, entered = (
        database.read(f"SELECT {', '.join(columns)} FROM {table} WHERE symbol = $1 ORDER BY session", [symbol])  # noqa: S608
        for table, columns in (("unexplained_jumps", JUMP_SCHEMA), ("adjustments", ADJUSTMENT_SCHEMA))
    )
    return jumps.cast(JUMP_SCHEMA), entered.cast(ADJUSTMENT_SCHEMA)  # type: ignore[arg-type]


def require_entry(database: Database, symbol: str, ratio: float) -> None:
    """Raise ConfigurationError if the symbol is no instrument, or the ratio not above 0."""
    if not 0 < ratio < float("inf"):
        message = (
            f"a ratio is the price after over the price before and above 0; found {ratio}. "
            "Example: 0.5 for a two-for-one split"
        )
        raise ConfigurationError(message)
    known = f"WITH {KEYS} SELECT symbol FROM keys WHERE symbol = $1"  # noqa: S608
    if database.read(known, [symbol]).is_empty():
        message = (
            f"there is no instrument {symbol!r}. Write it as the table instruments does, or bring it in first: "
            "boursomatic materialize --select instruments,price_bars"
        )
        raise ConfigurationError(message)


def add_adjustment(database: Database, symbol: str, session: date, ratio: float, note: str | None) -> None:
    """Store an adjustment, or replace the one of that symbol and session; errors as for `require_entry`.

    `services.ingest.adjusting.enter_adjustment` checks whether it explains a jump.
    """
    require_entry(database, symbol, ratio)
    with database.connection() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO adjustments (symbol, session, ratio, note) VALUES (:symbol, :session, :ratio, :note) "
                "ON CONFLICT (symbol, session) DO UPDATE SET ratio = excluded.ratio, note = excluded.note"
            ),
            {"symbol": symbol, "session": session, "ratio": ratio, "note": note},
        )


def remove_adjustment(database: Database, symbol: str, session: date) -> bool:
    """Remove an adjustment; returns whether there was one."""
    with database.connection() as connection:
        gone = connection.execute(
            sa.text("DELETE FROM adjustments WHERE symbol = :symbol AND session = :session"),
            {"symbol": symbol, "session": session},
        )
        return gone.rowcount > 0


def list_adjustments(database: Database) -> pl.DataFrame:
    """Adjustments with their notes, and unexplained jumps without a ratio."""
    return database.read(
        "SELECT symbol, session, ratio, NULL::double precision AS split_ratio, note FROM adjustments "  # noqa: S608
        f"UNION ALL SELECT symbol, session, NULL, split_ratio, NULL FROM ({_UNEXPLAINED}) j ORDER BY 1, 2"
    )
