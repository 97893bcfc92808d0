"""What sensors and schedules read: materializations, their inputs, checks, and runs in flight."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from dagster import AssetKey, AssetRecordsFilter, DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter

from boursomatic_assets.assets.required_checks import REQUIRED_CHECKS
from boursomatic_assets.automation.decisions import BarEvent
from boursomatic_assets.storage.dagster.instance import (
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    unmet_checks,
)
from boursomatic_assets.storage.dagster.run_tags import CAUSE_TAG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dagster import DagsterRun, EventLogRecord

INPUT_EVENT_POINTER_TAG_PREFIX = "dagster/input_event_pointer"
# Dagster's tags for a run that it will start again, and for one that it has started again.
WILL_RETRY_TAG, RETRIED_BY_TAG = "dagster/will_retry", "dagster/auto_retry_run_id"
RETRIED_WITHIN = timedelta(minutes=10)
WRITTEN = ("rows_inserted", "rows_updated", "rewritten_rows")
IN_FLIGHT = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
WAITING = {DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED}
_AT_ONCE, _RECENT = 500, 50


@dataclass(frozen=True)
class Materialization:
    """The newest materialization of an asset.

    Later events have a higher `number`. `tags` hold its data version and those of its inputs, `values` its metadata
    as plain values.
    """

    number: int
    run_id: str
    tags: Mapping[str, str]
    values: Mapping[str, object]

    @classmethod
    def of(cls, record: EventLogRecord) -> Materialization:
        """Read an event."""
        made = record.asset_materialization
        values = {} if made is None else {name: entry.value for name, entry in made.metadata.items()}
        tags = {} if made is None else made.tags or {}
        return cls(record.storage_id, record.run_id, tags, values)

    @property
    def data_version(self) -> str | None:
        """Its own data version."""
        return self.tags.get(DATA_VERSION_TAG)

    def version_of(self, asset: str) -> str | None:
        """Data version of an input."""
        return self.tags.get(f"{INPUT_DATA_VERSION_TAG_PREFIX}/{asset}")

    def number_of(self, asset: str) -> int | None:
        """Number of the newest materialization of an input at that time."""
        number = self.tags.get(f"{INPUT_EVENT_POINTER_TAG_PREFIX}/{asset}", "")
        return int(number) if number.isdecimal() else None


def date_of(value: object) -> date | None:
    """A date recorded as text; None without one."""
    return date.fromisoformat(value) if isinstance(value, str) and value else None


def newest(instance: DagsterInstance, asset: str, before: int | None = None) -> Materialization | None:
    """The newest materialization of an asset, or the newest before an event."""
    records = AssetRecordsFilter(asset_key=AssetKey(asset), before_storage_id=before)
    newest_records = instance.fetch_materializations(records, limit=1).records
    return Materialization.of(newest_records[0]) if newest_records else None


def bar_events(instance: DagsterInstance, after: int) -> list[BarEvent]:
    """Every materialization of `price_bars` after an event, in order."""
    records = AssetRecordsFilter(asset_key=AssetKey("price_bars"), after_storage_id=after)
    events: list[BarEvent] = []
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(records, limit=_AT_ONCE, cursor=cursor, ascending=True)
        for made in map(Materialization.of, page.records):
            rows = sum(count for name in WRITTEN if isinstance(count := made.values.get(name), int))
            events.append(BarEvent(made.number, made.data_version, rows))
        cursor, more = page.cursor, page.has_more
    return events


def features_are_behind(bars: Materialization | None, features: Materialization | None) -> bool:
    """Whether the bars differ from those that the features were computed from."""
    if bars is None or features is None or features.number_of("price_bars") == bars.number:
        return False
    return features.version_of("price_bars") != bars.data_version


def failed_check(instance: DagsterInstance, *assets: str) -> str | None:
    """A blocking check of these assets that failed at its last evaluation, in words."""
    return next((reason for reason, failed in _unmet(instance, assets) if failed), None)


def unmet_check(instance: DagsterInstance, *assets: str) -> str | None:
    """The blocking check that does not hold for the stored values of these assets, in words."""
    return next((reason for reason, _ in _unmet(instance, assets)), None)


def _unmet(instance: DagsterInstance, assets: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    checks = {key: others for key, others in REQUIRED_CHECKS.items() if key.asset_key.path[-1] in assets}
    for key, unmet in unmet_checks(instance, None, checks).items():
        yield f"check {key.name} {unmet.reason}", unmet.has_failed


def in_flight(instance: DagsterInstance, asset: str) -> list[DagsterRun]:
    """Runs that are queued, running or about to be retried, and have yet to materialize an asset."""
    runs = []
    for run in [*instance.get_runs(filters=RunsFilter(statuses=IN_FLIGHT)), *_about_to_be_retried(instance)]:
        planned = _assets(instance, run, DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        if asset in planned and asset not in _assets(instance, run, DagsterEventType.ASSET_MATERIALIZATION):
            runs.append(run)
    return runs


def _about_to_be_retried(instance: DagsterInstance) -> list[DagsterRun]:
    """Runs whose process died recently and that Dagster will start again; it never restarts those of a command."""
    died = RunsFilter(
        statuses=[DagsterRunStatus.FAILURE],
        tags={WILL_RETRY_TAG: "true"},
        updated_after=datetime.now(UTC) - RETRIED_WITHIN,
    )
    return [
        run for run in instance.get_runs(filters=died) if run.remote_job_origin and RETRIED_BY_TAG not in run.tags
    ]


def _assets(instance: DagsterInstance, run: DagsterRun, kind: DagsterEventType) -> set[str]:
    records = instance.get_records_for_run(run.run_id, of_type=kind).records
    return {record.asset_key.to_user_string() for record in records if record.asset_key is not None}


def described(run: DagsterRun) -> str:
    """A run in words."""
    return f"run {run.run_id[:8]} ({run.job_name}) {run.status.value.lower().replace('_', ' ')}"


def started_for(instance: DagsterInstance, cause: str) -> list[DagsterRun]:
    """The newest runs started for a cause."""
    return list(instance.get_runs(filters=RunsFilter(tags={CAUSE_TAG: cause}), limit=_RECENT))
