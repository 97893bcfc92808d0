"""The sensor that tells people when runs fail, and when what failed works again."""

import dagster as dg

from boursomatic_assets.alerts.channels import configured_channels
from boursomatic_assets.alerts.ended_runs import Wording
from boursomatic_assets.alerts.outbox import count_waiting
from boursomatic_assets.alerts.sending import Delivery, deliver_due, notice_ended_runs
from boursomatic_assets.settings import NoticeSettings, Settings, sensor_seconds
from boursomatic_assets.storage.postgres.database import Database

# What failed may be told a little later than what follows is started.
INTERVAL_SECONDS = 2 * sensor_seconds()
# Of the minute that Dagster gives a tick; the last message begun may take as long again.
DELIVERING_SECONDS = 15


# Not Dagster's own sensor of failed runs: that one goes on to the next run when telling of one has failed.
@dg.sensor(
    description="Tells people of each failed run and each failed blocking check, once for the same cause, and "
    "again when what failed has succeeded: in the log, and by webhook and e-mail where these are set. A message "
    "that its receiver does not take is kept and tried again. Starts no run.",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def failure_notices(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """One message for each new cause of failure, one when it is over."""
    settings = NoticeSettings.from_environment()
    channels = configured_channels(settings, context.log)
    database = Database.open(Settings.from_environment())
    # First what happened is kept; then it may take its time to tell.
    wording = Wording(settings.secrets, _descriptions(context))
    names = [channel.name for channel in channels]
    ended, messages = notice_ended_runs(context.instance, database, wording, names, settings.ui_url)
    delivery = deliver_due(database, channels, DELIVERING_SECONDS)
    return dg.SkipReason(_said(ended, len(messages), delivery, count_waiting(database)))


def _descriptions(context: dg.SensorEvaluationContext) -> dict[dg.AssetCheckKey, str]:
    """What each check finds to be so when it passes."""
    if context.repository_def is None:
        return {}
    graph = context.repository_def.asset_graph
    return {key: graph.get(key).description or "" for key in graph.asset_check_keys}


def _said(ended: int, new: int, delivery: Delivery, waiting: int) -> str:
    """What the tick's history shows."""
    parts = [
        f"Runs that ended: {ended}; new messages: {new}; deliveries: {delivery.delivered}; waiting: {waiting}."
    ]
    parts += [f"Not delivered, will be tried again: {reason}." for reason in delivery.failed.values()]
    return " ".join(parts)


NOTICE_SENSORS = [failure_notices]
