"""What people are told when runs fail and when what failed works again: which messages, in which words, how often.

A failure is known by the asset it struck and by its cause. The same cause on the same asset is told once, however
often it comes back, until everything that failed has succeeded since: then that is told once, too.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(hours=1)
HIDDEN = "***"
# A cause that fills a screen is read in the run itself.
LONGEST_CAUSE = 1500
# Of a run that ended before most of it was done, so many assets are named.
_NAMED = 3
_CREDENTIALS = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@")
_CHANGING = re.compile(
    r"\b0x[0-9a-f]+\b"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # an id of a run
    r"|\b(?=[a-f]*[0-9])[0-9a-f]{16,}\b"  # a digest
    r"|[0-9]+",
    re.IGNORECASE,
)
# Far beyond the longest wait, and far from an overflow.
_MOST_DOUBLINGS = 16


class Kind(StrEnum):
    """What a message is about."""

    FAILURE = "failure"
    RECOVERY = "recovery"
    TEST = "test"


class Target(NamedTuple):
    """What can succeed: the materialization of an asset or of one partition of it, or a check of it."""

    asset: str
    partition: str = ""
    check: str = ""


@dataclass(frozen=True)
class Failure:
    """Something that failed in a run.

    Attributes
    ----------
    asset : str
        What it struck, as people call it: an asset, or several.
    cause : str
        In words.
    sign : str
        What stays the same when the same thing goes wrong again: the check's name, the kind of error.
    awaiting : frozenset of Target
        What has to succeed before this is over.
    """

    asset: str
    cause: str
    sign: str
    awaiting: frozenset[Target]

    @property
    def key(self) -> str:
        """Two failures are the same where their keys are."""
        return f"{self.asset}: {self.sign}"


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Attributes
    ----------
    run_id, job : str
    ended_at : datetime
        UTC.
    failures : tuple of Failure
    succeeded : frozenset of Target
        What was materialized, and which checks passed.
    is_tried_again : bool
        Whether Dagster starts the run anew by itself.
    """

    run_id: str
    job: str
    ended_at: datetime
    failures: tuple[Failure, ...] = ()
    succeeded: frozenset[Target] = frozenset()
    is_tried_again: bool = False


@dataclass(frozen=True)
class OpenFailure:
    """A failure that was told and is not over.

    Attributes
    ----------
    key, asset, cause : str
        As of the `Failure`.
    since : datetime
        UTC: the end of the run that showed it first.
    awaiting : frozenset of Target
        What has not succeeded since it failed last. Empty while another cause keeps the asset from recovering.
    times : int
        How often it was seen.
    """

    key: str
    asset: str
    cause: str
    since: datetime
    awaiting: frozenset[Target]
    times: int = 1


@dataclass(frozen=True)
class Message:
    """One message to people.

    Attributes
    ----------
    key : str
        Of the failure; of a recovery, the asset.
    kind : Kind
    asset, subject, text : str
    details : dict
        The same for programs: values that JSON can hold.
    """

    key: str
    kind: Kind
    asset: str
    subject: str
    text: str
    details: dict[str, Any]


@dataclass(frozen=True)
class Advance:
    """What a run's end changes.

    Attributes
    ----------
    open_failures : tuple of OpenFailure
        All that are open now.
    new : tuple of Failure
        Those of which nobody was told yet.
    recovered : mapping of str to tuple of OpenFailure
        For each asset that works again, what had been wrong with it.
    """

    open_failures: tuple[OpenFailure, ...]
    new: tuple[Failure, ...]
    recovered: Mapping[str, tuple[OpenFailure, ...]]


def advance(open_failures: Iterable[OpenFailure], outcome: RunOutcome) -> Advance:
    """Take a run's end into account.

    Parameters
    ----------
    open_failures : iterable of OpenFailure
        Unique by key.
    outcome : RunOutcome

    Notes
    -----
    A run in which an asset failed shows nothing of that asset to be well: bars that are stored and then fail their
    check are no success. An asset has recovered when nothing is awaited of any of its failures.
    """
    known = {failure.key: failure for failure in open_failures}
    new = []
    for failure in outcome.failures:
        before = known.get(failure.key)
        if before is None:
            new.append(failure)
            known[failure.key] = OpenFailure(
                failure.key, failure.asset, failure.cause, outcome.ended_at, failure.awaiting
            )
        else:
            awaiting = before.awaiting | failure.awaiting
            known[failure.key] = replace(before, awaiting=awaiting, times=before.times + 1)
    struck = {target.asset for failure in outcome.failures for target in failure.awaiting}
    well = {target for target in outcome.succeeded if target.asset not in struck}
    by_asset = defaultdict(list)
    for remembered in known.values():
        by_asset[remembered.asset].append(replace(remembered, awaiting=remembered.awaiting - well))
    recovered = {
        asset: tuple(failures)
        for asset, failures in by_asset.items()
        if not any(failure.awaiting for failure in failures)
    }
    still = tuple(failure for asset, failures in by_asset.items() if asset not in recovered for failure in failures)
    return Advance(still, tuple(new), recovered)


def check_failure(check: Target, description: str, found: str) -> Failure:
    """A blocking check did not pass; its figures may differ the next time, and it is still the same failure.

    Parameters
    ----------
    check : Target
    description : str
        What the check finds to be so when it passes; may be empty.
    found : str
        What it found instead; may be empty.
    """
    promise = f" ({description.rstrip('.')})" if description else ""
    words = _words(found)
    says = f": {words}" if words else ""
    cause = f"the blocking check {check.check} did not pass{promise}{says}"
    return Failure(check.asset, cause, f"check {check.check}", frozenset({check}))


def figures_in_words(figures: Mapping[str, object]) -> str:
    """Put what a check found, such as `broken_rows 3; symbols AAPL, KO`; what is empty is left out."""
    found = {name: _plain(value) for name, value in figures.items()}
    return "; ".join(f"{name} {words}" for name, words in found.items() if words)


def error_failure(awaiting: Iterable[Target], kind: str, message: str) -> Failure:
    """An error ended a step, or the run itself, before these had succeeded.

    Parameters
    ----------
    awaiting : iterable of Target
        At least one.
    kind : str
        Of the error: the name of its class, or what happened to the run.
    message : str
        Numbers and identifiers in it may differ the next time, and it is still the same failure.
    """
    targets = list(awaiting)
    checks = sorted({f"check {target.check}" for target in targets if target.check})
    words = _words(message)
    likeness = hashlib.sha256(_CHANGING.sub("#", words).encode()).hexdigest()[:16]
    cause = f"{kind}: {words}" if words else kind
    where = f"{', '.join(checks)} could not be evaluated: " if checks else ""
    sign = " ".join((*checks, kind, likeness))
    return Failure(_named(target.asset for target in targets), where + cause, sign, frozenset(targets))


def failure_message(failure: Failure, outcome: RunOutcome, ui_url: str) -> Message:
    """Tell of a failure: what, when, why, and where to look."""
    address, moment = run_url(ui_url, outcome.run_id), _moment(outcome.ended_at)
    again = "Dagster tries the run again by itself. " if outcome.is_tried_again else ""
    text = (
        f"{failure.asset} failed on {moment}, in a run of {_job(outcome.job)}.\n"
        f"Cause: {failure.cause}\n"
        f"Run: {address}\n"
        f"{again}If the same happens again, you are not told again. You are told when {failure.asset} succeeds."
    )
    details = {
        "asset": failure.asset,
        "cause": failure.cause,
        "job": outcome.job,
        "run_id": outcome.run_id,
        "run_url": address,
        "failed_at": _iso(outcome.ended_at),
    }
    return Message(failure.key, Kind.FAILURE, failure.asset, f"{failure.asset} failed", text, details)


def recovery_message(asset: str, recovered: Sequence[OpenFailure], outcome: RunOutcome, ui_url: str) -> Message:
    """Tell that what had failed works again: once, for all its causes together."""
    address, since = run_url(ui_url, outcome.run_id), min(failure.since for failure in recovered)
    times = sum(failure.times for failure in recovered)
    causes = [failure.cause for failure in recovered]
    counted = "once" if times == 1 else f"{times} times"
    text = (
        f"{asset} succeeded again on {_moment(outcome.ended_at)}, in a run of {_job(outcome.job)}.\n"
        f"It had failed {counted} since {_moment(since)}: {'; '.join(causes)}\n"
        f"Run: {address}"
    )
    details = {
        "asset": asset,
        "causes": causes,
        "times": times,
        "job": outcome.job,
        "run_id": outcome.run_id,
        "run_url": address,
        "failed_at": _iso(since),
        "recovered_at": _iso(outcome.ended_at),
    }
    return Message(asset, Kind.RECOVERY, asset, f"{asset} succeeded again", text, details)


def trial_message(now: datetime, ui_url: str) -> Message:
    """Tell nothing but that messages arrive."""
    text = f"A test of Boursomatic's notices, sent on {_moment(now)}: messages arrive here.\nUI: {ui_url}"
    details = {"sent_at": _iso(now), "ui_url": ui_url}
    return Message("test", Kind.TEST, "notices", "A test of the notices", text, details)


def webhook_body(message: Message, identity: str) -> dict[str, Any]:
    """Body of the request that brings a message: `text` as Slack and its likes read it, all else for programs.

    Parameters
    ----------
    message : Message
    identity : str
        The same for every attempt to deliver this message.
    """
    # Slack gives these three a meaning: <!channel> in a cause would call everyone.
    text = message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": text, "id": identity, "kind": message.kind.value, "subject": message.subject, **message.details}


def wait_before_next(attempts: int) -> timedelta:
    """Time from a failed attempt to the next one.

    Parameters
    ----------
    attempts : int
        How many were made, at least one.

    Returns
    -------
    timedelta
        Doubles from `FIRST_WAIT` on, never above `LONGEST_WAIT`.
    """
    doublings = min(attempts - 1, _MOST_DOUBLINGS)
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


def hide_secrets(text: str, secrets: Iterable[str]) -> str:
    """Take secrets out of a text, and the password out of every address in it.

    Parameters
    ----------
    text : str
    secrets : iterable of str
        Empty ones are ignored.
    """
    # One that is part of another must not leave the rest of it.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _CREDENTIALS.sub(rf"\1:{HIDDEN}@", text)


def run_url(ui_url: str, run_id: str) -> str:
    """Address of a run in Dagster's UI."""
    return f"{ui_url}/runs/{run_id}"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)


def _named(assets: Iterable[str]) -> str:
    names = list(dict.fromkeys(assets))
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])


def _words(text: str) -> str:
    """A text of any origin as one line that every channel and the database can take."""
    words = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return words if len(words) <= LONGEST_CAUSE else words[: LONGEST_CAUSE - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _job(name: str) -> str:
    # What Dagster calls a run of assets that were picked by hand.
    return "chosen assets" if name.startswith("__") else name


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d at %H:%M} UTC"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
