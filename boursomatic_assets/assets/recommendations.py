"""Recommendations of the active model for each risk profile, with reasons and evidence."""

from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import FRESHNESS, OWNERS, code_version
from boursomatic_assets.display.report.trace_page import trace_page
from boursomatic_assets.display.ui.recommendations import (
    broken_rows_metadata,
    faults_metadata,
    recommendations_metadata,
    strongest_row,
)
from boursomatic_assets.services.recommending import audit
from boursomatic_assets.services.recommending.recommend import RecommendationUpdate, update_recommendations
from boursomatic_assets.services.tracing.recommendation import choose_recommendation, trace_row
from boursomatic_assets.storage.artifacts.bundles import code_revision
from boursomatic_assets.storage.artifacts.files import browser_url, write_whole
from boursomatic_assets.storage.dagster.instance import recorded_metadata
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource
from boursomatic_assets.storage.dagster.retries import retried
from boursomatic_assets.storage.postgres.recommendation_faults import (
    repeated_recommendations,
    unlawful_probabilities,
)

TRACES = "traces"
EXAMPLES = 10
# A larger share is more than a few instruments that stopped trading.
MOST_LEFT_OUT = 0.10


@dg.asset(
    group_name="recommendations",
    kinds={"postgres", "lightgbm"},
    owners=OWNERS,
    code_version=code_version(__name__, "recommendations"),
    # The model is the version that the database calls active.
    deps=["model_version", "features", "price_bars", "instruments"],
    freshness_policy=FRESHNESS,
)
@retried
def recommendations(
    context: dg.AssetExecutionContext, experiment: ExperimentResource, platform: PlatformResource
) -> dg.MaterializeResult[None]:
    """BUY, HOLD or SELL on every active instrument for each risk profile, from its newest features.

    The active model version makes them, after all its digests were verified. New rows archive those before them in
    one transaction; unchanged rows are not written again.
    """
    database = platform.database()
    run = {"run_id": context.run.run_id, "code": code_revision()}
    settings = experiment.value()
    update = update_recommendations(database, settings, run, context.log.info)
    metadata = recommendations_metadata(update, settings, database.shown_url)
    return dg.MaterializeResult(
        metadata={**metadata, **_trace_link(context, platform, update)},
        data_version=dg.DataVersion(update.content),
    )


def _trace_link(
    context: dg.AssetExecutionContext, platform: PlatformResource, update: RecommendationUpdate
) -> dict[str, Any]:
    """Trace the strongest call back to its bars, on a page that the UI links."""
    strongest = strongest_row(update.rows)
    database = platform.database()
    row = choose_recommendation(database, strongest["symbol"], profile=str(strongest["profile"]))
    trace = trace_row(database, context.instance, row)
    path = platform.artifacts() / TRACES / f"{row['id']}.html"
    write_whole(path, trace_page(trace))
    address = browser_url(path)
    return {
        "trace": dg.MetadataValue.path(str(path)),
        **({} if address is None else {"open_trace": dg.MetadataValue.url(address)}),
        "trace_matches": trace.matches,
    }


@dg.asset_check(asset=recommendations, blocking=True)
def rows_follow_from_the_model(platform: PlatformResource) -> dg.AssetCheckResult:
    """Some rows, computed again from the bundle and the features stored with them, are the same to the last bit."""
    rows, faults = audit.rows_made_again(platform.database())
    return dg.AssetCheckResult(passed=not faults, metadata=faults_metadata(rows, faults))


@dg.asset_check(asset=recommendations, blocking=True)
def every_active_instrument_is_recommended_or_listed(
    context: dg.AssetCheckExecutionContext, platform: PlatformResource
) -> dg.AssetCheckResult:
    """Each active instrument has a row of every profile by the active model, or is left out with a reason."""
    excluded = recorded_metadata(context.instance, context.run.run_id, "recommendations")["excluded"]
    instruments, missing = audit.unmentioned_instruments(platform.database(), excluded)
    return dg.AssetCheckResult(
        passed=not missing,
        metadata={"instruments": instruments, "left_out": len(excluded), "unmentioned": missing[:EXAMPLES]},
    )


@dg.asset_check(asset=recommendations, blocking=True)
def profiles_nest(platform: PlatformResource) -> dg.AssetCheckResult:
    """Every call of a cautious profile is also a call of each bolder one."""
    return _no_rows(audit.unnested_calls(platform.database()))


@dg.asset_check(asset=recommendations, blocking=True)
def one_row_is_active_per_instrument_and_profile(platform: PlatformResource) -> dg.AssetCheckResult:
    """No instrument has two active recommendations for one profile, whichever program wrote them."""
    return _no_rows(repeated_recommendations(platform.database()))


@dg.asset_check(asset=recommendations, blocking=True)
def probabilities_are_possible(platform: PlatformResource) -> dg.AssetCheckResult:
    """The raw and the calibrated probabilities of every active row sum to 1, and the confidence is one of them."""
    return _no_rows(unlawful_probabilities(platform.database()))


@dg.asset_check(asset=recommendations)
def few_instruments_are_left_out(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """At most a tenth of the instruments is left out; more is a sign of missing prices.

    The benchmark and instruments that are no members now are left out on purpose, and do not count.
    """
    share = recorded_metadata(context.instance, context.run.run_id, "recommendations")["share_left_out"]
    return dg.AssetCheckResult(
        passed=share <= MOST_LEFT_OUT,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"excluded_share": share, "most": MOST_LEFT_OUT},
    )


def _no_rows(broken: pl.DataFrame) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=broken.is_empty(), metadata=broken_rows_metadata(broken))
