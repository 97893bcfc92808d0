"""The bars that each symbol's stored features were computed from, so that only changed ones are recomputed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.storage.postgres.database import STAGING, advisory_lock, stage
from boursomatic_assets.storage.postgres.tables import NOW

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

STATE_SCHEMA: dict[str, pl.DataType] = dict.fromkeys(("symbol", "inputs", "outputs"), pl.String())


def read_state(database: Database) -> pl.DataFrame:
    """`symbol`, `inputs` and `outputs`: content of the bars used, and of the features stored."""
    return database.read("SELECT symbol, inputs, outputs FROM feature_state").cast(STATE_SCHEMA)  # type: ignore[arg-type]


def write_state(cursor: Any, state: pl.DataFrame) -> None:  # noqa: ANN401 (an ADBC cursor)
    """Record the state of some symbols."""
    advisory_lock(cursor, "feature_state")
    stage(cursor, state)
    cursor.execute(
        f"INSERT INTO feature_state (symbol, inputs, outputs) SELECT symbol, inputs, outputs FROM {STAGING} "  # noqa: S608
        "ON CONFLICT (symbol) DO UPDATE "
        f"SET inputs = excluded.inputs, outputs = excluded.outputs, computed_at = {NOW}"
    )
