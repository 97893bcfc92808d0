"""Recommendations as the storage functions take them, and a database that may hold them."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.recommendations_table import GIVEN_SCHEMA
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.panels import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boursomatic_assets.storage.postgres.database import Database

MONDAY, TUESDAY = date(2024, 1, 8), date(2024, 1, 9)
VERSION = "20240108_000000_abcdef"


def with_model(database: Database, *symbols: str, version: str = VERSION) -> Database:
    """Instruments of these symbols and one active model version."""
    write_instruments(database, listed(*symbols))
    activate(database, version)
    return database


def activate(database: Database, version: str) -> None:
    """Make a version that is new the active one."""
    run(
        database,
        "UPDATE model_versions SET is_active = false;"
        "INSERT INTO model_versions (id, version, params_hash, metrics_json, model_path, manifest_sha256, "
        f"is_active) VALUES (gen_random_uuid(), '{version}', 'p', '{{}}', '/models/{version}', 'm', true)",
    )


def call(
    symbol: str, profile: str = "moderate", session: date = MONDAY, content: str = "", **other: object
) -> dict[str, object]:
    """One recommendation; two of the same symbol, profile, session and content have the same digest."""
    snapshot = {
        "digest": f"{symbol} {profile} {session} {content}",
        "close": 10.1,
        "labelling": {"buy_threshold": 0.05, "sell_threshold": -0.02},
    }
    given = {
        "symbol": symbol, "profile": profile, "label": "BUY", "confidence": 0.5, "expected_return_pct": 1.25,
        "horizon_days": 20, "stop_loss": 9.5, "take_profit": 11.5, "justification": "Baisse de 6\u202f%.",
        "session": session, "features_snapshot": json.dumps(snapshot),
    }  # fmt: skip
    return {**given, **other}


def calls(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=GIVEN_SCHEMA, orient="row")


def calls_of(symbols: Sequence[str], session: date = MONDAY, content: str = "") -> pl.DataFrame:
    """A recommendation for each of these symbols and every profile."""
    return calls(*(call(symbol, profile, session, content) for symbol in symbols for profile in PROFILE_NAMES))
