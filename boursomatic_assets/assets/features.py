"""The eight features, computed from all stored bars and kept in the table `features`."""

import dagster as dg
import polars as pl

from boursomatic_assets.assets import FRESHNESS, OWNERS, code_version
from boursomatic_assets.core.dataset.features import FEATURE_NAMES, compute_features, with_derived_inputs
from boursomatic_assets.core.dataset.leaks import (
    computed_apart,
    different_rows,
    rows_that_read_the_future,
    rows_that_touch_others,
)
from boursomatic_assets.display.ui.metadata import column_lineage, content_metadata, table, written_metadata
from boursomatic_assets.services.feature_audit import sampled_bars, stored_features_of
from boursomatic_assets.services.features import update_features
from boursomatic_assets.storage.dagster.resources import PlatformResource
from boursomatic_assets.storage.dagster.retries import retried
from boursomatic_assets.storage.postgres.content import count_nulls, read_content, version_of
from boursomatic_assets.storage.postgres.features_table import count_broken_features, newest_features

CODE = code_version(__name__, "features")
EXAMPLES = 10


@dg.asset(
    group_name="features",
    kinds={"polars", "postgres"},
    owners=OWNERS,
    code_version=CODE,
    io_manager_key="tables",
    deps=["price_bars"],
    freshness_policy=FRESHNESS,
)
@retried
def features(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Returns, momentum, relative strength, volatility, true range and volume score of each symbol and session.

    Each value is computed from that symbol's bars up to and including its session, and from nothing else. Only
    symbols whose bars have changed are computed again; the result equals that of computing all.
    """
    database = platform.database()
    update = update_features(database, CODE, context.log.info)
    content = read_content(database, "features")
    metadata = {
        **content_metadata(content, newest_features(database)),
        **column_lineage("features"),
        **written_metadata(update.counts, database.shown_url, "features"),
        "rows_removed": update.removed,
        "symbols_recomputed": update.recomputed,
        "symbols_unchanged": update.unchanged,
        "quarantined": update.quarantined,
        **{f"null_{name}": count for name, count in count_nulls(database).items()},
    }
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(version_of(content)))


@dg.asset_check(asset=features, blocking=True)
def values_are_possible(platform: PlatformResource) -> dg.AssetCheckResult:
    """No value is infinite, the index lies within 0 and 100, deviations and ranges are not negative."""
    broken = count_broken_features(platform.database())
    return dg.AssetCheckResult(passed=broken == 0, metadata={"broken_rows": broken})


@dg.asset_check(asset=features, blocking=True, additional_deps=["price_bars"])
def the_future_is_not_read(platform: PlatformResource) -> dg.AssetCheckResult:
    """Removing the bars after a session, or replacing them by wild ones, changes no feature up to it."""
    bars = sampled_bars(platform.database())
    changed = rows_that_read_the_future(bars, compute_features, FEATURE_NAMES)
    return _result(changed, bars)


@dg.asset_check(asset=features, blocking=True, additional_deps=["price_bars"])
def instruments_do_not_touch(platform: PlatformResource) -> dg.AssetCheckResult:
    """The features of a symbol are the same without the bars of any other symbol."""
    bars = sampled_bars(platform.database())
    return _result(rows_that_touch_others(bars, compute_features, FEATURE_NAMES), bars)


@dg.asset_check(asset=features, blocking=True, additional_deps=["price_bars"])
def features_follow_from_their_own_bars(platform: PlatformResource) -> dg.AssetCheckResult:
    """The table holds exactly the features of each symbol's own bars, a row for each."""
    database = platform.database()
    bars = sampled_bars(database)
    stored = stored_features_of(database, bars)
    return _result(different_rows(computed_apart(bars, compute_features), stored, FEATURE_NAMES), bars)


def compute_inputs(bars: pl.DataFrame) -> pl.DataFrame:
    """All possible model inputs, computed from bars."""
    return with_derived_inputs(compute_features(bars).with_columns(bars["close"]))


def _result(wrong: pl.DataFrame, bars: pl.DataFrame) -> dg.AssetCheckResult:
    counts = {"changed_rows": wrong.height, "rows": bars.height, "symbols": bars["symbol"].n_unique()}
    examples = {"first_changed_rows": table(wrong.head(EXAMPLES))} if wrong.height else {}
    return dg.AssetCheckResult(passed=wrong.is_empty(), metadata={**counts, **examples})
