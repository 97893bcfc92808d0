"""Apply the retention policy: list what has expired, and remove it."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from upath import UPath

from boursomatic_assets.core.registry.bundle import MANIFEST
from boursomatic_assets.services.retention.policy import limit, limits, runs_to_remove
from boursomatic_assets.storage.artifacts import pages, retention
from boursomatic_assets.storage.artifacts.files import discard, folder_bytes
from boursomatic_assets.storage.dagster import expired_runs
from boursomatic_assets.storage.dagster.run_tags import CAUSE_TAG, FELL_SHORT_TAG, TRAINED_ON_TAG
from boursomatic_assets.storage.postgres.expired_rows import (
    expiring_tables,
    measure_expired,
    remove_expired,
    runs_behind_recommendations,
)
from boursomatic_assets.storage.postgres.model_table import active_version, all_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from dagster import DagsterInstance

    from boursomatic_assets.settings import Retention
    from boursomatic_assets.storage.postgres.database import Database

# Trainings that a sensor still recognises by their data and experiment.
TRAININGS_KNOWN = 10
_KEPT = {
    "recommendations": "recommendations",
    "bar_changes": "bar_changes",
    "fetch_results": "records",
    "fetch_rounds": "records",
    "rejected_bars": "records",
    "notices": "records",
}


@dataclass(frozen=True)
class Expired:
    """One kind of record: how long it is kept, in words; how many have expired, and their size."""

    what: str
    kept: str
    count: int
    bytes: int


@dataclass(frozen=True)
class Place:
    """What is pruned, by which policy, and at which moment (UTC, without a time zone).

    `instance` is None where Dagster's storage belongs to somebody else.
    """

    database: Database
    artifacts: UPath
    instance: DagsterInstance | None
    policy: Retention
    now: datetime


def prune(place: Place, *, who: str, remove: bool, note: Callable[[str], object]) -> list[Expired]:
    """Find what has expired and, with `remove`, remove it; may be killed at any moment and started again.

    Raises TamperedArtifactError if a kept bundle's manifest cannot be read, before any bundle is removed;
    ArtifactWriteError if a file cannot be removed.
    """
    keep = place.policy.bundles
    gone = retention.prune(place.database, place.artifacts, keep, who=who, remove=remove)
    bundles = len(gone.versions) + len(gone.unrecorded) + len(gone.snapshots)
    found = [Expired("bundles and snapshots", f"newest {keep}, all ever active", bundles, gone.bytes)]
    steps = [_rows(place, remove=remove), _pages(place, gone.versions, remove=remove)]
    if place.instance is not None:
        steps.append(_dagster(place, place.instance, gone.versions, remove=remove))
    for expired in itertools.chain(*steps):
        note(f"{expired.what}: {expired.count:,}")
        found.append(expired)
    return found


def _rows(place: Place, *, remove: bool) -> Iterator[Expired]:
    moments = limits(place.policy, place.now)
    for table in expiring_tables(place.database):
        count, size = measure_expired(place.database, table, moments)
        if remove and count:
            remove_expired(place.database, table, moments)
        yield Expired(table.name.replace("_", " "), _days(getattr(place.policy, _KEPT[table.name])), count, size)


def _pages(place: Place, gone: Sequence[str], *, remove: bool) -> Iterator[Expired]:
    days = place.policy.pages
    before = limit(place.now, days)
    reports = pages.expired_reports(place.artifacts, before, gone)
    traces = pages.expired_traces(place.database, place.artifacts, before)
    for what, paths in (("reports", reports), ("trace pages", traces)):
        size = sum(folder_bytes(path) if path.is_dir() else path.stat().st_size for path in paths)
        if remove:
            for path in paths:
                discard(path)
        yield Expired(what, _days(days), len(paths), size)


def _dagster(place: Place, instance: DagsterInstance, gone: Sequence[str], *, remove: bool) -> Iterator[Expired]:
    before = limit(place.now, place.policy.runs)
    needed = _needed_runs(place, instance, gone)
    runs = runs_to_remove(expired_runs.old_runs(instance, before), needed, before)
    logs = expired_runs.forgotten_logs(instance, before)
    size = expired_runs.bytes_of_runs(instance, runs) + sum(map(expired_runs.bytes_below, logs))
    if remove:
        for run_id in runs:
            expired_runs.remove_run(instance, run_id)
        for folder in logs:
            shutil.rmtree(folder, ignore_errors=True)
    yield Expired("runs, with events and logs", _days(place.policy.runs), len(runs) + len(logs), size)
    count, size = expired_runs.remove_reported_events(instance, before, remove=remove)
    yield Expired("events without a run", _days(place.policy.runs), count, size)
    count, size = expired_runs.remove_ticks(instance, limit(place.now, place.policy.ticks), remove=remove)
    yield Expired("ticks", _days(place.policy.ticks), count, size)
    if remove and (runs or count):
        expired_runs.vacuum_instance(instance)


def _needed_runs(place: Place, instance: DagsterInstance, gone: Sequence[str]) -> set[str]:
    """Runs that Dagster, a trace or a sensor reads."""
    active = active_version(place.database)
    fell_short = expired_runs.newest_run_of_each(instance, FELL_SHORT_TAG)
    known = list(expired_runs.newest_run_of_each(instance, TRAINED_ON_TAG).values())[-TRAININGS_KNOWN:]
    return {
        *expired_runs.runs_of_newest_events(instance),
        *expired_runs.newest_run_of_each(instance, CAUSE_TAG).values(),
        *known,
        *([fell_short[active.version]] if active and active.version in fell_short else []),
        *_runs_of_bundles(place.database, gone),
        *runs_behind_recommendations(place.database, limits(place.policy, place.now)),
    }


def _runs_of_bundles(database: Database, gone: Sequence[str]) -> set[str]:
    """The training runs of the bundles that stay."""
    with database.connection() as connection:
        rows = [row for row in all_versions(connection) if row.manifest_sha256 and row.version not in gone]
    manifests = [UPath(row.model_path) / MANIFEST for row in rows if row.model_path]
    said = (json.loads(path.read_bytes()) for path in manifests if path.exists())
    return {manifest["run_id"] for manifest in said if manifest.get("run_id")}


def _days(days: int) -> str:
    return f"{days} days" if days else "for ever"
