"""Predictions of simple baselines for the same rows."""

from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.dataset.splits import judged_sets
from boursomatic_assets.core.models.baselines import baseline_columns, fit_volatility_classifier
from boursomatic_assets.core.models.predictions import SET_TYPE
from boursomatic_assets.display.ui.metadata import column_lineage, data_version, panel_metadata
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource


@dg.asset(
    group_name="baselines",
    kinds={"lightgbm", "parquet"},
    owners=OWNERS,
    code_version=code_version(__name__, "baselines"),
    io_manager_key="panels",
    ins={"price_bars": dg.AssetIn(metadata={"recent": True, "columns": ["close"]})},
)
def baselines(  # noqa: PLR0913, PLR0917 (each input is an edge of the lineage)
    train_set: pl.DataFrame,
    validation_set: pl.DataFrame,
    test_set: pl.DataFrame,
    labels: pl.DataFrame,
    price_bars: pl.DataFrame,
    experiment: ExperimentResource,
    platform: PlatformResource,
) -> dg.Output[pl.DataFrame]:
    """Volatility-only classifier, 12-1 momentum and the training set's averages, for each predicted row.

    The volatility-only classifier has the same parameters as the model and one feature, `vol_20d`: its figures need
    no skill in predicting a direction.
    """
    volatility = fit_volatility_classifier(train_set, experiment.value(), platform.settings().threads)
    sets = judged_sets({"validation": validation_set, "test": test_set}, labels, experiment.value())
    parts = [
        baseline_columns(rows, train_set, volatility, price_bars).with_columns(set=pl.lit(name, SET_TYPE))
        for name, rows in sets.items()
    ]
    panel = pl.concat(parts).select("symbol", "session", "set", pl.exclude("symbol", "session", "set"))
    panel = panel.sort("symbol", "session")
    metadata: dict[str, Any] = {
        **panel_metadata(panel),
        **column_lineage("baselines", experiment.value().features),
        "rows_without_momentum": panel["momentum_12_1"].null_count(),
        "volatility_only_trees": volatility.booster.num_trees() if volatility else 0,
    }
    return dg.Output(panel, metadata=metadata, data_version=data_version(panel))
