"""Names of tables and columns, and pieces of SQL that several modules use."""

from __future__ import annotations

from boursomatic_assets.core.dataset.features import FEATURE_NAMES

# Feature columns of the first migration; an upgrade adds the other `FEATURES`.
FIRST_FEATURES = ("ret_1d", "ret_5d", "ret_20d", "rsi_14", "momentum_5d", "vol_20d", "atr_14", "volume_zscore")

# Frame column to table column.
BAR_COLUMNS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
FEATURE_COLUMNS = {name: name for name in FEATURE_NAMES}

DAILY = "daily"
# Dagster's own tables are in a schema of their own.
DAGSTER_SCHEMA = "dagster"
# Columns of an existing database may lack defaults, so inserts supply every value.
NOW = "timezone('utc', now())"

# Instruments by symbol, or symbol@exchange where two exchanges list it.
KEYS = """
    keys AS (
        SELECT id, exchange, CASE WHEN count(*) OVER (PARTITION BY symbol) > 1
                        THEN symbol || '@' || exchange ELSE symbol END AS symbol
        FROM instruments)
"""
EXCHANGES = f"WITH {KEYS} SELECT symbol, exchange FROM keys ORDER BY symbol"  # noqa: S608

# Not `alembic_version`, which other programs use.
VERSION_TABLE = "boursomatic_assets_alembic_version"
