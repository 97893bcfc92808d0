"""Health check of the platform, for people and monitoring programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.market.arrivals import FeedState, feed_state
from boursomatic_assets.core.market.calendars import CALENDARS, hours_after_close
from boursomatic_assets.providers.registry import delivers_new_sessions
from boursomatic_assets.services.ingest.audit import Arrival, arrivals
from boursomatic_assets.storage.postgres.market_tables import newest_session
from boursomatic_assets.storage.postgres.model_table import active_version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from dagster import DagsterInstance

    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

# Recommendations follow new bars within minutes, unless a training runs first.
RECOMMENDED_WITHIN_HOURS = 4


@dataclass(frozen=True)
class Status:
    """State of the platform; times are in UTC.

    `problems` is empty if all is well. `feeds` are the bars of each exchange's newest session. `model` is the
    active version. `open_failures` are reported failures that still last.
    """

    at: datetime
    problems: tuple[str, ...]
    feeds: tuple[Arrival, ...]
    model: str | None
    recommended_at: datetime | None
    recommended_session: str | None
    open_failures: tuple[str, ...]
    daemon_is_alive: bool

    @property
    def is_healthy(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The same, in types that JSON supports."""
        feeds = [{**asdict(feed), "session": feed.session.isoformat()} for feed in self.feeds]
        return {
            "is_healthy": self.is_healthy,
            "at": self.at.isoformat(),
            "problems": list(self.problems),
            "feeds": feeds,
            "model": self.model,
            "recommended_at": self.recommended_at.isoformat() if self.recommended_at else None,
            "recommended_session": self.recommended_session,
            "open_failures": list(self.open_failures),
            "daemon_is_alive": self.daemon_is_alive,
        }


def read_status(
    database: Database,
    instance: DagsterInstance,
    settings: Settings,
    now: datetime,
    open_failures: Sequence[str] = (),
) -> Status:
    """Check bars, model, recommendations, failures and the daemon; `now` needs a time zone."""
    from dagster._daemon.controller import all_daemons_live

    goes_on = delivers_new_sessions(settings)
    feeds = tuple(feed for feed in arrivals(database, CALENDARS, now) if feed.expected) if goes_on else ()
    active = active_version(database)
    made = database.read(
        "SELECT (array_agg(generated_at ORDER BY insertion_number DESC NULLS LAST, generated_at DESC))[1] AS at, "
        "max(features_snapshot ->> 'session') AS session FROM recommendations WHERE is_active"
    )
    at, session = made.row(0)
    is_alive = all_daemons_live(instance)
    problems = [
        *([] if is_alive else ["the daemon is not running: boursomatic dev"]),
        *(_late(feed, settings) for feed in feeds if _state(feed, settings, now) is FeedState.LATE),
        *(_silent(database) if goes_on and not feeds else ()),
        *([] if active else ["no model version is active: boursomatic materialize"]),
        *_behind(feeds, settings, session, now),
        *(f"{failure} is not over: boursomatic notices list" for failure in open_failures),
    ]
    return Status(
        now, tuple(problems), feeds, active.version if active else None, at, session, tuple(open_failures), is_alive
    )


def _silent(database: Database) -> list[str]:
    """A source of which no symbol has had a bar for weeks: no exchange expects one any more."""
    newest = newest_session(database)
    return [f"the newest bar is of {newest}" if newest else "there are no bars"]


def _state(feed: Arrival, settings: Settings, now: datetime) -> FeedState:
    return feed_state(
        arrived=feed.arrived,
        expected=feed.expected,
        required=settings.min_arrived_share,
        hours=hours_after_close(feed.calendar, feed.session, now),
        last_hours=settings.feed_hours,
    )


def _late(feed: Arrival, settings: Settings) -> str:
    return (
        f"{feed.calendar}: {feed.arrived} of {feed.expected} symbols have a bar of {feed.session}, "
        f"{settings.feed_hours:g} hours after its close"
    )


def _behind(feeds: Sequence[Arrival], settings: Settings, session: str | None, now: datetime) -> list[str]:
    """Problem of recommendations older than the newest session, long after its bars have arrived."""
    arrived = [
        feed
        for feed in feeds
        if _state(feed, settings, now) is FeedState.COMPLETE
        and hours_after_close(feed.calendar, feed.session, now) >= settings.feed_hours + RECOMMENDED_WITHIN_HOURS
    ]
    if not arrived:
        return []
    newest = max(feed.session for feed in arrived).isoformat()
    if session is not None and session >= newest:
        return []
    return [f"the newest recommendations are of {session or 'no session'}; bars of {newest} have arrived"]
