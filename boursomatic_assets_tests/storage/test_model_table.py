from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from upath import UPath

from boursomatic_assets.errors import StorageError
from boursomatic_assets.storage.model_store import save_bundle
from boursomatic_assets.storage.model_table import ModelRow, active_versions, list_versions, record_active
from boursomatic_assets_tests.storage.catalog import rows, run, versions_of
from boursomatic_assets_tests.storage.processes import at_once

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets.storage.database import Database

MOMENT = datetime(2026, 3, 4, 5, 6, 7)  # noqa: DTZ001 (UTC, as the table keeps it)
FIRST = ModelRow("20260304_050607_aaaaaa", MOMENT, "p" * 64, {"test_accuracy": 0.5}, "/artifacts/a", "d" * 64)
SECOND = replace(FIRST, version="20260304_050608_bbbbbb", trained_at=MOMENT + timedelta(seconds=1))


def test_the_first_version_becomes_the_active_one(database: Database) -> None:
    assert active_versions(database) == []
    assert record_active(database, FIRST) is None
    assert active_versions(database) == [FIRST.version]
    # Every figure and digest comes back as it was, and the row can do without any default of the server.
    assert list_versions(database) == [FIRST]
    assert rows(
        database, "SELECT created_at > '2026-01-01', metrics_json->>'test_accuracy' FROM model_versions"
    ) == [(True, "0.5")]


def test_a_new_version_takes_over_and_says_whose_place_it_took(database: Database) -> None:
    record_active(database, FIRST)
    assert record_active(database, SECOND) == FIRST.version
    assert active_versions(database) == [SECOND.version]
    assert list_versions(database) == [SECOND, replace(FIRST, is_active=False)]


def test_both_happen_in_one_transaction(database: Database) -> None:
    record_active(database, FIRST)
    record_active(database, SECOND)
    # The row that gave way and the one that came were written by the same transaction.
    assert rows(database, "SELECT count(*), count(DISTINCT xmin::text) FROM model_versions") == [(2, 1)]


def test_the_newest_versions_are_listed_first_and_no_more_than_wanted(database: Database) -> None:
    many = [replace(FIRST, version=f"v{day}", trained_at=MOMENT + timedelta(days=day)) for day in (2, 0, 1)]
    for row in many:
        record_active(database, row)
    assert [row.version for row in list_versions(database)] == ["v2", "v1", "v0"]
    assert [row.version for row in list_versions(database, limit=2)] == ["v2", "v1"]


def test_rows_that_other_programs_wrote_are_listed_with_what_they_have(database: Database) -> None:
    run(
        database,
        "INSERT INTO model_versions (id, version, trained_at, params_hash, metrics_json, is_active) "
        "VALUES (gen_random_uuid(), 'theirs', '2020-01-01', 'h', '{}', true)",
    )
    (row,) = list_versions(database)
    assert (row.version, row.model_path, row.manifest_sha256, row.metrics) == ("theirs", "", None, {})


def test_a_name_that_is_taken_leaves_the_old_version_active(database: Database) -> None:
    record_active(database, FIRST)
    record_active(database, SECOND)
    before = versions_of(database, "model_versions")
    with pytest.raises(StorageError, match=FIRST.version):
        record_active(database, FIRST)
    assert versions_of(database, "model_versions") == before
    assert active_versions(database) == [SECOND.version]


def test_a_figure_that_is_no_number_leaves_the_old_version_active(database: Database) -> None:
    record_active(database, FIRST)
    with pytest.raises(ValueError, match="JSON"):
        record_active(database, replace(SECOND, metrics={"test_accuracy": float("nan")}))
    assert active_versions(database) == [FIRST.version]


def test_a_path_too_long_for_the_table_is_an_error_of_storage_and_leaves_the_old_version_active(
    database: Database,
) -> None:
    record_active(database, FIRST)
    with pytest.raises(StorageError, match="500"):
        record_active(database, replace(SECOND, model_path="/" + "x" * 500))
    assert active_versions(database) == [FIRST.version]


def test_eight_trainings_of_one_second_give_eight_versions_and_one_is_active(
    database: Database, tmp_path: Path
) -> None:
    record_active(database, FIRST)
    together = threading.Barrier(8)

    def train(_number: int) -> tuple[str, str | None]:
        together.wait()
        version, folder, _ = save_bundle(
            UPath(str(tmp_path)), MOMENT, lambda version: {"manifest.json": version.encode()}
        )
        return version, record_active(database, replace(FIRST, version=version, model_path=str(folder)))

    with ThreadPoolExecutor(8) as pool:
        found = dict(pool.map(train, range(8)))
    assert len(found) == 8
    assert len(active_versions(database)) == 1
    assert {row.version for row in list_versions(database)} == {*found, FIRST.version}
    # Each took the place of another: a chain from the first to the one that is active now.
    assert sorted(map(str, found.values())) == sorted({*found, FIRST.version} - {*active_versions(database)})


def test_so_do_four_processes(database: Database) -> None:
    record_active(database, FIRST)
    imports = """
from datetime import datetime
from upath import UPath
from boursomatic_assets.storage.model_store import save_bundle
from boursomatic_assets.storage.model_table import ModelRow, record_active
database, root, moment = Database.open(settings), UPath(settings.artifacts_dir), datetime(2026, 3, 4, 5, 6, 7)
"""
    script = """
for _ in range(5):
    version, folder, digest = save_bundle(root, moment, lambda version: {"manifest.json": version.encode()})
    print(version, record_active(database, ModelRow(version, moment, "p", {}, str(folder), digest)))
"""
    chain = dict(line.split() for output in at_once(4, script, imports) for line in output.splitlines())
    assert len(chain) == 20
    (active,) = active_versions(database)
    assert {*chain} | {FIRST.version} == {row.version for row in list_versions(database)}
    assert sorted(chain.values()) == sorted({*chain, FIRST.version} - {active})


def test_a_writer_that_knows_nothing_of_turns_cannot_make_a_second_one_active(database: Database) -> None:
    record_active(database, FIRST)
    with pytest.raises(sa.exc.IntegrityError, match="model_versions_one_per_is_active"):
        run(
            database,
            "INSERT INTO model_versions (id, version, params_hash, metrics_json, is_active) "
            "VALUES (gen_random_uuid(), 'theirs', 'h', '{}', true)",
        )
