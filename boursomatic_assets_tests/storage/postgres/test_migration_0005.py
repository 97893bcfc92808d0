"""What the fifth migration adds to a database that the fourth one made and people have filled since."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from boursomatic_assets.errors import SchemaVersionError
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_events import list_events, never_active
from boursomatic_assets.storage.postgres.model_table import list_versions
from boursomatic_assets.storage.server.embedded import database_url
from boursomatic_assets_tests.support.catalog import rows, run, shape, tables

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings

FILLED = (
    "INSERT INTO model_versions (id, version, params_hash, metrics_json, model_path, manifest_sha256, is_active) "
    "VALUES (gen_random_uuid(), 'old', 'p', '{}', '/old', 'd', false), "
    "(gen_random_uuid(), 'new', 'p', '{}', NULL, NULL, true)"
)
LATER = {"notices", "noticed_runs", "vendor_actions"}
ROWS = "SELECT xmin::text, ctid::text, (to_jsonb(m) - 'gate')::text FROM model_versions m ORDER BY 2"
EVENT = "INSERT INTO model_events (who, event, version_from, version_to, why) VALUES ('ann', '{}', {}, {}, 'why')"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "boursomatic_assets:storage/postgres/migrations")
    config.set_main_option("path_separator", "os")
    return config


@pytest.fixture
def fourth(settings: Settings) -> Database:
    """A database as the fourth migration leaves it, with two versions."""
    database, config = Database(database_url(settings)), _config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
    run(database, FILLED)
    return database


def test_an_upgrade_keeps_every_version_and_adds_a_table_and_a_column(fourth: Database) -> None:
    before, shape_before, tables_before = rows(fourth, ROWS), shape(fourth), tables(fourth, "public")
    assert schema.upgrade(fourth.engine) == "0004"
    assert rows(fourth, ROWS) == before
    assert len(before) == 2
    assert set(shape_before) <= set(shape(fourth))
    assert tables(fourth, "public") - tables_before == {"model_events", *LATER}
    assert rows(fourth, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [(schema.HEAD_REVISION,)]
    # No decision and no event is made up for what was there; each counts as having been active.
    assert [row.gate for row in list_versions(fourth)] == [None, None]
    assert list_events(fourth) == []
    assert never_active(list_events(fourth)) == set()


def test_another_programs_table_of_that_name_stops_the_upgrade_which_changes_nothing(fourth: Database) -> None:
    run(fourth, "CREATE TABLE model_events (id integer PRIMARY KEY, text text)")
    before, shape_before = rows(fourth, ROWS), shape(fourth)
    with pytest.raises(SchemaVersionError, match="table model_events was there before and lacks columns"):
        schema.upgrade(fourth.engine)
    assert (rows(fourth, ROWS), shape(fourth)) == (before, shape_before)
    assert rows(fourth, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [("0004",)]


def test_a_second_upgrade_keeps_what_was_logged_since(fourth: Database) -> None:
    schema.upgrade(fourth.engine)
    run(fourth, EVENT.format("activated", "'old'", "'new'"))
    before, shape_before = list_events(fourth), shape(fourth)
    assert schema.upgrade(fourth.engine) == schema.HEAD_REVISION
    assert (list_events(fourth), shape(fourth)) == (before, shape_before)


@pytest.mark.parametrize(
    ("event", "before", "after", "rule"),
    [
        ("promoted", "'a'", "'b'", "model_events_known_event"),
        ("pruned", "'a'", "'b'", "model_events_to_a_version"),
        ("activated", "'a'", "NULL", "model_events_to_a_version"),
    ],
)
def test_the_table_holds_only_events_that_mean_something(
    database: Database, event: str, before: str, after: str, rule: str
) -> None:
    with pytest.raises(sa.exc.IntegrityError, match=rule):
        run(database, EVENT.format(event, before, after))


def test_two_events_of_one_transaction_have_an_order(database: Database) -> None:
    run(database, EVENT.format("activated", "NULL", "'a'") + ";" + EVENT.format("rolled back", "'a'", "'b'"))
    assert rows(database, "SELECT event FROM model_events ORDER BY at, id") == [("activated",), ("rolled back",)]
    assert rows(database, "SELECT count(DISTINCT at) FROM model_events") == [(2,)]


def test_other_programs_may_delete_a_version_that_the_log_names(database: Database) -> None:
    run(database, FILLED)
    run(database, EVENT.format("activated", "'old'", "'new'"))
    run(database, "DELETE FROM model_versions WHERE version = 'old'")
    assert [event.version_from for event in list_events(database)] == ["old"]


def test_there_is_no_way_down(database: Database) -> None:
    config = _config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(RuntimeError, match="restore a backup"):
            command.downgrade(config, "0004")
    assert "model_events" in tables(database, "public")
