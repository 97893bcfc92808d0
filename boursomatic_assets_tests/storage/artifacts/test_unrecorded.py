"""What becomes of a bundle when recording its row fails, or seems to."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from upath import UPath

from boursomatic_assets.storage.artifacts.retention import remove_unless_recorded
from boursomatic_assets.storage.postgres.model_table import ModelRow, active_version, lock_versions
from boursomatic_assets_tests.support.bundles import MOMENT, record

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


def test_a_bundle_stays_if_the_database_is_gone(database: Database, folder: UPath) -> None:
    record(database, ModelRow(VERSION, MOMENT, "p" * 64, {}, str(folder), "d" * 64), None)
    gone = replace(
        database, url=sa.make_url(database.url).set(database="gone").render_as_string(hide_password=False)
    )
    remove_unless_recorded(gone, VERSION, folder)
    assert folder.exists()
