"""Failures of ended runs: when two are the same, which one is new, and when one has recovered.

A failure is identified by its asset and its cause. The same cause on the same asset is told once, until everything
that failed has succeeded since. Then the recovery is told once.
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

# Longer causes are cut; the run has them whole.
LONGEST_CAUSE = 1500
# Assets named in a message.
_NAMED = 3
_CHANGING = re.compile(
    r"\b0x[0-9a-f]+\b"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # an id of a run
    r"|\b(?=[a-f]*[0-9])[0-9a-f]{16,}\b"  # a digest
    r"|[0-9]+",
    re.IGNORECASE,
)


class Target(NamedTuple):
    """What can succeed: the materialization of an asset or of one of its partitions, or a check."""

    asset: str
    partition: str = ""
    check: str = ""


@dataclass(frozen=True)
class Failure:
    """Something that failed in a run.

    `asset` names one asset or several. `sign` stays the same when the same fault returns: the check's name, or the
    kind of error. `awaiting` must succeed before the failure has recovered.
    """

    asset: str
    cause: str
    sign: str
    awaiting: frozenset[Target]

    @property
    def key(self) -> str:
        """Equal for equal failures."""
        return f"{self.asset}: {self.sign}"


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: its failures, and what was materialized or passed. Dagster may start it again by itself."""

    run_id: str
    job: str
    ended_at: datetime
    failures: tuple[Failure, ...] = ()
    succeeded: frozenset[Target] = frozenset()
    is_tried_again: bool = False


@dataclass(frozen=True)
class OpenFailure:
    """A failure that was told and has not recovered.

    `since` is the end of the run that showed it first, in UTC. `awaiting` has not succeeded since the last failure;
    it is empty while another cause keeps the asset from recovering. `times` counts its occurrences.
    """

    key: str
    asset: str
    cause: str
    since: datetime
    awaiting: frozenset[Target]
    times: int = 1


@dataclass(frozen=True)
class Advance:
    """Changes by the end of a run: all open failures, those not told yet, and the recovered ones by asset."""

    open_failures: tuple[OpenFailure, ...]
    new: tuple[Failure, ...]
    recovered: Mapping[str, tuple[OpenFailure, ...]]


def advance(open_failures: Iterable[OpenFailure], outcome: RunOutcome) -> Advance:
    """Update the open failures, which are unique by key, by the end of a run.

    An asset that failed in a run gets no success from it: bars that are stored and then fail their check are no
    success. An asset has recovered when none of its failures awaits anything.
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
    """A failed blocking check; the same failure whenever that check fails, with any figures.

    `description` is what holds if the check passes, `found` is what it found instead. Both may be empty.
    """
    promise = f" ({description.rstrip('.')})" if description else ""
    words = _words(found)
    says = f": {words}" if words else ""
    cause = f"the blocking check {check.check} did not pass{promise}{says}"
    return Failure(check.asset, cause, f"check {check.check}", frozenset({check}))


def figures_in_words(figures: Mapping[str, object]) -> str:
    """The figures of a check, such as `broken_rows 3; symbols AAPL, KO`. Empty ones are left out."""
    words_by_name = {name: _plain(value) for name, value in figures.items()}
    return "; ".join(f"{name} {words}" for name, words in words_by_name.items() if words)


def error_failure(awaiting: Iterable[Target], kind: str, message: str) -> Failure:
    """An error that ended a step, or the run, before these targets had succeeded; there is at least one.

    `kind` is the name of the error's class, or what happened to the run. Messages that differ only in numbers and
    identifiers are the same failure.
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
    """A text as one line that every channel and the database accept."""
    words = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return words if len(words) <= LONGEST_CAUSE else words[: LONGEST_CAUSE - 1] + "\N{HORIZONTAL ELLIPSIS}"
