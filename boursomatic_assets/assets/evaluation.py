"""Every figure of the test set with its interval, its baseline and its chance without skill; and the conclusion."""

from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.evaluation.evaluation import RecordedFigures, Suspects
from boursomatic_assets.core.evaluation.plausibility import impossible_figures, too_good, why_too_good
from boursomatic_assets.core.models.threshold import judged_rows
from boursomatic_assets.core.portfolio.books import books_of
from boursomatic_assets.display.ui.evaluation import evaluation_metadata
from boursomatic_assets.display.ui.metadata import data_version
from boursomatic_assets.display.ui.suspects import suspects_metadata
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
    # The closes are looked through for moves that cannot be; the benchmark's say which sessions it covers.
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
    """What the newest model is worth on the test set, and what a careful reader may conclude from it.

    Each figure has a 95 % interval, a p-value where there is a test, and beside it what no skill or a simple
    baseline would give. Labels of neighbouring sessions overlap, and the tests allow for it. The record of skill
    over more sessions is `walk_forward_summary`.
    """
    settings, database = experiment.value(), platform.database()
    judged = judged_rows(predictions, baselines, threshold["tau"])
    benchmark = read_benchmark(database, platform.settings(), settings.benchmark)
    books = books_of(portfolio, settings.cost_bps)
    found = evaluate_stored(database, judged, books, settings, "test set", labels=labels, benchmark=benchmark)
    value = {**found.to_json(), "threshold": {name: threshold[name] for name in ("tau", "reason")}}
    return dg.Output(value, metadata=evaluation_metadata(found), data_version=data_version(value))


@dg.asset_check(asset=evaluation, blocking=True)
def evaluated_figures_are_possible(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    """No figure is outside what arithmetic allows, and no interval leaves out its own figure."""
    found = RecordedFigures.model_validate(evaluation)
    impossible = impossible_figures(found.values)
    # A percentile interval of what noise always raises lies above its figure.
    outside = [each.name for each in found.figures if not each.is_inside and each.name != "ece_buy"]
    return dg.AssetCheckResult(
        passed=not impossible and not outside, metadata={"impossible": impossible, "outside_interval": outside}
    )


@dg.asset_check(asset=evaluation)
def evaluated_figures_are_plausible(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    """No figure is better than such features can be: a warning to look for a leak before being glad."""
    judged = RecordedFigures.model_validate(evaluation)
    found = too_good(judged.values)
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=why_too_good(judged.figures) or None,
        metadata={"too_good": found},
    )


@dg.asset_check(asset=evaluation)
def evaluated_figures_rest_on_plausible_prices(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    """No price, book or error moved beyond what markets do: a warning that names symbol and session behind."""
    return price_check(evaluation)


def price_check(evaluation: dict[str, Any]) -> dg.AssetCheckResult:
    """Warn of the suspects of an evaluation, by symbol and session."""
    suspects = Suspects.model_validate(evaluation["suspects"])
    return dg.AssetCheckResult(
        passed=suspects.sentence is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=suspects.sentence,
        metadata=suspects_metadata(suspects),
    )
