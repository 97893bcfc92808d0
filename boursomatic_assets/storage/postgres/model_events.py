"""Rows of `model_events`: who made which version active, when, in whose place and why. Only ever added to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from datetime import datetime

    from boursomatic_assets.storage.postgres.database import Database

ACTIVATED, REFUSED, ROLLED_BACK, PRUNED = "activated", "refused", "rolled back", "pruned"
_COLUMNS = "at, who, event, version_from, version_to, why, figures"


@dataclass(frozen=True)
class ModelEvent:
    """Something that was done with a model version.

    Attributes
    ----------
    event : str
        `activated`, `refused` (recorded, and another one stayed active), `rolled back`, or `pruned` (its bundle was
        removed, and the row kept).
    version_from : str or None
        The version that was active before; of `refused` the one that stayed so; of `pruned` the one whose
        bundle went.
    version_to : str or None
        The version that was activated or refused, or to which it went back; None for `pruned`.
    who : str
        A person's login, or a run.
    why : str
    figures : dict or None
        Strict JSON: what the gate compared.
    at : datetime or None
        UTC; None for what is not written yet.
    """

    event: str
    version_from: str | None
    version_to: str | None
    who: str
    why: str
    figures: dict[str, Any] | None = None
    at: datetime | None = None


def write_event(connection: sa.Connection, event: ModelEvent) -> None:
    """Add an event, in the transaction of what it tells of."""
    connection.execute(
        sa.text(
            "INSERT INTO model_events (who, event, version_from, version_to, why, figures) "
            "VALUES (:who, :event, :version_from, :version_to, :why, CAST(:figures AS json))"
        ),
        {
            "who": event.who,
            "event": event.event,
            "version_from": event.version_from,
            "version_to": event.version_to,
            "why": event.why,
            "figures": None if event.figures is None else json.dumps(event.figures, allow_nan=False),
        },
    )


def list_events(database: Database, version: str | None = None) -> list[ModelEvent]:
    """Every event, or those that name a version; the oldest first."""
    with database.connection() as connection:
        return events_of(connection, version)


def events_of(connection: sa.Connection, version: str | None = None) -> list[ModelEvent]:
    """What `list_events` gives, as a transaction sees it."""
    query = f"SELECT {_COLUMNS} FROM model_events"  # noqa: S608
    if version is not None:
        query += " WHERE :version IN (version_from, version_to)"
    found = connection.execute(sa.text(f"{query} ORDER BY id"), {} if version is None else {"version": version})
    return [ModelEvent(**row) for row in found.mappings()]


def never_active(events: list[ModelEvent]) -> set[str]:
    """Versions that were refused and have not been activated since.

    Those without an event are from the time before there were any, when each was active once.
    """
    refused = {event.version_to for event in events if event.event == REFUSED}
    used = {event.version_to for event in events if event.event in {ACTIVATED, ROLLED_BACK}}
    used |= {event.version_from for event in events if event.event != PRUNED}
    return {version for version in refused - used if version is not None}


def version_before(events: list[ModelEvent], active: str) -> str | None:
    """The version to go back to from the active one; None where none is known.

    Notes
    -----
    Activations pile up and going back takes the topmost off: twice back is two versions back, and never forward
    again. A version that another program made active is laid on top of the pile when an event first names it.
    """
    pile: list[str] = []
    for event in events:
        if event.event not in {ACTIVATED, ROLLED_BACK} or event.version_to is None:
            continue
        _lay(pile, event.version_from)
        if event.event == ACTIVATED:
            pile.append(event.version_to)
        else:
            pile.pop()
    _lay(pile, active)
    return pile[-2] if len(pile) > 1 else None


def _lay(pile: list[str], version: str | None) -> None:
    if version is not None and pile[-1:] != [version]:
        pile.append(version)
