"""The outbox: messages, and the channels that have taken them. One sender at a time holds a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from boursomatic_assets.alerts.messages import Kind, Message, wait_before_next

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from boursomatic_assets.storage.postgres.database import Database

# Longer than the slowest attempt on all channels together.
CLAIM_SECONDS = 120
_UTC_CLOCK = "timezone('utc', clock_timestamp())"


@dataclass(frozen=True)
class Notice:
    """A message in the outbox; moments are in UTC.

    `times` counts the occurrences of the failure. `delivered` maps each channel to the moment it took the message,
    or None. `next_attempt_at` is None once all channels have taken it.
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
        """The same for every attempt and unique to this message, so that receivers recognise repetitions."""
        return f"boursomatic-notice-{self.id}-{self.created_at:%Y%m%d%H%M%S%f}"


def claim(
    database: Database, channels: Sequence[str], *, ignore_wait: bool = False
) -> tuple[Notice, list[str]] | None:
    """Claim the oldest message that waits for one of these channels, for `CLAIM_SECONDS`.

    Returns the message and the channels to try, in their order; None if nothing waits. `ignore_wait` includes
    messages whose next attempt is not due. On one channel, messages about one asset keep their order.
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
    """Record at once that a channel has taken a message, so that a sender that dies later does not repeat it."""
    with database.connection() as connection:
        connection.execute(sa.text(_DELIVERED), {"id": notice.id, "channel": channel})


def release(database: Database, notice: Notice, error: str | None) -> None:
    """Give a message back. After an error it waits longer with each attempt."""
    wait = wait_before_next(notice.attempts).total_seconds()
    with database.connection() as connection:
        connection.execute(sa.text(_RELEASED), {"id": notice.id, "error": error, "wait": wait})


def list_notices(database: Database, *, limit: int, is_waiting: bool = False) -> list[Notice]:
    """Messages, the newest first; with `is_waiting` only those that a channel has not taken."""
    query = (
        f"SELECT {_COLUMNS} FROM notices n WHERE NOT :waiting OR next_attempt_at IS NOT NULL "  # noqa: S608
        "ORDER BY id DESC LIMIT :limit"
    )
    with database.connection() as connection:
        rows = connection.execute(sa.text(query), {"waiting": is_waiting, "limit": limit}).mappings()
        return [_notice(row) for row in rows]


def count_waiting(database: Database) -> int:
    """Number of messages that a channel has not taken."""
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
# Given channels that have not taken n and have taken all earlier messages about its asset.
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


def _notice(row: sa.RowMapping) -> Notice:
    message = Message(row["key"], Kind(row["kind"]), row["asset"], row["subject"], row["text"], row["details"])
    return Notice(
        row["id"], message, row["times"], row["created_at"], row["recovered_at"], row["delivered"], row["attempts"],
        row["next_attempt_at"], row["last_error"],
    )  # fmt: skip
