"""Whether to train, and why: matured labels, drift, calls that fall short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boursomatic_assets.automation.decisions import KEY_DIGITS, RunDecision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date


@dataclass(frozen=True)
class RecordedTraining:
    """A recorded training: its newest session with a known label, and its newest session; None if not recorded."""

    version: str
    labelled_until: date | None
    known_until: date | None = None


def matured_since(sessions: Mapping[str, Sequence[date]], since: date | None, horizon: int) -> list[date]:
    """Sessions later than `since` whose labels have become known, in order: an exchange has `horizon` later ones.

    `sessions` holds each exchange's sessions in order; those up to `since` may be missing.
    """
    matured = {
        session
        for own in sessions.values()
        for session in own[: max(len(own) - horizon, 0)]
        if since is None or session > since
    }
    return sorted(matured)


def training_key(data_version: str, params_hash: str) -> str:
    """Name a training by the data and the experiment, which decide its result."""
    return f"{data_version[:KEY_DIGITS]}-{params_hash[:KEY_DIGITS]}"


@dataclass(frozen=True)
class TrainingState:
    """The facts that decide whether to train.

    `newest` is the newest training under the experiment in use, active or not. `matured` counts the sessions whose
    labels have become known since then. `key` is from `training_key`. `started` describes a run that was started
    for this key. `obstacle` says why to wait.
    """

    active: str | None
    newest: RecordedTraining | None
    matured: int
    key: str
    started: str | None = None
    obstacle: str | None = None


def decide_training(state: TrainingState, enough: int) -> RunDecision:
    """Request a training if there is a cause, once for the same data and experiment.

    `enough` newly matured sessions are a cause. They are counted from the newest training under the experiment in
    use, not from the active version: otherwise a refused challenger would be trained again every day.
    """
    cause = _cause(state, enough)
    if cause is None:
        newest = state.newest
        since = "" if newest is None else f" since version {newest.version} was trained"
        return RunDecision(f"Sessions whose labels have matured{since}: {state.matured}; enough: {enough}.")
    return _training_for(cause, state)


def _training_for(cause: str, state: TrainingState) -> RunDecision:
    """Request a training for a cause, once for the same data and experiment."""
    if state.started:
        return RunDecision(f"{cause} Trained for this data and experiment already: {state.started}.")
    if state.obstacle:
        return RunDecision(f"{cause} It waits: {state.obstacle}.", settled=False)
    return RunDecision(cause, key=state.key)


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
    """The newest result of `drift`: the compared version, the first session of the newest alarm, what changed."""

    version: str
    since: date | None
    words: str


@dataclass(frozen=True)
class Calls:
    """The newest result of `outcomes` on the BUY calls of the version that was active then."""

    version: str
    falls_short: bool
    words: str


def decide_on_drift(drift: Drift | None, state: TrainingState) -> RunDecision:
    """Request a training for an alarm that no training has seen.

    An alarm counts once, however long it lasts: a version trained on its sessions, active or refused, settles it.
    """
    if drift is None:
        return RunDecision("Drift has not been computed yet.")
    if drift.since is None:
        return RunDecision(drift.words)
    if drift.version != state.active:
        return RunDecision(f"Drift was computed for version {drift.version}, which is not the active one.")
    newest = state.newest
    if newest is not None and newest.known_until is not None and drift.since <= newest.known_until:
        return RunDecision(
            f"Drift since {drift.since}: version {newest.version} was trained since then, on sessions up to "
            f"{newest.known_until}."
        )
    return _training_for(f"Drift since {drift.since}: {drift.words}", state)


def decide_on_calls(calls: Calls | None, state: TrainingState, tried: str | None) -> RunDecision:
    """Request a training if the active version's calls come true less often than chance explains.

    `tried` describes the training already started for that: one is enough for a version.
    """
    if calls is None:
        return RunDecision("Nothing is known yet of how the active version's calls came true.")
    if not calls.falls_short:
        return RunDecision(calls.words)
    if calls.version != state.active:
        return RunDecision(f"Calls of version {calls.version} fell short, which is not the active one.")
    if tried is not None:
        return RunDecision(f"{calls.words} A training was started for that: {tried}.")
    return _training_for(calls.words, state)
