"""The table `universe_members`: periods in which a symbol belonged to the universe."""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.market.membership import MEMBER_SCHEMA
from boursomatic_assets.storage.postgres.database import STAGING, Database, advisory_lock, fetch, stage

_COLUMNS = ", ".join(MEMBER_SCHEMA)


def read_members(database: Database) -> pl.DataFrame:
    """Every membership, by symbol and start; of `MEMBER_SCHEMA`."""
    found = database.read(f"SELECT {_COLUMNS} FROM universe_members")  # noqa: S608
    return found.cast(MEMBER_SCHEMA).sort("symbol", "member_from")  # type: ignore[arg-type]


def replace_members(database: Database, members: pl.DataFrame) -> tuple[int, int]:
    """Replace the table by `MEMBER_SCHEMA` rows in one transaction; returns rows added and removed."""
    same = " AND ".join(f"m.{name} IS NOT DISTINCT FROM s.{name}" for name in MEMBER_SCHEMA)
    with database.bulk() as cursor:
        advisory_lock(cursor, "universe_members")
        stage(cursor, members)
        removed = fetch(
            cursor,
            f"WITH gone AS (DELETE FROM universe_members m WHERE NOT EXISTS (SELECT FROM {STAGING} s "  # noqa: S608
            f"WHERE {same}) RETURNING 1) SELECT count(*) AS rows FROM gone",
        )["rows"].item()
        added = fetch(
            cursor,
            f"WITH new AS (INSERT INTO universe_members ({_COLUMNS}) SELECT {_COLUMNS} FROM {STAGING} s "  # noqa: S608
            f"WHERE NOT EXISTS (SELECT FROM universe_members m WHERE {same}) RETURNING 1) "
            "SELECT count(*) AS rows FROM new",
        )["rows"].item()
    return int(added), int(removed)
