"""Record ended runs: update open failures and put messages into the outbox.

A message is written in the transaction that marks its run as noticed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from boursomatic_assets.alerts.failures import OpenFailure, RunOutcome, Target, advance
from boursomatic_assets.alerts.messages import Message, failure_message, recovery_message
from boursomatic_assets.storage.postgres.tables import NOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.engine import Connection

    from boursomatic_assets.storage.postgres.database import Database

# Events get their ids before they are committed: an event may appear late, but never this far below the newest.
LATE_EVENTS = 2000


@dataclass(frozen=True)
class Noticed:
    """Ended runs that were read, by the event of their end: all up to `after`, and these `events` above it."""

    after: int
    events: frozenset[int]

    def __contains__(self, event: int) -> bool:
        return event <= self.after or event in self.events


def begin_noticing(database: Database, instance_id: str, newest_event: int) -> None:
    """Start after the newest event, unless there is a start already: earlier failures are not told."""
    with database.connection() as connection:
        _lock(connection)
        connection.execute(
            sa.text(
                "INSERT INTO noticed_runs (instance_id, event_id) SELECT :instance, :event "
                "WHERE NOT EXISTS (SELECT FROM noticed_runs WHERE instance_id = :instance) ON CONFLICT DO NOTHING"
            ),
            {"instance": instance_id, "event": newest_event},
        )


def noticed_events(database: Database, instance_id: str) -> Noticed | None:
    """Ended runs that were read; None before the start."""
    with database.connection() as connection:
        return _noticed(connection, instance_id)


def record_outcomes(
    database: Database,
    instance_id: str,
    outcomes: Iterable[tuple[int, RunOutcome]],
    channels: Sequence[str],
    ui_url: str,
) -> list[Message]:
    """Put messages about ended runs into the outbox, in one transaction; returns the new ones.

    Each outcome comes with the id of the event that ended its run. Runs recorded before are skipped.
    """
    messages = []
    with database.connection() as connection:
        # The second of two senders then finds the run recorded.
        _lock(connection)
        noticed = _noticed(connection, instance_id)
        for event, outcome in outcomes:
            if noticed is None or event not in noticed:
                messages += _record(connection, outcome, channels, ui_url)
                connection.execute(
                    sa.text(
                        "INSERT INTO noticed_runs (instance_id, event_id, run_id) VALUES (:instance, :event, :run)"
                    ),
                    {"instance": instance_id, "event": event, "run": outcome.run_id},
                )
        _forget(connection, instance_id)
    return messages


def record_observation(
    database: Database, outcome: RunOutcome, channels: Sequence[str], ui_url: str
) -> list[Message]:
    """Put into the outbox what people have to be told of something that no run's end shows.

    The same failure again is not told again, and what was no failure does not recover. Returns the new messages.
    """
    with database.connection() as connection:
        _lock(connection)
        return _record(connection, outcome, channels, ui_url)


def open_failures(database: Database) -> list[OpenFailure]:
    """Failures that have not recovered, the oldest first."""
    with database.connection() as connection:
        return _open_failures(connection)


def _lock(connection: Connection) -> None:
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('boursomatic:notices'))")


def _noticed(connection: Connection, instance_id: str) -> Noticed | None:
    query = sa.text("SELECT event_id, run_id IS NULL FROM noticed_runs WHERE instance_id = :instance")
    rows = connection.execute(query, {"instance": instance_id}).all()
    if not rows:
        return None
    # The row without a run is the start; it is deleted when it is old.
    start = max((event for event, is_start in rows if is_start), default=-1)
    after = max(start, max(event for event, _ in rows) - LATE_EVENTS)
    return Noticed(after, frozenset(event for event, _ in rows if event > after))


def _forget(connection: Connection, instance_id: str) -> None:
    """Delete events so old that no late event can be near them; the newest stays."""
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
