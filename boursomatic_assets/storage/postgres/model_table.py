"""Rows of `model_versions`: exactly one active, moved in one transaction with the event that says why."""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from boursomatic_assets.core.registry.gate import GateDecision
from boursomatic_assets.errors import ActiveModelChangedError, MissingArtifactError
from boursomatic_assets.storage.postgres.model_events import (
    ACTIVATED,
    REFUSED,
    ROLLED_BACK,
    ModelEvent,
    events_of,
    version_before,
    write_event,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from boursomatic_assets.storage.postgres.database import Database

_COLUMNS = "version, trained_at, params_hash, metrics_json, model_path, is_active, manifest_sha256, gate"
_NEWEST_FIRST = "ORDER BY trained_at DESC, created_at DESC, version DESC"
_DEACTIVATE = sa.text("UPDATE model_versions SET is_active = false WHERE is_active")


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
    gate : GateDecision or None
        None for rows without a decision.
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
    """Insert a version, active or not, and say so in the log, in one transaction.

    Parameters
    ----------
    database : Database
    row : ModelRow
        Where it is active, it takes the place of the champion.
    who, why : str
        For the log.
    champion : str or None
        The version that it was held against, which must still be the active one; None where there was none.
    beforehand : callable, optional
        Called when it is this writer's turn, before anything is written: nobody prunes artifacts then.

    Raises
    ------
    ActiveModelChangedError
        If another version has become the active one: the decision was about the one before.
    """
    with take_turn(database) as connection:
        active = _active(connection)
        if active != champion or not (row.is_active or active):
            raise _changed(row.version, champion, active)
        if beforehand is not None:
            beforehand()
        if row.is_active:
            connection.execute(_DEACTIVATE)
        connection.execute(
            sa.text(
                f"INSERT INTO model_versions (id, {_COLUMNS}, created_at) "  # noqa: S608
                "VALUES (:id, :version, :trained_at, :params_hash, CAST(:metrics AS json), :model_path, "
                ":is_active, :manifest_sha256, CAST(:gate AS json), timezone('utc', now()))"
            ),
            {
                "id": uuid.uuid4(),
                "version": row.version,
                "trained_at": row.trained_at,
                "params_hash": row.params_hash,
                "metrics": json.dumps(row.metrics, allow_nan=False),
                "model_path": row.model_path,
                "is_active": row.is_active,
                "manifest_sha256": row.manifest_sha256,
                "gate": None if row.gate is None else json.dumps(row.gate.to_json(), allow_nan=False),
            },
        )
        figures = None if row.gate is None else row.gate.figures
        event = ACTIVATED if row.is_active else REFUSED
        write_event(connection, ModelEvent(event, active, row.version, who, why, figures))


def activate(
    database: Database, version: str, *, who: str, why: str, inspect: Callable[[ModelRow], object]
) -> str | None:
    """Make a recorded version the active one, and say so in the log, in one transaction.

    Parameters
    ----------
    database : Database
    version : str
    who, why : str
        For the log.
    inspect : callable
        Called with the row before anything is written; what it raises keeps everything as it is. It looks whether
        the bundle can be served, which nobody can prune meanwhile.

    Returns
    -------
    str or None
        The version that was active before. The same one: nothing was written, and nothing inspected.

    Raises
    ------
    MissingArtifactError
        If there is no such version.
    """
    with take_turn(database) as connection:
        before = _active(connection)
        if before != version:
            _replace(connection, before, version, inspect)
            write_event(connection, ModelEvent(ACTIVATED, before, version, who, why))
    return before


def rollback(database: Database, *, who: str, why: str, inspect: Callable[[ModelRow], object]) -> tuple[str, str]:
    """Go back to the version that was active before the active one, and say so in the log, in one transaction.

    Parameters
    ----------
    database : Database
    who, why, inspect
        As in `activate`.

    Returns
    -------
    tuple of (str, str)
        The version that was active, and the one that is now. Twice goes back two versions.

    Raises
    ------
    MissingArtifactError
        If no version is active, or none is known to have been before it.
    """
    with take_turn(database) as connection:
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
def take_turn(database: Database) -> Iterator[sa.Connection]:
    """One transaction during which nobody else records, activates or prunes versions."""
    with database.connection() as connection:
        # Between one writer's look at what is active and what it writes there must be no other's.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('boursomatic:model_versions'))"))
        yield connection


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


def _changed(version: str, expected: str | None, found: str | None) -> ActiveModelChangedError:
    message = (
        f"version {version} was held against {expected or 'none'}, and {found or 'none'} is the active one by now. "
        "It was not recorded. Decide anew: boursomatic materialize --select model_version"
    )
    return ActiveModelChangedError(message)


def list_versions(database: Database, limit: int = 50) -> list[ModelRow]:
    """The newest versions first."""
    return _rows(database, f"{_NEWEST_FIRST} LIMIT {int(limit)}")


def active_version(database: Database) -> ModelRow | None:
    """The active version; None before the first training."""
    return next(iter(_rows(database, "WHERE is_active")), None)


def newest_version(database: Database, params_hash: str) -> ModelRow | None:
    """The newest version of an experiment, active or not; None where it was never trained."""
    newest = f"WHERE params_hash = :params_hash {_NEWEST_FIRST} LIMIT 1"
    return next(iter(_rows(database, newest, params_hash=params_hash)), None)


def find_version(database: Database, version: str) -> ModelRow | None:
    """The row of a version; None where there is no such version."""
    return next(iter(_rows(database, "WHERE version = :version", version=version)), None)


def _rows(database: Database, condition: str, **parameters: str) -> list[ModelRow]:
    with database.connection() as connection:
        return _select(connection, condition, **parameters)


def _select(connection: sa.Connection, condition: str, **parameters: str) -> list[ModelRow]:
    query = sa.text(f"SELECT {_COLUMNS} FROM model_versions {condition}")  # noqa: S608
    return [
        ModelRow(
            version=row["version"],
            trained_at=row["trained_at"],
            params_hash=row["params_hash"],
            metrics=row["metrics_json"],
            model_path=row["model_path"] or "",
            manifest_sha256=row["manifest_sha256"],
            is_active=row["is_active"],
            gate=None if row["gate"] is None else GateDecision.read(row["gate"]),
        )
        for row in connection.execute(query, parameters).mappings()
    ]


def all_versions(connection: sa.Connection) -> list[ModelRow]:
    """Every version, the newest first, as a transaction sees them."""
    return _select(connection, _NEWEST_FIRST)


def active_versions(database: Database) -> list[str]:
    """Versions marked active: one, or none before the first training."""
    with database.connection() as connection:
        found = connection.execute(sa.text("SELECT version FROM model_versions WHERE is_active ORDER BY version"))
        return [str(version) for version in found.scalars()]
