"""Tables and sessions that other programs changed: named with their remedy, or without effect."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest
import sqlalchemy as sa

from boursomatic_assets.core.market.bars import BAR_SCHEMA, check_bars
from boursomatic_assets.errors import SchemaVersionError, StorageError
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.market_tables import read_bars, write_bars
from boursomatic_assets.storage.postgres.shape_check import find_problems
from boursomatic_assets.storage.postgres.shapes import SHAPES, holds
from boursomatic_assets_tests.support.catalog import FILLED, rows, run, shape

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings

BARS, CALLS = "ALTER TABLE price_bars", "ALTER TABLE recommendations"
WITHOUT_VIEWS = "DROP VIEW adjusted_bars, current_recommendations;"
UNIQUE_BARS = "price_bars_one_per_instrument_id_ts_interval"

# What another program does, and what of it is in the way.
IN_THE_WAY = {
    "time with a zone": (f"{BARS} ALTER ts TYPE timestamptz", "price_bars.ts is timestamp with time zone"),
    "time of whole seconds": (
        "ALTER TABLE model_versions ALTER trained_at TYPE timestamp(0)",
        "model_versions.trained_at is timestamp(0)",
    ),
    "time as a date": (f"{BARS} ALTER ts TYPE date", "price_bars.ts is date"),
    "single precision": ("ALTER TABLE features ALTER rsi_14 TYPE real", "features.rsi_14 is real"),
    "decimal number": ("ALTER TABLE features ALTER rsi_14 TYPE numeric", "features.rsi_14 is numeric"),
    "enumeration": (
        f"CREATE TYPE answer AS ENUM ('BUY', 'HOLD', 'SELL');{CALLS} ALTER label TYPE answer USING label::answer",
        "recommendations.label is answer",
    ),
    "domain": (
        "CREATE DOMAIN ratio AS float8; ALTER TABLE features ALTER rsi_14 TYPE ratio",
        "features.rsi_14 is ratio",
    ),
    "shorter text": (f"{BARS} ALTER interval TYPE varchar(5)", "price_bars.interval is character varying(5)"),
    "padded text": (f"{CALLS} ALTER profile TYPE char(50)", "recommendations.profile is character(50)"),
    "text id": ("ALTER TABLE trials ALTER id TYPE text", "trials.id is text"),
    "binary JSON": (f"{CALLS} ALTER features_snapshot TYPE jsonb", "recommendations.features_snapshot is jsonb"),
    "long integer": (f"{CALLS} ALTER horizon_days TYPE bigint", "recommendations.horizon_days is bigint"),
    "loose collation": (
        (
            'CREATE COLLATION loose FROM "C"; ALTER TABLE adjustments ALTER note TYPE text COLLATE loose;'
            "UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'loose'"
        ),
        "adjustments.note: its collation takes different texts for equal",
    ),
    "null": (f"{BARS} ALTER o DROP NOT NULL", "price_bars.o may be null"),
    "never null": ("ALTER TABLE features ALTER rsi_14 SET NOT NULL", "features.rsi_14 is NOT NULL"),
    "another column": (
        f"{BARS} ADD vendor text NOT NULL",
        "price_bars.vendor is another program's, NOT NULL and without default",
    ),
    "another column of a strict domain": (
        f"CREATE DOMAIN vendor AS text NOT NULL; {BARS} ADD vendor vendor",
        "price_bars.vendor is another program's, NOT NULL and without default",
    ),
    "no identity": ("ALTER TABLE fetch_rounds ALTER id DROP IDENTITY", "fetch_rounds.id has no default"),
    "no default": ("ALTER TABLE notices ALTER times DROP DEFAULT", "notices.times has no default"),
    "generated": (
        "ALTER TABLE features DROP rsi_14, ADD rsi_14 float8 GENERATED ALWAYS AS (ret_1d * 2) STORED",
        "features.rsi_14 is generated",
    ),
    "virtual": (
        "ALTER TABLE features DROP rsi_14, ADD rsi_14 float8 GENERATED ALWAYS AS (ret_1d * 2) VIRTUAL",
        "features.rsi_14 is generated",
    ),
    "row-level security": (
        (
            "CREATE ROLE web; GRANT USAGE ON SCHEMA public TO web; ALTER TABLE features OWNER TO web;"
            "ALTER TABLE features ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; SET LOCAL ROLE web"
        ),
        "features: row-level security hides rows",
    ),
    "rule": ("CREATE RULE quiet AS ON DELETE TO features DO INSTEAD NOTHING", "features: the rule quiet"),
    "child table": (
        "CREATE TABLE old_bars () INHERITS (price_bars)",
        "price_bars: rows of old_bars count as its own",
    ),
    "trigger off": (f"{BARS} DISABLE TRIGGER ALL", "price_bars: the trigger boursomatic_bars_"),
    "no unique key": (f"DROP INDEX {UNIQUE_BARS}", "price_bars has no unique key (instrument_id, ts, interval)"),
    "deferred unique key": (
        f"DROP INDEX {UNIQUE_BARS}; {BARS} ADD UNIQUE (instrument_id, ts, interval) DEFERRABLE",
        "price_bars has no unique key (instrument_id, ts, interval)",
    ),
    "broken index": (
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{UNIQUE_BARS}'::regclass",
        "price_bars has no unique key (instrument_id, ts, interval)",
    ),
    "unique key of all rows": (
        f"{CALLS} ADD CONSTRAINT one_each UNIQUE (instrument_id, profile)",
        "recommendations: one_each allows one row, active or not",
    ),
    "unique index of all rows": (
        "CREATE UNIQUE INDEX two_versions ON model_versions (is_active)",
        "model_versions: two_versions allows one row, active or not",
    ),
    "partial unique key": (
        f"DROP INDEX {UNIQUE_BARS}; CREATE UNIQUE INDEX ON price_bars (instrument_id, ts, interval) WHERE o > 0",
        "price_bars has no unique key (instrument_id, ts, interval)",
    ),
}
# No statement mends these without a choice.
TO_DECIDE = {
    "trigger removed": ("DROP TRIGGER boursomatic_bars_updated ON price_bars", "price_bars lacks the trigger"),
    "view": ("ALTER TABLE features RENAME TO f; CREATE VIEW features AS SELECT * FROM f", "features is a view"),
    "partitions": (
        "ALTER TABLE features RENAME TO f; CREATE TABLE features (LIKE f) PARTITION BY LIST (id)",
        "features is partitioned",
    ),
    "shadow": (
        (
            "CREATE SCHEMA web; CREATE TABLE web.features (LIKE features INCLUDING ALL);"
            "SET LOCAL search_path = web, public"
        ),
        "features exists in several schemas of search_path: public, web",
    ),
    "shadow of the version": (
        (
            f"CREATE SCHEMA web; CREATE TABLE web.{schema.VERSION_TABLE} (version_num text);"
            "SET LOCAL search_path = web, public"
        ),
        f"{schema.VERSION_TABLE} exists in several schemas",
    ),
    "spread": (
        "CREATE SCHEMA web; ALTER TABLE trials SET SCHEMA web; SET LOCAL search_path = public, web",
        "the tables lie in several schemas: public, web",
    ),
    "missing column": (
        "ALTER TABLE trials DROP sharpe",
        "table trials was there before and lacks columns ['sharpe']",
    ),
    "replica": ("SET LOCAL session_replication_role = replica", "session_replication_role is not origin"),
}
HARMLESS = {
    "text": "ALTER TABLE instruments ALTER symbol TYPE text, ALTER name TYPE varchar",
    "longer text": "ALTER TABLE instruments ALTER symbol TYPE varchar(60)",
    "binary JSON": "ALTER TABLE model_versions ALTER metrics_json TYPE jsonb, ALTER gate TYPE jsonb",
    "microseconds": "ALTER TABLE model_versions ALTER trained_at TYPE timestamp(6)",
    "no default": "ALTER TABLE instruments ALTER is_active DROP DEFAULT, ALTER created_at DROP NOT NULL",
    "other columns": f"{BARS} ADD vendor text NOT NULL DEFAULT 'x', ADD n int GENERATED ALWAYS AS IDENTITY, "
    "ADD middle float8 NOT NULL GENERATED ALWAYS AS ((h + l) / 2) STORED, ADD note text",
    "trigger": "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;"
    "CREATE TRIGGER touch BEFORE UPDATE ON instruments FOR EACH ROW EXECUTE FUNCTION touch()",
    "security without effect": "ALTER TABLE features ENABLE ROW LEVEL SECURITY",
    "constraint": f"DROP INDEX {UNIQUE_BARS}; {BARS} ADD UNIQUE (ts, instrument_id, interval)",
}


def problems_after(database: Database, statements: str, *, is_mended: bool = False) -> list[str]:
    """Problems after another program's statements, and after the remedies; nothing of it stays."""
    with database.engine.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql(WITHOUT_VIEWS + statements)
        problems = find_problems(connection, is_upgraded=True)
        if is_mended:
            for problem in problems:
                connection.exec_driver_sql(problem.statement)
            problems = find_problems(connection, is_upgraded=True)
        transaction.rollback()
    return [problem.what for problem in problems]


def test_shapes_are_those_of_the_migrations(database: Database) -> None:
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    for table, name, kind, is_never_null in rows(
        database,
        "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
        "JOIN pg_class c ON c.oid = attrelid WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace "
        f"AND attnum > 0 AND relname <> '{schema.VERSION_TABLE}'",
    ):
        found.setdefault(str(table), {})[str(name)] = str(kind), bool(is_never_null)
    assert {table: set(columns) for table, columns in found.items()} == {
        table: set(columns) for table, columns in SHAPES.items()
    }
    for table, columns in SHAPES.items():
        for name, column in columns.items():
            kind, is_never_null = found[table][name]
            assert holds(kind, column.types[:1]), (table, name)
            # Not longer than what is made.
            assert re.findall(r"\d+", column.types[0]) == re.findall(r"\d+", kind), (table, name)
            assert column.nulls in {None, not is_never_null}, (table, name)
    assert problems_after(database, "SELECT 1") == []


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_problem_is_named_and_mended_by_its_statement(database: Database, name: str) -> None:
    statements, said = IN_THE_WAY[name]
    problems = problems_after(database, statements)
    assert problems
    assert all(problem.startswith(said) for problem in problems)
    assert problems_after(database, statements, is_mended=True) == []


@pytest.mark.parametrize("name", TO_DECIDE)
def test_problem_is_named(database: Database, name: str) -> None:
    statements, said = TO_DECIDE[name]
    assert [problem[: len(said)] for problem in problems_after(database, statements)] == [said]


@pytest.mark.parametrize("name", HARMLESS)
def test_what_holds_every_value_is_no_problem(database: Database, name: str) -> None:
    assert problems_after(database, HARMLESS[name]) == []


def test_upgrade_lists_everything_in_the_way_and_passes_after_the_statements(
    database: Database, settings: Settings
) -> None:
    # As another program made them before the first upgrade, and as an earlier version let them pass.
    run(database, FILLED + WITHOUT_VIEWS)
    run(
        database,
        f"{BARS} ALTER ts TYPE timestamptz USING ts AT TIME ZONE 'UTC', ADD vendor text NOT NULL DEFAULT 'x';"
        f"{BARS} ALTER vendor DROP DEFAULT; ALTER TABLE model_versions ALTER version TYPE char(100)",
    )
    run(database, "CREATE VIEW adjusted_bars AS SELECT ts FROM price_bars")
    before = shape(database)
    for attempt in (lambda: schema.upgrade(database.engine), lambda: Database.open(settings)):
        with pytest.raises(SchemaVersionError, match="Nothing was changed") as caught:
            attempt()
        message = str(caught.value)
        for said in ("price_bars.ts is", "price_bars.vendor is", "model_versions.version is"):
            assert message.count(said) == 1
    assert shape(database) == before

    run(database, "".join(re.findall(r"^    (.*;)$", message, re.MULTILINE)))
    schema.upgrade(database.engine)
    # `FILLED` has two bars of AAA.
    assert read_bars(Database.open(settings))["session"].to_list() == [date(2020, 1, 2), date(2020, 1, 3)]
    assert rows(database, "SELECT session::text FROM adjusted_bars ORDER BY 1") == [
        ("2020-01-02",),
        ("2020-01-03",),
    ]
    assert rows(database, "SELECT version FROM model_versions ORDER BY 1") == [("new",), ("old",)]


def test_trigger_that_was_removed_is_made_by_the_upgrade(database: Database) -> None:
    run(database, "DROP TRIGGER boursomatic_bars_updated ON price_bars;" + FILLED)
    schema.upgrade(database.engine)
    run(database, "UPDATE price_bars SET c = 9 WHERE c = 1.5")
    assert rows(database, "SELECT c FROM bar_changes") == [(1.5,)]


INSTRUMENT = "INSERT INTO instruments (id, symbol, exchange) VALUES (gen_random_uuid(), 'AAA', 'XNYS')"


def test_tables_outside_the_search_path_are_named(database: Database, settings: Settings) -> None:
    name = str(sa.make_url(database.url).database)
    run(database, f"CREATE SCHEMA web; ALTER DATABASE {name} SET search_path = web")
    with pytest.raises(SchemaVersionError, match=r"found none\. search_path does not name public"):
        Database.open(settings)


HOSTILE = {
    "TimeZone": ("'America/New_York'", "UTC"),
    "DateStyle": ("German, DMY", "ISO, MDY"),
    "IntervalStyle": ("'sql_standard'", "postgres"),
    "extra_float_digits": ("-15", "1"),
    "bytea_output": ("'escape'", "hex"),
    "standard_conforming_strings": ("off", "on"),
    "transform_null_equals": ("on", "off"),
    "default_transaction_isolation": ("'serializable'", "read committed"),
    "row_security": ("on", "off"),
}


def test_settings_of_a_database_change_nothing(database: Database) -> None:
    # The second bar is rejected: its high is below its low. 1/3 has more digits than a text at -15 shows.
    bars = pl.DataFrame(
        [
            ("AAA", date(2020, 1, 2), 1 / 3, 1.0, 0.3, 0.5, 1.0),
            ("AAA", date(2020, 1, 3), 1 / 3, 0.2, 0.3, 0.5, 1.0),
        ],
        schema=BAR_SCHEMA,
        orient="row",
    )
    checked = check_bars(bars, date(2020, 1, 4))
    assert checked.rejected.height == 1
    run(database, INSTRUMENT)
    write_bars(database, checked, "test")
    before = read_bars(database)
    name = str(sa.make_url(database.url).database)
    for setting, (hostile, _) in HOSTILE.items():
        run(database, f"ALTER DATABASE {name} SET {setting} = {hostile}")
    for setting, (_, wanted) in HOSTILE.items():
        assert database.value(f"SELECT current_setting('{setting}')") == wanted
        assert rows(database, f"SHOW {setting}") == [(wanted,)]
    # The text that is hashed depends on style and digits.
    write_bars(database, checked, "test")
    assert rows(database, "SELECT count(*) FROM rejected_bars") == [(1,)]
    assert read_bars(database).equals(before)


def test_options_of_the_address_are_kept(database: Database) -> None:
    given = replace(database, url=f"{database.url}&options=-c%20work_mem%3D5MB%20-cTimeZone%3DAsia/Tokyo")
    assert given.value("SELECT current_setting('work_mem') || ' ' || current_setting('TimeZone')") == "5MB UTC"
    assert rows(given, "SELECT current_setting('work_mem') || ' ' || current_setting('TimeZone')") == [("5MB UTC",)]


def test_rows_that_security_would_hide_are_an_error(database: Database) -> None:
    name = str(sa.make_url(database.url).database)
    run(database, FILLED + "ALTER TABLE instruments ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    run(database, f"CREATE ROLE web_{name} LOGIN; GRANT SELECT ON instruments TO web_{name}")
    try:
        web = replace(database, url=database.url.replace("//postgres:", f"//web_{name}:"))
        with pytest.raises(StorageError, match="row-level security"):
            web.value("SELECT count(*) FROM instruments")
    finally:
        run(database, f"DROP OWNED BY web_{name}; DROP ROLE web_{name}")
