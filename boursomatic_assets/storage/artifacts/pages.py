"""Pages that nobody needs any more: reports of versions without a bundle, traces of removed recommendations.

Their names hold the time at which they were made: an object store keeps no reliable one.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from boursomatic_assets.core.registry.bundle import version_time
from boursomatic_assets.storage.artifacts.retention import BUNDLES

if TYPE_CHECKING:
    from collections.abc import Collection

    from upath import UPath

    from boursomatic_assets.storage.postgres.database import Database

REPORTS, TRACES = "reports", "traces"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def expired_reports(root: UPath, limit: datetime, gone: Collection[str]) -> list[UPath]:
    """Folders of reports of versions made before a moment (UTC, without a time zone) that have no bundle.

    `gone` are versions whose bundles go.
    """
    if not (root / REPORTS).exists():
        return []
    folders = sorted((root / REPORTS).iterdir(), key=str)
    made = {folder: version_time(folder.name) for folder in folders}
    return [
        folder
        for folder, moment in made.items()
        if moment is not None
        and moment < limit
        and (folder.name in gone or not (root / BUNDLES / folder.name).exists())
    ]


def expired_traces(database: Database, root: UPath, limit: datetime) -> list[UPath]:
    """Trace pages of recommendations made before a moment that are no longer stored."""
    if not (root / TRACES).exists():
        return []
    old = [
        page
        for page in sorted((root / TRACES).iterdir(), key=str)
        if (moment := time_of_id(page.stem)) is not None and moment < limit
    ]
    with database.connection() as connection:
        query = sa.text("SELECT id::text FROM recommendations WHERE id = ANY(CAST(:ids AS uuid[]))")
        stored = set(connection.execute(query, {"ids": [page.stem for page in old]}).scalars())
    return [page for page in old if page.stem not in stored]


def time_of_id(name: str) -> datetime | None:
    """The time in a recommendation's id, UTC without a time zone; None for another name."""
    try:
        milliseconds = uuid.UUID(name).int >> 80
        return (_EPOCH + timedelta(milliseconds=milliseconds)).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
