"""Ended runs as Dagster recorded them: failures with their causes, and successes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dagster import (
    AssetCheckSeverity,
    DagsterEventType,
    DagsterInstance,
    FloatMetadataValue,
    IntMetadataValue,
    JsonMetadataValue,
    RunStatusChangeRecordsFilter,
    TextMetadataValue,
)

from boursomatic_assets.alerts.failures import (
    Failure,
    RunOutcome,
    Target,
    check_failure,
    error_failure,
    figures_in_words,
)
from boursomatic_assets.settings.hiding import hide

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dagster import AssetCheckEvaluation, AssetCheckKey, DagsterEvent, DagsterRun, EventLogRecord
    from dagster._core.event_api import RunStatusChangeEventType
    from dagster_shared.error import SerializableErrorInfo

    from boursomatic_assets.alerts.recording import Noticed

_ENDS: tuple[RunStatusChangeEventType, ...] = (
    DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_CANCELED,
)  # fmt: skip
_STEPS = {
    DagsterEventType.STEP_START,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
}
_PLAIN = (FloatMetadataValue, IntMetadataValue, TextMetadataValue, JsonMetadataValue)
_PAGE = 100
_BLOCKED = "DagsterAssetCheckFailedError"
_RETRIED_TAG = "dagster/will_retry"
# Why a run failed in which no step failed, for people.
_REASONS = {
    "UNEXPECTED_TERMINATION": "the run's process ended before the run did",
    "JOB_INITIALIZATION_FAILURE": "the run could not be started",
    "START_TIMEOUT": "the run did not start in time",
    "RUN_WORKER_RESTART": "the run's process was restarted",
}
_ENDED_EARLY = "the run ended before it was done"


def instance_identity(instance: DagsterInstance) -> str:
    """Identifies this instance, also against a new one in its place."""
    # All SQL storages have this method; the instance's is PostgreSQL.
    return str(instance.run_storage.get_run_storage_id())  # type: ignore[attr-defined]


def newest_event(instance: DagsterInstance) -> int:
    """Id of the newest event of any kind; 0 without one."""
    return instance.event_log_storage.get_maximum_record_id() or 0


@dataclass(frozen=True)
class Wording:
    """What causes are worded with: secrets to hide, and what each check says if it passes."""

    secrets: tuple[str, ...] = field(default=(), repr=False)
    descriptions: Mapping[AssetCheckKey, str] = field(default_factory=dict)

    def safe(self, words: str) -> str:
        """The words without secrets."""
        return hide(words, self.secrets)


def read_ended_runs(
    instance: DagsterInstance, noticed: Noticed, wording: Wording, *, limit: int
) -> list[tuple[int, RunOutcome]]:
    """Read at most `limit` ended runs that are not noticed yet, in the order of their ends.

    Each comes with the id of the event that ended it. Deleted runs are left out.
    """
    ends = sorted(
        (record for kind in _ENDS for record in _new_ends(instance, kind, noticed, limit)),
        key=lambda record: record.storage_id,
    )
    runs = ((end, instance.get_run_by_id(end.run_id)) for end in ends[:limit])
    return [(end.storage_id, _outcome(instance, run, end, wording)) for end, run in runs if run is not None]


def _new_ends(
    instance: DagsterInstance, kind: RunStatusChangeEventType, noticed: Noticed, limit: int
) -> Sequence[EventLogRecord]:
    new: list[EventLogRecord] = []
    after = noticed.after
    while True:
        wanted = RunStatusChangeRecordsFilter(kind, after_storage_id=after)
        page = instance.fetch_run_status_changes(wanted, limit=_PAGE, ascending=True).records
        new += [record for record in page if record.storage_id not in noticed]
        if len(page) < _PAGE or len(new) >= limit:
            return new
        after = page[-1].storage_id


def _outcome(instance: DagsterInstance, run: DagsterRun, end: EventLogRecord, wording: Wording) -> RunOutcome:
    records = instance.get_records_for_run(run.run_id, of_type=_STEPS).records
    steps = _Steps([event for record in records if (event := record.event_log_entry.dagster_event) is not None])
    last = end.event_log_entry.dagster_event
    has_failed = last is not None and last.event_type is DagsterEventType.RUN_FAILURE
    failures = list(steps.failures(wording))
    if has_failed and last is not None and not failures:
        failures.append(_ended_early(last, steps.undone() or [_of_run(run)], wording))
    is_success = last is not None and last.event_type is DagsterEventType.RUN_SUCCESS
    return RunOutcome(
        run_id=run.run_id,
        job=run.job_name,
        ended_at=datetime.fromtimestamp(end.timestamp, UTC),
        failures=tuple(failures),
        succeeded=frozenset(steps.succeeded() | ({_of_run(run)} if is_success else set())),
        is_tried_again=has_failed and run.tags.get(_RETRIED_TAG) == "true",
    )


def _of_run(run: DagsterRun) -> Target:
    """Stands for a run without assets."""
    return Target(f"job {run.job_name}")


class _Steps:
    """The steps of a run, from its events."""

    def __init__(self, events: Iterable[DagsterEvent]) -> None:
        self.planned: dict[str, list[Target]] = defaultdict(list)
        self.evaluations: list[AssetCheckEvaluation] = []
        self.materialized: set[Target] = set()
        self.errors: list[DagsterEvent] = []
        self.running: set[str] = set()
        for event in events:
            self._take(event)

    def _take(self, event: DagsterEvent) -> None:
        step, kind = event.step_key or "", event.event_type
        if kind is DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
            planned = event.asset_materialization_planned_data
            name = planned.asset_key.to_user_string()
            partitions = (
                planned.partitions_subset.get_partition_keys()
                if planned.partitions_subset
                else [planned.partition or ""]
            )
            self.planned[step] += [Target(name, partition) for partition in partitions]
        elif kind is DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
            check = event.asset_check_planned_data
            self.planned[step].append(Target(check.asset_key.to_user_string(), check=check.check_name))
        elif kind is DagsterEventType.ASSET_MATERIALIZATION and event.asset_key is not None:
            self.materialized.add(Target(event.asset_key.to_user_string(), event.partition or ""))
        elif kind is DagsterEventType.ASSET_CHECK_EVALUATION:
            self.evaluations.append(event.asset_check_evaluation_data)
        elif kind is DagsterEventType.STEP_START:
            self.running.add(step)
        else:
            self.running.discard(step)
            if kind is DagsterEventType.STEP_FAILURE:
                self.errors.append(event)

    def succeeded(self) -> set[Target]:
        """Materialized assets, and checks that passed or did not block."""
        return self.materialized | {_of(check) for check in self.evaluations if not _blocks(check)}

    def failures(self, wording: Wording) -> Iterator[Failure]:
        """Failed blocking checks, and steps that ended in an error of their own."""
        for check in self.evaluations:
            if _blocks(check):
                figures = {name: entry.value for name, entry in check.metadata.items() if isinstance(entry, _PLAIN)}
                findings = check.description or figures_in_words(figures)
                promise = wording.descriptions.get(check.asset_check_key, "")
                yield check_failure(_of(check), promise, wording.safe(findings))
        for event in self.errors:
            error = event.step_failure_data.error
            # A failed blocking check also leaves an error of Dagster's.
            if error is None or error.cls_name != _BLOCKED:
                awaiting = self._undone([event.step_key or ""]) or [Target(f"step {event.step_key}")]
                described = event.step_failure_data.user_failure_data
                kind, said = _told(error, described.description if described else None)
                yield error_failure(awaiting, kind, wording.safe(said))

    def undone(self) -> list[Target]:
        """Targets of the steps that were running when the run ended; between two steps, all that were left."""
        undone = self._undone(sorted(self.running)) or self._undone(list(self.planned))
        # Assets first: their checks depend on them.
        return [target for target in undone if not target.check] or undone

    def _undone(self, steps: Sequence[str]) -> list[Target]:
        evaluated = {_of(check) for check in self.evaluations}
        done = self.materialized | evaluated
        return [target for step in steps for target in self.planned[step] if target not in done]


def _of(check: AssetCheckEvaluation) -> Target:
    return Target(check.asset_key.to_user_string(), check=check.check_name)


def _blocks(check: AssetCheckEvaluation) -> bool:
    return bool(check.blocking) and not check.passed and check.severity is AssetCheckSeverity.ERROR


def _told(error: SerializableErrorInfo | None, description: str | None) -> tuple[str, str]:
    """Kind and words of an error: the asset's own, without Dagster's wrappers."""
    if error is None:
        return "the step failed", description or ""
    while (error.cls_name or "").startswith("Dagster") and error.cause is not None:
        error = error.cause
    kind = error.cls_name or "error"
    if description:
        return kind, description
    # The message is like the end of a traceback: "package.Kind: words".
    head, _, words = error.message.partition(": ")
    return kind, words if head.rpartition(".")[2] == kind else error.message


def _ended_early(end: DagsterEvent, undone: list[Target], wording: Wording) -> Failure:
    # A run ended from outside has only a sentence.
    reason, error = (getattr(end.event_specific_data, name, None) for name in ("failure_reason", "error"))
    happened = _REASONS.get(reason.value if reason else "", _ENDED_EARLY)
    words = ": ".join(_told(error, None)) if error else end.message or ""
    return error_failure(undone, happened, wording.safe(words))
