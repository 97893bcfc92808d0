"""What to start, and why: from what was materialized and what has been started, to at most one request.

Every decision is made from what is recorded (materializations, runs, model versions); a cursor only spares looking
at the same things twice. So a cursor that is lost or set back makes no event missed and no run asked for twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Digits of a hash in the name of a run.
KEY_DIGITS = 16


@dataclass(frozen=True)
class Decision:
    """Whether to start a run, and why or why not.

    Attributes
    ----------
    reason : str
        For people: why the run is started, or why none is.
    key : str or None
        Names the run to start, the same for the same cause; None where none is.
    settled : bool
        Whether what was looked at is dealt with; if not, it must be looked at again.
    """

    reason: str
    key: str | None = None
    settled: bool = True


@dataclass(frozen=True)
class BarEvent:
    """One materialization of `price_bars`.

    Attributes
    ----------
    number : int
        Its place among all events: a later event has a higher one.
    data_version : str or None
    changed_rows : int
        Rows that it inserted, updated or found rewritten.
    """

    number: int
    data_version: str | None
    changed_rows: int


def events_that_brought_something(events: Sequence[BarEvent], version_before: str | None) -> list[BarEvent]:
    """Keep the events after which the bars were no longer what they had been before.

    Parameters
    ----------
    events : sequence of BarEvent
        In their order, without gaps.
    version_before : str or None
        Data version of the event before the first of them.

    Notes
    -----
    Rows alone do not tell: a table that another program fills is only looked through, an adjustment changes what is
    read from rows that stay, and a run that died after writing leaves its rows to the next one. Versions alone do
    not tell either: bars may have been changed and changed back by somebody else between two events.
    """
    versions = [version_before, *(event.data_version for event in events)]
    return [
        event
        for event, before in zip(events, versions, strict=False)
        if event.changed_rows > 0 or event.data_version != before
    ]


def decide_features(
    events: Sequence[BarEvent], version_before: str | None, computed_from: int | None, obstacle: str | None
) -> Decision:
    """Ask for features of bars that no features were computed from yet.

    Parameters
    ----------
    events : sequence of BarEvent
        All that no run was asked for yet, in their order.
    version_before : str or None
        Data version of the event before the first of them.
    computed_from : int or None
        Number of the newest bars that the stored features were computed from.
    obstacle : str or None
        Why they should wait.
    """
    if not events:
        return Decision("No materialization of price_bars since the last look.")
    brought = events_that_brought_something(events, version_before)
    if not brought:
        return Decision(f"{_times(len(events))}, and nothing in them had changed.")
    waiting = [event for event in brought if computed_from is None or event.number > computed_from]
    if not waiting:
        return Decision(f"{_times(len(brought))}; features were computed from them already.")
    if obstacle:
        return Decision(f"New bars wait: {obstacle}.", settled=False)
    rows = sum(event.changed_rows for event in waiting)
    new = f"{rows:,} rows" if rows else "other bars, or another adjustment"
    return Decision(f"{_times(len(waiting))} with something new: {new}.", key=f"bars-{events[-1].number}")


def _times(count: int) -> str:
    return "price_bars was materialized once" if count == 1 else f"price_bars was materialized {count} times"


def decide_recommendations(
    wanted: tuple[str | None, str], made: tuple[str | None, str | None] | None, number: int, obstacle: str | None
) -> Decision:
    """Ask for recommendations where another model is active, or features have changed, since they were made.

    Parameters
    ----------
    wanted : tuple of str or None, and str
        The active version, and the data version of the features.
    made : tuple of two str or None, or None
        The same of the newest recommendations; None where there are none.
    number : int
        Number of the newest recommendations, 0 where there are none: a version that is active again after another
        one must be served again.
    obstacle : str or None
        Why they should wait.
    """
    active, features = wanted
    if active is None:
        return Decision("No model version is active.")
    if made == wanted:
        return Decision(f"The newest features are recommended on with version {active} already.")
    if made is None:
        cause = "There are no recommendations yet."
    elif made[0] != active:
        cause = f"Version {active} is active now; the recommendations are of {made[0]}."
    else:
        cause = "Features have changed since the recommendations were made."
    if obstacle:
        return Decision(f"{cause} They wait: {obstacle}.", settled=False)
    return Decision(cause, key=f"{active}-{features[:KEY_DIGITS]}-{number}")
