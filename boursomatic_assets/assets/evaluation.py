"""The evaluation: every figure of the test set with interval, baseline and p-value, and the verdict."""

from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.evaluation.evaluation import RecordedFigures, Suspects
from boursomatic_assets.core.evaluation.plausibility import impossible_figures, too_good, why_too_good
from boursomatic_assets.core.models.threshold import judged_rows
from boursomatic_assets.core.portfolio.books import books_of
from boursomatic_assets.display.ui.evaluation import evaluation_metadata, suspects_metadata
from boursomatic_assets.display.ui.metadata import data_version
from boursomatic_assets.services.judging import evaluate_stored
from boursomatic_assets.services.reference_prices import read_benchmark
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource


@dg.asset(
    group_name="evaluation",
    kinds={"json"},
    owners=OWNERS,
    code_version=code_version(__name__, "evaluation"),
    io_manager_key="figures",
    ins={"labels": dg.AssetIn(metadata={"columns": ["symbol", "session"]})},
    # Closes are searched for impossible moves; the benchmark's closes give its sessions.
    deps=["price_bars"],
)
def evaluation(  # noqa: PLR0913, PLR0917 (each input is an edge of the lineage)
    predictions: pl.DataFrame,
    threshold: dict[str, Any],
    baselines: pl.DataFrame,
    portfolio: pl.DataFrame,
    labels: pl.DataFrame,
    experiment: ExperimentResource,
    platform: PlatformResource,
) -> dg.Output[dict[str, Any]]:
    """The figures of the newest model on the test set, and a verdict on its skill.

    Each figure has a 95 % interval, a p-value if there is a test, and the value without skill or of a simple
    baseline. Labels of neighbouring sessions overlap, and the tests allow for it. The record of skill over more
    sessions is `walk_forward_summary`.
    """
    settings, database = experiment.value(), platform.database()
    judged = judged_rows(predictions, baselines, threshold["tau"])
    benchmark = read_benchmark(database, platform.settings(), settings.benchmark)
    books = books_of(portfolio, settings.cost_bps)
    evaluated = evaluate_stored(database, judged, books, settings, "test set", labels=labels, benchmark=benchmark)
    value = {**evaluated.to_json(), "threshold": {name: threshold[name] for name in ("tau", "reason")}}
    return dg.Output(value, metadata=evaluation_metadata(evaluated), data_version=data_version(value))


@dg.asset_check(asset=evaluation, blocking=True)
def evaluated_figures_are_possible(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    """Every figure is within its arithmetic bounds, and every interval contains its figure."""
    recorded = RecordedFigures.model_validate(evaluation)
    impossible = impossible_figures(recorded.values)
    # Noise always raises the calibration error: its percentile interval lies above the value.
    outside = [each.name for each in recorded.figures if not each.is_inside and each.name != "ece_buy"]
    return dg.AssetCheckResult(
        passed=not impossible and not outside, metadata={"impossible": impossible, "outside_interval": outside}
    )


@dg.asset_check(asset=evaluation)
def evaluated_figures_are_plausible(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    """No figure is better than such features can achieve. A failure is a warning: look for a leak."""
    recorded = RecordedFigures.model_validate(evaluation)
    implausible = too_good(recorded.values)
    return dg.AssetCheckResult(
        passed=not implausible,
        severity=dg.AssetCheckSeverity.WARN,
        description=why_too_good(recorded.figures) or None,
        metadata={"too_good": implausible},
    )


@dg.asset_check(asset=evaluation)
def evaluated_figures_rest_on_plausible_prices(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    """No price, book or error moved more than markets do. A warning names symbol and session."""
    return price_check(evaluation)


def price_check(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    """Warn of suspect prices, by symbol and session."""
    suspects = Suspects.model_validate(evaluation["suspects"])
    return dg.AssetCheckResult(
        passed=suspects.sentence is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=suspects.sentence,
        metadata=suspects_metadata(suspects),
    )
