"""Schedules: bars of each group of exchanges after the close, and a training once a week."""

from datetime import date

import dagster as dg

from boursomatic_assets.automation.feeds import FEED_TAG, GROUPS, SESSION_TAG, config_of
from boursomatic_assets.automation.jobs import daily_update, retrain
from boursomatic_assets.automation.observing import newest
from boursomatic_assets.automation.training import observe_training, training_request
from boursomatic_assets.automation.training_decisions import decide_training
from boursomatic_assets.core.market.calendars import sessions_between
from boursomatic_assets.settings import DEFAULT_PROVIDER, Settings, starting_status

# Closes settle half an hour after the bell: 16:00 in New York, 17:30 in Paris, Amsterdam and Brussels.
US_CRON, US_ZONE = "35 16 * * 1-5", "America/New_York"
EURONEXT_CRON, EURONEXT_ZONE = "5 18 * * 1-5", "Europe/Paris"
# No exchange is open, and the bars of Friday have arrived.
WEEKLY_CRON, WEEKLY_ZONE = "0 6 * * 6", "UTC"


@dg.schedule(
    job=daily_update,
    cron_schedule=US_CRON,
    execution_timezone=US_ZONE,
    description="New bars and features of US instruments, 35 minutes after the close; not on holidays.",
    default_status=dg.DefaultScheduleStatus[starting_status()],
)
def us_after_close(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Request an update of US instruments, except on exchange holidays."""
    return _after_close("us", context.scheduled_execution_time.date())


@dg.schedule(
    job=daily_update,
    cron_schedule=EURONEXT_CRON,
    execution_timezone=EURONEXT_ZONE,
    description="New bars and features of Euronext instruments, 35 minutes after the close; not on holidays.",
    default_status=dg.DefaultScheduleStatus[starting_status()],
)
def euronext_after_close(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Request an update of Euronext instruments, except on exchange holidays."""
    return _after_close("euronext", context.scheduled_execution_time.date())


@dg.schedule(
    job=retrain,
    cron_schedule=WEEKLY_CRON,
    execution_timezone=WEEKLY_ZONE,
    description="Trains again every Saturday if at least one session has matured, even if these are fewer than the "
    "sensor retrain_when_due requires. Never twice for the same data and experiment.",
    default_status=dg.DefaultScheduleStatus[starting_status()],
)
def weekly_retrain(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Request a training if at least one session has matured since the last one."""
    features = newest(context.instance, "features")
    if features is None:
        return dg.SkipReason("There are no features yet.")
    decision = decide_training(observe_training(context.instance, features), enough=1)
    return training_request(decision) if decision.key else dg.SkipReason(decision.reason)


def _after_close(group: str, today: date) -> dg.RunRequest | dg.SkipReason:
    calendars = GROUPS[group]
    provider = Settings.from_environment().provider
    if provider == DEFAULT_PROVIDER:
        return dg.SkipReason(f"The price source {provider!r} never has anything new: set BOURSOMATIC_PROVIDER.")
    if all(sessions_between(calendar, today, today).is_empty() for calendar in calendars):
        return dg.SkipReason(f"{today} was no session of {', '.join(calendars)}.")
    return dg.RunRequest(
        # One run per session, even if the daemon is restarted.
        run_key=f"{group}-{today}",
        run_config=config_of(group),
        tags={SESSION_TAG: str(today), FEED_TAG: group},
    )


SCHEDULES = [us_after_close, euronext_after_close, weekly_retrain]
