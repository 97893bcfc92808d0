"""What becomes of a bundle when recording its row fails, or seems to."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from upath import UPath

from boursomatic_assets.core.registry.bundle import version_name
from boursomatic_assets.storage.artifacts.files import write_whole
from boursomatic_assets.storage.artifacts.retention import prune, remove_unless_recorded
from boursomatic_assets.storage.postgres.model_table import (
    ModelRow,
    active_version,
    announce_recording,
    lock_versions,
    nobody_records,
)
from boursomatic_assets_tests.support.bundles import MOMENT, record, save_small
from boursomatic_assets_tests.support.catalog import run

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets.storage.postgres.database import Database

VERSION = "20260304_050607_aaaaaa"


@pytest.fixture
def folder(tmp_path: Path) -> UPath:
    place = tmp_path / "models" / VERSION
    place.mkdir(parents=True)
    (place / "manifest.json").write_bytes(b"{}")
    return UPath(place)


def test_a_bundle_without_a_row_is_removed(database: Database, folder: UPath) -> None:
    remove_unless_recorded(database, VERSION, folder)
    assert not folder.exists()


def test_a_bundle_stays_if_the_answer_to_the_commit_was_lost(database: Database, folder: UPath) -> None:
    row = ModelRow(VERSION, MOMENT, "p" * 64, {}, str(folder), "d" * 64)
    locked, removed = threading.Event(), threading.Event()

    def committing() -> None:
        # As a server that still commits after its client has lost the connection.
        with lock_versions(database) as connection:
            locked.set()
            while not connection.execute(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar():
                time.sleep(0.01)
            assert not removed.is_set()
            connection.execute(
                sa.text(
                    "INSERT INTO model_versions (id, version, trained_at, params_hash, metrics_json, model_path, "
                    "is_active, manifest_sha256, created_at) VALUES "
                    "(gen_random_uuid(), :version, now(), 'p', '{}', :model_path, true, 'd', now())"
                ),
                {"version": row.version, "model_path": row.model_path},
            )

    thread = threading.Thread(target=committing)
    thread.start()
    locked.wait()
    remove_unless_recorded(database, VERSION, folder)
    removed.set()
    thread.join()
    assert folder.exists()
    active = active_version(database)
    assert active is not None
    assert active.version == VERSION


def left_by(root: UPath, version: str, run_id: str) -> None:
    """A bundle that no row names, as a training leaves it that is killed before its row is written."""
    write_whole(root / "models" / version / "manifest.json", b'{"run_id": "%s"}' % run_id.encode())


def bundles(root: UPath) -> set[str]:
    return {path.name for path in (root / "models").iterdir()}


def test_bundles_of_killed_trainings_are_collected(database: Database, tmp_path: Path) -> None:
    root = UPath(tmp_path)
    record(database, save_small(root, 1), None)
    run(
        database,
        "INSERT INTO trials (id, params_hash, experiment, data_version, symbols, first_session, last_session, "
        "test_first, test_last, run_id) VALUES (gen_random_uuid(), 'p', '{}', 'd', 5, '2010-01-04', '2013-03-01', "
        "'2012-09-01', '2013-02-01', 'of trials');"
        "CREATE SCHEMA dagster; CREATE TABLE dagster.runs (run_id text);"
        "INSERT INTO dagster.runs VALUES ('of dagster')",
    )
    left_by(root, "20260304_050607_aaaaaa", "of trials")
    left_by(root, "20260304_050608_aaaaaa", "of dagster")
    # Another database may share the folder.
    left_by(root, "20260304_050609_aaaaaa", "of another database")
    gone = ["20260304_050608_aaaaaa", "20260304_050607_aaaaaa"]
    with announce_recording(database):
        assert prune(database, root, 9, who="ann", remove=True).unrecorded == []
    assert prune(database, root, 9, who="ann", remove=False).unrecorded == gone
    assert len(bundles(root)) == 4
    assert prune(database, root, 9, who="ann", remove=True).unrecorded == gone
    assert bundles(root) == {"v1", "20260304_050609_aaaaaa"}
    assert prune(database, root, 9, who="ann", remove=True).unrecorded == []


def test_half_a_bundle_is_collected_when_nobody_can_be_writing_it(database: Database, tmp_path: Path) -> None:
    # Where folders cannot be renamed, the manifest is written last.
    now = datetime.now(UTC)
    for moment in (now - timedelta(days=2), now):
        write_whole(UPath(tmp_path) / "models" / version_name(moment, "aaaaaa") / "classifier.txt", b"tree")
    found = prune(database, UPath(tmp_path), 9, who="ann", remove=True).unrecorded
    assert found == [version_name(now - timedelta(days=2), "aaaaaa")]
    assert bundles(UPath(tmp_path)) == {version_name(now, "aaaaaa")}


def test_the_announcement_of_a_recording_may_lose_its_connection(database: Database) -> None:
    with announce_recording(database):
        run(database, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    with lock_versions(database) as connection:
        assert nobody_records(connection)


def test_a_bundle_stays_if_the_database_is_gone(database: Database, folder: UPath) -> None:
    record(database, ModelRow(VERSION, MOMENT, "p" * 64, {}, str(folder), "d" * 64), None)
    gone = replace(
        database, url=sa.make_url(database.url).set(database="gone").render_as_string(hide_password=False)
    )
    remove_unless_recorded(gone, VERSION, folder)
    assert folder.exists()
