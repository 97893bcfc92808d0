"""Missing bars of a session: requested again until they arrive or are late, then reported once."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from boursomatic_assets.alerts.channels import configured_channels
from boursomatic_assets.alerts.failures import Failure, RunOutcome, Target
from boursomatic_assets.alerts.recording import open_failures, record_observation
from boursomatic_assets.automation.decisions import Feed, decide_feed
from boursomatic_assets.automation.jobs import daily_update
from boursomatic_assets.automation.observing import described, in_flight
from boursomatic_assets.core.market.calendars import hours_after_close
from boursomatic_assets.providers.registry import delivers_new_sessions
from boursomatic_assets.services.ingest.audit import arrivals
from boursomatic_assets.settings import NoticeSettings, Settings, sensor_seconds, starting_status
from boursomatic_assets.storage.dagster.run_tags import WHY_TAG
from boursomatic_assets.storage.postgres.database import Database

# Exchanges of one update: they close at the same time.
GROUPS = {"us": ("XNYS",), "euronext": ("XPAR", "XAMS", "XBRU")}
SESSION_TAG, FEED_TAG = "boursomatic/session", "boursomatic/feed"
# Each evaluation queries the newest bar of every instrument.
INTERVAL_SECONDS = 20 * sensor_seconds()


def config_of(group: str) -> dict[str, Any]:
    """Run configuration of an update for the exchanges of one group."""
    return {"resources": {"platform": {"config": {"exchanges": ",".join(GROUPS[group])}}}}


@dg.sensor(
    job=daily_update,
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus[starting_status()],
    description="Requests missing bars of the newest session again, every half hour until BOURSOMATIC_FEED_HOURS "
    "after the close. If bars are still missing then, one notice is sent, and one more when they have arrived. If "
    "the daemon was not running after the close, the session is fetched later.",
)
def fetch_late_bars(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Request updates of groups whose newest session has not arrived, and report overdue ones."""
    settings = Settings.from_environment()
    if not delivers_new_sessions(settings):
        return dg.SensorResult(skip_reason=f"The price source {settings.provider!r} brings no new sessions.")
    now, database = datetime.now(UTC), Database.open(settings)
    feeds = [feed for group in GROUPS if (feed := observe_feed(context.instance, database, settings, group, now))]
    decisions = {feed: decide_feed(feed) for feed in feeds}
    for feed in feeds:
        _tell(context, database, feed, now)
    requests = [
        dg.RunRequest(
            run_key=decision.key,
            run_config=config_of(feed.group),
            tags={SESSION_TAG: str(feed.session), FEED_TAG: feed.group, WHY_TAG: decision.reason},
        )
        for feed, decision in decisions.items()
        if decision.key
    ]
    said = " ".join(decision.reason for decision in decisions.values()) or "No instrument has bars yet."
    return dg.SensorResult(run_requests=requests, skip_reason=None if requests else said)


def observe_feed(
    instance: dg.DagsterInstance, database: Database, settings: Settings, group: str, now: datetime
) -> Feed | None:
    """State of the bars of a group's newest session; None if no symbol of the group has bars."""
    found = [one for one in arrivals(database, GROUPS[group], now) if one.expected]
    if not found:
        return None
    newest = max(found, key=lambda one: one.session)
    tags = {FEED_TAG: group, SESSION_TAG: str(newest.session)}
    records = instance.get_run_records(filters=dg.RunsFilter(tags=tags))
    last = max((record.create_timestamp for record in records), default=None)
    running = in_flight(instance, "price_bars")
    return Feed(
        group=group,
        session=newest.session,
        arrived=sum(one.arrived for one in found),
        expected=sum(one.expected for one in found),
        required=settings.min_arrived_share,
        hours=hours_after_close(newest.calendar, newest.session, now),
        last_hours=settings.feed_hours,
        attempts=len(records),
        minutes_since=None if last is None else (now - last).total_seconds() / 60,
        obstacle=f"{described(running[0])} is fetching bars" if running else None,
    )


def _tell(context: dg.SensorEvaluationContext, database: Database, feed: Feed, now: datetime) -> None:
    """Report once that the bars of a session are late, and once that they have arrived."""
    if not (feed.is_overdue or feed.is_complete):
        return
    notices, target = NoticeSettings.from_environment(), Target(f"price_bars of {feed.group}")
    cause = f"{feed.said}, {feed.last_hours:g} hours after its close and after {feed.attempts} updates"
    failure = Failure(target.asset, cause, "the session has not arrived", frozenset({target}))
    if not feed.is_complete and failure.key in {known.key for known in open_failures(database)}:
        return
    channels = [channel.name for channel in configured_channels(notices, context.log)]
    records = context.instance.get_run_records(filters=dg.RunsFilter(tags={FEED_TAG: feed.group}), limit=1)
    outcome = RunOutcome(
        run_id=records[0].dagster_run.run_id if records else "",
        job=daily_update.name,
        ended_at=now,
        failures=() if feed.is_complete else (failure,),
        succeeded=frozenset({target}) if feed.is_complete else frozenset(),
    )
    record_observation(database, outcome, channels, notices.ui_url)
