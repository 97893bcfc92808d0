"""What to start, and why: from what was materialized and what has been started, to at most one request.

Every decision is made from what is recorded (materializations, runs, model versions); a cursor only spares looking
at the same things twice. So a cursor that is lost or set back makes no event missed and no run asked for twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

_DIGITS = 16


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


@dataclass(frozen=True)
class Training:
    """A recorded training.

    Attributes
    ----------
    version : str
    labelled_until : date or None
        Newest session with a label that it knew; None where that was not recorded.
    known_until : date or None
        Newest session that it knew at all; None where that was not recorded.
    """

    version: str
    labelled_until: date | None
    known_until: date | None = None


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


def matured_since(sessions: Mapping[str, Sequence[date]], since: date | None, horizon: int) -> list[date]:
    """List the sessions whose labels have become known.

    Parameters
    ----------
    sessions : mapping of str to sequence of date
        Of each exchange, its sessions in order; those up to `since` may be left out.
    since : date or None
        Newest session whose label was known; None for no session.
    horizon : int
        Sessions ahead that a label looks.

    Returns
    -------
    list of date
        Later than `since`, in order, each once: sessions that at least one exchange has `horizon` sessions after.
    """
    matured = {
        session
        for own in sessions.values()
        for session in own[: max(len(own) - horizon, 0)]
        if since is None or session > since
    }
    return sorted(matured)


def training_key(data_version: str, params_hash: str) -> str:
    """Name a training by what decides its result: the data and the experiment."""
    return f"{data_version[:_DIGITS]}-{params_hash[:_DIGITS]}"


@dataclass(frozen=True)
class TrainingState:
    """What decides whether to train.

    Attributes
    ----------
    active : str or None
        The active version.
    newest : Training or None
        The newest training under the experiment in use, whether or not it became active.
    matured : int
        Sessions whose labels have become known since `newest`.
    key : str
        As `training_key` gives it, of the data and the experiment in use.
    started : str or None
        How a run that was started for the same key ended, or that it goes on.
    obstacle : str or None
        Why a training should wait.
    """

    active: str | None
    newest: Training | None
    matured: int
    key: str
    started: str | None = None
    obstacle: str | None = None


def decide_training(state: TrainingState, enough: int) -> Decision:
    """Ask for a training where there is a cause, once for the same data and experiment.

    Parameters
    ----------
    state : TrainingState
    enough : int
        Newly matured sessions that are a cause.

    Notes
    -----
    Sessions are counted from the newest training under the experiment in use, not from the active version: a
    challenger that was refused would otherwise be trained again each day, as would one that was taken back.
    """
    cause = _cause(state, enough)
    if cause is None:
        newest = state.newest
        since = "" if newest is None else f" since version {newest.version} was trained"
        return Decision(f"Sessions whose labels have matured{since}: {state.matured}; enough: {enough}.")
    return _training_for(cause, state)


def _training_for(cause: str, state: TrainingState) -> Decision:
    """Ask for a training, once for the same data and experiment, whatever the causes."""
    if state.started:
        return Decision(f"{cause} Trained for this data and experiment already: {state.started}.")
    if state.obstacle:
        return Decision(f"{cause} It waits: {state.obstacle}.", settled=False)
    return Decision(cause, key=state.key)


def _cause(state: TrainingState, enough: int) -> str | None:
    if state.active is None:
        return "No model version is active."
    if state.newest is None:
        return f"The experiment has changed since version {state.active} was trained."
    if state.newest.labelled_until is None:
        return f"Version {state.newest.version} does not say which sessions it knew."
    if state.matured >= enough:
        return (
            f"Sessions whose labels have matured since version {state.newest.version}, which knew those up to "
            f"{state.newest.labelled_until}: {state.matured}; enough: {enough}."
        )
    return None


@dataclass(frozen=True)
class Drift:
    """What the newest materialization of `drift` says.

    Attributes
    ----------
    version : str
        The version whose past the newest sessions were compared with.
    since : date or None
        First session of the newest event that raised an alarm; None where nothing did.
    words : str
        What is no longer as it was, or why nothing can be told.
    """

    version: str
    since: date | None
    words: str


@dataclass(frozen=True)
class Calls:
    """What the newest materialization of `outcomes` says of the BUY calls of the version that was active.

    Attributes
    ----------
    version : str
    falls_short : bool
        Whether fewer came true than chance explains.
    words : str
    """

    version: str
    falls_short: bool
    words: str


def decide_on_drift(drift: Drift | None, state: TrainingState) -> Decision:
    """Ask for a training where something has changed that no training has seen.

    Parameters
    ----------
    drift : Drift or None
    state : TrainingState

    Notes
    -----
    An event counts once, however long it goes on: as soon as a version was trained on data that reaches into it,
    active or refused, it is no cause any more.
    """
    if drift is None:
        return Decision("Nobody has looked for drift yet.")
    if drift.since is None:
        return Decision(drift.words)
    if drift.version != state.active:
        return Decision(f"Drift was told of version {drift.version}, which is not the active one.")
    newest = state.newest
    if newest is not None and newest.known_until is not None and drift.since <= newest.known_until:
        return Decision(
            f"Drift since {drift.since}: version {newest.version} was trained since then, on sessions up to "
            f"{newest.known_until}."
        )
    return _training_for(f"Drift since {drift.since}: {drift.words}", state)


def decide_on_calls(calls: Calls | None, state: TrainingState, tried: str | None) -> Decision:
    """Ask for a training where the active version's calls come true less often than chance explains.

    Parameters
    ----------
    calls : Calls or None
    state : TrainingState
    tried : str or None
        The training that was started for this already: one is enough for a version.
    """
    if calls is None:
        return Decision("Nothing is known yet of how the active version's calls came true.")
    if not calls.falls_short:
        return Decision(calls.words)
    if calls.version != state.active:
        return Decision(f"Calls of version {calls.version} fell short, which is not the active one.")
    if tried is not None:
        return Decision(f"{calls.words} A training was started for that: {tried}.")
    return _training_for(calls.words, state)


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
    return Decision(cause, key=f"{active}-{features[:_DIGITS]}-{number}")
