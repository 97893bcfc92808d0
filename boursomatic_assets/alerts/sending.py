"""From ended runs to delivered messages: each run is read once, each message is sent until it is taken."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boursomatic_assets.alerts.ended_runs import Wording, instance_identity, newest_event, read_ended_runs
from boursomatic_assets.alerts.outbox import claim, mark_delivered, release
from boursomatic_assets.alerts.recording import begin_noticing, noticed_events, record_outcomes
from boursomatic_assets.errors import NotDeliveredError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dagster import DagsterInstance

    from boursomatic_assets.alerts.channels import Channel
    from boursomatic_assets.alerts.messages import Message
    from boursomatic_assets.alerts.outbox import Notice
    from boursomatic_assets.storage.postgres.database import Database

# Few enough for a tick, which has a minute.
RUNS_AT_ONCE = 50


@dataclass(frozen=True)
class DeliveryResult:
    """Number of deliveries, and the channels that failed, each with the reason."""

    delivered: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def notice_ended_runs(
    instance: DagsterInstance, database: Database, wording: Wording, channels: Sequence[str], ui_url: str
) -> tuple[int, list[Message]]:
    """Read the runs that ended since the last call and put messages into the outbox.

    Returns the number of ended runs and the new messages. The first call only records the present state: earlier
    failures are not told.
    """
    identity = instance_identity(instance)
    noticed = noticed_events(database, identity)
    if noticed is None:
        begin_noticing(database, identity, newest_event(instance))
        return 0, []
    ended = read_ended_runs(instance, noticed, wording, limit=RUNS_AT_ONCE)
    return len(ended), record_outcomes(database, identity, ended, channels, ui_url) if ended else []


def deliver_due(
    database: Database, channels: Sequence[Channel], seconds: float, *, ignore_wait: bool = False
) -> DeliveryResult:
    """Deliver the messages that are due, the oldest first. After `seconds`, no further message is begun.

    `ignore_wait` includes messages whose next attempt is not due yet. A channel that fails gets no further message
    until the next call.
    """
    latest = time.monotonic() + seconds
    usable = {channel.name: channel for channel in channels}
    failed: dict[str, str] = {}
    delivered = 0
    while usable and time.monotonic() < latest:
        claimed = claim(database, list(usable), ignore_wait=ignore_wait)
        if claimed is None:
            break
        notice, names = claimed
        refused = _deliver(database, notice, [usable[name] for name in names])
        delivered += len(names) - len(refused)
        failed.update(refused)
        usable = {name: channel for name, channel in usable.items() if name not in refused}
    return DeliveryResult(delivered, failed)


def _deliver(database: Database, notice: Notice, channels: Sequence[Channel]) -> Mapping[str, str]:
    """Try each channel; returns the reasons of those that failed."""
    refused = {}
    for channel in channels:
        try:
            channel.send(notice.message, notice.identity)
        except NotDeliveredError as error:
            refused[channel.name] = str(error)
        else:
            mark_delivered(database, notice, channel.name)
    release(database, notice, "; ".join(refused.values()) or None)
    return refused
