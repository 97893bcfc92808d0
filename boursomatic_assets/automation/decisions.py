"""What to start, and why: pure decisions from materializations and earlier runs to at most one request.

Every decision rests on recorded facts (materializations, runs, model versions). A cursor only avoids repeated
work: if it is lost or set back, no event is missed and no run is requested twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boursomatic_assets.core.market.arrivals import FeedState, feed_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

# Digits of a hash in the name of a run.
KEY_DIGITS = 16
# Minutes between two updates for missing bars.
AGAIN_MINUTES = 30


@dataclass(frozen=True)
class RunDecision:
    """Whether to start a run, and why or why not.

    `key` names the run, the same for the same cause; None starts none. If `settled` is False, the same events must
    be looked at again.
    """

    reason: str
    key: str | None = None
    settled: bool = True


@dataclass(frozen=True)
class BarEvent:
    """One materialization of `price_bars`.

    Later events have a higher `number`. `changed_rows` were inserted, updated or found rewritten.
    """

    number: int
    data_version: str | None
    changed_rows: int


def changing_events(events: Sequence[BarEvent], version_before: str | None) -> list[BarEvent]:
    """Keep the events after which the bars differ from the bars before.

    `events` are in order, without gaps. `version_before` is the data version before the first of them.

    Changed rows alone do not show this: another program may fill the table, an adjustment changes how unchanged
    rows are read, and a run may have died after writing. Data versions alone do not show it either: bars may have
    been changed and changed back between two events.
    """
    versions = [version_before, *(event.data_version for event in events)]
    return [
        event
        for event, before in zip(events, versions, strict=False)
        if event.changed_rows > 0 or event.data_version != before
    ]


def decide_features(
    events: Sequence[BarEvent], version_before: str | None, computed_from: int | None, obstacle: str | None
) -> RunDecision:
    """Request features of bars that no features were computed from.

    `events` are those after the last request, in order. `computed_from` is the number of the newest bars behind the
    stored features. `obstacle` says why to wait.
    """
    if not events:
        return RunDecision("No materialization of price_bars since the last look.")
    brought = changing_events(events, version_before)
    if not brought:
        return RunDecision(f"{_times(len(events))}, and nothing in them had changed.")
    waiting = [event for event in brought if computed_from is None or event.number > computed_from]
    if not waiting:
        return RunDecision(f"{_times(len(brought))}; features were computed from them already.")
    if obstacle:
        return RunDecision(f"New bars wait: {obstacle}.", settled=False)
    rows = sum(event.changed_rows for event in waiting)
    new = f"{rows:,} rows" if rows else "other bars, or another adjustment"
    return RunDecision(f"{_times(len(waiting))} with something new: {new}.", key=f"bars-{events[-1].number}")


def _times(count: int) -> str:
    return "price_bars was materialized once" if count == 1 else f"price_bars was materialized {count} times"


@dataclass(frozen=True)
class Feed:
    """State of the bars of a group of exchanges after their newest close.

    Attributes
    ----------
    group : str
        Name of the group, as in the schedules.
    session : date
    arrived, expected : int
        Number of symbols that have a bar of the session, and of those that should have one.
    required : float
        Share of the expected symbols that is enough.
    hours : float
        Hours since the close was final.
    last_hours : float
        Hours after the close from which the bars are late.
    attempts : int
        Number of updates started for this session.
    minutes_since : float or None
        Minutes since the last update was started; None without any.
    obstacle : str or None
        Why no update should be started now.
    """

    group: str
    session: date
    arrived: int
    expected: int
    required: float
    hours: float
    last_hours: float
    attempts: int = 0
    minutes_since: float | None = None
    obstacle: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether enough symbols have their bar."""
        return self.state is FeedState.COMPLETE

    @property
    def state(self) -> FeedState:
        """Whether the bars are complete, expected or late."""
        return feed_state(
            arrived=self.arrived,
            expected=self.expected,
            required=self.required,
            hours=self.hours,
            last_hours=self.last_hours,
        )

    @property
    def is_overdue(self) -> bool:
        """Whether to send a notice: the bars are late, and the last update had half an hour to bring them."""
        waited = self.minutes_since is not None and self.minutes_since >= AGAIN_MINUTES
        return self.state is FeedState.LATE and waited and self.obstacle is None

    @property
    def said(self) -> str:
        """The state in words."""
        return f"{self.group}: {self.arrived} of {self.expected} symbols have a bar of {self.session}"


def decide_feed(feed: Feed) -> RunDecision:
    """Request an update while a session's bars are missing and not yet late, every half hour.

    If no update was started for the session, one is requested later too: the daemon was not running.
    """
    if feed.is_complete:
        return RunDecision(f"{feed.said}.")
    if feed.obstacle:
        return RunDecision(f"{feed.said}; {feed.obstacle}.", settled=False)
    if feed.attempts and feed.state is FeedState.LATE:
        return RunDecision(f"{feed.said}; after {feed.last_hours:g} hours no further update is requested.")
    if not feed.attempts and feed.hours * 60 < AGAIN_MINUTES:
        return RunDecision(f"{feed.said}; the scheduled update after the close has not started yet.", settled=False)
    if feed.minutes_since is not None and feed.minutes_since < AGAIN_MINUTES:
        return RunDecision(
            f"{feed.said}; the last update was requested {feed.minutes_since:.0f} minutes ago.", settled=False
        )
    return RunDecision(f"{feed.said}.", key=f"{feed.group}-{feed.session}-again-{feed.attempts}")


def decide_recommendations(
    wanted: tuple[str | None, str], made: tuple[str | None, str | None] | None, number: int, obstacle: str | None
) -> RunDecision:
    """Request recommendations if the active model or the features have changed since the newest ones.

    `wanted` is the active version and the data version of the features; `made` is the same of the newest
    recommendations. `number` is the number of the newest recommendations, 0 without any: a version that is active
    again needs new ones. `obstacle` says why to wait.
    """
    active, features = wanted
    if active is None:
        return RunDecision("No model version is active.")
    if made == wanted:
        return RunDecision(f"Version {active} has already recommended on the newest features.")
    if made is None:
        cause = "There are no recommendations yet."
    elif made[0] != active:
        cause = f"Version {active} is active now; the recommendations are of {made[0]}."
    else:
        cause = "Features have changed since the recommendations were made."
    if obstacle:
        return RunDecision(f"{cause} They wait: {obstacle}.", settled=False)
    return RunDecision(cause, key=f"{active}-{features[:KEY_DIGITS]}-{number}")
