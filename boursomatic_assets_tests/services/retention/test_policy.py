"""What the policy decides from facts, without a database."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from dagster import DagsterRunStatus

from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.services.retention.policy import limit, limits, runs_to_remove
from boursomatic_assets.settings import Retention
from boursomatic_assets.storage.dagster.expired_runs import OldRun
from boursomatic_assets.storage.postgres.expired_rows import NOTHING, Limits

NOW = datetime(2026, 11, 29, 3, 15)  # noqa: DTZ001 (UTC, as the tables keep it)
BEFORE = NOW - timedelta(days=30)


def run(status: DagsterRunStatus, days: float) -> OldRun:
    """A run last updated this many days ago."""
    return OldRun(f"{status.value} {days:g}", status, NOW - timedelta(days=days))


def test_a_limit_lies_so_many_days_back_and_zero_days_keep_for_ever() -> None:
    assert limit(NOW, 30) == datetime(2026, 10, 30, 3, 15)  # noqa: DTZ001
    assert limit(NOW, 0) == NOTHING


def test_each_kind_of_row_has_its_own_limit() -> None:
    policy = Retention(recommendations=1, bar_changes=2, runs=3, ticks=4, records=0, pages=6, bundles=7)
    assert limits(policy, NOW) == Limits(NOW - timedelta(days=1), NOW - timedelta(days=2), NOTHING)


def test_runs_that_ended_long_ago_go_and_needed_ones_stay() -> None:
    ended = [run(status, 31) for status in (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE)]
    ended += [run(DagsterRunStatus.CANCELED, 31), run(DagsterRunStatus.SUCCESS, 29)]
    assert runs_to_remove(ended, set(), BEFORE) == ["SUCCESS 31", "FAILURE 31", "CANCELED 31"]
    assert runs_to_remove(ended, {"FAILURE 31", "CANCELED 31"}, BEFORE) == ["SUCCESS 31"]
    assert runs_to_remove(ended, set(), NOTHING) == []


def test_runs_that_wait_stay_and_dead_ones_go_a_week_later() -> None:
    waiting = [run(DagsterRunStatus.QUEUED, 400), run(DagsterRunStatus.NOT_STARTED, 400)]
    started = [run(DagsterRunStatus.STARTED, days) for days in (31, 36.9, 37.1)]
    cancelled = [run(DagsterRunStatus.CANCELING, days) for days in (36.9, 37.1)]
    assert runs_to_remove([*waiting, *started, *cancelled], set(), BEFORE) == ["STARTED 37.1", "CANCELING 37.1"]
    assert runs_to_remove(started, set(), NOTHING) == []


def test_the_policy_is_read_from_the_environment() -> None:
    assert Retention.from_environment({}) == Retention(90, 30, 30, 7, 180, 30, 10)
    assert Retention.from_environment({"BOURSOMATIC_KEEP_RUNS": "0"}).runs == 0
    with pytest.raises(ConfigurationError, match="BOURSOMATIC_KEEP_TICKS"):
        Retention.from_environment({"BOURSOMATIC_KEEP_TICKS": "-1"})
