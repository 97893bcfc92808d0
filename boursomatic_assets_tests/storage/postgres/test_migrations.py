"""Upgrades of databases that an earlier version made and people have filled since."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command

from boursomatic_assets.errors import SchemaVersionError
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.adjustments_table import add_adjustment
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.market_tables import read_bars, read_usable_bars
from boursomatic_assets.storage.postgres.model_events import list_events, never_active
from boursomatic_assets.storage.postgres.model_table import list_versions
from boursomatic_assets_tests.support.catalog import FILLED, database_at, rows, run, shape, tables, versions_of

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings

# Tables that each revision adds, and rows that people add at that revision.
ADDED = {
    "0001": (),
    "0002": ("adjustments", "unexplained_jumps", "fetch_rounds", "fetch_results", "feature_state"),
    "0003": ("universe_members", "trials"),
    "0004": ("recommendation_outcomes", "bar_changes"),
    "0005": ("model_events",),
    "0006": ("notices", "noticed_runs"),
    "0007": ("vendor_actions",),
    "0008": (),
}
FILLING = {
    "0001": FILLED
    + "INSERT INTO rejected_bars (source, reason, copies, row_hash) VALUES ('sample', 'null', 1, 'x');"
    "INSERT INTO features (id, instrument_id, ts, ret_1d) SELECT gen_random_uuid(), id, '2020-01-02', 0.1 "
    "FROM instruments;",
    "0002": "UPDATE instruments SET currency = 'USD';"
    "INSERT INTO adjustments (symbol, session, ratio, note) VALUES ('AAA', '2020-01-04', 0.5, 'two for one');"
    "INSERT INTO fetch_rounds (provider, scope) VALUES ('yahoo', 'daily');",
    "0003": "INSERT INTO universe_members (symbol, member_from) VALUES ('AAA', '2020-01-02');"
    "INSERT INTO trials (id, params_hash, experiment, data_version, symbols, first_session, last_session, "
    "test_first, test_last) VALUES (gen_random_uuid(), 'p', '{}', 'd', 5, '2010-01-04', '2013-03-01', "
    "'2012-09-01', '2013-02-01');",
    "0004": "UPDATE price_bars SET c = 9;",
    "0005": "INSERT INTO model_events (who, event, version_from, version_to, why) "
    "VALUES ('ann', 'activated', 'old', 'new', 'why');",
    "0006": "INSERT INTO noticed_runs (instance_id, event_id, run_id) VALUES ('i', 1, 'r');",
    "0007": "INSERT INTO vendor_actions (symbol, session, split, dividend, ratio) "
    "VALUES ('AAA', '2020-01-04', 2, 0, 0.5);",
}
# Nullable columns that a revision adds to tables of an earlier one.
NEW_COLUMNS = ("currency", "session", "archived_at", "gate", "insertion_number")
OLDER = ["0001", "0002", "0003", "0004", "0005", "0006", "0007"]


def after(revision: str) -> set[str]:
    """Tables that the upgrade from a revision adds."""
    return {table for later, added in ADDED.items() if later > revision for table in added}


@pytest.fixture
def old(settings: Settings, request: pytest.FixtureRequest) -> Database:
    """A database at a revision, with rows in each table that people fill."""
    database = database_at(settings, request.param)
    run(database, "".join(rows for revision, rows in FILLING.items() if revision <= request.param))
    return database


def kept_rows(database: Database, names: set[str]) -> dict[str, list[tuple[object, ...]]]:
    """Every row with its version, without the columns that are new."""
    without = "".join(f" - '{name}'" for name in NEW_COLUMNS if name != "session")
    new = {"recommendations": without + " - 'session'", "instruments": without}
    new |= dict.fromkeys(("model_versions", "trials"), without)
    columns = "xmin::text, ctid::text, (to_jsonb(t){})::text"
    return {
        name: rows(database, f"SELECT {columns.format(new.get(name, ''))} FROM {name} t ORDER BY 2")
        for name in names - {schema.VERSION_TABLE}
    }


def revision_of(database: Database) -> str:
    return str(rows(database, f"SELECT version_num FROM {schema.VERSION_TABLE}")[0][0])


@pytest.mark.parametrize(("old", "revision"), [(each, each) for each in OLDER], indirect=["old"])
def test_upgrade_keeps_every_row_and_only_adds(old: Database, revision: str) -> None:
    names, shape_before = tables(old, "public"), shape(old)
    before = kept_rows(old, names)
    assert schema.upgrade(old.engine) == revision
    assert kept_rows(old, names) == before
    filled = {"instruments", "price_bars", "features", "model_versions", "recommendations", "rejected_bars"}
    assert all(before[table] for table in filled)
    assert set(shape_before) <= set(shape(old))
    assert tables(old, "public") - names == after(revision)
    assert revision_of(old) == schema.HEAD_REVISION


@pytest.mark.parametrize("old", OLDER, indirect=True)
def test_second_upgrade_keeps_the_rows_written_since(old: Database) -> None:
    schema.upgrade(old.engine)
    run(old, "UPDATE price_bars SET c = 8; UPDATE instruments SET name = 'B'")
    add_adjustment(old, "AAA", date(2020, 1, 3), 0.5, "two for one")
    names = tables(old, "public")
    before, shape_before = kept_rows(old, names), shape(old)
    assert schema.upgrade(old.engine) == schema.HEAD_REVISION
    assert (kept_rows(old, names), shape(old)) == (before, shape_before)


@pytest.mark.parametrize(
    ("old", "revision", "table"),
    [
        (each, each, table)
        for each, following in pairwise(ADDED)
        for table in (sorted(after(each)) if each == "0001" else ADDED[following])
    ],
    indirect=["old"],
)
def test_upgrade_stops_unchanged_at_another_programs_table_of_that_name(
    old: Database, revision: str, table: str
) -> None:
    run(old, f"CREATE TABLE {table} (symbol text, amount numeric); INSERT INTO {table} VALUES ('AAA', 12.5)")
    names, shape_before = tables(old, "public"), shape(old)
    before = kept_rows(old, names)
    with pytest.raises(SchemaVersionError, match=f"table {table} was there before and lacks columns"):
        schema.upgrade(old.engine)
    assert (kept_rows(old, names), shape(old)) == (before, shape_before)
    assert revision_of(old) == revision


@pytest.mark.parametrize("revision", OLDER)
def test_downgrade_is_refused(database: Database, revision: str) -> None:
    config, before = schema.migrations(), shape(database)
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(RuntimeError, match="restore a backup"):
            command.downgrade(config, revision)
    assert shape(database) == before


@pytest.mark.parametrize("old", ["0001"], indirect=True)
def test_database_is_refused_before_the_upgrade_and_read_after_it(old: Database, settings: Settings) -> None:
    with pytest.raises(SchemaVersionError, match=f"at revision {schema.HEAD_REVISION}; found 0001") as caught:
        Database.open(settings)
    assert "boursomatic db upgrade" in str(caught.value)
    schema.upgrade(old.engine)
    database = Database.open(settings)
    assert read_bars(database)["close"].to_list() == [1.5, 2.5]
    # The bar before the split is halved.
    add_adjustment(database, "AAA", date(2020, 1, 3), 0.5, None)
    assert read_usable_bars(database, ["close"])["close"].to_list() == [0.75, 2.5]


@pytest.mark.parametrize("old", ["0001"], indirect=True)
def test_upgrade_keeps_another_programs_currency(old: Database) -> None:
    run(old, "ALTER TABLE instruments ADD COLUMN currency varchar(3) DEFAULT 'EUR'")
    before = versions_of(old, "instruments")
    schema.upgrade(old.engine)
    assert versions_of(old, "instruments") == before
    assert rows(old, "SELECT DISTINCT currency FROM instruments") == [("EUR",)]


@pytest.mark.parametrize("old", ["0003"], indirect=True)
def test_new_columns_are_null_in_old_rows(old: Database) -> None:
    schema.upgrade(old.engine)
    assert rows(old, "SELECT DISTINCT session, archived_at FROM recommendations") == [(None, None)]
    assert rows(old, "SELECT sharpe, rank_ic, matched_lift, accuracy, version, run_id FROM trials") == [(None,) * 6]
    # Versions older than the log have neither decision nor event, and count as having been active.
    assert [row.gate for row in list_versions(old)] == [None, None]
    assert list_events(old) == []
    assert never_active(list_events(old)) == set()


# Rules that the tables themselves enforce.

TRIAL = (
    "INSERT INTO trials (id, params_hash, experiment, data_version, symbols, first_session, last_session, "
    "test_first, test_last) SELECT gen_random_uuid(), p, '{{}}', d, 5, '2010-01-04'::date, '2013-03-01'::date, "
    "'2012-09-01'::date, '2013-02-01'::date FROM (VALUES {}) v (p, d)"
)
MEMBERS = "INSERT INTO universe_members (symbol, member_from, member_until) VALUES {}"
EVENT = "INSERT INTO model_events (who, event, version_from, version_to, why) VALUES ('ann', '{}', {}, {}, 'why')"


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        *(
            (
                f"INSERT INTO adjustments (symbol, session, ratio) VALUES ('AAA', '2020-01-02', {ratio})",
                "is_positive",
            )
            for ratio in ("0", "-0.5", "'Infinity'", "'NaN'")
        ),
        (TRIAL.format("('p', 'd'), ('p', 'd')"), "trials_one_per_params_hash_data_version"),
        (MEMBERS.format("('A', '2020-01-02', '2020-01-03'), ('A', '2020-01-02', NULL)"), "universe_members_pkey"),
        (MEMBERS.format("('A', '2020-01-02', '2020-01-02')"), "universe_members_end_after_their_start"),
        (EVENT.format("promoted", "'a'", "'b'"), "model_events_known_event"),
        (EVENT.format("pruned", "'a'", "'b'"), "model_events_to_a_version"),
        (EVENT.format("activated", "'a'", "NULL"), "model_events_to_a_version"),
    ],
)
def test_database_refuses_rows_that_break_a_rule(database: Database, statement: str, rule: str) -> None:
    with pytest.raises(sa.exc.IntegrityError, match=rule):
        run(database, statement)


def test_database_accepts_lawful_rows(database: Database) -> None:
    run(database, TRIAL.format("('p', 'd'), ('p', 'other'), ('q', 'd')"))
    run(database, MEMBERS.format("('A', '2020-01-02', '2020-01-03'), ('A', '2021-01-04', NULL)"))


def test_two_events_of_one_transaction_have_an_order(database: Database) -> None:
    run(database, EVENT.format("activated", "NULL", "'a'") + ";" + EVENT.format("rolled back", "'a'", "'b'"))
    assert rows(database, "SELECT event FROM model_events ORDER BY at, id") == [("activated",), ("rolled back",)]
    assert rows(database, "SELECT count(DISTINCT at) FROM model_events") == [(2,)]


def test_other_programs_may_delete_a_version_that_the_log_names(database: Database) -> None:
    run(database, FILLED + EVENT.format("activated", "'old'", "'new'"))
    run(database, "DELETE FROM recommendations; DELETE FROM model_versions WHERE version = 'old'")
    assert [event.version_from for event in list_events(database)] == ["old"]
