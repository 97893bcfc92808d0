"""The nightly removal as a job: in the product's own instance, and in one that it shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from boursomatic_assets.automation.retention import daily_prune, prune_expired
from boursomatic_assets.definitions import defs
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets_tests.support.catalog import rows, run

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

REJECTED = "INSERT INTO rejected_bars (source, reason, copies, row_hash, last_seen_at) VALUES "


@dg.job
def nothing() -> None:
    """A run that nothing needs."""


def test_the_schedule_is_part_of_the_code_location() -> None:
    assert daily_prune.default_status is dg.DefaultScheduleStatus.STOPPED
    schedule = defs.resolve_schedule_def("daily_prune")
    assert (schedule.job_name, schedule.cron_schedule, schedule.execution_timezone) == (
        prune_expired.name,
        "15 3 * * *",
        "UTC",
    )


def test_the_job_applies_the_policy(settings: Settings, database: Database) -> None:
    run(database, f"{REJECTED} ('s', 'r', 1, 'a', '2000-01-01'), ('s', 'r', 1, 'b', now())")
    with open_instance(settings, database) as instance, dg.DagsterInstance.ephemeral() as shared:
        runs = [nothing.execute_in_process(instance=each).run_id for each in (instance, shared)]
        with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
            connection.exec_driver_sql(
                "UPDATE runs SET create_timestamp = '2000-01-01', update_timestamp = '2000-01-01'"
            )
        # Another program's instance is not pruned, whatever it holds; the tables are ours.
        assert prune_expired.execute_in_process(instance=shared).success
        assert rows(database, "SELECT row_hash FROM rejected_bars") == [("b",)]
        assert instance.has_run(runs[0])
        assert prune_expired.execute_in_process(instance=instance).success
        assert not instance.has_run(runs[0])
        assert shared.has_run(runs[1])
