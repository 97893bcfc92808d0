"""Selects a recommendation and builds its trace."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.recommendations.evidence import Evidence, is_of_this_platform
from boursomatic_assets.core.trace.recomputation import call_step, snapshot_step
from boursomatic_assets.core.trace.tree import DIFFERS, NOT_RECORDED, Trace, TraceStep, group_step
from boursomatic_assets.errors import UnknownRecommendationError
from boursomatic_assets.services.tracing.history import traced_features
from boursomatic_assets.services.tracing.model import traced_prediction, writing_run
from boursomatic_assets.storage.postgres.stored_recommendations import find_recommendation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster import DagsterInstance

    from boursomatic_assets.storage.postgres.database import Database

_FACTS = (
    "id", "symbol", "session", "profile", "label", "confidence", "expected_return_pct", "horizon_days", "stop_loss",
    "take_profit", "justification", "version", "generated_at", "is_active",
)  # fmt: skip
USUAL_PROFILE = "moderate"


def choose_recommendation(
    database: Database, wanted: str, session: date | None = None, profile: str | None = None
) -> dict[str, Any]:
    """The recommendation of an id, or of a symbol, session (by default the active one) and profile (`moderate`).

    Returns a row of `find_recommendation`, the newest of several; raises UnknownRecommendationError without one.
    """
    found = find_recommendation(database, wanted, session)
    # An id names one row, whatever its profile.
    named = [row for row in found if row["id"] == wanted.lower() and profile in {None, row["profile"]}]
    chosen = named or [row for row in found if row["profile"] == (profile or USUAL_PROFILE)]
    if chosen:
        return chosen[0]
    which = f"of {session}" if session else "that is active; for a session that has passed add --session"
    others = ", ".join(dict.fromkeys(row["profile"] for row in found)) or "none of any profile"
    message = (
        f"there is no recommendation {wanted!r} {which} (profile {profile or USUAL_PROFILE}; there is: {others}).\n"
        "See what there is: boursomatic recommendations"
    )
    raise UnknownRecommendationError(message)


def trace_row(database: Database, instance: DagsterInstance, row: Mapping[str, Any]) -> Trace:
    """Trace a recommendation, as `choose_recommendation` returns it, back to the bars."""
    facts = {name: _plain(row[name]) for name in _FACTS}
    evidence = Evidence.of(row["snapshot"])
    if isinstance(evidence, str):
        status = DIFFERS if is_of_this_platform(row["snapshot"]) else NOT_RECORDED
        return Trace(facts, TraceStep("recommendation", status, detail=evidence))
    parts = [
        snapshot_step(evidence),
        call_step(row, evidence),
        traced_prediction(instance, row, evidence),
        traced_features(database, row, evidence),
        writing_run(instance, evidence),
    ]
    return Trace(
        facts, group_step("recommendation", parts, f"{row['symbol']}, {row['profile']}, {evidence.session}")
    )


def _plain(value: object) -> object:
    """A value as JSON can hold it."""
    return value.isoformat() if isinstance(value, date) else value
