"""Whether to train, and why: matured labels, drift, calls that fall short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boursomatic_assets.automation.decisions import KEY_DIGITS, Decision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date


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
    return f"{data_version[:KEY_DIGITS]}-{params_hash[:KEY_DIGITS]}"


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
