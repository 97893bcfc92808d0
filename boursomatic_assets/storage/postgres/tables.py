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

# Columns that other programs rely on; the migration creates missing tables and keeps existing ones.
EXISTING_COLUMNS = {
    "instruments": (
        "id", "symbol", "exchange", "name", "sector", "market_cap_bucket", "pe_bucket", "is_active",
        "created_at", "updated_at",
    ),
    "price_bars": ("id", "instrument_id", "ts", "o", "h", "l", "c", "v", "interval", "created_at"),
    "features": ("id", "instrument_id", "ts", *FIRST_FEATURES, "additional_features", "created_at"),
    "model_versions": (
        "id", "version", "trained_at", "params_hash", "metrics_json", "model_path", "is_active", "created_at",
    ),
    "recommendations": (
        "id", "instrument_id", "model_version_id", "profile", "label", "confidence", "expected_return_pct",
        "horizon_days", "stop_loss", "take_profit", "justification", "features_snapshot", "generated_at",
        "is_active",
    ),
}  # fmt: skip

# The platform's own tables; another program's table of that name is not overwritten.
OWN_COLUMNS = {
    "adjustments": ("symbol", "session", "ratio", "note", "created_at"),
    "unexplained_jumps": ("symbol", "session", "ratio", "split_ratio", "detected_at"),
    "fetch_rounds": ("id", "provider", "scope", "started_at", "finished_at"),
    "fetch_results": (
        "round_id", "symbol", "outcome", "source", "rows", "first", "last", "detail", "fetched_at",
    ),
    "feature_state": ("symbol", "inputs", "outputs", "computed_at"),
    "universe_members": ("symbol", "member_from", "member_until", "created_at"),
    "trials": (
        "id", "params_hash", "experiment", "data_version", "symbols", "first_session", "last_session",
        "test_first", "test_last", "sharpe", "rank_ic", "matched_lift", "accuracy", "version", "run_id",
        "created_at",
    ),
    "recommendation_outcomes": (
        "recommendation_id", "entry_session", "entry_close", "exit_session", "exit_close", "realised_return",
        "realised_label", "hit", "first_touch", "touched_session", "ended", "judged_at",
    ),
    "bar_changes": (
        "id", "bar_id", "instrument_id", "ts", "o", "h", "l", "c", "v", "interval", "bar_created_at", "operation",
        "changed_at",
    ),
    "model_events": ("id", "at", "who", "event", "version_from", "version_to", "why", "figures"),
    "notices": (
        "id", "key", "kind", "asset", "subject", "text", "details", "awaiting", "times", "created_at",
        "recovered_at", "delivered", "attempts", "next_attempt_at", "claimed_until", "last_error",
    ),
    "noticed_runs": ("instance_id", "event_id", "run_id", "noticed_at"),
    "vendor_actions": ("symbol", "session", "split", "dividend", "ratio", "created_at"),
}  # fmt: skip
