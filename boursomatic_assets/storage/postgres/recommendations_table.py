"""Rows of `recommendations`: a new one archives its predecessor; none is ever edited or removed."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.errors import PanelContractError, StorageError
from boursomatic_assets.storage.postgres.database import (
    STAGING,
    Cursor,
    Database,
    advisory_lock,
    execute,
    fetch,
    id_prefix,
    ingest,
    stage,
)
from boursomatic_assets.storage.postgres.tables import KEYS, NOW

# Columns to write; `features_snapshot` is JSON text with a `digest` of its content.
GIVEN_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(), "profile": pl.String(), "label": pl.String(), "confidence": pl.Float64(),
    "expected_return_pct": pl.Float64(), "horizon_days": pl.Int32(), "stop_loss": pl.Float64(),
    "take_profit": pl.Float64(), "justification": pl.String(), "session": pl.Date(),
    "features_snapshot": pl.String(),
}  # fmt: skip

_ACTIVE_SCHEMA: dict[str, pl.DataType] = {
    "instrument_id": pl.String(), "profile": pl.String(), "active_id": pl.String(), "active_session": pl.Date(),
    "active_model": pl.String(), "active_digest": pl.String(), "active_justification": pl.String(),
}  # fmt: skip
_EXAMPLES = 10
_ARCHIVE = f"""
    WITH archived AS (
        UPDATE recommendations r SET is_active = false, archived_at = {NOW}
        FROM {STAGING} s WHERE r.id = s.active_id::uuid RETURNING 1)
    SELECT count(*) AS rows FROM archived
"""  # noqa: S608 (nothing of it comes from outside)
_VALUES = [name for name in GIVEN_SCHEMA if name not in {"symbol", "features_snapshot"}]
_INSERT = f"""
    INSERT INTO recommendations
        (id, instrument_id, model_version_id, {", ".join(_VALUES)}, features_snapshot, generated_at, is_active)
    SELECT overlay(gen_random_uuid()::text PLACING $1 FROM 1 FOR 13)::uuid, instrument_id::uuid, $2::text::uuid,
           {", ".join(_VALUES)}, features_snapshot::json, {NOW}, true
    FROM {STAGING}
"""  # noqa: S608 (nothing of it comes from outside)


@dataclass(frozen=True)
class WrittenRows:
    """Rows added, archived, and skipped: equal to the active one, or of an older session."""

    added: int
    archived: int
    unchanged: int


def write_recommendations(database: Database, rows: pl.DataFrame, version: str) -> WrittenRows:
    """Make these rows (`GIVEN_SCHEMA`) the active ones of their instruments and profiles, all or none.

    `version` made them and must stay active until the transaction ends, else StorageError. PanelContractError for a
    missing column, a repeated row, a row without a digest, or an unknown symbol.
    """
    given = _checked(rows)
    with database.bulk() as cursor:
        advisory_lock(cursor, "recommendations")
        model = _require_active(cursor, version)
        placed = given.join(_instruments(cursor, given), on="symbol", maintain_order="left")
        beside = placed.join(_active(cursor), on=["instrument_id", "profile"], how="left", maintain_order="left")
        newer = (pl.col("active_session") > pl.col("session")) & (pl.col("active_model") == model)
        # The digest covers the evidence in both languages; `justification` is in one.
        same = (pl.col("digest") == pl.col("active_digest")) & (
            pl.col("justification").eq_missing(pl.col("active_justification"))
        )
        due = beside.filter(~(same.fill_null(value=False) | newer.fill_null(value=False)))
        archived = _replace(cursor, due, model) if due.height else 0
    return WrittenRows(due.height, archived, given.height - due.height)


def _checked(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows in the table's types, with the digest of each."""
    missing = sorted(set(GIVEN_SCHEMA) - set(rows.columns))
    if missing:
        message = f"recommendations need the columns {list(GIVEN_SCHEMA)}; missing: {missing}"
        raise PanelContractError(message)
    given = rows.select(*(pl.col(name).cast(kind) for name, kind in GIVEN_SCHEMA.items())).with_columns(
        digest=pl.col("features_snapshot").str.json_path_match("$.digest")
    )
    faults = {
        "come twice": pl.struct("symbol", "profile").is_duplicated(),
        "have no digest in their snapshot": pl.col("digest").is_null(),
        "are of no profile there is": ~pl.col("profile").is_in(PROFILE_NAMES),
        "have a confidence outside 0 to 1": ~pl.col("confidence").is_between(0, 1).fill_null(value=False),
    }
    for fault, broken in faults.items():
        found = given.filter(broken).select("symbol", "profile").head(_EXAMPLES).rows()
        if found:
            message = f"recommendations that {fault}, the first of them: {found}. Nothing was stored"
            raise PanelContractError(message)
    return given


def _require_active(cursor: Cursor, version: str) -> str:
    """Id of the active version; its row stays locked until the transaction ends."""
    # FOR SHARE: no other version can become active before these rows are committed.
    query = "SELECT id::text AS id, is_active FROM model_versions WHERE version = $1 FOR SHARE"
    found = fetch(cursor, query, [version])
    if found.is_empty():
        message = f"there is no model version {version!r}. See which there are: boursomatic models"
        raise StorageError(message)
    if not found["is_active"].item():
        message = (
            f"model version {version!r} is no longer the active one; its recommendations were not stored.\n"
            "Make those of the one that is: boursomatic recommend"
        )
        raise StorageError(message)
    return str(found["id"].item())


def _instruments(cursor: Cursor, given: pl.DataFrame) -> pl.DataFrame:
    """`symbol` and `instrument_id` of every instrument; each given symbol must be one."""
    keys = fetch(cursor, f"WITH {KEYS} SELECT symbol, id::text AS instrument_id FROM keys")  # noqa: S608
    known = keys.cast(pl.String)
    unknown = given.join(known, on="symbol", how="anti")["symbol"].unique().sort().head(_EXAMPLES).to_list()
    if unknown:
        message = (
            f"recommendations for symbols that name no instrument: {unknown}. Nothing was stored.\n"
            "Bring the instruments in first: boursomatic materialize --select instruments,price_bars"
        )
        raise PanelContractError(message)
    return known


def _active(cursor: Cursor) -> pl.DataFrame:
    """The active rows, with the values that decide whether they must be replaced."""
    active = fetch(
        cursor,
        "SELECT instrument_id::text AS instrument_id, profile, id::text AS active_id, session AS active_session, "
        "model_version_id::text AS active_model, features_snapshot ->> 'digest' AS active_digest, "
        "justification AS active_justification "
        "FROM recommendations WHERE is_active",
    )
    return active.cast(_ACTIVE_SCHEMA)  # type: ignore[arg-type]


def _replace(cursor: Cursor, due: pl.DataFrame, model: str) -> int:
    """Archive the active rows in these places and insert these; returns how many were archived."""
    staged = due.select("instrument_id", "active_id", *_VALUES, "features_snapshot")
    stage(cursor, staged.clear())
    # Avoids compressing each snapshot here and again in the table.
    cursor.execute(f"ALTER TABLE {STAGING} SET (toast_tuple_target = 8160)")
    ingest(cursor, staged, "append")
    archived = fetch(cursor, _ARCHIVE)["rows"].item()
    execute(cursor, _INSERT, [id_prefix(), model])
    return int(archived)
