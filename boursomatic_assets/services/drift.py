"""The rows in which drift is searched: the active model's inputs since its training panel."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.drift.watch import SESSIONS_NEEDED, with_predictions
from boursomatic_assets.storage.postgres.features_table import read_inputs
from boursomatic_assets.storage.postgres.panels import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.registry.bundle import Bundle
    from boursomatic_assets.storage.postgres.database import Database

# Calendar days that hold `SESSIONS_NEEDED` sessions of any exchange.
DAYS_BEFORE = 4 * SESSIONS_NEEDED


def rows_since_training(database: Database, bundle: Bundle, reference: Mapping[str, Any]) -> pl.DataFrame:
    """Inputs of the model for its universe since its training panel, with its predictions."""
    learned_until = date.fromisoformat(reference["last_session"])
    selection = Selection(symbols=bundle.manifest.universe, since=learned_until - timedelta(days=DAYS_BEFORE))
    rows = read_inputs(database, bundle.experiment.features, selection)
    learned = rows.filter(pl.col("session") <= learned_until)
    # The first window after the training panel is compared with the panel's last sessions.
    before = learned["session"].unique().sort().tail(SESSIONS_NEEDED - 1).min()
    kept = rows if before is None else rows.filter(pl.col("session") >= before)
    return with_predictions(kept, bundle.classifier()) if kept.height else kept
