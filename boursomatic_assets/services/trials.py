"""The ledger of trials: each look at the figures of a test set counts as one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.measures.performance import SESSIONS_PER_YEAR
from boursomatic_assets.core.measures.ranking import rank_ic
from boursomatic_assets.storage.postgres.trials_table import Trial, closes_version, record_trial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.storage.postgres.database import Database


def count_as_trial(  # noqa: PLR0913, PLR0917 (what was tried, on what, and what came of it)
    database: Database,
    experiment: Experiment,
    labels: pl.DataFrame,
    predictions: pl.DataFrame,
    metrics: Mapping[str, Any],
    run_id: str,
) -> None:
    """Record that the figures of the test set were seen."""
    test = predictions.filter(pl.col("set") == "test")
    coefficient, sharpe = rank_ic(test)["rank_ic"].mean(), metrics["test_sharpe_ratio"]
    first, last, test_first, test_last = (
        time for panel in (labels, test) for time in (panel["session"].min(), panel["session"].max())
    )
    trial = Trial(
        params_hash=experiment.params_hash,
        experiment=experiment.model_dump(mode="json"),
        data_version=closes_version(labels),
        symbols=labels["symbol"].n_unique(),
        first_session=first,  # type: ignore[arg-type]
        last_session=last,  # type: ignore[arg-type]
        test_first=test_first,  # type: ignore[arg-type]
        test_last=test_last,  # type: ignore[arg-type]
        sharpe=None if sharpe is None else sharpe / math.sqrt(SESSIONS_PER_YEAR),
        rank_ic=None if coefficient is None else float(coefficient),  # type: ignore[arg-type]
        matched_lift=metrics["matched_lift_buy_test"],
        accuracy=metrics["test_accuracy"],
        run_id=run_id,
    )
    record_trial(database, trial)
