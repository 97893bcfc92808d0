"""Stored features, read and written in whole columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from boursomatic_assets.core.dataset.features import (
    FEATURE_NAMES,
    derived_among,
    table_columns,
    with_derived_inputs,
)
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.storage.postgres.database import (
    STAGING,
    Cursor,
    Database,
    UpsertCounts,
    advisory_lock,
    fetch,
    stage,
)
from boursomatic_assets.storage.postgres.market_tables import read_usable_bars
from boursomatic_assets.storage.postgres.panels import (
    EVERYTHING,
    SEPARATOR,
    PanelTable,
    Selection,
    among,
    read_panel,
    upsert_panel,
)
from boursomatic_assets.storage.postgres.tables import FEATURE_COLUMNS, KEYS, NOW

# Content of the bars that a symbol's features were computed from, and of the features stored.
STATE_SCHEMA: dict[str, pl.DataType] = dict.fromkeys(("symbol", "inputs", "outputs"), pl.String())
# Relative; a stored row within it is not rewritten.
FEATURE_TOLERANCE = 1e-9
_FEATURES = PanelTable("features", FEATURE_COLUMNS, tolerance=FEATURE_TOLERANCE)


def newest_features(database: Database, symbols: int = 5) -> pl.DataFrame:
    """The newest features of the first symbols in the alphabet, as a preview."""
    features = read_features(database, selection=Selection(first_symbols=symbols))
    return features.group_by("symbol", maintain_order=True).last()


def write_features(database: Database, features: pl.DataFrame) -> UpsertCounts:
    """Store features; rows that agree with the stored ones to 1e-9 are not written."""
    with database.bulk() as cursor:
        return upsert_features(cursor, features)


def upsert_features(cursor: Cursor, features: pl.DataFrame) -> UpsertCounts:
    """`write_features` in the transaction of `cursor`."""
    return upsert_panel(cursor, _FEATURES, features)[0]


def remove_other_features(cursor: Cursor, symbols: Sequence[str], features: pl.DataFrame) -> int:
    """Remove daily features of some symbols at sessions that `features` lacks; returns how many."""
    stage(cursor, features.select(PANEL_KEY))
    gone = fetch(
        cursor,
        f"WITH {KEYS}, mine AS (SELECT id, symbol FROM keys "  # noqa: S608
        f"WHERE {among(1, 'symbol')}), gone AS ("
        "DELETE FROM features f USING mine m WHERE f.instrument_id = m.id AND f.ts = date_trunc('day', f.ts) "
        f"AND NOT EXISTS (SELECT FROM {STAGING} s WHERE s.symbol = m.symbol AND s.session = f.ts::date) "
        "RETURNING 1) SELECT count(*) AS rows FROM gone",
        [SEPARATOR.join(symbols)],
    )
    return int(gone["rows"].item())


def read_features(
    database: Database, columns: Sequence[str] = FEATURE_NAMES, selection: Selection = EVERYTHING
) -> pl.DataFrame:
    """Stored features as a panel."""
    with database.bulk() as cursor:
        return read_panel(cursor, _FEATURES, columns, selection)


def read_inputs(database: Database, names: Sequence[str], selection: Selection = EVERYTHING) -> pl.DataFrame:
    """Model inputs as a panel: stored features, and those derived from them and the usable close."""
    features = read_features(database, table_columns(names), selection)
    if not derived_among(names):
        return features
    closes = read_usable_bars(database, ["close"], selection)
    placed = features.join(closes, on=PANEL_KEY, how="left", maintain_order="left")
    return with_derived_inputs(placed, names).select(*PANEL_KEY, *names)


def sessions_by_exchange(database: Database, after: date) -> dict[str, list[date]]:
    """Sessions after a date that stored features have, by exchange, in order."""
    found = database.read(
        "SELECT i.exchange, f.ts::date AS session FROM features f JOIN instruments i ON i.id = f.instrument_id "
        "WHERE f.ts > $1::timestamp AND f.ts = date_trunc('day', f.ts) GROUP BY 1, 2 ORDER BY 1, 2",
        [str(after)],
    )
    return {str(exchange): rows["session"].to_list() for (exchange,), rows in found.group_by("exchange")}


def count_broken_features(database: Database) -> int:
    """Rows with an impossible value: infinite, an RSI outside 0 to 100, a negative volatility or range."""
    infinite = " OR ".join(f"abs({name}) = 'Infinity'" for name in FEATURE_NAMES)
    beyond = "rsi_14 NOT BETWEEN 0 AND 100 OR vol_20d < 0 OR atr_14 < 0"
    return int(database.value(f"SELECT count(*) FROM features WHERE {infinite} OR {beyond}"))  # noqa: S608


def read_state(database: Database) -> pl.DataFrame:
    """`symbol`, `inputs` and `outputs`: content of the bars used, and of the features stored."""
    return database.read("SELECT symbol, inputs, outputs FROM feature_state").cast(STATE_SCHEMA)  # type: ignore[arg-type]


def write_state(cursor: Cursor, state: pl.DataFrame) -> None:
    """Record the state of some symbols."""
    advisory_lock(cursor, "feature_state")
    stage(cursor, state)
    cursor.execute(
        f"INSERT INTO feature_state (symbol, inputs, outputs) SELECT symbol, inputs, outputs FROM {STAGING} "  # noqa: S608
        "ON CONFLICT (symbol) DO UPDATE "
        f"SET inputs = excluded.inputs, outputs = excluded.outputs, computed_at = {NOW}"
    )
