"""Messages to people: their words, and the wait between attempts to deliver one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from boursomatic_assets.alerts.failures import Failure, OpenFailure, RunOutcome

FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(hours=1)
# Enough for the longest wait, without an overflow.
_MOST_DOUBLINGS = 16


class Kind(StrEnum):
    """What a message is about."""

    FAILURE = "failure"
    RECOVERY = "recovery"
    TEST = "test"


@dataclass(frozen=True)
class Message:
    """A message to people. `key` is that of the failure, or a recovered asset; `details` are JSON for programs."""

    key: str
    kind: Kind
    asset: str
    subject: str
    text: str
    details: dict[str, Any]


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
    """Tell once, for all causes together, that an asset works again."""
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
    """A message that only shows that messages arrive."""
    text = f"A test of Boursomatic's notices, sent on {_moment(now)}: messages arrive here.\nUI: {ui_url}"
    details = {"sent_at": _iso(now), "ui_url": ui_url}
    return Message("test", Kind.TEST, "notices", "A test of the notices", text, details)


def webhook_body(message: Message, identity: str) -> dict[str, Any]:
    """Body of the request that delivers a message: `text` for Slack and similar receivers, the rest for programs.

    `identity` is the same for every attempt to deliver this message.
    """
    # Slack gives these three a meaning: <!channel> in a cause would call everyone.
    text = message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": text, "id": identity, "kind": message.kind.value, "subject": message.subject, **message.details}


def wait_before_next(attempts: int) -> timedelta:
    """Time to the next attempt, after at least one: doubles from `FIRST_WAIT`, at most `LONGEST_WAIT`."""
    doublings = min(attempts - 1, _MOST_DOUBLINGS)
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


def run_url(ui_url: str, run_id: str) -> str:
    """Address of a run in Dagster's UI."""
    return f"{ui_url}/runs/{run_id}"


def _job(name: str) -> str:
    # Dagster's name for runs of hand-picked assets begins with underscores.
    return "chosen assets" if name.startswith("__") else name


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d at %H:%M} UTC"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
