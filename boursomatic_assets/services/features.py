"""Update of the table `features`: only symbols whose bars changed are computed again."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.dataset.features import FEATURES, compute_features, require_history
from boursomatic_assets.core.market.bars import symbol_groups
from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.storage.postgres.adjustments_table import read_corrections
from boursomatic_assets.storage.postgres.content import read_content
from boursomatic_assets.storage.postgres.database import UpsertCounts
from boursomatic_assets.storage.postgres.features_table import (
    read_state,
    remove_other_features,
    upsert_features,
    write_state,
)
from boursomatic_assets.storage.postgres.market_tables import ROWS_AT_ONCE, read_usable_bars
from boursomatic_assets.storage.postgres.panels import Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    from boursomatic_assets.storage.postgres.adjustments_table import Corrections
    from boursomatic_assets.storage.postgres.database import Database

_SOURCES = sorted({source for feature in FEATURES for source in feature.sources})


@dataclass(frozen=True)
class FeatureUpdate:
    """Symbols recomputed, unchanged and quarantined; row counts and removed rows of the recomputed ones."""

    recomputed: int
    unchanged: int
    counts: UpsertCounts
    quarantined: list[str]
    removed: int = 0


def update_features(database: Database, code: str, note: Callable[[str], None]) -> FeatureUpdate:
    """Compute the features of the symbols whose bars, adjustments or `code` version changed.

    A symbol is computed from its first bar on, because exponential means have no finite lookback. The result equals
    a full recomputation. Raises NotEnoughHistoryError if no symbol has more bars than the longest lookback.
    """
    with database.bulk() as cursor:
        corrections = read_corrections(cursor)
    wanted = _wanted(database, corrections, code)
    require_history(wanted)
    due = _due(database, wanted)
    counts, removed, rows = UpsertCounts(0, 0, 0), 0, 0
    for symbols in symbol_groups(due, ROWS_AT_ONCE):
        computed = compute_features(read_usable_bars(database, _SOURCES, Selection(symbols=symbols)))
        with database.bulk() as cursor:
            counts += upsert_features(cursor, computed)
            removed += remove_other_features(cursor, symbols, computed)
        rows += computed.height
        note(f"{rows:,} of {due['rows'].sum():,} rows")
    _record(database, due)
    return FeatureUpdate(due.height, wanted.height - due.height, counts, corrections.quarantined, removed)


def _wanted(database: Database, corrections: Corrections, code: str) -> pl.DataFrame:
    """Symbols to compute, each with `inputs`, a text that changes with anything its features depend on."""
    bars = read_content(database, "price_bars").filter(~pl.col("symbol").is_in(corrections.quarantined))
    entries = {str(symbol): fingerprint(rows) for (symbol,), rows in corrections.adjustments.group_by("symbol")}
    for (symbol,), rows in corrections.actions.group_by("symbol"):
        entries[str(symbol)] = f"{entries.get(str(symbol), '')} {fingerprint(rows)}"
    adjusted = pl.col("symbol").replace_strict(entries, default="", return_dtype=pl.String)
    rules = f"{code} {importlib.metadata.version('exchange_calendars')}"
    return bars.with_columns(inputs=pl.concat_str("content", "exchange", adjusted, pl.lit(rules), separator=" "))


def _due(database: Database, wanted: pl.DataFrame) -> pl.DataFrame:
    """Symbols whose bars changed, or whose stored features differ from the last ones written."""
    stored = read_content(database, "features").select("symbol", stored="content")
    beside = wanted.join(read_state(database), on="symbol", how="left", suffix="_before").join(
        stored, on="symbol", how="left"
    )
    current = (pl.col("inputs") == pl.col("inputs_before")) & (pl.col("outputs") == pl.col("stored"))
    return beside.filter(~current.fill_null(value=False)).select(wanted.columns)


def _record(database: Database, due: pl.DataFrame) -> None:
    if due.is_empty():
        return
    stored = read_content(database, "features").select("symbol", outputs="content")
    state = due.join(stored, on="symbol").select("symbol", "inputs", "outputs")
    with database.bulk() as cursor:
        write_state(cursor, state)
