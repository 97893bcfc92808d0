"""Backup of the database and the artifacts in one file, and its restoration."""

from __future__ import annotations

import io
import tarfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import sqlalchemy as sa
from upath import UPath

from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.errors import ArtifactWriteError, BackupError
from boursomatic_assets.storage.artifacts.archive import (
    ARTIFACTS,
    CONTENTS,
    DUMP,
    FORMAT,
    Contents,
    add_member,
    content_of,
    copied,
    opened_archive,
    verified_contents,
)
from boursomatic_assets.storage.artifacts.files import new_file, scratch_file, sweep_partial, write_whole
from boursomatic_assets.storage.dagster.instance import SCHEMA
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_table import lock_versions
from boursomatic_assets.storage.private import make_home
from boursomatic_assets.storage.server.dumping import dump_database, restore_database
from boursomatic_assets.storage.server.embedded import database_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from boursomatic_assets.settings import Settings

ATTEMPTS = 5
# In the artifacts folder while a database is restored: which backup, and where to.
RESTORING = ".restoring"
_TABLES = ("price_bars", "model_versions", "instruments")
_NEWEST = (
    f"SELECT coalesce(max(id), 0) FROM {SCHEMA}.event_logs "  # noqa: S608 (nothing of it comes from outside)
    "WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
)


def write_backup(settings: Settings, file: Path, tell: Callable[[str], object]) -> Contents:
    """Write a backup of the database and the artifacts in use.

    Versions are neither recorded nor removed meanwhile. If an asset was materialized meanwhile, the copy is made
    again, so that files and tables belong together.

    Raises
    ------
    BackupError
        If the file exists or cannot be written, or assets are materialized again and again. Nothing of the file is
        left behind.
    """
    if file.exists():
        message = f"{file} exists. Name another file, or remove it"
        raise BackupError(message)
    if not file.absolute().parent.is_dir():
        message = f"there is no folder {file.absolute().parent}"
        raise BackupError(message)
    database, root = Database.open(settings), UPath(settings.artifacts_dir)
    with _written(file), new_file(file.absolute()) as beside:
        for _ in range(ATTEMPTS):
            with lock_versions(database):
                before = _newest_materialization(database)
                contents = _write(database, root, beside, tell)
                if _newest_materialization(database) == before:
                    return contents
            tell("An asset was materialized meanwhile: copying again")
        message = "assets are materialized all the time. Stop boursomatic dev, or try again later"
        raise BackupError(message)


@contextmanager
def _written(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror or error}. Choose another place"
        raise BackupError(message) from error


def restore_backup(settings: Settings, file: Path, tell: Callable[[str], object]) -> Contents:
    """Restore a backup into an empty database and artifacts folder; a restoration that was interrupted goes on.

    Every digest is compared before anything is written.

    Raises
    ------
    BackupError
        If the file is damaged, or the database or the artifacts folder is in use.
    """
    tell("Comparing digests")
    with opened_archive(file) as archive:
        contents = verified_contents(archive)
        root, database = UPath(settings.artifacts_dir), Database(database_url(settings))
        begun, identity = root / RESTORING, sha256(f"{database.shown_url} {contents.model_dump_json()}".encode())
        # The database is restored in one transaction, into an empty one: what it holds now is of this backup.
        if not (_holds_rows(database) and begun.exists() and begun.read_bytes() == identity.encode()):
            require_empty(database, settings)
            tell("Restoring artifacts")
            _restore_artifacts(archive, root, contents.sha256)
            write_whole(begun, identity.encode())
            tell("Restoring the database")
            _restore_rows(archive, database, settings)
    schema.upgrade(database.engine)
    # A copy of the database, if an earlier call was killed.
    sweep_partial(settings.home)
    begun.unlink()
    return contents


def _restore_artifacts(archive: tarfile.TarFile, root: UPath, digests: dict[str, str]) -> None:
    _require_own(root, digests)
    for member in archive:
        if member.name.startswith(ARTIFACTS):
            _extract(archive, member, root / member.name.removeprefix(ARTIFACTS), digests[member.name])


def _restore_rows(archive: tarfile.TarFile, database: Database, settings: Settings) -> None:
    make_home(settings.home)
    with scratch_file(settings.home / DUMP) as dump:
        with dump.open("wb") as target:
            copied(content_of(archive, archive.getmember(DUMP)), target)
        restore_database(database.url, dump)


def _write(database: Database, root: UPath, file: Path, tell: Callable[[str], object]) -> Contents:
    digests: dict[str, str] = {}
    with tarfile.open(file, "w") as archive:
        tell("Copying the database")
        with scratch_file(file) as dump:
            # A restored daemon is not alive.
            dump_database(database.url, dump, without_rows=[f"{SCHEMA}.daemon_heartbeats"])
            with dump.open("rb") as content:
                digests[DUMP] = add_member(archive, DUMP, content)
        for place, path in enumerate(paths := _artifacts(root), 1):
            if place % 50 == 1:
                tell(f"Copying artifacts, {place} of {len(paths)}")
            name = _member_name(path, root)
            try:
                with path.open("rb") as content:
                    digests[name] = add_member(archive, name, content)
            except FileNotFoundError:
                # Replaced or removed since it was listed: the copy is made again if an asset was materialized.
                continue
        with database.connection() as connection:
            revision = schema.revision(connection)
        contents = Contents(
            format=FORMAT,
            created=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
            revision=revision or "",
            bytes=sum(member.size for member in archive.getmembers()),
            sha256=digests,
        )
        add_member(archive, CONTENTS, io.BytesIO(contents.model_dump_json(indent=1).encode()))
    return contents


def _artifacts(root: UPath) -> list[UPath]:
    """Files below the root without those that are being written, which have hidden names."""
    if not root.exists():
        return []
    files = (path for path in root.rglob("*") if path.is_file())
    return sorted((path for path in files if not _is_hidden(path, root)), key=str)


def _member_name(path: UPath, root: UPath) -> str:
    """Name of an artifact in the archive."""
    return ARTIFACTS + str(PurePosixPath(str(path.relative_to(root))))


def _is_hidden(path: UPath, root: UPath) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(str(path.relative_to(root))).parts)


def _newest_materialization(database: Database) -> int:
    with database.connection() as connection:
        if connection.execute(sa.text(f"SELECT to_regclass('{SCHEMA}.event_logs')")).scalar() is None:
            return 0
        return int(connection.execute(sa.text(_NEWEST)).scalar_one())


def require_empty(database: Database, settings: Settings) -> None:
    """Stop if the database holds rows. Empty tables, which any command creates in a new home, are removed."""
    with database.connection() as connection:
        tables = _tables(connection)
        if _with_rows(connection, tables) or (tables and settings.database_url is not None):
            message = (
                f"the database {database.shown_url} is not empty. Restore into an empty one: name another home by "
                "BOURSOMATIC_HOME, or another database by DATABASE_URL"
            )
            raise BackupError(message)
        for name in ("public", SCHEMA) if tables else ():
            connection.execute(sa.text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
        if tables:
            connection.execute(sa.text("CREATE SCHEMA public"))


def _holds_rows(database: Database) -> bool:
    with database.connection() as connection:
        return _with_rows(connection, _tables(connection))


def _tables(connection: sa.Connection) -> list[str]:
    """Those of `_TABLES` that exist."""
    known = sa.text("SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NOT NULL")
    return list(connection.execute(known, {"names": list(_TABLES)}).scalars())


def _with_rows(connection: sa.Connection, tables: list[str]) -> bool:
    return any(connection.execute(sa.text(f"SELECT EXISTS (SELECT FROM {name})")).scalar() for name in tables)  # noqa: S608 (of `_TABLES`)


def _require_own(root: UPath, digests: dict[str, str]) -> None:
    """Stop if the artifacts folder holds a file that is not of the backup."""
    for path in _artifacts(root):
        expected = digests.get(_member_name(path, root))
        with path.open("rb") as content:
            if expected is None or copied(content, None) != expected:
                message = (
                    f"{root} holds {path.name}, which is not of this backup. Restore into an empty folder: "
                    "name another home by BOURSOMATIC_HOME, or another folder by ARTIFACTS_DIR"
                )
                raise BackupError(message)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: UPath, expected: str) -> None:
    content = content_of(archive, member).read()
    if sha256(content) != expected:
        message = f"{member.name} has changed since its digest was compared"
        raise ArtifactWriteError(message)
    write_whole(target, content)
