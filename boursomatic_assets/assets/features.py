"""The eight features, computed from all stored bars and kept in the table `features`."""

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.assets.market_data import FRESHNESS
from boursomatic_assets.core import calendars, corporate_actions, usable_bars
from boursomatic_assets.core import features as core
from boursomatic_assets.core.features import FEATURE_NAMES, compute_features
from boursomatic_assets.display.metadata import column_lineage, content_metadata, written_metadata
from boursomatic_assets.storage.content import count_nulls, read_content, version_of
from boursomatic_assets.storage.market_tables import (
    count_broken_features,
    newest_features,
    read_features,
    read_usable_bars,
)
from boursomatic_assets.storage.panels import Part
from boursomatic_assets.storage.resources import PlatformResource
from boursomatic_assets.updates.features import update_features

CODE = code_version(core, usable_bars, corporate_actions, calendars)
SYMBOLS_RECOMPUTED = 20
TOLERANCE = 1e-9


@dg.asset(
    group_name="features",
    kinds={"polars", "postgres"},
    owners=OWNERS,
    code_version=CODE,
    io_manager_key="tables",
    deps=["price_bars"],
    freshness_policy=FRESHNESS,
)
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
    """Cutting off all bars after the middle of its history changes no feature of a symbol, for the first 20."""
    database, some = platform.database(), Part(first_symbols=SYMBOLS_RECOMPUTED)
    bars = read_usable_bars(database, part=some)
    number, bars_of_symbol = pl.int_range(pl.len()).over("symbol"), pl.len().over("symbol")
    past = bars.filter(number <= bars_of_symbol // 2)
    if past.filter(pl.len().over("symbol") > core.LOOKBACK_SESSIONS).is_empty():
        return dg.AssetCheckResult(passed=True, description="Too little history to cut.")
    changed = _changed(compute_features(past), read_features(database, part=some))
    metadata = {"changed_rows": changed, "rows": past.height, "symbols": past["symbol"].n_unique()}
    return dg.AssetCheckResult(passed=changed == 0, metadata=metadata)


def _changed(recomputed: pl.DataFrame, stored: pl.DataFrame) -> int:
    beside = recomputed.join(stored, on=["symbol", "session"], how="left", suffix="_stored")
    return beside.filter(pl.any_horizontal(_differs(name) for name in FEATURE_NAMES)).height


def _differs(name: str) -> pl.Expr:
    new, old = pl.col(name), pl.col(f"{name}_stored")
    far = (new - old).abs() > TOLERANCE * pl.max_horizontal(new.abs(), old.abs())
    return (new.is_null() != old.is_null()) | far.fill_null(value=False)
