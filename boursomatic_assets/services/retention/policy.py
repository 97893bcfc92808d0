"""Decisions of the retention policy, from facts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from dagster import DagsterRunStatus

from boursomatic_assets.storage.postgres.expired_rows import NOTHING, Limits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from boursomatic_assets.settings import Retention
    from boursomatic_assets.storage.dagster.expired_runs import OldRun

_ENDED = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
_WAITING = {DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED, DagsterRunStatus.MANAGED}
# No run takes that long: one of a command that was killed keeps the status of a running one.
LONGEST_RUN = timedelta(days=7)


def limit(now: datetime, days: int) -> datetime:
    """The moment before which a record has expired; 0 days keep it for ever."""
    return now - timedelta(days=days) if days else NOTHING


def limits(policy: Retention, now: datetime) -> Limits:
    """The moments of the platform's tables."""
    return Limits(
        recommendations=limit(now, policy.recommendations),
        bar_changes=limit(now, policy.bar_changes),
        records=limit(now, policy.records),
    )


def runs_to_remove(runs: Iterable[OldRun], needed: Collection[str], before: datetime) -> list[str]:
    """Runs that ended before a moment and that nothing needs; waiting ones stay, dead ones go a week later."""
    return [run.run_id for run in runs if run.run_id not in needed and _has_expired(run, before)]


def _has_expired(run: OldRun, before: datetime) -> bool:
    if run.status in _WAITING:
        return False
    grace = timedelta() if run.status in _ENDED or before == NOTHING else LONGEST_RUN
    return run.updated < before - grace
