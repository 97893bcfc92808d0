"""The features behind a recommendation, and the bars and adjustments behind the features, then and now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.features import FEATURE_NAMES
from boursomatic_assets.core.market.vendor_actions import noted_adjustments
from boursomatic_assets.core.trace.bars import adjustments_step, bars_step, features_at, features_step
from boursomatic_assets.core.trace.tree import GONE, TraceStep, digest_step, group_step
from boursomatic_assets.storage.postgres.adjustments_table import read_corrections
from boursomatic_assets.storage.postgres.bar_history import (
    CHANGE_SCHEMA,
    bars_now,
    bars_then,
    changes_since,
    content_then,
    content_until,
)
from boursomatic_assets.storage.postgres.features_table import read_features
from boursomatic_assets.storage.postgres.panels import Selection
from boursomatic_assets.storage.postgres.tables import KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.market.vendor_actions import Adjustment
    from boursomatic_assets.core.recommendations.evidence import Evidence
    from boursomatic_assets.storage.postgres.database import Database

# Later than any session.
_FOR_EVER = date(9999, 12, 31)


@dataclass(frozen=True)
class _History:
    """The bars behind a recommendation: their content sum now, and `CHANGE_SCHEMA` changes since.

    `moment` is when they equalled the recorded ones, None unless changes were undone; `is_same` if they still do.
    """

    content: str
    changes: pl.DataFrame
    moment: datetime | None = None
    is_same: bool = False

    @property
    def is_restored(self) -> bool:
        """Whether undoing later changes restores the recorded bars."""
        return self.moment is not None


def traced_features(database: Database, row: Mapping[str, Any], evidence: Evidence) -> TraceStep:
    """The features: as stored, as computed from the bars of then, and these bars and adjustments."""
    symbol, session = row["symbol"], evidence.session
    history = _history(database, row, evidence)
    now = bars_now(database, symbol, session)
    then = now if history.moment is None else bars_then(database, symbol, session, history.moment)
    entered = _adjustments(database, symbol)
    noted = entered if evidence.bars.adjustments is None else evidence.bars.adjustments
    exchange = evidence.bars.exchange or row["exchange"]
    has_other_bars = evidence.content is not None and not history.is_same
    has_changed = has_other_bars or (noted, exchange) != (entered, row["exchange"])
    # Without bars, then or now, no features can be expected.
    today = (features_at(now, row["exchange"], entered, session) or {}) if has_changed else None
    parts = [
        features_step(
            "stored row", evidence, _stored(database, symbol, session), "The table features", today=today
        ),
        _computed_again(evidence, history, features_at(then, exchange, noted, session)),
    ]
    if today is not None:
        detail = "From the bars and adjustments of now"
        parts.append(features_step("computed today", evidence, today or None, detail, today=today))
    recorded = evidence.content
    bars = bars_step(
        recorded, history.content, history.changes, is_same=history.is_same, is_restored=history.is_restored
    )
    which = "whose calendar the bars are read by"
    origin = [
        bars,
        adjustments_step(evidence.bars.adjustments, entered),
        digest_step("exchange", evidence.bars.exchange, row["exchange"], which),
    ]
    return group_step("features", [*parts, *origin])


def _computed_again(evidence: Evidence, history: _History, found: Mapping[str, Any] | None) -> TraceStep:
    name = "computed again"
    if evidence.content is not None and not (history.is_same or history.is_restored):
        return TraceStep(name, GONE, detail="the bars of then are not on record")
    which = "bars as they are" if evidence.content is None else "bars of then"
    return features_step(name, evidence, found, f"From the {which} and the adjustments of then")


def _history(database: Database, row: Mapping[str, Any], evidence: Evidence) -> _History:
    symbol, session, recorded = row["symbol"], evidence.session, evidence.content
    content = content_until(database, symbol, session)
    nothing = pl.DataFrame(schema=CHANGE_SCHEMA)
    if recorded is None or content == recorded:
        return _History(content, nothing, is_same=recorded is not None)
    for moment in _moments(database, row, session):
        # Recorded content covers all bars, also those after the session.
        if content_then(database, symbol, _FOR_EVER, moment) == recorded:
            changes = changes_since(database, symbol, session, moment)
            return _History(recorded if changes.is_empty() else content, changes, moment, changes.is_empty())
    return _History(content, changes_since(database, symbol, session, row["generated_at"]))


def _moments(database: Database, row: Mapping[str, Any], session: date) -> list[datetime]:
    """Moments at which the features may have been computed; bars may have changed before the recommendation."""
    known = database.read(
        f"WITH {KEYS} SELECT f.created_at AS moment FROM features f JOIN keys k ON k.id = f.instrument_id "  # noqa: S608
        "WHERE k.symbol = $1 AND f.ts = $2::text::timestamp "
        "UNION SELECT computed_at FROM feature_state WHERE symbol = $1",
        [row["symbol"], session.isoformat()],
    )["moment"].to_list()
    written: datetime = row["generated_at"]
    return [written, *sorted((moment for moment in known if moment < written), reverse=True)]


def _adjustments(database: Database, symbol: str) -> list[Adjustment]:
    with database.bulk() as cursor:
        applied = read_corrections(cursor).applied
    return noted_adjustments(applied.filter(pl.col("symbol") == symbol))


def _stored(database: Database, symbol: str, session: date) -> dict[str, float | None] | None:
    selection = Selection(symbols=[symbol], since=session)
    found = read_features(database, FEATURE_NAMES, selection).filter(pl.col("session") == session)
    return found.select(FEATURE_NAMES).row(0, named=True) if found.height else None
