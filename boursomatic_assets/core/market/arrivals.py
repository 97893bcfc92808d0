"""Whether the bars of a session have arrived, are still expected, or are late."""

from __future__ import annotations

from enum import Enum


class FeedState(Enum):
    """State of the bars of one session."""

    COMPLETE = "complete"
    EXPECTED = "expected"
    LATE = "late"


def feed_state(*, arrived: int, expected: int, required: float, hours: float, last_hours: float) -> FeedState:
    """State of a session's bars, some `hours` after its close was final.

    `arrived` of `expected` symbols have a bar of the session; the share `required` is enough. Without it the bars
    are late from `last_hours` on.
    """
    if arrived >= required * expected:
        return FeedState.COMPLETE
    return FeedState.LATE if hours >= last_hours else FeedState.EXPECTED
