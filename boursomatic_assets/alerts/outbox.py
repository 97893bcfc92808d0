"""The outbox: messages about failures, which channels have taken them, and which ended runs they come from.

A message is written in the transaction that notes its run as looked at, and handed out to one sender at a time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from boursomatic_assets.alerts.messages import (
    Kind,
    Message,
    OpenFailure,
    RunOutcome,
    Target,
    advance,
    failure_message,
    recovery_message,
    wait_before_next,
)
from boursomatic_assets.storage.postgres.tables import NOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from boursomatic_assets.storage.postgres.database import Database

# Events get their ids before they are committed: one may appear below those already seen, never so far below.
LATE_EVENTS = 2000
# Longer than the slowest attempt takes on all channels together.
CLAIM_SECONDS = 120
_UTC_CLOCK = "timezone('utc', clock_timestamp())"


@dataclass(frozen=True)
class Notice:
    """A message in the outbox.

    Attributes
    ----------
    id : int
    message : Message
    times : int
        How often the failure was seen.
    created_at : datetime
        UTC, as all others.
    recovered_at : datetime or None
        When the failure was over.
    delivered : mapping of str to str or None
        Each channel it is for, with the moment at which the channel took it.
    attempts : int
    next_attempt_at : datetime or None
        None once every channel has taken it.
    last_error : str or None
        Why the last attempt failed.
    """

    id: int
    message: Message
    times: int
    created_at: datetime
    recovered_at: datetime | None
    delivered: Mapping[str, str | None]
    attempts: int
    next_attempt_at: datetime | None
    last_error: str | None

    @property
    def identity(self) -> str:
        """The same for every attempt, and no other message's: receivers can tell a repetition."""
        return f"boursomatic-notice-{self.id}-{self.created_at:%Y%m%d%H%M%S%f}"


@dataclass(frozen=True)
class Noticed:
    """Which ended runs have been looked at, by the event with which each ended.

    Attributes
    ----------
    after : int
        What lies at or below is settled.
    events : frozenset of int
        Of those above, the ones that have been looked at.
    """

    after: int
    events: frozenset[int]

    def __contains__(self, event: int) -> bool:
        return event <= self.after or event in self.events


def begin_noticing(database: Database, instance_id: str, newest_event: int) -> None:
    """Look at runs from the next event on, unless that was settled before: what failed long ago is not told."""
    with database.connection() as connection:
        _take_turns(connection)
        connection.execute(
            sa.text(
                "INSERT INTO noticed_runs (instance_id, event_id) SELECT :instance, :event "
                "WHERE NOT EXISTS (SELECT FROM noticed_runs WHERE instance_id = :instance) ON CONFLICT DO NOTHING"
            ),
            {"instance": instance_id, "event": newest_event},
        )


def noticed_events(database: Database, instance_id: str) -> Noticed | None:
    """Which ended runs have been looked at; None before the beginning."""
    with database.connection() as connection:
        return _noticed(connection, instance_id)


def record_outcomes(
    database: Database,
    instance_id: str,
    outcomes: Iterable[tuple[int, RunOutcome]],
    channels: Sequence[str],
    ui_url: str,
) -> list[Message]:
    """Put into the outbox what people have to be told of ended runs, in one transaction.

    Parameters
    ----------
    database : Database
    instance_id : str
    outcomes : iterable of tuple of int and RunOutcome
        With the id of the event by which each run ended; a run that was noted before is passed over.
    channels : sequence of str
        Names of those that are to deliver the messages.
    ui_url : str

    Returns
    -------
    list of Message
        The new ones.
    """
    messages = []
    with database.connection() as connection:
        # Of two who look at the same run, the second finds it noted.
        _take_turns(connection)
        noticed = _noticed(connection, instance_id)
        for event, outcome in outcomes:
            if noticed is None or event not in noticed:
                messages += _record(connection, outcome, channels, ui_url)
                _note(connection, instance_id, event, outcome.run_id)
        _forget(connection, instance_id)
    return messages


def open_failures(database: Database) -> list[OpenFailure]:
    """Failures that are not over, the oldest first."""
    with database.connection() as connection:
        return _open_failures(connection)


def claim(
    database: Database, channels: Sequence[str], *, ignore_wait: bool = False
) -> tuple[Notice, list[str]] | None:
    """Take the oldest message that waits for one of these channels: nobody else gets it for a while.

    Parameters
    ----------
    database : Database
    channels : sequence of str
    ignore_wait : bool, optional
        Also before its next attempt is due.

    Returns
    -------
    tuple of Notice and list of str, or None
        The message, and which channels to try in their order; None where nothing waits.

    Notes
    -----
    On one channel the messages about one asset keep their order: nobody hears that it recovered before it failed.
    """
    given = {"channels": list(channels), "seconds": CLAIM_SECONDS, "ignore_wait": ignore_wait}
    with database.connection() as connection:
        row = connection.execute(sa.text(_CLAIM), given).mappings().one_or_none()
        if row is None:
            return None
        notice = _notice(row)
        waiting = connection.execute(sa.text(_WAITING), {**given, "id": notice.id}).scalars()
        return notice, list(waiting)


def mark_delivered(database: Database, notice: Notice, channel: str) -> None:
    """Note at once that a channel has taken a message: a sender that dies on the next one does not repeat it."""
    with database.connection() as connection:
        connection.execute(sa.text(_DELIVERED), {"id": notice.id, "channel": channel})


def release(database: Database, notice: Notice, error: str | None) -> None:
    """Give a message back; after an error it waits, the longer the more often it has failed."""
    wait = wait_before_next(notice.attempts).total_seconds()
    with database.connection() as connection:
        connection.execute(sa.text(_RELEASED), {"id": notice.id, "error": error, "wait": wait})


def list_notices(database: Database, *, limit: int, is_waiting: bool = False) -> list[Notice]:
    """Messages, the newest first.

    Parameters
    ----------
    database : Database
    limit : int
    is_waiting : bool, optional
        Only those that some channel has not taken.
    """
    query = (
        f"SELECT {_COLUMNS} FROM notices n WHERE NOT :waiting OR next_attempt_at IS NOT NULL "  # noqa: S608
        "ORDER BY id DESC LIMIT :limit"
    )
    with database.connection() as connection:
        rows = connection.execute(sa.text(query), {"waiting": is_waiting, "limit": limit}).mappings()
        return [_notice(row) for row in rows]


def count_waiting(database: Database) -> int:
    """How many messages some channel has not taken."""
    with database.connection() as connection:
        query = sa.text("SELECT count(*) FROM notices WHERE next_attempt_at IS NOT NULL")
        return int(connection.execute(query).scalar_one())


_COLUMNS = ", ".join(
    f"n.{name}"
    for name in (
        "id", "key", "kind", "asset", "subject", "text", "details", "times", "created_at", "recovered_at",
        "delivered", "attempts", "next_attempt_at", "last_error",
    )
)  # fmt: skip
# Channels among those given that have yet to take n, with no earlier message about its asset to take before.
_WAITS = """
    FROM unnest(CAST(:channels AS text[])) WITH ORDINALITY AS given (channel, place)
    WHERE jsonb_exists(n.delivered, channel) AND n.delivered ->> channel IS NULL
    AND NOT EXISTS (
        SELECT FROM notices earlier
        WHERE earlier.asset = n.asset AND earlier.id < n.id AND earlier.next_attempt_at IS NOT NULL
        AND jsonb_exists(earlier.delivered, channel) AND earlier.delivered ->> channel IS NULL)
"""
_CLAIM = f"""
    UPDATE notices n SET attempts = attempts + 1, claimed_until = {_UTC_CLOCK} + make_interval(secs => :seconds)
    WHERE id = (
        SELECT id FROM notices n WHERE next_attempt_at IS NOT NULL
        AND (CAST(:ignore_wait AS boolean) OR next_attempt_at <= {_UTC_CLOCK})
        AND (claimed_until IS NULL OR claimed_until <= {_UTC_CLOCK})
        AND EXISTS (SELECT {_WAITS})
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING {_COLUMNS}
"""  # noqa: S608 (nothing of it comes from outside)
_WAITING = (
    f"SELECT channel FROM notices n, LATERAL (SELECT channel, place {_WAITS}) w WHERE n.id = :id ORDER BY place"  # noqa: S608
)
_DELIVERED = f"""
    WITH marked AS (
        SELECT id, delivered || jsonb_build_object(CAST(:channel AS text), {_UTC_CLOCK}) AS delivered
        FROM notices WHERE id = :id)
    UPDATE notices n SET delivered = marked.delivered, next_attempt_at = CASE
        WHEN EXISTS (SELECT FROM jsonb_each(marked.delivered) WHERE value = 'null') THEN n.next_attempt_at END
    FROM marked WHERE n.id = marked.id
"""  # noqa: S608 (nothing of it comes from outside)
_RELEASED = f"""
    UPDATE notices SET claimed_until = NULL, last_error = coalesce(:error, last_error), next_attempt_at = CASE
        WHEN next_attempt_at IS NULL THEN NULL
        WHEN :error IS NULL THEN next_attempt_at
        ELSE {_UTC_CLOCK} + make_interval(secs => :wait) END
    WHERE id = :id
"""  # noqa: S608 (nothing of it comes from outside)


def _take_turns(connection: Connection) -> None:
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('boursomatic:notices'))")


def _noticed(connection: Connection, instance_id: str) -> Noticed | None:
    query = sa.text("SELECT event_id, run_id IS NULL FROM noticed_runs WHERE instance_id = :instance")
    rows = connection.execute(query, {"instance": instance_id}).all()
    if not rows:
        return None
    # The row without a run is where it began; it is forgotten once it lies far back.
    begun = max((event for event, is_beginning in rows if is_beginning), default=-1)
    after = max(begun, max(event for event, _ in rows) - LATE_EVENTS)
    return Noticed(after, frozenset(event for event, _ in rows if event > after))


def _note(connection: Connection, instance_id: str, event: int, run_id: str) -> None:
    connection.execute(
        sa.text("INSERT INTO noticed_runs (instance_id, event_id, run_id) VALUES (:instance, :event, :run)"),
        {"instance": instance_id, "event": event, "run": run_id},
    )


def _forget(connection: Connection, instance_id: str) -> None:
    """Drop what lies so far back that no late event can be there; the newest stays."""
    connection.execute(
        sa.text(
            "DELETE FROM noticed_runs WHERE instance_id = :instance AND event_id < "
            "(SELECT max(event_id) FROM noticed_runs WHERE instance_id = :instance) - :late"
        ),
        {"instance": instance_id, "late": LATE_EVENTS},
    )


def _record(connection: Connection, outcome: RunOutcome, channels: Sequence[str], ui_url: str) -> list[Message]:
    before = _open_failures(connection)
    change = advance(before, outcome)
    messages = [failure_message(failure, outcome, ui_url) for failure in change.new]
    for message in messages:
        _insert(connection, message, channels)
    for failure in change.open_failures:
        if failure not in before:
            _update(connection, failure)
    for asset, failures in change.recovered.items():
        message = recovery_message(asset, failures, outcome, ui_url)
        _insert(connection, message, channels)
        messages.append(message)
        connection.execute(
            sa.text(
                f"UPDATE notices SET recovered_at = {NOW}, awaiting = '[]' "  # noqa: S608
                "WHERE asset = :asset AND kind = 'failure' AND recovered_at IS NULL"
            ),
            {"asset": asset},
        )
    return messages


def _open_failures(connection: Connection) -> list[OpenFailure]:
    query = sa.text(
        "SELECT key, asset, details ->> 'cause', details ->> 'failed_at', awaiting, times FROM notices "
        "WHERE kind = 'failure' AND recovered_at IS NULL ORDER BY id"
    )
    return [
        OpenFailure(
            key, asset, cause, datetime.fromisoformat(since), frozenset(Target(*one) for one in awaiting), times
        )
        for key, asset, cause, since, awaiting, times in connection.execute(query)
    ]


def _insert(connection: Connection, message: Message, channels: Sequence[str]) -> None:
    connection.execute(
        sa.text(
            "INSERT INTO notices (key, kind, asset, subject, text, details, delivered, next_attempt_at) "  # noqa: S608
            "VALUES (:key, :kind, :asset, :subject, :text, CAST(:details AS jsonb), CAST(:delivered AS jsonb), "
            f"{NOW})"
        ),
        {
            "key": message.key,
            "kind": message.kind.value,
            "asset": message.asset,
            "subject": message.subject,
            "text": message.text,
            "details": json.dumps(message.details),
            "delivered": json.dumps(dict.fromkeys(channels)),
        },
    )


def _update(connection: Connection, failure: OpenFailure) -> None:
    connection.execute(
        sa.text(
            "UPDATE notices SET times = :times, awaiting = CAST(:awaiting AS jsonb) "
            "WHERE key = :key AND kind = 'failure' AND recovered_at IS NULL"
        ),
        {"key": failure.key, "times": failure.times, "awaiting": json.dumps(sorted(failure.awaiting))},
    )


def _notice(row: sa.RowMapping) -> Notice:
    message = Message(row["key"], Kind(row["kind"]), row["asset"], row["subject"], row["text"], row["details"])
    return Notice(
        row["id"], message, row["times"], row["created_at"], row["recovered_at"], row["delivered"], row["attempts"],
        row["next_attempt_at"], row["last_error"],
    )  # fmt: skip
