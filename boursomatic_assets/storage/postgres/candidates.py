"""Active instruments with their newest features and close: the rows that a model is asked about."""

from __future__ import annotations

from typing import Any

import polars as pl

from boursomatic_assets.core.dataset.features import FEATURE_NAMES
from boursomatic_assets.core.market.usable_bars import usable_bars
from boursomatic_assets.core.market.vendor_actions import noted_adjustments
from boursomatic_assets.core.registry.serving import CANDIDATE_SCHEMA
from boursomatic_assets.storage.postgres.adjustments_table import Corrections, read_corrections
from boursomatic_assets.storage.postgres.database import Database, fetch
from boursomatic_assets.storage.postgres.features_table import read_state
from boursomatic_assets.storage.postgres.market_tables import read_tails
from boursomatic_assets.storage.postgres.membership_table import read_members
from boursomatic_assets.storage.postgres.tables import EXCHANGES, FEATURE_COLUMNS, KEYS

# Sources fill in holidays and weekends; this many bars always include real sessions.
TAIL = 10


def read_candidates(database: Database) -> pl.DataFrame:
    """Every active instrument with its newest usable bar and features, of `CANDIDATE_SCHEMA`, by symbol.

    `close` is the usable close of the features' session, null if there is none.
    """
    with database.bulk() as cursor:
        newest = fetch(cursor, _NEWEST)
        corrections = read_corrections(cursor)
    tails = _usable_tails(database, newest, corrections)
    bars = tails.group_by("symbol").agg(newest_bar=pl.col("session").max())
    described = newest.join(bars, on="symbol", how="left").join(
        tails.select("symbol", "session", "close"), on=["symbol", "session"], how="left"
    )
    members = read_members(database)
    return (
        described.with_columns(
            quarantined=pl.col("symbol").is_in(corrections.quarantined),
            member=_belongs(described, members) if members.height else pl.lit(value=True),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in CANDIDATE_SCHEMA.items())
        .sort("symbol")
    )


def _usable_tails(database: Database, newest: pl.DataFrame, corrections: Corrections) -> pl.DataFrame:
    """The newest usable bars of each instrument; quarantined ones are included."""
    tails = read_tails(database, newest["symbol"].to_list(), TAIL)
    placed = tails.join(newest.select("symbol", "exchange"), on="symbol", maintain_order="left")
    return usable_bars(placed, corrections.applied, [], from_the_first_bar=False)


def _belongs(described: pl.DataFrame, members: pl.DataFrame) -> pl.Series:
    """Whether each instrument is a member of the universe at its newest bar."""
    now = described.select("symbol", now=pl.coalesce("newest_bar", "session"))
    begun = pl.col("now") >= pl.col("member_from")
    stays = (pl.col("now") < pl.col("member_until")).fill_null(value=True)
    inside = now.join(members, on="symbol").filter(begun & stays)["symbol"].unique()
    return described["symbol"].is_in(inside.to_list())


def read_bar_provenance(database: Database) -> dict[str, dict[str, Any]]:
    """By symbol: content of the bars its features were computed from, its exchange and adjustments."""
    with database.bulk() as cursor:
        placed = fetch(cursor, EXCHANGES)
        applied = read_corrections(cursor).applied
    entered = {
        str(symbol): [[session.isoformat(), *ratios] for session, *ratios in noted_adjustments(rows)]
        for (symbol,), rows in applied.group_by("symbol", maintain_order=True)
    }
    described = placed.join(read_state(database), on="symbol", how="left")
    return {
        symbol: {"inputs": inputs, "exchange": exchange, "adjustments": entered.get(symbol, [])}
        for symbol, exchange, inputs in described.select("symbol", "exchange", "inputs").iter_rows()
    }


_NEWEST = f"""
    WITH {KEYS}
    SELECT k.symbol, k.exchange, f.ts::date AS session,
           {", ".join(f'f.{FEATURE_COLUMNS[name]} AS "{name}"' for name in FEATURE_NAMES)}
    FROM keys k JOIN instruments i ON i.id = k.id
    LEFT JOIN LATERAL (
        SELECT * FROM features f WHERE f.instrument_id = k.id AND f.ts = date_trunc('day', f.ts)
        ORDER BY f.ts DESC LIMIT 1) f ON true
    WHERE i.is_active
"""  # noqa: S608 (only names of columns)
