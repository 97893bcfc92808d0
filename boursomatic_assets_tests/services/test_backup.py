"""A backup holds everything, says when it was changed, and is restored whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from boursomatic_assets.errors import BackupError
from boursomatic_assets.services import backup
from boursomatic_assets.services.backup import restore_backup, write_backup
from boursomatic_assets.storage.artifacts.archive import DUMP
from boursomatic_assets.storage.artifacts.files import new_file, scratch_file
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.server.dumping import restore_database
from boursomatic_assets_tests.conftest import fresh_database, upgraded
from boursomatic_assets_tests.support.catalog import FILLED, rows, run, shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import sqlalchemy as sa

    from boursomatic_assets.settings import Settings

NOTED = "CREATE TABLE noted (word text); INSERT INTO noted VALUES ('é\\n\"'), (NULL)"
FILES = {"models/v1/manifest.json": b"{}", "assets/labels.parquet": bytes(range(256)), "reports/v1/ü.html": b"x"}


def quiet(_: str) -> None:
    """Progress is not shown."""


@pytest.fixture
def saved(settings: Settings, tmp_path: Path) -> Path:
    """A backup of three artifacts and a database with the platform's tables and another one."""
    run(upgraded(settings), NOTED)
    for name, content in FILES.items():
        (tmp_path / "home" / "artifacts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / "artifacts" / name).write_bytes(content)
    (tmp_path / "home" / "artifacts" / "models" / ".v2.partial").write_bytes(b"half written")
    file = tmp_path / "b[a]ckup.tar"
    assert write_backup(settings, file, quiet).artifacts == 3
    return file


@pytest.fixture
def empty(saved: Path, postgres: sa.Engine, tmp_path: Path) -> Iterator[Settings]:
    """Where it is restored: another database, another folder."""
    assert saved.exists()
    with fresh_database(postgres) as settings:
        yield replace(settings, artifacts_dir=str(tmp_path / "other" / "artifacts"))


def stored(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def is_untouched(settings: Settings, tmp_path: Path) -> bool:
    tables = rows(Database(str(settings.database_url)), "SELECT FROM pg_tables WHERE schemaname = 'public'")
    return not tables and stored(tmp_path / "other") == {}


def test_restore_backup_gives_the_same_tables_and_artifacts(
    settings: Settings, saved: Path, empty: Settings, tmp_path: Path
) -> None:
    restored = restore_backup(empty, saved, quiet)
    before, after = Database(str(settings.database_url)), Database.open(empty)
    # PostgreSQL words a restored CHECK or partial index differently, so only their tables are compared.
    assert {row for row in shape(after) if row[0] == "column"} == {
        row for row in shape(before) if row[0] == "column"
    }
    assert [row[:3] for row in shape(after)] == [row[:3] for row in shape(before)]
    assert rows(after, "SELECT word FROM noted") == [('é\\n"',), (None,)]
    assert stored(tmp_path / "other" / "artifacts") == FILES
    assert (restored.artifacts, restored.revision) == (3, schema.HEAD_REVISION)


def test_write_backup_is_private_and_leaves_no_other_file(saved: Path) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert [path.name for path in saved.parent.iterdir() if path.is_file()] == [saved.name]


def test_write_backup_overwrites_nothing(settings: Settings, saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(BackupError, match="exists"):
        write_backup(settings, saved, quiet)
    assert saved.read_bytes() == before


def test_write_backup_that_cannot_be_written_leaves_nothing(
    settings: Settings, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BackupError, match=f"there is no folder {tmp_path}/file"):
        write_backup(settings, tmp_path / "file" / "b.tar", quiet)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backup, "add_member", full)
    with pytest.raises(BackupError, match="cannot be written: No space left on device"):
        write_backup(settings, tmp_path / "c.tar", quiet)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "file", saved.name}


def test_write_backup_copies_again_if_an_asset_was_materialized(
    settings: Settings, saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert saved.exists()
    moments = iter([1, 2, 2, 2])
    said: list[str] = []
    monkeypatch.setattr(backup, "_newest_materialization", lambda _: next(moments))
    assert write_backup(settings, tmp_path / "second.tar", said.append).artifacts == 3
    assert said.count("Copying the database") == 2
    monkeypatch.setattr(backup, "_newest_materialization", lambda _: len(said))
    with pytest.raises(BackupError, match="all the time"):
        write_backup(settings, tmp_path / "third.tar", said.append)
    assert not (tmp_path / "third.tar").exists()


def test_write_backup_uses_the_programs_of_the_wheel(
    settings: Settings, saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # An older pg_dump in the PATH would refuse the server's version.
    assert saved.exists()
    for name in ("pg_dump", "pg_restore"):
        (tmp_path / name).write_text("#!/bin/sh\necho old >&2\nexit 1\n")
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PGDATABASE", "nowhere")
    assert write_backup(settings, tmp_path / "second.tar", quiet)


def rebuilt(file: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes] | None]) -> None:
    """Write the archive again with changed members."""
    with tarfile.open(file) as archive:
        members = [(member, archive.extractfile(member)) for member in archive]
        kept = [change(member, content.read()) for member, content in members if content is not None]
    with tarfile.open(file, "w") as archive:
        for pair in kept:
            if pair is not None:
                pair[0].size = len(pair[1])
                archive.addfile(pair[0], io.BytesIO(pair[1]))


def renamed(old: str, new: str) -> Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]:
    """Rename a member, in the listing too."""

    def change(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name == "backup.json":
            content = content.replace(old.encode(), new.encode())
        elif member.name == old:
            member.name = new
        return member, content

    return change


def linked(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    if member.name == "artifacts/models/v1/manifest.json":
        member.type, member.linkname, content = tarfile.SYMTYPE, "/etc/passwd", b""
    return member, content


def sparse(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    # Small in the file, a hundred gigabytes when it is read.
    if member.name.endswith(".html"):
        member.pax_headers = {"GNU.sparse.size": "100000000000", "GNU.sparse.map": "0,1"}
    return member, content


def edited(suffix: str, edit: Callable[[bytes], bytes]) -> Callable[..., tuple[tarfile.TarInfo, bytes]]:
    return lambda member, content: (member, edit(content) if member.name.endswith(suffix) else content)


def without(suffix: str) -> Callable[..., tuple[tarfile.TarInfo, bytes] | None]:
    return lambda member, content: None if member.name.endswith(suffix) else (member, content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edited(".parquet", lambda content: content[::-1]), "SHA-256"),
        (edited(".parquet", lambda content: content[:-1]), "do not have"),
        (edited(".dump", lambda content: content[::-1]), "SHA-256"),
        (without(".html"), "files that it lists"),
        (without("backup.json"), "no readable backup"),
        (edited("backup.json", lambda content: content.replace(b'"format": 1', b'"format": 2')), "of format 1"),
        (renamed("artifacts/models/v1/manifest.json", "artifacts/../../escaped"), "no artifact"),
        (renamed("artifacts/models/v1/manifest.json", "/tmp/escaped"), "no artifact"),  # noqa: S108 (refused)
        (linked, "no artifact"),
        (sparse, "no artifact"),
    ],
)
def test_restore_backup_refuses_a_changed_file_and_writes_nothing(
    saved: Path, empty: Settings, tmp_path: Path, change: Callable[..., tuple[tarfile.TarInfo, bytes]], said: str
) -> None:
    rebuilt(saved, change)
    with pytest.raises(BackupError, match=said):
        restore_backup(empty, saved, quiet)
    assert is_untouched(empty, tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_restore_backup_refuses_a_file_that_was_cut_off(
    saved: Path, empty: Settings, tmp_path: Path, share: float
) -> None:
    # Of what it holds: zeros follow, whose loss does no harm.
    with tarfile.open(saved) as archive:
        end = max(member.offset_data + member.size for member in archive.getmembers())
    saved.write_bytes(saved.read_bytes()[: int(share * end)])
    with pytest.raises(BackupError):
        restore_backup(empty, saved, quiet)
    assert is_untouched(empty, tmp_path)


def test_restore_backup_refuses_what_is_no_backup(empty: Settings, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"prices")
    (tmp_path / "folder").mkdir()
    for name in ("absent", "text", "folder"):
        with pytest.raises(BackupError):
            restore_backup(empty, tmp_path / name, quiet)


def test_restore_backup_replaces_tables_without_rows(saved: Path, empty: Settings) -> None:
    # As after a command that looked at a home whose restoration was interrupted.
    embedded = replace(empty, database_url=None)
    database = upgraded(empty)
    run(database, "CREATE SCHEMA dagster; CREATE TABLE dagster.runs (id int)")
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM price_bars").scalar() == 0
    backup.require_empty(database, embedded)
    assert rows(database, "SELECT nspname FROM pg_namespace WHERE nspname = 'dagster'") == []
    restore_backup(empty, saved, quiet)
    assert rows(Database.open(empty), "SELECT count(*) FROM noted") == [(2,)]


def test_restore_backup_refuses_rows_and_foreign_tables(saved: Path, empty: Settings) -> None:
    database = upgraded(empty)
    with pytest.raises(BackupError, match="is not empty"):
        restore_backup(empty, saved, quiet)
    run(database, "INSERT INTO instruments (id, symbol, exchange) VALUES (gen_random_uuid(), 'A', 'XNYS')")
    with pytest.raises(BackupError, match="is not empty"):
        backup.require_empty(database, replace(empty, database_url=None))
    assert rows(database, "SELECT count(*) FROM instruments") == [(1,)]


def test_restore_backup_refuses_a_database_in_use(settings: Settings, saved: Path, tmp_path: Path) -> None:
    elsewhere = replace(settings, artifacts_dir=str(tmp_path / "other"))
    with pytest.raises(BackupError, match="is not empty"):
        restore_backup(elsewhere, saved, quiet)


def test_restore_backup_refuses_a_folder_in_use(saved: Path, empty: Settings, tmp_path: Path) -> None:
    (tmp_path / "other" / "artifacts").mkdir(parents=True)
    (tmp_path / "other" / "artifacts" / "mine").write_bytes(b"")
    with pytest.raises(BackupError, match="mine"):
        restore_backup(empty, saved, quiet)


@pytest.mark.parametrize("is_written", [False, True])
def test_restore_backup_goes_on_after_an_interruption(
    *, is_written: bool, settings: Settings, saved: Path, empty: Settings, tmp_path: Path
) -> None:
    run(Database(str(settings.database_url)), FILLED)
    file = saved.with_name("filled.tar")
    write_backup(settings, file, quiet)

    def interrupted(*arguments: Any) -> None:  # noqa: ANN401
        # Killed before the transaction of the database is committed, or after.
        if is_written:
            restore_database(*arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup, "restore_database", interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore_backup(empty, file, quiet)
    # As kill -9 leaves it.
    left = empty.home / f".{DUMP}.00000000.partial"
    left.write_bytes(b"half written")
    restore_backup(empty, file, quiet)
    assert not left.exists()
    assert stored(tmp_path / "other" / "artifacts") == FILES
    assert rows(Database.open(empty), "SELECT count(*) FROM noted") == [(2,)]
    # Once restored, it is a database in use.
    with pytest.raises(BackupError, match="not empty"):
        restore_backup(empty, file, quiet)


def test_write_backup_removes_what_a_killed_one_left(settings: Settings, saved: Path) -> None:
    # Names and locks of the next two are those of a process that is gone.
    with scratch_file(saved) as named, new_file(saved.with_name("other.tar")) as other:
        left = [named.with_name(f".{path.name[1:-20]}.00000000.partial") for path in (named, other)]
        for path in left:
            path.write_bytes(b"half written")
        write_backup(settings, saved.with_name("second.tar"), quiet)
        assert named.exists()
        assert other.exists()
    assert not any(path.exists() for path in left)
    assert [path.name for path in saved.parent.iterdir() if path.name.startswith(".")] == []
