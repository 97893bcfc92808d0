"""Retention of bundles and snapshots. Rows of `model_versions` always stay."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from upath import UPath

from boursomatic_assets.core.registry.bundle import MANIFEST, version_time
from boursomatic_assets.errors import StorageError, TamperedArtifactError
from boursomatic_assets.storage.artifacts.files import discard, folder_bytes, remove_folder, sweep
from boursomatic_assets.storage.artifacts.snapshots import FOLDER as SNAPSHOTS
from boursomatic_assets.storage.artifacts.snapshots import NAMED
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_events import (
    PRUNED,
    ModelEvent,
    events_of,
    never_active,
    write_event,
)
from boursomatic_assets.storage.postgres.model_table import ModelRow, all_versions, lock_versions, nobody_records
from boursomatic_assets.storage.postgres.tables import DAGSTER_SCHEMA

BUNDLES = "models"
INTERRUPTED = "never active; its bundle was gone already, after an interrupted call"


@dataclass(frozen=True)
class Pruned:
    """Result: versions whose bundles were removed (the newest first), removed snapshots, and freed bytes.

    `unrecorded` are bundles that no row names, of trainings that were killed.
    """

    versions: list[str]
    snapshots: list[str]
    bytes: int
    unrecorded: list[str] = field(default_factory=list)


def prune(database: Database, root: UPath, keep: int, *, who: str, remove: bool) -> Pruned:
    """Remove bundles of versions that were never active and of killed trainings, and snapshots of theirs alone.

    The `keep` newest bundles stay, and all that were ever active, so that their recommendations remain traceable.
    Without a row, a bundle goes if a run of this database made it and no process is recording one. Without `remove`
    it only reports. Raises TamperedArtifactError, before removing anything, if a remaining bundle
    has no readable manifest; ArtifactWriteError if something cannot be removed.
    """
    with lock_versions(database) as connection:
        events = events_of(connection)
        unused = never_active(events)
        bundles = [row for row in all_versions(connection) if _has_bundle(row)]
        going = [row for row in bundles[keep:] if row.version in unused and not row.is_active]
        folders = [UPath(row.model_path) for row in going]
        roots = {str(place): place for place in (root, *(folder.parent.parent for folder in folders))}
        left = [folder for place in roots.values() for folder in _unrecorded(connection, place)]
        gone = [*folders, *left]
        snapshots = [path for place in roots.values() for path in _unreferenced_snapshots(place, gone)]
        size = sum(folder_bytes(folder) for folder in gone) + sum(path.stat().st_size for path in snapshots)
        if remove:
            for row, folder in zip(going, folders, strict=True):
                why = f"never active, and not among the newest {keep} bundles"
                write_event(connection, ModelEvent(PRUNED, row.version, None, who, why))
                discard(folder)
            for path in (*left, *snapshots):
                discard(path)
            # A killed call removed the bundle, and its event was rolled back.
            logged = {event.version_from for event in events if event.event == PRUNED}
            for row in all_versions(connection):
                if row.version in unused - logged and _names_a_bundle(row) and row not in bundles:
                    write_event(connection, ModelEvent(PRUNED, row.version, None, who, INTERRUPTED))
            for place in roots.values():
                sweep(place / BUNDLES)
    names = sorted((folder.name for folder in left), reverse=True)
    return Pruned([row.version for row in going], [path.name for path in snapshots], size, names)


def remove_unless_recorded(database: Database, version: str, folder: UPath) -> None:
    """Remove a bundle that no row names. The answer to a COMMIT may be lost, although the row was written.

    The lock waits for a transaction that still commits. Without an answer of the database the bundle stays.
    """
    with suppress(StorageError), lock_versions(database) as connection:
        if all(row.version != version for row in all_versions(connection)):
            remove_folder(folder)


def _has_bundle(row: ModelRow) -> bool:
    return _names_a_bundle(row) and (UPath(row.model_path) / MANIFEST).exists()


def _names_a_bundle(row: ModelRow) -> bool:
    """Whether the row names one of our bundles; other programs' folders are not touched."""
    if row.manifest_sha256 is None or not row.model_path:
        return False
    folder = UPath(row.model_path)
    return folder.name == row.version and folder.parent.name == BUNDLES


def _unrecorded(connection: sa.Connection, root: UPath) -> list[UPath]:
    """Bundles that a killed training left: no row names them, and nobody is recording."""
    if not (root / BUNDLES).exists() or not nobody_records(connection):
        return []
    named = {row.version for row in all_versions(connection)}
    folders = [folder for folder in (root / BUNDLES).iterdir() if not folder.name.startswith(".")]
    return [folder for folder in folders if folder.name not in named and _was_left(connection, folder)]


def _was_left(connection: sa.Connection, folder: UPath) -> bool:
    """Whether a run of this database made a bundle; another database may share the folder.

    Where folders cannot be renamed, a bundle without a manifest is half written; after a day nobody writes it.
    """
    manifest = folder / MANIFEST
    if not manifest.exists():
        made = version_time(folder.name)
        return made is not None and made < datetime.now(UTC).replace(tzinfo=None) - timedelta(days=1)
    try:
        run_id = json.loads(manifest.read_bytes()).get("run_id")
    except (ValueError, AttributeError):
        return False
    known = "SELECT EXISTS (SELECT FROM trials WHERE run_id = :run_id)"
    if connection.execute(sa.text(f"SELECT to_regclass('{DAGSTER_SCHEMA}.runs')")).scalar() is not None:
        known += f" OR EXISTS (SELECT FROM {DAGSTER_SCHEMA}.runs WHERE run_id = :run_id)"
    return bool(connection.execute(sa.text(known), {"run_id": run_id}).scalar())


def _unreferenced_snapshots(root: UPath, gone: list[UPath]) -> list[UPath]:
    """Snapshots that no remaining bundle references, in any database."""
    if not (root / SNAPSHOTS).exists():
        return []
    names = {folder.name for folder in gone if folder.parent.parent == root}
    staying = [] if not (root / BUNDLES).exists() else (root / BUNDLES).iterdir()
    manifests = [
        folder / MANIFEST for folder in staying if not folder.name.startswith(".") and folder.name not in names
    ]
    named = {name for manifest in manifests if manifest.exists() for name in _snapshots_of(manifest)}
    files = sorted((root / SNAPSHOTS).iterdir(), key=str)
    return [path for path in files if path.suffix == ".parquet" and path.stem not in named]


def _snapshots_of(manifest: UPath) -> list[str]:
    try:
        stored = json.loads(manifest.read_bytes())
        found = [part["fingerprint"] for part in map(stored.get, NAMED) if part]
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        message = (
            f"{manifest} cannot be read ({error}), so its training panel is unknown. Nothing was "
            "removed. Restore it from a backup, or remove its folder"
        )
        raise TamperedArtifactError(message) from error
    return found
