"""Runs, events and ticks that are removed, and those that Dagster and the product still read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus

from boursomatic_assets.storage.dagster import expired_runs
from boursomatic_assets.storage.dagster.instance import open_instance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

LATER = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
LONG_AGO = datetime(2000, 1, 1)  # noqa: DTZ001 (UTC, as Dagster keeps it)


@pytest.fixture
def instance(settings: Settings, database: Database) -> Iterator[dg.DagsterInstance]:
    with open_instance(settings, database) as opened:
        yield opened


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["x", "y"]))
def parts() -> None:
    """An asset with partitions."""


@dg.asset
def plain() -> None:
    """An asset."""


@dg.asset_check(asset=plain)
def holds() -> dg.AssetCheckResult:
    """A check."""
    return dg.AssetCheckResult(passed=True)


def materialize(instance: dg.DagsterInstance, *assets: object, partition: str | None = None) -> str:
    made = dg.materialize(list(assets), instance=instance, partition_key=partition)  # type: ignore[arg-type]
    assert made.success
    return str(made.run_id)


def test_runs_of_the_newest_events_are_needed_and_others_leave_nothing(instance: dg.DagsterInstance) -> None:
    superseded = materialize(instance, plain, holds)
    checked = materialize(instance, plain, holds)
    x = materialize(instance, parts, partition="x")
    old_y, y = (materialize(instance, parts, partition="y") for _ in range(2))
    newest = materialize(instance, plain)
    needed = expired_runs.runs_of_newest_events(instance)
    # The newest of the asset, of each partition, and of the check.
    assert needed == {checked, x, y, newest}
    going = [superseded, old_y]
    assert [run.run_id for run in expired_runs.old_runs(instance, LATER) if run.run_id not in needed] == going
    assert expired_runs.old_runs(instance, LONG_AGO) == []
    assert expired_runs.bytes_of_runs(instance, going) > 0
    before = _known(instance)
    for run_id in going:
        expired_runs.remove_run(instance, run_id)
        # Again, as after a kill.
        expired_runs.remove_run(instance, run_id)
    assert _known(instance) == before
    assert not any(instance.has_run(run_id) for run_id in going)
    assert expired_runs.bytes_of_runs(instance, going) == 0
    history = instance.event_log_storage.get_asset_check_execution_history(holds.check_key, limit=10)
    assert [record.run_id for record in history] == [checked]
    expired_runs.vacuum_instance(instance)


def _known(instance: dg.DagsterInstance) -> object:
    """What Dagster says of each asset and partition: the newest event, its data version and the check's result."""
    keys = [dg.AssetKey("plain"), dg.AssetKey("parts")]
    events = [instance.get_latest_materialization_event(key) for key in keys]
    partitions = instance.event_log_storage.get_latest_storage_id_by_partition(
        dg.AssetKey("parts"), dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    tags = [event.asset_materialization.tags for event in events if event and event.asset_materialization]
    summary = instance.event_log_storage.get_latest_asset_check_execution_by_key([holds.check_key])
    return [event.run_id for event in events if event], tags, partitions, summary[holds.check_key].run_id


def test_the_newest_run_of_each_tag_value_is_known(instance: dg.DagsterInstance) -> None:
    runs = [
        dg.materialize([plain], instance=instance, tags={"cause": cause}).run_id
        for cause in ("drift", "bars", "drift")
    ]
    assert expired_runs.newest_run_of_each(instance, "cause") == {"bars": runs[1], "drift": runs[2]}
    assert expired_runs.newest_run_of_each(instance, "other") == {}


def test_reported_events_go_but_the_newest_of_each_asset(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        instance.report_runless_asset_event(dg.AssetMaterialization("plain", tags={"dagster/data_version": "1"}))
    instance.report_runless_asset_event(dg.AssetObservation("plain"))
    assert expired_runs.remove_reported_events(instance, LONG_AGO, remove=True)[0] == 0
    assert expired_runs.remove_reported_events(instance, LATER, remove=False)[0] == 2
    assert expired_runs.remove_reported_events(instance, LATER, remove=True)[0] == 2
    assert expired_runs.remove_reported_events(instance, LATER, remove=True) == (0, 0)
    assert instance.get_latest_materialization_event(dg.AssetKey("plain")) is not None


def test_ticks_go_but_the_newest_of_each_sensor(instance: dg.DagsterInstance) -> None:
    for sensor in ("a", "b"):
        for second in range(3):
            instance.create_tick(
                TickData(
                    instigator_origin_id=sensor,
                    instigator_name=sensor,
                    instigator_type=InstigatorType.SENSOR,
                    status=TickStatus.SKIPPED,
                    timestamp=1_700_000_000.0 + second,
                    selector_id=sensor,
                )
            )
    assert expired_runs.remove_ticks(instance, LONG_AGO, remove=True) == (0, 0)
    count, size = expired_runs.remove_ticks(instance, LATER, remove=False)
    assert (count, size > 0) == (4, True)
    assert expired_runs.remove_ticks(instance, LATER, remove=True)[0] == 4
    # The scheduler goes on from the newest tick.
    for sensor in ("a", "b"):
        assert [tick.timestamp for tick in instance.get_ticks(sensor, sensor)] == [1_700_000_002.0]


def test_logs_of_runs_that_are_gone_are_forgotten(instance: dg.DagsterInstance) -> None:
    kept, gone = (materialize(instance, plain) for _ in range(2))
    instance.delete_run(gone)
    storage = expired_runs.forgotten_logs(instance, LATER)
    assert [folder.name for folder in storage] == [gone]
    assert (storage[0].parent / kept).is_dir()
    assert expired_runs.forgotten_logs(instance, LONG_AGO) == []
