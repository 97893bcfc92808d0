"""Rows of `recommendation_outcomes`: outcomes of recommendations, never rewritten."""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.errors import PanelContractError
from boursomatic_assets.storage.postgres.database import STAGING, Database, advisory_lock, merge, stage
from boursomatic_assets.storage.postgres.tables import KEYS, NOW

OUTCOME_SCHEMA: dict[str, pl.DataType] = {
    "recommendation_id": pl.String(), "entry_session": pl.Date(), "entry_close": pl.Float64(),
    "exit_session": pl.Date(), "exit_close": pl.Float64(), "realised_return": pl.Float64(),
    "realised_label": pl.String(), "hit": pl.Boolean(), "first_touch": pl.String(), "touched_session": pl.Date(),
    "ended": pl.String(),
}  # fmt: skip
JUDGED_SCHEMA: dict[str, pl.DataType] = {
    **OUTCOME_SCHEMA, "judged_at": pl.Datetime("us"), "symbol": pl.String(), "exchange": pl.String(),
    "profile": pl.String(), "label": pl.String(), "confidence": pl.Float64(), "session": pl.Date(),
    "horizon_days": pl.Int32(), "version": pl.String(),
}  # fmt: skip
_VALUES = [name for name in OUTCOME_SCHEMA if name != "recommendation_id"]
_INSERT = (
    f"INSERT INTO recommendation_outcomes (recommendation_id, {', '.join(_VALUES)}, judged_at) "  # noqa: S608
    f"SELECT recommendation_id::uuid, {', '.join(_VALUES)}, {NOW} FROM {STAGING} "
    "ON CONFLICT (recommendation_id) DO NOTHING"
)


def write_outcomes(database: Database, outcomes: pl.DataFrame) -> int:
    """Store outcomes (`OUTCOME_SCHEMA`) of recommendations without one; returns how many rows are new.

    Raises PanelContractError for a missing column or a repeated recommendation, StorageError for an unknown one.
    """
    missing = sorted(set(OUTCOME_SCHEMA) - set(outcomes.columns))
    if missing or outcomes["recommendation_id"].is_duplicated().any():
        message = (
            f"outcomes need the columns {list(OUTCOME_SCHEMA)}, and one row a recommendation; "
            f"missing: {missing or 'none'}. Nothing was stored"
        )
        raise PanelContractError(message)
    if outcomes.is_empty():
        return 0
    with database.bulk() as cursor:
        advisory_lock(cursor, "recommendation_outcomes")
        stage(cursor, outcomes.select(*(pl.col(name).cast(kind) for name, kind in OUTCOME_SCHEMA.items())))
        return merge(cursor, _INSERT)[0]


def read_outcomes(database: Database) -> pl.DataFrame:
    """Every outcome beside its recommendation: of `JUDGED_SCHEMA`, by session, symbol and profile."""
    found = database.read(
        f"WITH {KEYS} SELECT o.recommendation_id::text AS recommendation_id, "  # noqa: S608
        f"{', '.join(f'o.{name}' for name in _VALUES)}, o.judged_at, "
        "k.symbol, k.exchange, r.profile, r.label, r.confidence, r.session, r.horizon_days, m.version "
        "FROM recommendation_outcomes o JOIN recommendations r ON r.id = o.recommendation_id "
        "JOIN keys k ON k.id = r.instrument_id JOIN model_versions m ON m.id = r.model_version_id"
    ).cast(JUDGED_SCHEMA)  # type: ignore[arg-type]
    boldness = pl.col("profile").replace_strict(
        {name: place for place, name in enumerate(PROFILE_NAMES)}, default=None, return_dtype=pl.Int64
    )
    return found.sort("session", "symbol", boldness, "recommendation_id")
