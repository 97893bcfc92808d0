"""The two models: LightGBM classifier of BUY / HOLD / SELL, and regressor of the forward return."""

import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.models.training import FittedModel, fit_classifier, fit_regressor
from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.display.ui.lineage_picture import lineage_picture
from boursomatic_assets.display.ui.metadata import column_lineage, picture
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource

ROWS_CHECKED = 1000


@dg.asset(
    group_name="models",
    kinds={"lightgbm", "scikitlearn"},
    owners=OWNERS,
    code_version=code_version(__name__, "classifier"),
    io_manager_key="models",
)
def classifier(
    train_set: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.Output[FittedModel]:
    """LightGBM classifier of the probabilities of BUY, HOLD and SELL."""
    return _trained("classifier", fit_classifier, train_set, experiment.value(), platform.settings().threads)


@dg.asset(
    group_name="models",
    kinds={"lightgbm", "scikitlearn"},
    owners=OWNERS,
    code_version=code_version(__name__, "regressor"),
    io_manager_key="models",
)
def regressor(
    train_set: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.Output[FittedModel]:
    """LightGBM regressor of the return over the next `horizon` sessions."""
    return _trained("regressor", fit_regressor, train_set, experiment.value(), platform.settings().threads)


def _trained(
    asset: str,
    fit: Callable[[pl.DataFrame, Experiment, int], FittedModel],
    train_set: pl.DataFrame,
    experiment: Experiment,
    threads: int,
) -> dg.Output[FittedModel]:
    started = time.perf_counter()
    model = fit(train_set, experiment, threads)
    parameters = experiment.part_for(asset)[asset]
    metadata: dict[str, Any] = {
        "where_each_input_comes_from": picture(
            lineage_picture(experiment.features), "From price bars to the models, column by column"
        ),
        "training_rows": train_set.height,
        "training_seconds": round(time.perf_counter() - started, 3),
        "trees": model.booster.num_trees(),
        "parameters": dg.MetadataValue.json({**parameters, "seed": experiment.seed}),
        "text_sha256": sha256(model.text.encode()),
        "pickle_sha256": sha256(model.pickled),
        "preview": dg.MetadataValue.md(_head(model.text)),
        **column_lineage(asset, experiment.features),
    }
    return dg.Output(model, metadata=metadata, data_version=dg.DataVersion(sha256(model.text.encode())))


def _head(text: str) -> str:
    """First lines of the model's text, without two very long ones."""
    lines = [line for line in text.splitlines()[:12] if not line.startswith(("feature_infos", "tree_sizes"))]
    return "```\n" + "\n".join(lines) + "\n```"


_ON_VALIDATION = {"validation_set": dg.AssetIn("validation_set")}


@dg.asset_check(asset=classifier, blocking=True, additional_ins=_ON_VALIDATION)
def probabilities_sum_to_one(classifier: FittedModel, validation_set: pl.DataFrame) -> dg.AssetCheckResult:
    """Each row's three probabilities lie within 0 and 1 and sum to 1."""
    probabilities = classifier.predict(validation_set.head(ROWS_CHECKED))
    worst = float(np.abs(probabilities.sum(axis=1) - 1).max())
    within = bool(((probabilities >= 0) & (probabilities <= 1)).all())
    return dg.AssetCheckResult(passed=within and worst < 1e-9, metadata={"largest_deviation": worst})  # noqa: PLR2004


@dg.asset_check(asset=regressor, blocking=True, additional_ins=_ON_VALIDATION)
def forecasts_are_finite(regressor: FittedModel, validation_set: pl.DataFrame) -> dg.AssetCheckResult:
    """Every forecast is a finite number."""
    forecasts = regressor.predict(validation_set.head(ROWS_CHECKED))
    finite = bool(np.isfinite(forecasts).all())
    return dg.AssetCheckResult(passed=finite, metadata={"mean_forecast": float(forecasts.mean())})
