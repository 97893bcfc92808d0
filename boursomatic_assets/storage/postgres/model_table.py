"""Rows of `model_versions`: one is active; each change is logged in the same transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from upath import UPath

from boursomatic_assets.core.registry.gate import GateDecision
from boursomatic_assets.errors import ActiveModelChangedError, MissingArtifactError, StorageError
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_events import (
    ACTIVATED,
    REFUSED,
    ROLLED_BACK,
    ModelEvent,
    as_json,
    events_of,
    version_before,
    write_event,
)

_SELECT = (
    "SELECT version, trained_at, params_hash, metrics_json AS metrics, coalesce(model_path, '') AS model_path, "
    "manifest_sha256, is_active, gate FROM model_versions"
)
_INSERT = sa.text(
    "INSERT INTO model_versions (id, version, trained_at, params_hash, metrics_json, model_path, is_active, "
    "manifest_sha256, gate, created_at) "
    "VALUES (gen_random_uuid(), :version, :trained_at, :params_hash, CAST(:metrics AS json), :model_path, "
    ":is_active, :manifest_sha256, CAST(:gate AS json), timezone('utc', now()))"
)
BUNDLES = "models"
# By insertion, which no clock decides; versions from before the numbers by their times.
_NEWEST_FIRST = "ORDER BY insertion_number DESC NULLS LAST, trained_at DESC, created_at DESC, version DESC"
_RECORDING = "hashtext('boursomatic:recording')"
_DEACTIVATE = sa.text("UPDATE model_versions SET is_active = false WHERE is_active")


@dataclass(frozen=True)
class ModelRow:
    """One row of `model_versions`.

    `version` is `YYYYMMDD_HHMMSS_<6 hex>`, `trained_at` UTC without a time zone, `params_hash` of the whole
    experiment, `model_path` a folder or URL. Rows of other programs have no `manifest_sha256` and no `gate`.
    `metrics` are strict JSON.
    """

    version: str
    trained_at: datetime
    params_hash: str
    metrics: dict[str, Any]
    model_path: str
    manifest_sha256: str | None
    is_active: bool = True
    gate: GateDecision | None = None


def record_version(  # noqa: PLR0913 (what is recorded, and what the log says of it)
    database: Database,
    row: ModelRow,
    *,
    who: str,
    why: str,
    champion: str | None,
    beforehand: Callable[[], object] | None = None,
) -> None:
    """Insert a version and log `who` did it and `why`, in one transaction. An active one replaces the champion.

    `champion` is the version it was compared with; ActiveModelChangedError if another one is active now.
    `beforehand` is called under the lock, before anything is written; pruning cannot run then.
    """
    with lock_versions(database) as connection:
        active = _active(connection)
        if active != champion or not (row.is_active or active):
            message = (
                f"version {row.version} was compared with {champion or 'none'}, but {active or 'none'} is active "
                "now. It was not recorded. Decide again: boursomatic materialize --select model_version"
            )
            raise ActiveModelChangedError(message)
        if beforehand is not None:
            beforehand()
        if row.is_active:
            connection.execute(_DEACTIVATE)
        gate = None if row.gate is None else as_json(row.gate.to_json())
        connection.execute(_INSERT, {**vars(row), "metrics": as_json(row.metrics), "gate": gate})
        figures = None if row.gate is None else row.gate.figures
        event = ACTIVATED if row.is_active else REFUSED
        write_event(connection, ModelEvent(event, active, row.version, who, why, figures))


def activate(
    database: Database, version: str, *, who: str, why: str, inspect: Callable[[ModelRow], object]
) -> str | None:
    """Activate a recorded version and log it, in one transaction; returns the version that was active before.

    `inspect` is called with the row under the lock and raises where the bundle cannot be served. If the version is
    already active, nothing is inspected or written. Raises MissingArtifactError for an unknown version.
    """
    with lock_versions(database) as connection:
        before = _active(connection)
        if before != version:
            _replace(connection, before, version, inspect)
            write_event(connection, ModelEvent(ACTIVATED, before, version, who, why))
    return before


def rollback(database: Database, *, who: str, why: str, inspect: Callable[[ModelRow], object]) -> tuple[str, str]:
    """Activate the version that was active before the active one, and log it; returns both.

    Two calls go back two versions. Raises MissingArtifactError if no version is active, or none is logged before
    it.
    """
    with lock_versions(database) as connection:
        active = _active(connection)
        before = None if active is None else version_before(events_of(connection), active)
        if active is None or before is None:
            message = (
                f"there is no version to go back to: {active or 'none'} is active, and none is logged before it.\n"
                "See which there are: boursomatic models list, and choose: boursomatic models activate VERSION"
            )
            raise MissingArtifactError(message)
        _replace(connection, active, before, inspect)
        write_event(connection, ModelEvent(ROLLED_BACK, active, before, who, why))
    return active, before


@contextmanager
def lock_versions(database: Database) -> Iterator[sa.Connection]:
    """A transaction in which no other process records, activates or prunes versions."""
    with database.connection() as connection:
        # Lock, so that read-then-write is atomic.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('boursomatic:model_versions'))"))
        yield connection


@contextmanager
def announce_recording(database: Database) -> Iterator[None]:
    """While a bundle is written whose row comes later: pruning leaves bundles without a row alone."""
    with ExitStack() as opened:
        connection = opened.enter_context(database.connection())
        # The transaction stays open, idle, while versions are compared.
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock_shared({_RECORDING})"))
        yield
        # If this connection was lost, what was recorded over another one stands.
        with suppress(StorageError):
            opened.close()


def nobody_records(connection: sa.Connection) -> bool:
    """Whether no process is between writing a bundle and its row; none can begin until the transaction ends."""
    return bool(connection.execute(sa.text(f"SELECT pg_try_advisory_xact_lock({_RECORDING})")).scalar())


def _active(connection: sa.Connection) -> str | None:
    found: str | None = connection.execute(sa.text("SELECT version FROM model_versions WHERE is_active")).scalar()
    return found


def _replace(
    connection: sa.Connection, before: str | None, version: str, inspect: Callable[[ModelRow], object]
) -> None:
    row = next(iter(_select(connection, "WHERE version = :version", version=version)), None)
    if row is None:
        message = f"there is no version {version!r}; see what there is: boursomatic models list"
        raise MissingArtifactError(message)
    inspect(row)
    if before is not None:
        connection.execute(_DEACTIVATE)
    connection.execute(
        sa.text("UPDATE model_versions SET is_active = true WHERE version = :version"), {"version": version}
    )


def list_versions(database: Database, limit: int = 50) -> list[ModelRow]:
    """Recorded versions, the newest first."""
    return _rows(database, f"{_NEWEST_FIRST} LIMIT {int(limit)}")


def active_version(database: Database) -> ModelRow | None:
    """The active version; None before the first training."""
    return next(iter(_rows(database, "WHERE is_active")), None)


def newest_version(database: Database, params_hash: str) -> ModelRow | None:
    """The newest version of an experiment, active or not; None if it was never trained."""
    newest = f"WHERE params_hash = :params_hash {_NEWEST_FIRST} LIMIT 1"
    return next(iter(_rows(database, newest, params_hash=params_hash)), None)


def find_version(database: Database, version: str) -> ModelRow | None:
    """The row of a version; None if there is none."""
    return next(iter(_rows(database, "WHERE version = :version", version=version)), None)


def _rows(database: Database, condition: str, **parameters: str) -> list[ModelRow]:
    with database.connection() as connection:
        return _select(connection, condition, **parameters)


def _select(connection: sa.Connection, condition: str, **parameters: str) -> list[ModelRow]:
    rows, root = connection.execute(sa.text(f"{_SELECT} {condition}"), parameters).mappings(), artifacts_root()
    return [
        ModelRow(
            **{
                **row,
                "model_path": bundle_place(row["model_path"], root),
                "gate": None if row["gate"] is None else GateDecision.read(row["gate"]),
            }
        )
        for row in rows
    ]


def artifacts_root() -> str:
    """The artifacts folder in use, without a slash at its end."""
    return Settings.from_environment().artifacts_dir.rstrip("/")


def bundle_place(stored: str, root: str) -> str:
    """Place of a bundle: below the artifacts root if it is there, else where it was stored.

    So a home that was moved or restored serves its own bundles, never those of the old place.
    """
    folder, _, version = stored.rstrip("/").rpartition("/")
    if stored.startswith(f"{root}/") or not folder.endswith(f"/{BUNDLES}"):
        return stored
    here = UPath(root) / BUNDLES / version
    return str(here) if here.exists() else stored


def all_versions(connection: sa.Connection) -> list[ModelRow]:
    """Every version, the newest first, as a transaction sees them."""
    return _select(connection, _NEWEST_FIRST)


def active_versions(database: Database) -> list[str]:
    """Versions marked active: one, or none before the first training."""
    with database.connection() as connection:
        found = connection.execute(sa.text("SELECT version FROM model_versions WHERE is_active ORDER BY version"))
        return [str(version) for version in found.scalars()]
