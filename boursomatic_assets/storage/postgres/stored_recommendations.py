"""Stored recommendations: the active ones, one by id or symbol, and those without an outcome."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import date
from typing import Any

import polars as pl

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_table import artifacts_root, bundle_place
from boursomatic_assets.storage.postgres.panels import SEPARATOR, among
from boursomatic_assets.storage.postgres.tables import KEYS

STORED_SCHEMA: dict[str, pl.DataType] = {
    "id": pl.String(), "symbol": pl.String(), "name": pl.String(), "sector": pl.String(), "exchange": pl.String(),
    "version": pl.String(), "profile": pl.String(), "label": pl.String(), "confidence": pl.Float64(),
    "expected_return_pct": pl.Float64(), "horizon_days": pl.Int32(), "stop_loss": pl.Float64(),
    "take_profit": pl.Float64(), "justification": pl.String(), "session": pl.Date(),
    "generated_at": pl.Datetime("us"), "is_active": pl.Boolean(), "archived_at": pl.Datetime("us"),
    "is_of_active_model": pl.Boolean(),
}  # fmt: skip
OPEN_SCHEMA: dict[str, pl.DataType] = {
    "id": pl.String(), "symbol": pl.String(), "exchange": pl.String(), "session": pl.Date(), "profile": pl.String(),
    "label": pl.String(), "close": pl.Float64(), "stop_loss": pl.Float64(), "take_profit": pl.Float64(),
    "horizon_days": pl.Int32(), "confidence": pl.Float64(), "buy_threshold": pl.Float64(),
    "sell_threshold": pl.Float64(),
}  # fmt: skip
_PROFILE_PLACE = f"array_position(string_to_array('{','.join(PROFILE_NAMES)}', ','), r.profile::text)"
_NEWEST_OF_EACH = f"{_PROFILE_PLACE}, r.profile, r.insertion_number DESC NULLS LAST, r.generated_at DESC, r.id"
_STORED = (
    "r.id::text AS id, k.symbol, i.name, i.sector, i.exchange, m.version, r.profile, r.label, r.confidence, "
    "r.expected_return_pct, r.horizon_days, r.stop_loss, r.take_profit, r.justification, r.session, "
    "r.generated_at, r.is_active, r.archived_at, m.is_active AS is_of_active_model"
)
_FROM = (
    "FROM recommendations r JOIN instruments i ON i.id = r.instrument_id JOIN keys k ON k.id = i.id "
    "JOIN model_versions m ON m.id = r.model_version_id"
)
# Rows of other programs have no session; nothing in their snapshots can be relied on.
_OPEN = (
    "r.session IS NOT NULL AND NOT EXISTS (SELECT FROM recommendation_outcomes o WHERE o.recommendation_id = r.id)"
)


def read_recommendations(  # noqa: PLR0913 (each narrows what is read)
    database: Database,
    *,
    profile: str | None = None,
    label: str | None = None,
    symbols: Sequence[str] | None = None,
    active_only: bool = True,
    limit: int | None = None,
    with_snapshot: bool = False,
) -> pl.DataFrame:
    """Stored recommendations, also of other programs, of `STORED_SCHEMA`.

    Sorted by symbol, then from cautious to bold profile, the newest first. `active_only` leaves archived rows and
    inactive instruments out. `with_snapshot` adds `features_snapshot`, JSON text.
    """
    conditions, parameters = ["true"], []
    for column, value in (("r.profile", profile), ("r.label", label)):
        if value is not None:
            parameters.append(value)
            conditions.append(f"{column} = ${len(parameters)}")
    if symbols is not None:
        parameters.append(SEPARATOR.join(symbols))
        conditions.append(among(len(parameters)))
    if active_only:
        conditions.append("r.is_active AND i.is_active")
    snapshot = ", r.features_snapshot::text AS features_snapshot" if with_snapshot else ""
    found = database.read(
        f"WITH {KEYS} SELECT {_STORED}{snapshot} {_FROM} WHERE {' AND '.join(conditions)} "
        f'ORDER BY k.symbol COLLATE "C", {_NEWEST_OF_EACH} LIMIT {"ALL" if limit is None else int(limit)}',
        parameters,
    )
    return found.cast(STORED_SCHEMA)  # type: ignore[arg-type]


def find_recommendation(database: Database, wanted: str, session: date | None = None) -> list[dict[str, Any]]:
    """All stored values of the recommendation with this id, or of a symbol's active ones or those of a session.

    `STORED_SCHEMA` with `instrument_id`, `model_path`, `manifest_sha256`, `params_hash` and `snapshot` (a dict),
    from cautious to bold profile, the newest first.
    """
    condition, parameters = "k.symbol = $1 AND r.is_active", [wanted]
    if _is_uuid(wanted):
        condition = "r.id = $1::text::uuid"
    elif session is not None:
        condition, parameters = "k.symbol = $1 AND r.session = $2::text::date", [wanted, session.isoformat()]
    found = database.read(
        f"WITH {KEYS} SELECT {_STORED}, r.instrument_id::text AS instrument_id, m.model_path, m.manifest_sha256, "
        f"m.params_hash, r.features_snapshot::text AS snapshot {_FROM} "
        f"WHERE {condition} ORDER BY {_NEWEST_OF_EACH}",
        parameters,
    )
    root = artifacts_root()
    return [
        {**row, "model_path": bundle_place(row["model_path"] or "", root), "snapshot": json.loads(row["snapshot"])}
        for row in found.iter_rows(named=True)
    ]


def _is_uuid(wanted: str) -> bool:
    try:
        uuid.UUID(wanted)
    except ValueError:
        return False
    return True


def open_recommendations(database: Database, until: date | None = None) -> pl.DataFrame:
    """The platform's recommendations without an outcome, archived ones too, of `OPEN_SCHEMA`.

    Sorted by session, symbol and profile. With `until`, only those that may be over by that session: a horizon of n
    sessions lasts at least n days.
    """
    limit = "" if until is None else "AND r.session + r.horizon_days <= $1::text::date"
    found = database.read(
        f"WITH {KEYS} SELECT r.id::text AS id, k.symbol, k.exchange, r.session, r.profile, r.label, s.close, "  # noqa: S608
        "r.stop_loss, r.take_profit, r.horizon_days, r.confidence, "
        "(s.labelling ->> 'buy_threshold')::float8 AS buy_threshold, "
        "(s.labelling ->> 'sell_threshold')::float8 AS sell_threshold "
        "FROM recommendations r JOIN keys k ON k.id = r.instrument_id "
        # Parses each snapshot once, not once per value.
        "CROSS JOIN LATERAL json_to_record(r.features_snapshot) AS s (close float8, labelling json) "
        f"WHERE {_OPEN} {limit} "
        f'ORDER BY r.session, k.symbol COLLATE "C", {_PROFILE_PLACE}, r.insertion_number NULLS FIRST, '
        "r.generated_at, r.id",
        [] if until is None else [until.isoformat()],
    )
    return found.cast(OPEN_SCHEMA)  # type: ignore[arg-type]


def count_open(database: Database) -> int:
    """Number of the platform's recommendations without an outcome."""
    return int(database.value(f"SELECT count(*) FROM recommendations r WHERE {_OPEN}"))  # noqa: S608
