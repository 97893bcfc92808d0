"""Runs, events, ticks and logs of the Dagster instance that the retention policy no longer keeps.

A run is removed with its events, so runs stay that hold the newest event of an asset, a partition or a check: what
Dagster shows and what sensors, checks and `model_version` read. Dagster's storages are SQL storages here.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable
from dagster._core.storage.schedules.schema import JobTickTable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

T = TypeVar("T")
BATCH, RUNS_AT_ONCE = 5_000, 500
# Run id of events that were reported outside of any run.
NO_RUN = ""
_NEWEST_COUNTS = [
    kind.value
    for kind in (
        DagsterEventType.ASSET_MATERIALIZATION,
        DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        DagsterEventType.ASSET_OBSERVATION,
    )
]


@dataclass(frozen=True)
class OldRun:
    """A run created before a limit: its status, and when it was last updated, UTC without a time zone."""

    run_id: str
    status: DagsterRunStatus
    updated: datetime


def old_runs(instance: DagsterInstance, limit: datetime) -> list[OldRun]:
    """Runs created before a moment (UTC, without a time zone), the oldest first."""
    runs = RunsTable.c
    query = sa.select(runs.run_id, runs.status, runs.update_timestamp).where(runs.create_timestamp < limit)
    with _runs(instance).connect() as connection:
        found = connection.execute(query.order_by(runs.id)).all()
    return [OldRun(run_id, DagsterRunStatus(status), updated) for run_id, status, updated in found]


def runs_of_newest_events(instance: DagsterInstance) -> set[str]:
    """Runs with the newest materialization, observation or evaluation of an asset, a partition or a check."""
    events, checks = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
    newest = (
        sa.select(sa.func.max(events.id))
        .where(events.dagster_event_type.in_(_NEWEST_COUNTS), events.asset_key.is_not(None))
        .group_by(events.asset_key, events.partition, events.dagster_event_type)
    )
    # The newest evaluation, and the newest that was completed.
    evaluated = sa.select(sa.func.max(checks.id)).group_by(
        checks.asset_key, checks.check_name, checks.execution_status
    )
    with _events(instance).index_connection() as connection:
        made = connection.execute(sa.select(events.run_id).where(events.id.in_(newest))).scalars().all()
        judged = connection.execute(sa.select(checks.run_id).where(checks.id.in_(evaluated))).scalars().all()
    return {*made, *judged}


def newest_run_of_each(instance: DagsterInstance, key: str) -> dict[str, str]:
    """The newest run with each value of a tag, by value."""
    tags = RunTagsTable.c
    newest = sa.select(sa.func.max(tags.id)).where(tags.key == key).group_by(tags.value)
    with _runs(instance).connect() as connection:
        found = connection.execute(sa.select(tags.value, tags.run_id).where(tags.id.in_(newest)).order_by(tags.id))
        return {row.value: row.run_id for row in found}


def bytes_of_runs(instance: DagsterInstance, run_ids: Collection[str]) -> int:
    """Size of the events and logs of some runs."""
    events = SqlEventLogStorageTable.c
    size = sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(events.event)), 0))
    total = 0
    with _events(instance).index_connection() as connection:
        for batch in _batches(sorted(run_ids), RUNS_AT_ONCE):
            total += int(connection.execute(size.where(events.run_id.in_(batch))).scalar_one())
    return total + sum(bytes_below(_logs(instance) / run_id) for run_id in run_ids)


def remove_run(instance: DagsterInstance, run_id: str) -> None:
    """Remove a run's logs, evaluations, events, and at last the run: one half removed is found again."""
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    with _events(instance).index_connection() as connection:
        connection.execute(AssetCheckExecutionsTable.delete().where(AssetCheckExecutionsTable.c.run_id == run_id))
    instance.event_log_storage.delete_events(run_id)
    instance.delete_run(run_id)


def remove_ticks(instance: DagsterInstance, limit: datetime, *, remove: bool) -> tuple[int, int]:
    """Remove ticks before a moment, but the newest of each sensor and schedule; returns their number and bytes."""
    ticks = JobTickTable.c
    newest = sa.select(sa.func.max(ticks.id)).group_by(ticks.job_origin_id, ticks.selector_id)
    expired = sa.and_(ticks.timestamp < limit, ticks.id.not_in(newest))
    size = sa.func.coalesce(sa.func.sum(sa.func.length(ticks.tick_body)), 0)
    # The type of the storage is Dagster's own.
    storage: Any = instance.schedule_storage
    with storage.connect() as connection:
        count, bytes_ = connection.execute(sa.select(sa.func.count(), size).where(expired)).one()
        if remove and count:
            _remove(connection, JobTickTable, expired)
    return int(count), int(bytes_)


def remove_reported_events(instance: DagsterInstance, limit: datetime, *, remove: bool) -> tuple[int, int]:
    """Remove events without a run before a moment, but the newest of each kind; returns their number and bytes."""
    events = SqlEventLogStorageTable.c
    newest = (
        sa.select(sa.func.max(events.id))
        .where(events.asset_key.is_not(None))
        .group_by(events.asset_key, events.partition, events.dagster_event_type)
    )
    expired = sa.and_(events.run_id == NO_RUN, events.timestamp < limit, events.id.not_in(newest))
    size = sa.func.coalesce(sa.func.sum(sa.func.length(events.event)), 0)
    with _events(instance).index_connection() as connection:
        count, bytes_ = connection.execute(sa.select(sa.func.count(), size).where(expired)).one()
        if remove and count:
            # Tags first: those of a removed event would be found by nothing.
            tagged = AssetEventTagsTable.c.event_id.in_(sa.select(events.id).where(expired))
            _remove(connection, AssetEventTagsTable, tagged)
            _remove(connection, SqlEventLogStorageTable, expired)
    return int(count), int(bytes_)


def forgotten_logs(instance: DagsterInstance, limit: datetime) -> list[Path]:
    """Local folders of logs, last written before a moment, of runs that are no longer stored."""
    if not _logs(instance).is_dir():
        return []
    moment = limit.replace(tzinfo=UTC).timestamp()
    old = [
        folder for folder in sorted(_logs(instance).iterdir())
        if _is_run_id(folder.name) and folder.stat().st_mtime < moment
    ]  # fmt: skip
    return [folder for folder in old if not instance.has_run(folder.name)]


def vacuum_instance(instance: DagsterInstance) -> None:
    """Mark the space of removed rows as free."""
    tables = (SqlEventLogStorageTable, AssetCheckExecutionsTable, RunsTable, JobTickTable)
    # Dagster's connections commit each statement.
    with _events(instance).index_connection() as connection:
        for table in tables:
            connection.execute(sa.text(f"VACUUM (ANALYZE) {table.name}"))


def _remove(connection: sa.Connection, table: sa.Table, expired: sa.ColumnElement[bool]) -> None:
    """Remove rows by id, in batches that Dagster's connections commit one by one."""
    found = connection.execute(sa.select(table.c.id).where(expired).order_by(table.c.id)).scalars().all()
    for batch in _batches(found, BATCH):
        connection.execute(sa.delete(table).where(table.c.id.in_(batch)))


def _batches(keys: Sequence[T], size: int) -> list[Sequence[T]]:
    return [keys[start : start + size] for start in range(0, len(keys), size)]


def _is_run_id(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def bytes_below(folder: Path) -> int:
    """Size of the files in a local folder and in the folders below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _logs(instance: DagsterInstance) -> Path:
    return Path(instance.storage_directory())


def _runs(instance: DagsterInstance) -> Any:  # noqa: ANN401 (the type of the storage is Dagster's own)
    return instance.run_storage


def _events(instance: DagsterInstance) -> Any:  # noqa: ANN401
    return instance.event_log_storage
