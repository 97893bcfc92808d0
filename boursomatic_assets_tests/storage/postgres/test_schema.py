# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from boursomatic_assets.errors import (
    BoursomaticError,
    DatabaseUnreachableError,
    RowsBreakRuleError,
    SchemaVersionError,
)
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.server.embedded import database_url
from boursomatic_assets_tests.support.catalog import rows, run, shape, tables

UUID, TEXT, TIME = "uuid", "text", "timestamp without time zone"
REAL, FLAG, WHOLE, JSON = "double precision", "boolean", "integer", "json"

# Name, type, longest text, may be null, has a default: the table of the design, by hand.
COLUMNS = {
    "instruments": [
        ("id", UUID, None, False, False),
        ("symbol", "character varying", 50, False, False),
        ("exchange", "character varying", 50, False, False),
        ("name", "character varying", 255, True, False),
        ("sector", "character varying", 100, True, False),
        ("market_cap_bucket", "character varying", 50, True, False),
        ("pe_bucket", "character varying", 50, True, False),
        ("is_active", FLAG, None, False, True),
        ("created_at", TIME, None, False, True),
        ("updated_at", TIME, None, False, True),
        # The platform's own, nullable.
        ("currency", "character varying", 3, True, False),
    ],
    "price_bars": [
        ("id", UUID, None, False, False),
        ("instrument_id", UUID, None, False, False),
        ("ts", TIME, None, False, False),
        ("o", REAL, None, False, False),
        ("h", REAL, None, False, False),
        ("l", REAL, None, False, False),
        ("c", REAL, None, False, False),
        ("v", REAL, None, False, False),
        ("interval", "character varying", 10, False, False),
        ("created_at", TIME, None, False, True),
    ],
    "features": [
        ("id", UUID, None, False, False),
        ("instrument_id", UUID, None, False, False),
        ("ts", TIME, None, False, False),
        ("ret_1d", REAL, None, True, False),
        ("ret_5d", REAL, None, True, False),
        ("ret_20d", REAL, None, True, False),
        ("rsi_14", REAL, None, True, False),
        ("momentum_5d", REAL, None, True, False),
        ("vol_20d", REAL, None, True, False),
        ("atr_14", REAL, None, True, False),
        ("volume_zscore", REAL, None, True, False),
        ("additional_features", JSON, None, True, False),
        ("created_at", TIME, None, False, True),
    ],
    "model_versions": [
        ("id", UUID, None, False, False),
        ("version", "character varying", 100, False, False),
        ("trained_at", TIME, None, False, True),
        ("params_hash", "character varying", 64, False, False),
        ("metrics_json", JSON, None, False, False),
        ("model_path", "character varying", 500, True, False),
        ("is_active", FLAG, None, False, True),
        ("created_at", TIME, None, False, True),
        # The platform's own, nullable.
        ("manifest_sha256", "character varying", 64, True, False),
        ("gate", JSON, None, True, False),
        ("insertion_number", "bigint", None, True, True),
    ],
    "recommendations": [
        ("id", UUID, None, False, False),
        ("instrument_id", UUID, None, False, False),
        ("model_version_id", UUID, None, False, False),
        ("profile", "character varying", 50, False, False),
        ("label", "character varying", 10, False, False),
        ("confidence", REAL, None, False, False),
        ("expected_return_pct", REAL, None, True, False),
        ("horizon_days", WHOLE, None, True, False),
        ("stop_loss", REAL, None, True, False),
        ("take_profit", REAL, None, True, False),
        ("justification", TEXT, None, True, False),
        ("features_snapshot", JSON, None, False, False),
        ("generated_at", TIME, None, False, True),
        ("is_active", FLAG, None, False, True),
        # The platform's own, nullable.
        ("session", "date", None, True, False),
        ("archived_at", TIME, None, True, False),
        ("insertion_number", "bigint", None, True, True),
    ],
}

ONE, TWO, THREE = (f"00000000-0000-0000-0000-00000000000{number}" for number in (1, 2, 3))
INSTRUMENT = f"INSERT INTO instruments (id, symbol, exchange) VALUES ('{ONE}', 'AAA', 'XNYS');"
BAR = (
    "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval) "
    "VALUES ('{}', '{}', '{}', 1, 1, 1, 1, 1, '{}');"
)
MODEL = (
    "INSERT INTO model_versions (id, version, params_hash, metrics_json, is_active) "
    "VALUES ('{}', '{}', 'p', '{{}}', {});"
)
CALL = (
    "INSERT INTO recommendations (id, instrument_id, model_version_id, profile, label, confidence, "
    "features_snapshot, is_active) VALUES ('{}', '{}', '{}', '{}', 'BUY', 0.5, '{{}}', {});"
)


@pytest.fixture
def fresh(settings: Settings) -> Database:
    """The empty database, not upgraded."""
    return Database(database_url(settings))


@pytest.fixture
def without_rules(database: Database) -> Database:
    """A database with the tables, filled by a program that knows neither our rules nor our version table."""
    run(
        database,
        f"DROP TABLE {schema.VERSION_TABLE}; "
        "DROP INDEX model_versions_one_per_is_active_while_active; "
        "DROP INDEX recommendations_one_per_instrument_id_profile_while_active; "
        "DROP INDEX price_bars_one_per_instrument_id_ts_interval; "
        "DROP INDEX features_one_per_instrument_id_ts;" + INSTRUMENT,
    )
    return database


def refused(database: Database, statement: str) -> bool:
    try:
        run(database, statement)
    except sa.exc.IntegrityError:
        return True
    return False


@pytest.mark.parametrize("table", COLUMNS)
def test_upgrade_creates_the_designed_columns(database: Database, table: str) -> None:
    found = rows(
        database,
        "SELECT column_name, data_type, character_maximum_length, is_nullable = 'YES', column_default IS NOT NULL "
        f"FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '{table}' "
        "ORDER BY ordinal_position",
    )
    assert found == COLUMNS[table]
    assert sa.inspect(database.engine).get_pk_constraint(table)["constrained_columns"] == ["id"]


def test_upgrade_creates_only_known_tables(database: Database) -> None:
    own = {"adjustments", "unexplained_jumps", "fetch_rounds", "fetch_results", "feature_state", "rejected_bars"}
    own |= {
        "universe_members",
        "trials",
        "recommendation_outcomes",
        "bar_changes",
        "model_events",
        "notices",
        "noticed_runs",
        "vendor_actions",
    }
    assert tables(database, "public") == {*COLUMNS, *own, "boursomatic_assets_alembic_version"}
    assert sorted(sa.inspect(database.engine).get_view_names(schema="public")) == [
        "adjusted_bars",
        "current_recommendations",
    ]


def test_column_defaults_of_is_active(database: Database) -> None:
    run(
        database,
        INSTRUMENT
        + f"INSERT INTO model_versions (id, version, params_hash, metrics_json) VALUES ('{ONE}', 'v', 'p', '{{}}');"
        + "INSERT INTO recommendations (id, instrument_id, model_version_id, profile, label, confidence, "
        f"features_snapshot) VALUES ('{ONE}', '{ONE}', '{ONE}', 'moderate', 'BUY', 0.5, '{{}}')",
    )
    assert rows(database, "SELECT is_active FROM instruments") == [(True,)]
    assert rows(database, "SELECT is_active FROM model_versions") == [(False,)]
    assert rows(database, "SELECT is_active FROM recommendations") == [(True,)]


def test_time_defaults_are_utc_in_any_session_time_zone(database: Database) -> None:
    run(database, "SET LOCAL TIME ZONE 'Pacific/Auckland';" + INSTRUMENT)
    ((created, updated),) = rows(database, "SELECT created_at, updated_at FROM instruments")
    # Auckland is 12 or 13 hours ahead: a local time would be that far off.
    assert abs(datetime.now(UTC).replace(tzinfo=None) - created) < timedelta(minutes=5)
    assert updated == created


def test_unique_rules_of_bars_features_and_versions(database: Database) -> None:
    feature = "INSERT INTO features (id, instrument_id, ts) VALUES ('{}', '{}', '2020-01-02');"
    run(database, INSTRUMENT + BAR.format(ONE, ONE, "2020-01-02", "daily") + feature.format(ONE, ONE))
    run(database, MODEL.format(ONE, "v", "false"))
    assert refused(database, BAR.format(TWO, ONE, "2020-01-02", "daily"))
    assert not refused(database, BAR.format(TWO, ONE, "2020-01-02", "15m"))
    assert refused(database, feature.format(TWO, ONE))
    assert refused(database, MODEL.format(TWO, "v", "false"))
    # Unknown instruments are refused.
    assert refused(database, BAR.format(THREE, TWO, "2020-01-02", "daily"))
    assert refused(database, feature.format(THREE, TWO))


def test_unique_rule_allows_one_active_model(database: Database) -> None:
    run(database, MODEL.format(ONE, "first", "true"))
    assert refused(database, MODEL.format(TWO, "second", "true"))
    assert not refused(database, MODEL.format(TWO, "second", "false") + MODEL.format(THREE, "third", "false"))


def test_unique_rule_allows_one_active_recommendation_each(database: Database) -> None:
    run(database, INSTRUMENT + MODEL.format(ONE, "v", "true") + CALL.format(ONE, ONE, ONE, "moderate", "true"))
    assert refused(database, CALL.format(TWO, ONE, ONE, "moderate", "true"))
    assert not refused(database, CALL.format(TWO, ONE, ONE, "moderate", "false"))
    assert not refused(database, CALL.format(THREE, ONE, ONE, "aggressive", "true"))


def test_upgrade_twice_changes_nothing(fresh: Database) -> None:
    assert schema.upgrade(fresh.engine) is None
    after_first = shape(fresh)
    assert schema.upgrade(fresh.engine) == schema.HEAD_REVISION
    assert shape(fresh) == after_first


def test_upgrade_runs_eight_times_at_once(fresh: Database) -> None:
    together = threading.Barrier(8)

    def upgrade(_number: int) -> str | None:
        engine = Database(fresh.url).engine
        together.wait()
        return schema.upgrade(engine)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(upgrade, range(8)))
    # One found an empty database, seven an upgraded one.
    assert sorted(found, key=str) == [schema.HEAD_REVISION] * 7 + [None]


def test_head_revision_is_the_newest_migration() -> None:
    config = schema.migrations()
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD_REVISION]


def test_database_of_a_newer_program_is_refused_unchanged(database: Database, settings: Settings) -> None:
    run(database, f"UPDATE {schema.VERSION_TABLE} SET version_num = '0009'")
    before = shape(database)
    with pytest.raises(SchemaVersionError, match="0009, newer than this program's 0008"):
        schema.upgrade(database.engine)
    with pytest.raises(SchemaVersionError, match="0009, newer than this program's 0008"):
        Database.open(settings)
    assert shape(database) == before
    assert rows(database, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [("0009",)]


def test_database_url_is_never_upgraded_unasked(settings: Settings, fresh: Database) -> None:
    with pytest.raises(SchemaVersionError, match="boursomatic db upgrade") as caught:
        Database.open(settings)
    assert schema.HEAD_REVISION in str(caught.value)
    assert "none" in str(caught.value)
    assert shape(fresh) == []


UNREACHABLE = [
    "postgresql://reader:hush-hush@127.0.0.1:1/prices",
    "postgresql://reader:hush%2Dhush@127.0.0.1:1/prices",
    "postgresql+psycopg2://reader:hush-hush@no-such-host.invalid/prices",
    "postgresql://reader:hush-hush@/prices?host=/no/such/folder",
    # libpq takes the password here too.
    "postgresql://reader@127.0.0.1:1/prices?password=hush-hush",
    "postgresql://reader@127.0.0.1:1/prices?sslmode=disable&sslpassword=hush-hush",
]


# Passwords with signs that should be escaped (%40, %2F, %25, %20) must not be shown either.
MISTYPED = [
    f"postgresql://reader:{password}@127.0.0.1:1/prices"
    for password in ("p@hush-hush", "hush/hush", "hush%zz", "hush hush", "hush#hush", "hush?hush", "p:hush")
]


def everything_shown(error: BaseException) -> str:
    return repr(error) + "".join(traceback.format_exception(error))


def refused_everywhere(url: str, error: type[BoursomaticError], match: str) -> list[str]:
    """Messages of opening the database, and of a columnar read; neither shows the password."""
    settings, messages = Settings.from_environment({"DATABASE_URL": url}), []
    for attempt in (lambda: Database.open(settings), lambda: Database(database_url(settings)).read("SELECT 1")):
        with pytest.raises(error, match=match) as caught:
            attempt()
        assert "hush" not in everything_shown(caught.value)
        messages.append(str(caught.value))
    return messages


@pytest.mark.parametrize("url", UNREACHABLE)
def test_unreachable_server_is_named_without_password(url: str) -> None:
    message, _ = refused_everywhere(url, DatabaseUnreachableError, "DATABASE_URL")
    assert "reader" in message
    assert "/prices" in message
    settings = Settings.from_environment({"DATABASE_URL": url})
    database = Database(database_url(settings))
    assert "hush" not in "".join([repr(settings), repr(database), str(database), database.shown_url])
    assert "reader" in database.shown_url


@pytest.mark.parametrize("url", MISTYPED)
def test_mistyped_password_is_hidden_in_every_error(url: str) -> None:
    refused_everywhere(url, BoursomaticError, "DATABASE_URL")


def test_unknown_url_parameter_is_named() -> None:
    refused_everywhere(f"{UNREACHABLE[0]}?nonsense=1", DatabaseUnreachableError, "nonsense")


@pytest.mark.parametrize(
    "url", ["prices", "postgresql://reader:hush-hush@host:port/prices", "mysql://reader:hush-hush@host/prices"]
)
def test_foreign_address_is_refused(url: str) -> None:
    message, _ = refused_everywhere(url, BoursomaticError, "DATABASE_URL")
    assert "postgresql://" in message


FEATURE = f"INSERT INTO features (id, instrument_id, ts) VALUES ('{{}}', '{ONE}', '2020-01-02');"


@pytest.mark.parametrize(
    ("filling", "table", "listed", "lawful"),
    [
        (
            MODEL.format(ONE, "spring", "true") + MODEL.format(TWO, "summer", "true")
            + MODEL.format(THREE, "winter", "false"),
            "model_versions", "2 rows, version spring, summer", "winter",
        ),
        (
            MODEL.format(ONE, "v", "true")
            + "".join(CALL.format(call, ONE, ONE, "moderate", "true") for call in (ONE, TWO))
            + CALL.format(THREE, ONE, ONE, "aggressive", "true"),
            "recommendations", f"2 rows, id {ONE}, {TWO}", THREE,
        ),
        *(
            (row.format(ONE) + row.format(TWO), table, f"2 rows, id {ONE}, {TWO}", THREE)
            for table, row in (("price_bars", BAR.format("{}", ONE, "2020-01-02", "daily")), ("features", FEATURE))
        ),
    ],
)  # fmt: skip
def test_upgrade_stops_at_rows_that_break_a_rule(
    without_rules: Database, filling: str, table: str, listed: str, lawful: str
) -> None:
    run(without_rules, filling)
    before = shape(without_rules)
    with pytest.raises(RowsBreakRuleError, match="boursomatic db upgrade") as caught:
        schema.upgrade(without_rules.engine)
    message = str(caught.value)
    assert table in message
    assert listed in message
    assert ("2020-01-02" in message) is (table in {"price_bars", "features"})
    assert lawful not in message
    assert shape(without_rules) == before
    assert schema.VERSION_TABLE not in tables(without_rules, "public")


def test_upgrade_adds_the_rule_after_the_rows_are_corrected(without_rules: Database) -> None:
    run(without_rules, MODEL.format(ONE, "spring", "false") + MODEL.format(TWO, "summer", "true"))
    schema.upgrade(without_rules.engine)
    assert refused(without_rules, "UPDATE model_versions SET is_active = true")


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("instruments", "sector"),
        ("price_bars", "created_at"),
        ("price_bars", "interval"),
        ("features", "atr_14"),
        ("features", "ts"),
        ("model_versions", "model_path"),
        ("model_versions", "is_active"),
        ("model_versions", "version"),
        ("recommendations", "stop_loss"),
        ("recommendations", "profile"),
        ("recommendations", "id"),
    ],
)
def test_upgrade_stops_at_a_table_without_a_column(without_rules: Database, table: str, column: str) -> None:
    run(without_rules, f"ALTER TABLE {table} DROP COLUMN {column} CASCADE")
    before = shape(without_rules)
    with pytest.raises(SchemaVersionError, match=table) as caught:
        schema.upgrade(without_rules.engine)
    assert f"'{column}'" in str(caught.value)
    assert shape(without_rules) == before


def test_partial_or_expression_index_does_not_replace_the_rule(without_rules: Database) -> None:
    run(
        without_rules,
        "CREATE UNIQUE INDEX part_of_them ON price_bars (instrument_id, ts, interval) WHERE interval = '15m';"
        "CREATE UNIQUE INDEX of_an_expression ON features (instrument_id, ts, (ret_1d > 0))",
    )
    schema.upgrade(without_rules.engine)
    run(without_rules, BAR.format(ONE, ONE, "2020-01-02", "daily"))
    assert refused(without_rules, BAR.format(TWO, ONE, "2020-01-02", "daily"))
    feature = "INSERT INTO features (id, instrument_id, ts, ret_1d) VALUES ('{}', '{}', '2020-01-02', {});"
    run(without_rules, feature.format(ONE, ONE, 1))
    assert refused(without_rules, feature.format(TWO, ONE, -1))
