"""The figures of both models on the validation and test sets, each beside its baseline; feature importance."""

from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.evaluation.metrics import measure
from boursomatic_assets.core.evaluation.plausibility import implausible_figures, impossible_figures
from boursomatic_assets.core.evaluation.suspects import LISTED, impossible_prices
from boursomatic_assets.core.models.predictions import classify_rows
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.models.training import feature_importance as rank_features
from boursomatic_assets.core.portfolio.book import closes_of_books
from boursomatic_assets.display.ui.metadata import data_version
from boursomatic_assets.display.ui.metrics import importance_metadata, metrics_metadata
from boursomatic_assets.services.judging import suspect_prices
from boursomatic_assets.services.trials import count_as_trial
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource


@dg.asset(
    group_name="metrics",
    kinds={"scikitlearn", "json"},
    owners=OWNERS,
    code_version=code_version(__name__, "metrics"),
    io_manager_key="figures",
    ins={
        "labels": dg.AssetIn(metadata={"columns": ["symbol", "session", "close"]}),
        "price_bars": dg.AssetIn(metadata={"recent": True, "columns": ["close", "exchange"]}),
    },
)
def metrics(  # noqa: PLR0913, PLR0917 (each input is an edge of the lineage)
    context: dg.AssetExecutionContext,
    predictions: pl.DataFrame,
    threshold: dict[str, Any],
    classifier: FittedModel,
    train_set: pl.DataFrame,
    labels: pl.DataFrame,
    price_bars: pl.DataFrame,
    experiment: ExperimentResource,
    platform: PlatformResource,
) -> dg.Output[dict[str, Any]]:
    """Accuracy, BUY precision, forecast errors and figures of the daily book, net of cost, on each set.

    `sharpe_ratio`, `max_drawdown`, `mean_return` and `total_return` are the validation set's; those of the test
    set begin with `test_`. Each run on another experiment or data counts as one trial in the ledger.
    The threshold makes the calls; `most_probable_accuracy` is the accuracy of the most probable class.
    """
    closes = closes_of_books(price_bars, labels, predictions["session"].min())  # type: ignore[arg-type]
    settings = experiment.value()
    measured = measure(predictions, threshold["tau"], classify_rows(train_set, classifier), closes, settings)
    value = measured.to_json()
    count_as_trial(platform.database(), settings, labels, predictions, value, context.run.run_id)
    return dg.Output(
        value,
        metadata=metrics_metadata(measured, value, closes),
        data_version=data_version(value),
    )


@dg.asset(
    group_name="metrics",
    kinds={"lightgbm", "parquet"},
    owners=OWNERS,
    code_version=code_version(__name__, "feature_importance"),
    io_manager_key="panels",
)
def feature_importance(classifier: FittedModel, regressor: FittedModel) -> dg.Output[pl.DataFrame]:
    """How often the trees of both models split on each feature, and the gain of these splits."""
    ranked = rank_features(classifier, regressor)
    return dg.Output(ranked, metadata=importance_metadata(ranked), data_version=data_version(ranked))


@dg.asset_check(asset=metrics, blocking=True)
def figures_are_possible(metrics: dict[str, Any]) -> dg.AssetCheckResult:
    """Every figure is within its arithmetic bounds: drawdown in [-1, 0], accuracy in [0, 1], and so on."""
    impossible = impossible_figures(_figures(metrics))
    return dg.AssetCheckResult(passed=not impossible, metadata={"impossible": impossible})


@dg.asset_check(
    asset=metrics,
    blocking=True,
    additional_ins={"labels": dg.AssetIn(metadata={"columns": ["symbol", "session"]})},
    additional_deps=["price_bars"],
)
def prices_behind_the_figures_can_be(labels: pl.DataFrame, platform: PlatformResource) -> dg.AssetCheckResult:
    """No close of a learned or judged instrument moved as no listed company can; named by symbol and session.

    Impossible are moves above ten times or below one fiftieth of the close before, and moves above four times or
    below a quarter that are reversed within five bars. Accept a real move: boursomatic adjustments add SYMBOL
    SESSION 1
    """
    moves = suspect_prices(platform.database(), labels)
    impossible = [move for move in moves if not move.possible]
    return dg.AssetCheckResult(
        passed=not impossible,
        description=impossible_prices(impossible) if impossible else None,
        metadata={
            "impossible_moves": [move.to_json() for move in impossible[:LISTED]],
            "suspect_moves": [move.to_json() for move in moves[:LISTED]],
            "suspect_moves_found": len(moves),
        },
    )


@dg.asset_check(asset=metrics)
def figures_are_plausible(metrics: dict[str, Any]) -> dg.AssetCheckResult:
    """No figure is better than such features can achieve. A failure is a warning: look for a leak."""
    too_good = implausible_figures(_figures(metrics), threshold_chosen=metrics["threshold"] is not None)
    return dg.AssetCheckResult(
        passed=not too_good, severity=dg.AssetCheckSeverity.WARN, metadata={"too_good": too_good}
    )


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
    undefined = dict.fromkeys(metrics["undefined"], float("nan"))
    return {name: float(value) for name, value in metrics.items() if isinstance(value, float | int)} | undefined
