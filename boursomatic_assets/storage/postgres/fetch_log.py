"""The log of network sources: rounds of fetching, and a result per symbol and round.

An unfinished round was interrupted; the next update resumes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import polars as pl

from boursomatic_assets.core.market.fetch_report import Outcome, SymbolReport
from boursomatic_assets.storage.postgres.database import STAGING, Cursor, Database, execute, fetch, stage

# An older interrupted round is not resumed: what it fetched is no longer the newest.
STALE_AFTER_HOURS = 12
_RESULT_SCHEMA = {
    "symbol": pl.String, "outcome": pl.String, "source": pl.String, "rows": pl.Int64, "first": pl.Date,
    "last": pl.Date, "detail": pl.String,
}  # fmt: skip


def begin_round(database: Database, provider: str, scope: str) -> tuple[int, set[str]]:
    """Resume the interrupted round of this provider and scope, or begin one; returns it and its settled symbols."""
    with database.bulk() as cursor:
        found = fetch(
            cursor,
            "SELECT id FROM fetch_rounds WHERE provider = $1 AND scope = $2 AND finished_at IS NULL "  # noqa: S608
            f"AND started_at > timezone('utc', now()) - interval '{STALE_AFTER_HOURS} hours' "
            # One from the future was begun under a clock that was ahead: its age is unknown.
            "AND started_at <= timezone('utc', now()) "
            "AND id = (SELECT max(id) FROM fetch_rounds WHERE provider = $1 AND scope = $2)",
            [provider, scope],
        )
        if found.height:
            number = int(found["id"].item())
            done = fetch(cursor, "SELECT symbol FROM fetch_results WHERE round_id = $1", [number])
            return number, set(done["symbol"].to_list())
        started = fetch(
            cursor, "INSERT INTO fetch_rounds (provider, scope) VALUES ($1, $2) RETURNING id", [provider, scope]
        )
        return int(started["id"].item()), set()


def record_results(cursor: Cursor, number: int, reports: Sequence[SymbolReport]) -> None:
    """Record results in the transaction that stores their bars."""
    if not reports:
        return
    rows = [{**asdict(report), "outcome": report.outcome.value} for report in reports]
    stage(cursor, pl.DataFrame(rows, schema=_RESULT_SCHEMA))
    names = ", ".join(_RESULT_SCHEMA)
    cursor.execute(
        f"INSERT INTO fetch_results (round_id, {names}) SELECT {number}, {names} FROM {STAGING} "  # noqa: S608
        "ON CONFLICT (round_id, symbol) DO NOTHING"
    )


def finish_round(database: Database, number: int) -> None:
    """Mark a round as complete."""
    with database.bulk() as cursor:
        execute(cursor, "UPDATE fetch_rounds SET finished_at = timezone('utc', now()) WHERE id = $1", [number])


def read_results(database: Database, number: int) -> list[SymbolReport]:
    """Results of a round, by symbol."""
    query = f"SELECT {', '.join(_RESULT_SCHEMA)} FROM fetch_results WHERE round_id = $1 ORDER BY symbol"  # noqa: S608
    rows = database.read(query, [number])
    return [SymbolReport(**{**row, "outcome": Outcome(row["outcome"])}) for row in rows.iter_rows(named=True)]


def newest_round(database: Database, provider: str) -> int | None:
    """The newest round of a provider, of any scope."""
    newest: int | None = database.value("SELECT max(id) FROM fetch_rounds WHERE provider = $1", [provider])
    return newest


def sources_in_use(cursor: Cursor) -> dict[str, str]:
    """The source that delivered each symbol's bars last."""
    found = fetch(
        cursor,
        "SELECT DISTINCT ON (symbol) symbol, source FROM fetch_results WHERE source IS NOT NULL "  # noqa: S608
        f"AND outcome = '{Outcome.FETCHED.value}' ORDER BY symbol, round_id DESC",
    )
    return dict(found.iter_rows())
