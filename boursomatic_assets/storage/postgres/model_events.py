"""Rows of `model_events`: the log of activations, refusals, rollbacks and pruned bundles. Rows are only added."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from boursomatic_assets.storage.postgres.database import Database

ACTIVATED, REFUSED, ROLLED_BACK, PRUNED = "activated", "refused", "rolled back", "pruned"


@dataclass(frozen=True)
class ModelEvent:
    """An event of a model version: `activated`, `refused`, `rolled back` or `pruned` (bundle removed, row kept).

    `version_from` was active before (pruned: the one pruned). `version_to` is the one activated, refused or
    returned to. `who` is a login or a run; `figures` what the gate compared, as strict JSON; `at` UTC, None before
    it is written.
    """

    event: str
    version_from: str | None
    version_to: str | None
    who: str
    why: str
    figures: dict[str, Any] | None = None
    at: datetime | None = None


def write_event(connection: sa.Connection, event: ModelEvent) -> None:
    """Add an event, in the transaction of the change that it logs."""
    connection.execute(
        sa.text(
            "INSERT INTO model_events (who, event, version_from, version_to, why, figures) "
            "VALUES (:who, :event, :version_from, :version_to, :why, CAST(:figures AS json))"
        ),
        {**vars(event), "figures": as_json(event.figures)},
    )


def as_json(value: dict[str, Any] | None) -> str | None:
    """Strict JSON text; None stays None."""
    return None if value is None else json.dumps(value, allow_nan=False)


def list_events(database: Database, version: str | None = None) -> list[ModelEvent]:
    """Every event, or those that name a version, the oldest first."""
    with database.connection() as connection:
        return events_of(connection, version)


def events_of(connection: sa.Connection, version: str | None = None) -> list[ModelEvent]:
    """`list_events` as a transaction sees it."""
    query = "SELECT at, who, event, version_from, version_to, why, figures FROM model_events"
    if version is not None:
        query += " WHERE :version IN (version_from, version_to)"
    found = connection.execute(sa.text(f"{query} ORDER BY id"), {} if version is None else {"version": version})
    return [ModelEvent(**row) for row in found.mappings()]


def never_active(events: list[ModelEvent]) -> set[str]:
    """Versions that were refused and never activated since.

    Versions without an event are older than the log; each was active once.
    """
    refused = {event.version_to for event in events if event.event == REFUSED}
    used = {event.version_to for event in events if event.event in {ACTIVATED, ROLLED_BACK}}
    used |= {event.version_from for event in events if event.event != PRUNED}
    return {version for version in refused - used if version is not None}


def version_before(events: list[ModelEvent], active: str) -> str | None:
    """The version that a rollback returns to; None if none is known.

    Activations form a stack and a rollback removes its top: two rollbacks go back two versions. A version that
    another program activated enters the stack when an event first names it.
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
