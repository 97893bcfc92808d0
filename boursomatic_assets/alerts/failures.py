"""Failures of ended runs: when two are the same, which one is new, and when one is over.

A failure is known by the asset it struck and by its cause. The same cause on the same asset is told once, however
often it comes back, until everything that failed has succeeded since: then that is told once, too.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

# A cause that fills a screen is read in the run itself.
LONGEST_CAUSE = 1500
# Of a run that ended before most of it was done, so many assets are named.
_NAMED = 3
_CHANGING = re.compile(
    r"\b0x[0-9a-f]+\b"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # an id of a run
    r"|\b(?=[a-f]*[0-9])[0-9a-f]{16,}\b"  # a digest
    r"|[0-9]+",
    re.IGNORECASE,
)


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
