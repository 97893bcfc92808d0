"""From which bars each symbol's stored features were computed, so that only what changed is computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.storage.postgres.database import STAGING, stage, take_turns
from boursomatic_assets.storage.postgres.tables import NOW

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

STATE_SCHEMA: dict[str, pl.DataType] = dict.fromkeys(("symbol", "inputs", "outputs"), pl.String())


def read_state(database: Database) -> pl.DataFrame:
    """`symbol`, `inputs` and `outputs`: what the features were computed from, and what was stored."""
    return database.read("SELECT symbol, inputs, outputs FROM feature_state").cast(STATE_SCHEMA)  # type: ignore[arg-type]


def write_state(cursor: Any, state: pl.DataFrame) -> None:  # noqa: ANN401 (an ADBC cursor)
    """Record the state of some symbols."""
    take_turns(cursor, "feature_state")
    stage(cursor, state)
    cursor.execute(
        f"INSERT INTO feature_state (symbol, inputs, outputs) SELECT symbol, inputs, outputs FROM {STAGING} "  # noqa: S608
        "ON CONFLICT (symbol) DO UPDATE "
        f"SET inputs = excluded.inputs, outputs = excluded.outputs, computed_at = {NOW}"
    )
