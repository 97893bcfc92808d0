"""The sensor that tells people of failed runs and of recoveries."""

import dagster as dg

from boursomatic_assets.alerts.channels import configured_channels
from boursomatic_assets.alerts.ended_runs import Wording
from boursomatic_assets.alerts.outbox import count_waiting
from boursomatic_assets.alerts.sending import DeliveryResult, deliver_due, notice_ended_runs
from boursomatic_assets.settings import NoticeSettings, Settings, sensor_seconds, starting_status
from boursomatic_assets.storage.postgres.database import Database

# Messages may come later than runs.
INTERVAL_SECONDS = 2 * sensor_seconds()
# A tick has a minute; the last message may take as long again.
DELIVERING_SECONDS = 15


# Dagster's own run failure sensor skips a run for which sending failed.
@dg.sensor(
    description="Tells people of each failed run and each failed blocking check, once for the same cause, and "
    "again when what failed has succeeded: in the log, and by webhook and e-mail where these are set. A message "
    "that its receiver does not take is kept and tried again. Starts no run.",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus[starting_status()],
)
def failure_notices(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """One message for each new cause of failure, and one for its recovery."""
    settings = NoticeSettings.from_environment()
    channels = configured_channels(settings, context.log)
    database = Database.open(Settings.from_environment())
    # Messages are stored first, then delivered.
    wording = Wording(settings.secrets, _descriptions(context))
    names = [channel.name for channel in channels]
    ended, messages = notice_ended_runs(context.instance, database, wording, names, settings.ui_url)
    delivery = deliver_due(database, channels, DELIVERING_SECONDS)
    return dg.SkipReason(_said(ended, len(messages), delivery, count_waiting(database)))


def _descriptions(context: dg.SensorEvaluationContext) -> dict[dg.AssetCheckKey, str]:
    """What each check says if it passes."""
    if context.repository_def is None:
        return {}
    graph = context.repository_def.asset_graph
    return {key: graph.get(key).description or "" for key in graph.asset_check_keys}


def _said(ended: int, new: int, delivery: DeliveryResult, waiting: int) -> str:
    """The tick's summary."""
    parts = [
        f"Runs that ended: {ended}; new messages: {new}; deliveries: {delivery.delivered}; waiting: {waiting}."
    ]
    parts += [f"Not delivered, will be tried again: {reason}." for reason in delivery.failed.values()]
    return " ".join(parts)


NOTICE_SENSORS = [failure_notices]
