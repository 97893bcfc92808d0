"""The retention policy as a job, and its nightly schedule."""

import dagster as dg
from upath import UPath

from boursomatic_assets.settings import Retention, Settings, starting_status
from boursomatic_assets.storage.dagster.instance import is_own
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.expired_rows import database_clock

# After the closes of all exchanges, and before the next opens.
PRUNE_CRON, PRUNE_ZONE = "15 3 * * *", "UTC"


@dg.op(out=dg.Out(dg.Nothing))
def remove_expired(context: dg.OpExecutionContext) -> None:
    """Remove what the retention policy (BOURSOMATIC_KEEP_…) no longer keeps.

    Runs and ticks are removed only from the product's own Dagster instance, not from one that other code locations
    share.
    """
    # Imported here: the code location does not need the libraries behind the tables of Dagster's storage.
    from boursomatic_assets.services.retention.prune import Place, prune

    settings = Settings.from_environment()
    database, root = Database.open(settings), UPath(settings.artifacts_dir)
    own = context.instance if is_own(context.instance, settings) else None
    place = Place(database, root, own, Retention.from_environment(), database_clock(database))
    found = prune(place, who=f"run {context.run_id}", remove=True, note=context.log.info)
    context.log.info("Removed %.1f MB", sum(each.bytes for each in found) / 1e6)


@dg.job(
    description="Removes what the retention policy (BOURSOMATIC_KEEP_…) no longer keeps. List it first: "
    "boursomatic prune",
    executor_def=dg.in_process_executor,
)
def prune_expired() -> None:
    """Apply the retention policy."""
    remove_expired()


daily_prune = dg.ScheduleDefinition(
    name="daily_prune",
    job=prune_expired,
    cron_schedule=PRUNE_CRON,
    execution_timezone=PRUNE_ZONE,
    description="Removes every night what the retention policy (BOURSOMATIC_KEEP_…) no longer keeps.",
    default_status=dg.DefaultScheduleStatus[starting_status()],
)
