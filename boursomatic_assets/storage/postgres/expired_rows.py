"""Rows that the retention policy no longer keeps: counted, and removed in batches.

One condition decides on a table's rows, for counting and for removing. Each batch is a transaction of its own,
under a lock: removal may be killed at any moment, and goes on when it is started again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from boursomatic_assets.storage.postgres.tables import KEYS, NOW

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.storage.postgres.database import Database

BATCH = 20_000
# A limit that no row is older than.
NOTHING = datetime(1, 1, 1)  # noqa: DTZ001 (UTC, as the tables keep it)


@dataclass(frozen=True)
class ExpiringTable:
    """A table of which rows expire: its key, and a query of the keys of expired rows.

    The query names its limits as parameters. `dependent` maps tables whose rows go with them to the column that
    names the key.
    """

    name: str
    key: tuple[str, ...]
    expired: str
    dependent: Mapping[str, str]
    locks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """Moments, UTC without a time zone: what ended before them has expired."""

    recommendations: datetime = NOTHING
    bar_changes: datetime = NOTHING
    records: datetime = NOTHING


# Rows of other programs have no session. An id that another program's table names stays.
_RECOMMENDATIONS = """
    SELECT r.id FROM recommendations r JOIN model_versions m ON m.id = r.model_version_id
    WHERE NOT r.is_active AND NOT m.is_active AND r.session IS NOT NULL
      AND coalesce(r.archived_at, r.generated_at) < :recommendations
      AND EXISTS (SELECT FROM recommendation_outcomes o WHERE o.recommendation_id = r.id){unnamed}
"""
_NAMING = """
    SELECT format('AND NOT EXISTS (SELECT FROM %s x WHERE x.%I = r.id)', c.conrelid::regclass, a.attname)
    FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    WHERE c.contype = 'f' AND c.confrelid = 'recommendations'::regclass
      AND c.conrelid <> 'recommendation_outcomes'::regclass
"""
# To show the bars of a recommendation, a trace undoes all changes made after the recommendation, or after its
# features were computed if that was earlier. If a bar moved to another instrument, both need its changes.
_BAR_CHANGES = """
    WITH {keys}, expired AS ({recommendations}), needed AS (
        SELECT DISTINCT r.instrument_id, r.session, r.generated_at FROM recommendations r
        WHERE r.session IS NOT NULL AND r.id NOT IN (SELECT id FROM expired)),
    horizons AS (
        SELECT n.instrument_id, least(CAST(:bar_changes AS timestamp), min(least(n.generated_at, f.created_at,
               s.computed_at))) AS until
        FROM needed n JOIN keys k ON k.id = n.instrument_id
        LEFT JOIN features f ON f.instrument_id = n.instrument_id AND f.ts = n.session
        LEFT JOIN feature_state s ON s.symbol = k.symbol GROUP BY 1)
    SELECT c.id FROM bar_changes c LEFT JOIN horizons h ON h.instrument_id = c.instrument_id
    WHERE c.changed_at < coalesce(h.until, :bar_changes)
      AND NOT EXISTS (
          SELECT FROM bar_changes l JOIN horizons o ON o.instrument_id = l.instrument_id
          WHERE l.bar_id = c.bar_id AND l.instrument_id <> c.instrument_id AND o.until <= c.changed_at)
      AND NOT EXISTS (
          SELECT FROM price_bars b JOIN horizons o ON o.instrument_id = b.instrument_id
          WHERE b.id = c.bar_id AND b.instrument_id <> c.instrument_id AND o.until <= c.changed_at)
"""
# The newest round of each source and scope stays, and the result that says which source a symbol has.
_FETCH_RESULTS = """
    WITH newest AS (
        SELECT symbol, max(round_id) AS round_id FROM fetch_results
        WHERE source IS NOT NULL AND outcome = 'fetched' GROUP BY 1)
    SELECT r.round_id, r.symbol FROM fetch_results r LEFT JOIN newest n USING (symbol, round_id)
    WHERE r.fetched_at < :records AND n.symbol IS NULL
      AND r.round_id NOT IN (SELECT max(id) FROM fetch_rounds GROUP BY provider, scope)
"""
_FETCH_ROUNDS = """
    SELECT id FROM fetch_rounds f
    WHERE coalesce(finished_at, started_at) < :records
      AND id NOT IN (SELECT max(id) FROM fetch_rounds GROUP BY provider, scope)
      AND NOT EXISTS (SELECT FROM fetch_results r WHERE r.round_id = f.id)
"""
_NOTICES = """
    SELECT id FROM notices
    WHERE created_at < :records AND next_attempt_at IS NULL AND (kind = 'recovery' OR recovered_at < :records)
"""


def database_clock(database: Database) -> datetime:
    """The moment by the clock that the tables' times come from, UTC without a time zone."""
    moment: datetime = database.value(f"SELECT {NOW}")
    return moment


def expiring_tables(database: Database) -> list[ExpiringTable]:
    """The tables of which rows expire, in the order of their removal."""
    with database.connection() as connection:
        unnamed = "".join(f" {condition}" for condition in connection.execute(sa.text(_NAMING)).scalars())
    recommendations = _RECOMMENDATIONS.format(unnamed=unnamed)
    changes = _BAR_CHANGES.format(keys=KEYS, recommendations=recommendations)
    outcomes = {"recommendation_outcomes": "recommendation_id"}
    return [
        ExpiringTable("recommendations", ("id",), recommendations, outcomes, locks=("recommendations",)),
        ExpiringTable("bar_changes", ("id",), changes, {}),
        ExpiringTable("fetch_results", ("round_id", "symbol"), _FETCH_RESULTS, {}),
        ExpiringTable("fetch_rounds", ("id",), _FETCH_ROUNDS, {}),
        ExpiringTable("rejected_bars", ("id",), "SELECT id FROM rejected_bars WHERE last_seen_at < :records", {}),
        ExpiringTable("notices", ("id",), _NOTICES, {}),
    ]


def runs_behind_recommendations(database: Database, limits: Limits) -> set[str]:
    """The Dagster runs that wrote the recommendations which have not expired."""
    (table,) = [each for each in expiring_tables(database) if each.name == "recommendations"]
    # Rows of one run were written in one transaction, so one snapshot tells of them all.
    query = f"""
        SELECT DISTINCT ON (generated_at) features_snapshot #>> '{{run,run_id}}' FROM recommendations
        WHERE session IS NOT NULL AND id NOT IN ({table.expired}) ORDER BY generated_at, id
    """  # noqa: S608 (nothing of it comes from outside)
    with database.connection() as connection:
        found = connection.execute(sa.text(query), vars(limits)).scalars()
        return {run_id for run_id in found if run_id}


def measure_expired(database: Database, table: ExpiringTable, limits: Limits) -> tuple[int, int]:
    """Number of expired rows, and their share of the table's size in bytes."""
    with database.connection() as connection:
        count = f"SELECT count(*) FROM ({table.expired}) expired"  # noqa: S608 (nothing of it comes from outside)
        rows = int(connection.execute(sa.text(count), vars(limits)).scalar_one())
        if not rows:
            return 0, 0
        # Of dependent tables too: each expired row takes its own along.
        shares = (
            f"(SELECT pg_total_relation_size('{name}') / greatest(count(*), 1) FROM {name})"  # noqa: S608
            for name in (table.name, *table.dependent)
        )
        return rows, rows * int(connection.execute(sa.text(f"SELECT {' + '.join(shares)}")).scalar_one())


def remove_expired(database: Database, table: ExpiringTable, limits: Limits) -> int:
    """Remove the expired rows, and let their space be used again; returns how many rows."""
    removed = 0
    while batch := _remove_batch(database, table, limits):
        removed += batch
    if removed:
        for name in (table.name, *table.dependent):
            _vacuum(database, name)
    return removed


def _remove_batch(database: Database, table: ExpiringTable, limits: Limits) -> int:
    key = ", ".join(table.key)
    with database.connection() as connection:
        for lock in ("prune", *table.locks):
            connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(hashtext(:lock))"), {"lock": f"boursomatic:{lock}"}
            )
        staged = f"CREATE TEMPORARY TABLE going ON COMMIT DROP AS {table.expired} LIMIT {BATCH}"
        connection.execute(sa.text(staged), vars(limits))
        for name, column in table.dependent.items():
            connection.execute(sa.text(f"DELETE FROM {name} WHERE {column} IN (SELECT {key} FROM going)"))  # noqa: S608
        gone = connection.execute(
            sa.text(f"DELETE FROM {table.name} WHERE ({key}) IN (SELECT {key} FROM going)")  # noqa: S608
        )
        return gone.rowcount


def _vacuum(database: Database, table: str) -> None:
    """Mark the space of removed rows as free. Without the right to do it PostgreSQL only warns."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"VACUUM (ANALYZE) {table}"))
