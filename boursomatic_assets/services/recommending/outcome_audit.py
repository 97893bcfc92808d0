"""Audit of stored outcomes: a second computation, bar by bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.leaks import sampled_symbols
from boursomatic_assets.core.recommendations.outcome_audit import differences, slow_outcome
from boursomatic_assets.storage.postgres.bar_history import changes_since
from boursomatic_assets.storage.postgres.market_tables import read_usable_bars
from boursomatic_assets.storage.postgres.outcomes_table import read_outcomes
from boursomatic_assets.storage.postgres.panels import Selection
from boursomatic_assets.storage.postgres.stored_recommendations import find_recommendation

if TYPE_CHECKING:
    from datetime import date

    from boursomatic_assets.storage.postgres.database import Database

ROWS_A_SYMBOL = 6
_NAMED = ["symbol", "session", "profile", "label"]


@dataclass(frozen=True)
class OutcomeAudit:
    """Result of computing some outcomes again from their bars.

    `wrong` names each recommendation and in `differs_in` its columns. `rewritten_since` differ because bars changed
    after the outcome was stored.
    """

    rows: int
    wrong: list[dict[str, Any]]
    rewritten_since: int
    without_bars: int


def audit_outcomes(database: Database) -> OutcomeAudit:
    """Compute the newest outcomes of sampled symbols again and compare them with the stored ones."""
    rows, bars = _sampled(database)
    wrong, rewritten, without_bars = [], 0, 0
    for row in rows.to_dicts():
        call = _call(database, row)
        found = slow_outcome(call, bars.filter(pl.col("symbol") == row["symbol"]))
        names = [] if found is None else differences(row, call, found)
        if found is None:
            without_bars += 1
        elif names and _rewritten_since(database, row, found.exit_session):
            rewritten += 1
        elif names:
            wrong.append({**{name: row[name] for name in _NAMED}, "differs_in": ", ".join(names)})
    return OutcomeAudit(rows.height, wrong, rewritten, without_bars)


def _sampled(database: Database) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Some stored outcomes, and the bars of their symbols from the first session on."""
    stored = read_outcomes(database)
    spans = stored.group_by("symbol").agg(rows=pl.len(), last=pl.col("session").max())
    symbols = sampled_symbols(spans)
    rows = stored.filter(pl.col("symbol").is_in(symbols)).group_by("symbol").tail(ROWS_A_SYMBOL)
    first: Any = rows["session"].min()
    bars = read_usable_bars(database, ["high", "low", "close", "exchange"], Selection(symbols=symbols, since=first))
    return rows, bars


def _call(database: Database, row: dict[str, Any]) -> dict[str, Any]:
    """The recommendation, in the form that `differences` takes."""
    (found,) = find_recommendation(database, row["recommendation_id"])
    return {**found, **found["snapshot"]["labelling"], "close": found["snapshot"]["close"]}


def _rewritten_since(database: Database, row: dict[str, Any], exit_session: date) -> bool:
    until = max(exit_session, row["exit_session"])
    changes = changes_since(database, row["symbol"], until, row["judged_at"])
    return changes.filter(pl.col("session") >= row["session"]).height > 0
