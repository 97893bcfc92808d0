"""What the two models are worth on sessions they have not seen, each figure beside its baseline."""

import math
from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.evaluation.metrics import measure
from boursomatic_assets.core.evaluation.plausibility import implausible_figures, impossible_figures
from boursomatic_assets.core.evaluation.price_moves import suspect_moves
from boursomatic_assets.core.evaluation.suspects import LISTED, impossible_prices
from boursomatic_assets.core.market.bars import fingerprint
from boursomatic_assets.core.measures.performance import SESSIONS_PER_YEAR
from boursomatic_assets.core.measures.ranking import rank_ic
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.models.training import feature_importance as rank_features
from boursomatic_assets.core.portfolio.book import closes_of_books
from boursomatic_assets.core.registry.bundle import sha256, strict_json
from boursomatic_assets.display.ui.canvas import embedded
from boursomatic_assets.display.ui.metadata import data_version, numeric_metadata, table_metadata
from boursomatic_assets.display.ui.model_pictures import confusion_picture, equity_picture, importance_picture
from boursomatic_assets.services.reference_prices import judged_closes
from boursomatic_assets.storage.dagster.instance import CLOSES_VERSION
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource
from boursomatic_assets.storage.postgres.trials_table import Trial, closes_version, record_trial

# In the value and its preview, but not worth a plot of their own.
_DETAILS = ("early_exits", "exposure", "turnover", "annual_return", "_train", "prior_accuracy", "prior_log_loss")


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
    """Accuracy, BUY precision, forecast errors and the daily book's figures, net of cost, on each set.

    `sharpe_ratio`, `max_drawdown`, `mean_return` and `total_return` are the validation set's; those of the test
    set begin with `test_`. Who has seen them has had a trial, which the ledger counts.
    Calls are those that the threshold makes; `most_probable_accuracy` is the classifier's own, without it.
    """
    closes = closes_of_books(price_bars, labels, predictions["session"].min())  # type: ignore[arg-type]
    found = measure(predictions, threshold["tau"], train_set, classifier, closes, experiment.value())
    value = found.to_json()
    trial = _trial(experiment.value(), labels, predictions, value, context.run.run_id)
    record_trial(platform.database(), trial)
    shown = {name: figure for name, figure in found.figures.items() if not name.endswith(_DETAILS)}
    metadata = {
        "equity_and_drawdown": dg.MetadataValue.md(
            embedded(equity_picture(found.books), "Equity and drawdown of the BUY calls")
        ),
        "confusion_matrices": dg.MetadataValue.md(
            embedded(confusion_picture(found.confusions, CLASS_NAMES), "Confusion matrices")
        ),
        **numeric_metadata(shown),
        **({"undefined": value["undefined"]} if value["undefined"] else {}),
        # A version is recorded with these closes, so that its figures can be made again.
        CLOSES_VERSION: fingerprint(closes),
        "preview": dg.MetadataValue.json(value),
    }
    return dg.Output(value, metadata=metadata, data_version=dg.DataVersion(sha256(strict_json(value))))


def _trial(
    experiment: Experiment, labels: pl.DataFrame, predictions: pl.DataFrame, value: dict[str, Any], run_id: str
) -> Trial:
    test = predictions.filter(pl.col("set") == "test")
    coefficient, sharpe = rank_ic(test)["rank_ic"].mean(), value["test_sharpe_ratio"]
    first, last, test_first, test_last = (
        time for panel in (labels, test) for time in (panel["session"].min(), panel["session"].max())
    )
    return Trial(
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
        matched_lift=value["matched_lift_buy_test"],
        accuracy=value["test_accuracy"],
        run_id=run_id,
    )


@dg.asset(
    group_name="metrics",
    kinds={"lightgbm", "parquet"},
    owners=OWNERS,
    code_version=code_version(__name__, "feature_importance"),
    io_manager_key="panels",
)
def feature_importance(classifier: FittedModel, regressor: FittedModel) -> dg.Output[pl.DataFrame]:
    """Which features the trees of both models split on, and how much each split gained."""
    ranked = rank_features(classifier, regressor)
    gains = dict(zip(ranked["feature"], ranked["classifier_gain"], strict=True))
    metadata = {
        **table_metadata(ranked),
        **{f"gain_{name}": float(gain) for name, gain in gains.items()},
        "importance": dg.MetadataValue.md(embedded(importance_picture(ranked), "Feature importance")),
    }
    return dg.Output(ranked, metadata=metadata, data_version=data_version(ranked))


@dg.asset_check(asset=metrics, blocking=True)
def figures_are_possible(metrics: dict[str, Any]) -> dg.AssetCheckResult:
    """No figure is outside what arithmetic allows: drawdown in [-1, 0], accuracy in [0, 1], and so on."""
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

    A move beyond ten times or one fiftieth of the close before, or one beyond four times or a quarter that another
    undoes within five bars. Real moves pass once they are explained: boursomatic adjustments add SYMBOL SESSION 1
    """
    moves = suspect_moves(judged_closes(platform.database(), labels))
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
    """No figure is better than such features can be: a warning to look for a leak before being glad."""
    too_good = implausible_figures(_figures(metrics), threshold_chosen=metrics["threshold"] is not None)
    return dg.AssetCheckResult(
        passed=not too_good, severity=dg.AssetCheckSeverity.WARN, metadata={"too_good": too_good}
    )


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
    undefined = dict.fromkeys(metrics["undefined"], float("nan"))
    return {name: float(value) for name, value in metrics.items() if isinstance(value, float | int)} | undefined
