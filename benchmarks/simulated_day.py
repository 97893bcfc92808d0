"""One day of a running installation, written by the product's own functions where they exist.

Dagster's runs are copies of real ones: their events, checks, tags and logs under another id.
"""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import sqlalchemy as sa
from upath import UPath

from boursomatic_assets.core.dataset.features import FEATURE_NAMES
from boursomatic_assets.core.market.bars import BAR_SCHEMA, check_bars
from boursomatic_assets.core.market.fetch_report import Outcome, SymbolReport
from boursomatic_assets.core.registry.bundle import MANIFEST, sha256, strict_json
from boursomatic_assets.storage.artifacts.bundles import save_bundle
from boursomatic_assets.storage.artifacts.files import read_folder, write_whole
from boursomatic_assets.storage.artifacts.snapshots import save_snapshot
from boursomatic_assets.storage.postgres.features_table import (
    newest_features,
    read_state,
    write_features,
    write_state,
)
from boursomatic_assets.storage.postgres.fetch_log import begin_round, finish_round, record_results
from boursomatic_assets.storage.postgres.market_tables import newest_bars, read_bars, write_bars
from boursomatic_assets.storage.postgres.model_table import ModelRow, active_version, record_version
from boursomatic_assets.storage.postgres.panels import Selection
from boursomatic_assets.storage.postgres.recommendations_table import GIVEN_SCHEMA, write_recommendations

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets.storage.postgres.database import Database

# A tenth of what four sensors at 15 seconds, two at 30 seconds and one at 5 minutes make.
TICKS_A_DAY = (4 * 5760 + 2 * 2880 + 288) // 10
TICK_BYTES, FRIDAY = 900, 5
DIVIDENDS_A_YEAR, SESSIONS_A_YEAR = 4, 252
PRICES = ("open", "high", "low", "close")
_COPIED = {
    "runs": "snapshot_id, pipeline_name, mode, status, partition, partition_set, start_time, end_time, backfill_id",
    "run_tags": "key, value",
    "event_logs": "dagster_event_type, step_key, asset_key, partition",
    "asset_check_executions": "asset_key, check_name, partition, execution_status",
}
_TEXTS = {"runs": "run_body", "event_logs": "event", "asset_check_executions": "evaluation_event"}
_TIMES = {
    "runs": ("create_timestamp", "update_timestamp"),
    "event_logs": ("timestamp",),
    "asset_check_executions": ("evaluation_event_timestamp", "create_timestamp"),
}


@dataclass(frozen=True)
class Templates:
    """Real runs to copy, by kind; the recommendations, labels and bundle files of the real home."""

    runs: dict[str, str]
    given: pl.DataFrame
    labels: pl.DataFrame
    files: dict[str, bytes]
    trace_page: bytes
    logs: Path


def trade(database: Database, session: date, random: np.random.Generator) -> pl.DataFrame:
    """One more session of every symbol, and for some a dividend that rewrites their history."""
    last = newest_bars(database, 10_000)
    moves = pl.Series(np.exp(random.normal(0, 0.01, last.height)))
    bars = last.with_columns(pl.lit(session).alias("session"), *(pl.col(name) * moves for name in PRICES))
    write_bars(database, check_bars(bars.select(*BAR_SCHEMA), session), "simulated")
    payers = last["symbol"].to_numpy()[random.random(last.height) < DIVIDENDS_A_YEAR / SESSIONS_A_YEAR].tolist()
    if payers:
        history = read_bars(database, selection=Selection(symbols=payers)).filter(pl.col("session") < session)
        paid = history.with_columns(*(pl.col(name) * 0.995 for name in PRICES))
        write_bars(database, check_bars(paid, session), "simulated")
    return bars


def compute(database: Database, session: date) -> None:
    """Features of the session: those of the session before."""
    last = newest_features(database, 10_000).select("symbol", "session", *FEATURE_NAMES)
    write_features(database, last.with_columns(pl.lit(session).alias("session")))
    state = read_state(database)
    with database.bulk() as cursor:
        write_state(cursor, state)


def fetch(database: Database, symbols: list[str], session: date) -> None:
    """A finished round of the network source."""
    number, _ = begin_round(database, "yahoo", "all")
    with database.bulk() as cursor:
        reports = [SymbolReport(name, Outcome.FETCHED, "yahoo", 6, session, session) for name in symbols]
        record_results(cursor, number, reports)
    finish_round(database, number)


def recommend(database: Database, root: UPath, templates: Templates, session: date, run_id: str) -> None:
    """Recommendations of the session, and the page that traces the strongest one."""
    active = _active(database)
    digest = f'"digest":"{sha256(str(session).encode())}"'
    snapshots = (
        pl.col("features_snapshot")
        .str.replace(r'"digest":"[0-9a-f]{64}"', digest)
        .str.replace(r'"run_id":"[^"]+"', f'"run_id":"{run_id}"')
    )
    rows = templates.given.with_columns(pl.lit(session).alias("session"), snapshots)
    write_recommendations(database, rows.select(*GIVEN_SCHEMA), active.version)
    with database.connection() as connection:
        query = "SELECT id::text FROM recommendations WHERE is_active LIMIT 1"
        written = str(connection.execute(sa.text(query)).scalar_one())
    write_whole(root / "traces" / f"{written}.html", templates.trace_page)


def train(  # noqa: PLR0913 (what makes a version)
    database: Database, root: UPath, templates: Templates, run_id: str, moment: datetime, *, promoted: bool
) -> None:
    """A version: the files of the real bundle, a panel of its own, and its row."""
    panel = templates.labels.with_columns(pl.col("close") * (1 + moment.timestamp() % 1e6 / 1e9))
    snapshot = save_snapshot(root, panel)
    said = {**json.loads(templates.files[MANIFEST]), "run_id": run_id, "snapshot": snapshot.to_json()}

    def build(version: str) -> dict[str, bytes]:
        return {**templates.files, MANIFEST: strict_json({**said, "version": version})}

    version, folder, digest = save_bundle(root, moment, build)
    active = _active(database)
    row = ModelRow(version, moment, active.params_hash, active.metrics, str(folder), digest, is_active=promoted)
    record_version(database, row, who=f"run {run_id}", why="simulated", champion=active.version)


def copy_run(database: Database, templates: Templates, kind: str, moment: datetime) -> str:
    """Copy a run with its events, checks, tags and logs; returns the new id."""
    old, new = templates.runs[kind], str(uuid.uuid4())
    with database.connection() as connection:
        for table, columns in _COPIED.items():
            text, times = _TEXTS.get(table), _TIMES.get(table, ())
            names = ["run_id", *columns.split(", "), *([text] if text else []), *times]
            values = [":new", *columns.split(", "), *([f"replace({text}, :old, :new)"] if text else [])]
            connection.execute(
                sa.text(
                    f"INSERT INTO dagster.{table} ({', '.join(names)}) "  # noqa: S608 (of this module)
                    f"SELECT {', '.join([*values, *(':moment' for _ in times)])} FROM dagster.{table} "
                    "WHERE run_id = :old ORDER BY id"
                ),
                {"old": old, "new": new, "moment": moment},
            )
        connection.execute(sa.text(_TAGS), {"old": old, "new": new, "moment": moment})
    if (templates.logs / old).is_dir():
        shutil.copytree(templates.logs / old, templates.logs / new)
    # A template may be removed: the next copy is made from this one.
    templates.runs[kind] = new
    return new


def tick(database: Database, moment: datetime) -> None:
    """A day's ticks of the sensors, which skip."""
    with database.connection() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO dagster.job_ticks (job_origin_id, selector_id, status, type, timestamp, tick_body, "
                "create_timestamp, update_timestamp) SELECT 'o' || n % 7, 's' || n % 7, 'SKIPPED', 'SENSOR', "
                "t, repeat('x', CAST(:bytes AS int)), t, t FROM generate_series(1, :count) n, "
                "LATERAL (SELECT CAST(:moment AS timestamp) + n * interval '20 seconds' AS t) m"
            ),
            {"bytes": TICK_BYTES, "count": TICKS_A_DAY, "moment": moment},
        )


def templates_of(database: Database, root: UPath, home: Path, runs: dict[str, str]) -> Templates:
    """Read what is copied from a home that the product has filled."""
    files = read_folder(UPath(_active(database).model_path))
    panel = json.loads(files[MANIFEST])["snapshot"]["fingerprint"]
    given = database.read(
        f"SELECT i.symbol, {', '.join(f'r.{name}' for name in GIVEN_SCHEMA if name not in _APART)}, "  # noqa: S608
        "r.features_snapshot::text AS features_snapshot "
        "FROM recommendations r JOIN instruments i ON i.id = r.instrument_id WHERE r.is_active"
    )
    (page,) = (root / "traces").iterdir()
    labels = pl.read_parquet((root / "snapshots" / f"{panel}.parquet").read_bytes())
    logs = home / "dagster" / "storage"
    return Templates(runs, given, labels, files, page.read_bytes(), logs)


def _active(database: Database) -> ModelRow:
    active = active_version(database)
    if active is None:
        raise LookupError
    return active


def next_session(session: date) -> date:
    """The next weekday."""
    return session + timedelta(days=3 if session.isoweekday() == FRIDAY else 1)


_APART = {"symbol", "features_snapshot"}
_TAGS = """
    WITH made AS (
        SELECT id, run_id, row_number() OVER (PARTITION BY run_id ORDER BY id) AS place FROM dagster.event_logs
        WHERE run_id IN (:old, :new))
    INSERT INTO dagster.asset_event_tags (event_id, asset_key, key, value, event_timestamp)
    SELECT n.id, t.asset_key, t.key, t.value, :moment
    FROM made o JOIN made n ON n.place = o.place AND n.run_id = :new
    JOIN dagster.asset_event_tags t ON t.event_id = o.id WHERE o.run_id = :old
"""
