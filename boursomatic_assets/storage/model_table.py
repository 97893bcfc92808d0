"""Rows of `model_versions`: exactly one active, moved in the transaction that records a new one."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from datetime import datetime

    from boursomatic_assets.storage.database import Database

_COLUMNS = "version, trained_at, params_hash, metrics_json, model_path, is_active, manifest_sha256"


@dataclass(frozen=True)
class ModelRow:
    """One row of `model_versions`.

    Attributes
    ----------
    version : str
        `YYYYMMDD_HHMMSS_<6 hex>`.
    trained_at : datetime
        UTC, without a time zone, as the table keeps it.
    params_hash : str
        Hash of the whole experiment.
    metrics : dict
        Strict JSON.
    model_path : str
        Folder or URL of the bundle.
    manifest_sha256 : str or None
        Digest of the bundle's manifest; None for rows that other programs wrote.
    is_active : bool
    """

    version: str
    trained_at: datetime
    params_hash: str
    metrics: dict[str, Any]
    model_path: str
    manifest_sha256: str | None
    is_active: bool = True


def record_active(database: Database, row: ModelRow) -> str | None:
    """Insert a version and make it the active one, in one transaction.

    Returns
    -------
    str or None
        The version that was active before.
    """
    with database.connection() as connection:
        # Writers take turns: between one's update and its insert there must be no other's insert.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('boursomatic:model_versions'))"))
        before: str | None = connection.execute(
            sa.text("UPDATE model_versions SET is_active = false WHERE is_active RETURNING version")
        ).scalar()
        connection.execute(
            sa.text(
                f"INSERT INTO model_versions (id, {_COLUMNS}, created_at) "  # noqa: S608
                "VALUES (:id, :version, :trained_at, :params_hash, CAST(:metrics AS json), :model_path, true, "
                ":manifest_sha256, timezone('utc', now()))"
            ),
            {
                "id": uuid.uuid4(),
                "version": row.version,
                "trained_at": row.trained_at,
                "params_hash": row.params_hash,
                "metrics": json.dumps(row.metrics, allow_nan=False),
                "model_path": row.model_path,
                "manifest_sha256": row.manifest_sha256,
            },
        )
    return before


def list_versions(database: Database, limit: int = 50) -> list[ModelRow]:
    """The newest versions first."""
    return _rows(database, f"ORDER BY trained_at DESC, created_at DESC, version DESC LIMIT {int(limit)}")


def active_version(database: Database) -> ModelRow | None:
    """The active version; None before the first training."""
    return next(iter(_rows(database, "WHERE is_active")), None)


def newest_version(database: Database, params_hash: str) -> ModelRow | None:
    """The newest version of an experiment, active or not; None where it was never trained."""
    newest = "WHERE params_hash = :params_hash ORDER BY trained_at DESC, created_at DESC, version DESC LIMIT 1"
    return next(iter(_rows(database, newest, params_hash=params_hash)), None)


def find_version(database: Database, version: str) -> ModelRow | None:
    """The row of a version; None where there is no such version."""
    return next(iter(_rows(database, "WHERE version = :version", version=version)), None)


def _rows(database: Database, condition: str, **parameters: str) -> list[ModelRow]:
    query = sa.text(f"SELECT {_COLUMNS} FROM model_versions {condition}")  # noqa: S608
    with database.connection() as connection:
        rows = connection.execute(query, parameters).mappings().all()
    return [
        ModelRow(
            version=row["version"],
            trained_at=row["trained_at"],
            params_hash=row["params_hash"],
            metrics=row["metrics_json"],
            model_path=row["model_path"] or "",
            manifest_sha256=row["manifest_sha256"],
            is_active=row["is_active"],
        )
        for row in rows
    ]


def active_versions(database: Database) -> list[str]:
    """Versions marked active: one, or none before the first training."""
    with database.connection() as connection:
        found = connection.execute(sa.text("SELECT version FROM model_versions WHERE is_active ORDER BY version"))
        return [str(version) for version in found.scalars()]
