"""A retrain in a database that other programs made and filled long before."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

import io
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import psycopg2
import pytest

from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.market_tables import read_bars
from boursomatic_assets.storage.postgres.model_table import list_versions
from boursomatic_assets.storage.postgres.panels import Selection
from boursomatic_assets.storage.server.embedded import database_url
from boursomatic_assets_tests.support.catalog import rows, run, shape, tables, versions_of
from boursomatic_assets_tests.support.oracles import slow_features
from boursomatic_assets_tests.support.strategies import random_walk_bars

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from boursomatic_assets.settings import Settings

SYMBOLS, SESSIONS = 4, 420
# The other program's features end ten sessions before its bars.
SESSIONS_WITHOUT_FEATURES = 10

# As the web backend creates it: ids and times have no defaults on the server.
OTHER_PROGRAMS_SCHEMA = """
CREATE TABLE alembic_version (
    version_num varchar(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
INSERT INTO alembic_version VALUES ('168e12fdbaea');

CREATE TABLE users (
    id uuid PRIMARY KEY, email varchar(255) NOT NULL, hashed_password varchar(255) NOT NULL,
    is_active boolean NOT NULL, created_at timestamp NOT NULL);
CREATE UNIQUE INDEX ix_users_email ON users (email);
CREATE TABLE user_settings (
    id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id), profile varchar(50) NOT NULL,
    settings json, updated_at timestamp NOT NULL);

CREATE TABLE instruments (
    id uuid NOT NULL, symbol varchar(50) NOT NULL, exchange varchar(50) NOT NULL, name varchar(255),
    sector varchar(100), market_cap_bucket varchar(50), pe_bucket varchar(50), is_active boolean NOT NULL,
    created_at timestamp NOT NULL, updated_at timestamp NOT NULL, PRIMARY KEY (id));
CREATE INDEX ix_instruments_symbol ON instruments (symbol);
CREATE INDEX ix_instruments_exchange ON instruments (exchange);

CREATE TABLE price_bars (
    id uuid NOT NULL, instrument_id uuid NOT NULL, ts timestamp NOT NULL, o double precision NOT NULL,
    h double precision NOT NULL, l double precision NOT NULL, c double precision NOT NULL,
    v double precision NOT NULL, interval varchar(10) NOT NULL, created_at timestamp NOT NULL,
    PRIMARY KEY (id), FOREIGN KEY (instrument_id) REFERENCES instruments (id),
    CONSTRAINT uq_price_bars UNIQUE (instrument_id, ts, interval));
CREATE INDEX ix_price_bars_instrument_id ON price_bars (instrument_id);
CREATE INDEX ix_price_bars_ts ON price_bars (ts);

CREATE TABLE features (
    id uuid NOT NULL, instrument_id uuid NOT NULL, ts timestamp NOT NULL, ret_1d double precision,
    ret_5d double precision, ret_20d double precision, rsi_14 double precision, momentum_5d double precision,
    vol_20d double precision, atr_14 double precision, volume_zscore double precision, additional_features json,
    created_at timestamp NOT NULL, PRIMARY KEY (id), FOREIGN KEY (instrument_id) REFERENCES instruments (id),
    CONSTRAINT uq_features UNIQUE (instrument_id, ts));
CREATE INDEX ix_features_instrument_id ON features (instrument_id);
CREATE INDEX ix_features_ts ON features (ts);

CREATE TABLE model_versions (
    id uuid NOT NULL, version varchar(100) NOT NULL, trained_at timestamp NOT NULL,
    params_hash varchar(64) NOT NULL, metrics_json json NOT NULL, model_path varchar(500),
    is_active boolean NOT NULL, created_at timestamp NOT NULL,
    PRIMARY KEY (id));
CREATE UNIQUE INDEX ix_model_versions_version ON model_versions (version);
CREATE INDEX ix_model_versions_is_active ON model_versions (is_active);

CREATE TABLE recommendations (
    id uuid NOT NULL, instrument_id uuid NOT NULL, model_version_id uuid NOT NULL, profile varchar(50) NOT NULL,
    label varchar(10) NOT NULL, confidence double precision NOT NULL, expected_return_pct double precision,
    horizon_days integer, stop_loss double precision, take_profit double precision, justification text,
    features_snapshot json NOT NULL, generated_at timestamp NOT NULL, is_active boolean NOT NULL,
    PRIMARY KEY (id), FOREIGN KEY (instrument_id) REFERENCES instruments (id),
    FOREIGN KEY (model_version_id) REFERENCES model_versions (id));
CREATE INDEX ix_recommendations_instrument_id ON recommendations (instrument_id);
CREATE INDEX ix_recommendations_model_version_id ON recommendations (model_version_id);
CREATE INDEX ix_recommendations_profile ON recommendations (profile);
CREATE INDEX ix_recommendations_is_active ON recommendations (is_active);
"""
THEIRS = ("instruments", "price_bars", "features", "model_versions", "recommendations", "users", "user_settings")
NEW_COLUMNS = {"instruments": 1, "model_versions": 3, "recommendations": 3}
LONG_AGO = "2019-01-02 03:04:05"


@pytest.fixture
def bars() -> pl.DataFrame:
    return random_walk_bars(SYMBOLS, SESSIONS, seed=7)


@pytest.fixture
def existing(settings: Settings, bars: pl.DataFrame) -> Database:
    """The other program's database, with what it put there."""
    database = Database(database_url(settings))
    run(database, OTHER_PROGRAMS_SCHEMA)
    ids = {symbol: str(uuid.uuid4()) for symbol in bars["symbol"].unique().sort()}
    for symbol, key in ids.items():
        described = f"'{symbol}', 'XPAR', 'Company {symbol}', NULL, 'mid', NULL, true"
        run(database, f"INSERT INTO instruments VALUES ('{key}', {described}, '{LONG_AGO}', '{LONG_AGO}')")
    copy(database, "price_bars", pd.concat([daily_bars(bars, ids), quarters_of_an_hour(bars, ids)]))
    copy(database, "features", most_features(bars, ids))
    add_a_model_and_users(database, ids["W000"])
    return database


def daily_bars(bars: pl.DataFrame, ids: dict[str, str]) -> pd.DataFrame:
    frame = bars.to_pandas().rename(columns={"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"})
    frame = frame.assign(instrument_id=frame["symbol"].map(ids), ts=frame["session"], interval="daily")
    return frame.drop(columns=["symbol", "session"])


def quarters_of_an_hour(bars: pl.DataFrame, ids: dict[str, str]) -> pd.DataFrame:
    """Bars up to a year after the newest session, at prices that would spoil every feature."""
    newest = pd.Timestamp(bars["session"].max())
    times = [newest + timedelta(days=days, hours=9, minutes=15) for days in range(-200, 365)]
    prices = dict.fromkeys("ohlcv", 1e9)
    return pd.DataFrame({"instrument_id": ids["W000"], "ts": times, **prices, "interval": "15m"})


def most_features(bars: pl.DataFrame, ids: dict[str, str]) -> pd.DataFrame:
    """All but the last sessions' features, a few units in the last place apart: another library computed them."""
    features = slow_features(bars)
    features = features[features.groupby("symbol").cumcount() < SESSIONS - SESSIONS_WITHOUT_FEATURES]
    numbers = {name: features[name] * (1 + 2**-50) for name in features.columns[2:]}
    features = features.assign(instrument_id=features["symbol"].map(ids), ts=features["session"], **numbers)
    return features.drop(columns=["symbol", "session"])


def add_a_model_and_users(database: Database, instrument: str) -> None:
    model, call, user, preference = (uuid.uuid4() for _ in range(4))
    run(
        database,
        f"INSERT INTO model_versions VALUES ('{model}', 'v20181231', '{LONG_AGO}', 'abc', "
        f"""'{{"accuracy":   0.5}}', '/models/old', true, '{LONG_AGO}');"""
        f"INSERT INTO recommendations VALUES ('{call}', '{instrument}', '{model}', 'moderate', 'BUY', 0.6, 5.5, "
        f"20, 1.0, 2.0, 'because', '{{}}', '{LONG_AGO}', true);"
        f"INSERT INTO users VALUES ('{user}', 'a@example.org', 'x', true, '{LONG_AGO}');"
        f"INSERT INTO user_settings VALUES ('{preference}', '{user}', 'moderate', '{{}}', '{LONG_AGO}');",
    )


def copy(database: Database, table: str, frame: pd.DataFrame) -> None:
    """Insert rows with ids of their own and an old `created_at`, as text: every digit of a number is kept."""
    frame = frame.assign(id=[str(uuid.uuid4()) for _ in range(len(frame))], created_at=LONG_AGO)
    connection = psycopg2.connect(database.url)
    try:
        with connection, connection.cursor() as cursor:
            columns = ", ".join(frame.columns)
            content = io.StringIO(frame.to_csv(index=False, header=False))
            cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN (FORMAT csv)", content)
    finally:
        connection.close()


def test_upgrade_of_an_existing_database_only_adds(existing: Database) -> None:
    before = {table: versions_of(existing, table) for table in THEIRS}
    shape_before = shape(existing)
    assert schema.upgrade(existing.engine) is None
    for table in THEIRS:
        after = versions_of(existing, table)
        # Each new column shows as one more empty value at the end of the row's text.
        new = "," * NEW_COLUMNS.get(table, 0)
        after = {key: (*rest, text.removesuffix(f"{new})") + ")") for key, (*rest, text) in after.items()}
        assert after == before[table]
    assert set(shape_before) <= set(shape(existing))
    added = {(table, what) for kind, _, table, what in set(shape(existing)) - set(shape_before) if kind == "column"}
    theirs_extended = {(table, what) for table, what in added if table in THEIRS}
    assert theirs_extended == {
        ("instruments", "currency character varying 3YES"),
        ("model_versions", "gate json YES"),
        ("model_versions", "manifest_sha256 character varying 64YES"),
        ("model_versions", "insertion_number bigint YESnextval('boursomatic_model_versions_insertion'::regclass)"),
        ("recommendations", "session date YES"),
        ("recommendations", "archived_at timestamp without time zone YES"),
        (
            "recommendations",
            "insertion_number bigint YESnextval('boursomatic_recommendations_insertion'::regclass)",
        ),
    }
    assert rows(existing, "SELECT version_num FROM alembic_version") == [("168e12fdbaea",)]


def test_upgrade_keeps_existing_unique_constraints(existing: Database) -> None:
    schema.upgrade(existing.engine)
    unique = rows(
        existing,
        "SELECT tablename, count(*) FROM pg_indexes WHERE starts_with(indexdef, 'CREATE UNIQUE') "
        "AND tablename IN ('price_bars', 'features') GROUP BY tablename ORDER BY tablename",
    )
    # The primary key and their one constraint each.
    assert unique == [("features", 2), ("price_bars", 2)]


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_retrain_leaves_other_programs_rows_unchanged(
    existing: Database, settings: Settings, bars: pl.DataFrame, tmp_path: Path
) -> None:
    from boursomatic_assets.definitions import defs

    schema.upgrade(existing.engine)
    before = {table: versions_of(existing, table) for table in THEIRS}
    public_before = tables(existing, "public")
    old = rows(
        existing, "SELECT version, trained_at, params_hash, metrics_json::text, model_path FROM model_versions"
    )

    with open_instance(settings, existing) as instance:
        result = defs.resolve_job_def("retrain").execute_in_process(instance=instance)
    assert result.success

    for table in ("instruments", "price_bars", "recommendations", "users", "user_settings"):
        assert versions_of(existing, table) == before[table], table
    features = versions_of(existing, "features")
    assert {key: features[key] for key in before["features"]} == before["features"]

    # One row a bar now: theirs, and those of the last ten sessions of each symbol.
    assert len(features) - len(before["features"]) == SYMBOLS * SESSIONS_WITHOUT_FEATURES
    assert len(features) == SYMBOLS * SESSIONS
    expected = slow_features(bars).groupby("symbol").tail(SESSIONS_WITHOUT_FEATURES)
    found = pd.DataFrame(
        rows(
            existing,
            "SELECT symbol, ts::date AS session, ret_1d, ret_5d, ret_20d, rsi_14, momentum_5d, vol_20d, atr_14, "
            "volume_zscore FROM features JOIN instruments i ON i.id = instrument_id "
            f"WHERE features.created_at > '{LONG_AGO}' ORDER BY symbol, ts",
        ),
        columns=expected.columns,
    )
    assert (found["symbol"].to_numpy() == expected["symbol"].to_numpy()).all()
    numbers = expected.columns[2:]
    np.testing.assert_allclose(found[numbers].to_numpy(float), expected[numbers].to_numpy(float), rtol=1e-9, atol=0)

    # The old model is inactive and otherwise unchanged; only the new one is active.
    ((new, new_path, digest),) = rows(
        existing, "SELECT version, model_path, manifest_sha256 FROM model_versions WHERE is_active"
    )
    assert new != "v20181231"
    unchanged = rows(
        existing,
        "SELECT version, trained_at, params_hash, metrics_json::text, model_path FROM model_versions "
        "WHERE NOT is_active AND manifest_sha256 IS NULL",
    )
    assert unchanged == old
    assert [row.version for row in list_versions(existing)] == [new, "v20181231"]
    assert str(new_path).startswith(str(tmp_path))
    assert open_bundle(str(new_path), str(digest)).manifest.version == new

    # Other programs' tables are unchanged; Dagster's are in their own schema.
    assert rows(existing, "SELECT version_num FROM alembic_version") == [("168e12fdbaea",)]
    assert tables(existing, "public") == public_before
    assert "alembic_version" in tables(existing, "dagster")
    assert "runs" in tables(existing, "dagster")


def test_read_bars_ignores_other_programs_intraday_bars(existing: Database, bars: pl.DataFrame) -> None:
    assert read_bars(existing).equals(bars)
    # The lookback too counts from the newest daily bar. 420 weekdays from Monday 2018-01-01: 84 weeks, the last day
    # is Friday 2019-08-09; seven days before is the Friday before: 6 sessions each.
    assert bars["session"].max() == datetime(2019, 8, 9).date()  # noqa: DTZ001
    assert read_bars(existing, selection=Selection(lookback_days=7)).height == SYMBOLS * 6
