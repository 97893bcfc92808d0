"""The tables as the migrations make them: columns, types, nulls, defaults and unique keys.

A test compares them with the migrations. Tables of other programs must hold the same values exactly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from boursomatic_assets.storage.postgres.tables import FEATURE_COLUMNS, FIRST_FEATURES


@dataclass(frozen=True)
class Column:
    """A column's type, with other types that hold its values; `nulls` is None where null or not is the same.

    `needs_default` where inserts leave it out; `is_later` where an upgrade adds it to an existing table.
    """

    types: tuple[str, ...]
    nulls: bool | None
    needs_default: bool
    is_later: bool


# `!` is never null, `~` may be either, `=` needs a default, `+` is added by an upgrade; other columns may be null.
_WRITTEN = {
    "instruments": """
        id uuid!, symbol varchar(50)!, exchange varchar(50)!, name varchar(255), sector varchar(100),
        market_cap_bucket varchar(50), pe_bucket varchar(50), is_active boolean!, created_at timestamp~,
        updated_at timestamp~, currency varchar(3)+""",
    "price_bars": """
        id uuid!, instrument_id uuid!, ts timestamp!, o double precision!, h double precision!,
        l double precision!, c double precision!, v double precision!, interval varchar(10)!,
        created_at timestamp!""",
    "features": f"""
        id uuid!, instrument_id uuid!, ts timestamp!, additional_features json|jsonb, created_at timestamp!,
        {", ".join(f"{name} double precision" for name in FIRST_FEATURES)},
        {", ".join(f"{name} double precision+" for name in FEATURE_COLUMNS if name not in FIRST_FEATURES)}""",
    "model_versions": """
        id uuid!, version varchar(100)!, trained_at timestamp!, params_hash varchar(64)!,
        metrics_json json|jsonb!, model_path varchar(500), is_active boolean!, created_at timestamp!,
        manifest_sha256 varchar(64)+, gate json|jsonb+, insertion_number bigint=+""",
    "recommendations": """
        id uuid!, instrument_id uuid!, model_version_id uuid!, profile varchar(50)!, label varchar(10)!,
        confidence double precision!, expected_return_pct double precision, horizon_days integer,
        stop_loss double precision, take_profit double precision, justification text, features_snapshot json!,
        generated_at timestamp!, is_active boolean!, session date+, archived_at timestamp+,
        insertion_number bigint=+""",
    "rejected_bars": """
        id bigint!=, source text!, symbol text, session date, open double precision, high double precision,
        low double precision, close double precision, volume double precision, reason text!, copies integer!,
        row_hash varchar(32)!, first_seen_at timestamp!=, last_seen_at timestamp!=""",
    "adjustments": "symbol text!, session date!, ratio double precision!, note text, created_at timestamp!=",
    "unexplained_jumps": """
        symbol text!, session date!, ratio double precision!, split_ratio double precision!,
        detected_at timestamp!=""",
    "fetch_rounds": "id bigint!=, provider text!, scope text!, started_at timestamp!=, finished_at timestamp",
    "fetch_results": """
        round_id bigint!, symbol text!, outcome text!, source text, rows bigint!, first date, last date,
        detail text!, fetched_at timestamp!=""",
    "feature_state": "symbol text!, inputs text!, outputs text!, computed_at timestamp!=",
    "universe_members": "symbol text!, member_from date!, member_until date, created_at timestamp!=",
    "trials": """
        id uuid!, params_hash varchar(64)!, experiment json!, data_version varchar(64)!, symbols integer!,
        first_session date!, last_session date!, test_first date!, test_last date!, sharpe double precision,
        rank_ic double precision, matched_lift double precision, accuracy double precision, version text,
        run_id text, created_at timestamp!=, insertion_number bigint=+""",
    "recommendation_outcomes": """
        recommendation_id uuid!, entry_session date!, entry_close double precision!, exit_session date!,
        exit_close double precision!, realised_return double precision!, realised_label varchar(10)!, hit boolean!,
        first_touch varchar(10), touched_session date, ended varchar(20)!, judged_at timestamp!=""",
    "bar_changes": """
        id bigint!=, bar_id uuid, instrument_id uuid, ts timestamp, interval text, o double precision,
        h double precision, l double precision, c double precision, v double precision, bar_created_at timestamp,
        operation varchar(10)!, changed_at timestamp!=""",
    "model_events": """
        id bigint!=, at timestamp!=, who text!, event varchar(20)!, version_from varchar(100),
        version_to varchar(100), why text!, figures json""",
    "notices": """
        id bigint!=, key text!, kind varchar(10)!, asset text!, subject text!, text text!, details jsonb!,
        awaiting jsonb!=, times integer!=, created_at timestamp!=, recovered_at timestamp, delivered jsonb!,
        attempts integer!=, next_attempt_at timestamp=, claimed_until timestamp, last_error text""",
    "noticed_runs": "instance_id text!, event_id bigint!, run_id text, noticed_at timestamp!=",
    "vendor_actions": """
        symbol text!, session date!, split double precision!, dividend double precision!, ratio double precision!,
        created_at timestamp!=""",
}
_COLUMN = re.compile(r"(\w+) ([\w() |]+)([!~]?)(=?)(\+?)")


def _column(nulls: str, types: str, default: str, later: str) -> Column:
    may_be_null = None if nulls == "~" else nulls != "!"
    return Column(tuple(types.split("|")), may_be_null, default == "=", later == "+")


SHAPES = {
    table: {
        name: _column(nulls, types, default, later)
        for name, types, nulls, default, later in _COLUMN.findall(" ".join(columns.split()))
    }
    for table, columns in _WRITTEN.items()
}

# Columns that are unique together: upserts rely on them.
UNIQUE = {
    "price_bars": ("instrument_id", "ts", "interval"),
    "features": ("instrument_id", "ts"),
    "model_versions": ("version",),
    "rejected_bars": ("row_hash",),
    "adjustments": ("symbol", "session"),
    "unexplained_jumps": ("symbol", "session"),
    "fetch_results": ("round_id", "symbol"),
    "feature_state": ("symbol",),
    "universe_members": ("symbol", "member_from"),
    "trials": ("params_hash", "data_version"),
    "recommendation_outcomes": ("recommendation_id",),
    "noticed_runs": ("instance_id", "event_id"),
    "vendor_actions": ("symbol", "session"),
}
# Columns that are unique together among active rows alone.
UNIQUE_WHILE_ACTIVE = {"model_versions": ("is_active",), "recommendations": ("instrument_id", "profile")}


def holds(found: str, wanted: tuple[str, ...]) -> bool:
    """Whether a type, as PostgreSQL writes it, holds every value of one of the wanted types exactly."""
    return any(_holds(found, each) for each in wanted)


def _holds(found: str, wanted: str) -> bool:
    if wanted == "timestamp":
        return found in {"timestamp without time zone", "timestamp(6) without time zone"}
    if wanted == "text":
        return found in {"text", "character varying"}
    if longest := re.fullmatch(r"varchar\((\d+)\)", wanted):
        length = re.fullmatch(r"character varying\((\d+)\)", found)
        return _holds(found, "text") or (length is not None and int(length[1]) >= int(longest[1]))
    return found == wanted
