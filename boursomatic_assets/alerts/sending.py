"""From ended runs to messages that arrive: a run is looked at once, a message is sent until it is taken."""

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

# What one look takes in: a tick has a minute.
RUNS_AT_ONCE = 50


@dataclass(frozen=True)
class Delivery:
    """What became of the messages that were due.

    Attributes
    ----------
    delivered : int
        Messages that a channel has taken, counted for each channel.
    failed : dict of str to str
        Channels that did not take one, each with the reason.
    """

    delivered: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def notice_ended_runs(
    instance: DagsterInstance, database: Database, wording: Wording, channels: Sequence[str], ui_url: str
) -> tuple[int, list[Message]]:
    """Look at the runs that have ended since the last time, and put what people have to be told into the outbox.

    Parameters
    ----------
    instance : DagsterInstance
    database : Database
    wording : Wording
    channels : sequence of str
        Names of those that are to deliver the messages.
    ui_url : str

    Returns
    -------
    tuple of int and list of Message
        How many runs had ended, and the new messages. The very first time there are none: what failed before
        anyone looked is not told.
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
) -> Delivery:
    """Deliver the messages whose turn it is, the oldest first.

    Parameters
    ----------
    database : Database
    channels : sequence of Channel
    seconds : float
        After that no further message is begun.
    ignore_wait : bool, optional
        Also those whose next attempt is not due yet.

    Notes
    -----
    A channel that fails is left alone until the next time: whoever is down is not knocked at once for each message.
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
    return Delivery(delivered, failed)


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
