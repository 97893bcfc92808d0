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
from boursomatic_assets.display.ui.metadata import (
    column_lineage,
    content_metadata,
    markdown_table,
    written_metadata,
)
from boursomatic_assets.services.feature_audit import bars_looked_at, stored_beside
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
    symbols whose bars have changed are computed again; the result is that of computing all.
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
    """Taking away the bars after a session, or putting wild ones there, changes no feature up to it."""
    bars = bars_looked_at(platform.database())
    changed = rows_that_read_the_future(bars, compute_features, FEATURE_NAMES)
    return _result(changed, bars)


@dg.asset_check(asset=features, blocking=True, additional_deps=["price_bars"])
def instruments_do_not_touch(platform: PlatformResource) -> dg.AssetCheckResult:
    """The features of a symbol are the same when no other symbol's bars are there."""
    bars = bars_looked_at(platform.database())
    return _result(rows_that_touch_others(bars, compute_features, FEATURE_NAMES), bars)


@dg.asset_check(asset=features, blocking=True, additional_deps=["price_bars"])
def features_follow_from_their_own_bars(platform: PlatformResource) -> dg.AssetCheckResult:
    """The table holds what a symbol's own bars give, a row for each of them and no other row."""
    database = platform.database()
    bars = bars_looked_at(database)
    stored = stored_beside(database, bars)
    return _result(different_rows(computed_apart(bars, compute_features), stored, FEATURE_NAMES), bars)


def compute_inputs(bars: pl.DataFrame) -> pl.DataFrame:
    """Everything that an experiment may name as a model input, computed from bars."""
    return with_derived_inputs(compute_features(bars).with_columns(bars["close"]))


def _result(wrong: pl.DataFrame, bars: pl.DataFrame) -> dg.AssetCheckResult:
    metadata: dict[str, dg.RawMetadataValue] = {
        "changed_rows": wrong.height,
        "rows": bars.height,
        "symbols": bars["symbol"].n_unique(),
    }
    if wrong.height:
        metadata["first_changed_rows"] = dg.MetadataValue.md(markdown_table(wrong.head(EXAMPLES)))
    return dg.AssetCheckResult(passed=wrong.is_empty(), metadata=metadata)
