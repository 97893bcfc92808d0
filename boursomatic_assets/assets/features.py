"""The eight features, computed from all stored bars and kept in the table `features`."""

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core import features as core
from boursomatic_assets.core.features import FEATURE_NAMES, compute_features
from boursomatic_assets.display.metadata import column_lineage, data_version, panel_metadata
from boursomatic_assets.storage.market_tables import count_broken_features
from boursomatic_assets.storage.resources import PlatformResource

SYMBOLS_RECOMPUTED = 20
TOLERANCE = 1e-9


@dg.asset(
    group_name="features",
    kinds={"polars", "postgres"},
    owners=OWNERS,
    code_version=code_version(core),
    io_manager_key="tables",
)
def features(price_bars: pl.DataFrame) -> dg.Output[pl.DataFrame]:
    """Returns, momentum, relative strength, volatility, true range and volume score of each symbol and session.

    Each value is computed from that symbol's bars up to and including its session, and from nothing else.
    """
    computed = compute_features(price_bars)
    nulls = {f"null_{name}": computed[name].null_count() for name in FEATURE_NAMES}
    metadata = {**panel_metadata(computed), **column_lineage("features"), **nulls}
    return dg.Output(computed, metadata=metadata, data_version=data_version(computed))


@dg.asset_check(asset=features, blocking=True)
def values_are_possible(platform: PlatformResource) -> dg.AssetCheckResult:
    """No value is infinite, the index lies within 0 and 100, deviations and ranges are not negative."""
    broken = count_broken_features(platform.database())
    return dg.AssetCheckResult(passed=broken == 0, metadata={"broken_rows": broken})


@dg.asset_check(
    asset=features,
    blocking=True,
    additional_ins={"bars": dg.AssetIn("price_bars", metadata={"first_symbols": SYMBOLS_RECOMPUTED})},
)
def the_future_is_not_read(features: pl.DataFrame, bars: pl.DataFrame) -> dg.AssetCheckResult:
    """Cutting off all bars after the middle session changes no feature up to it, for the first 20 symbols."""
    middle = bars["session"].unique().sort().quantile(0.5, "nearest")
    past = bars.filter(pl.col("session") <= middle)
    if past.filter(pl.len().over("symbol") > core.LOOKBACK_SESSIONS).is_empty():
        return dg.AssetCheckResult(passed=True, description="Too little history to cut.")
    changed = _changed(compute_features(past), features)
    metadata = {"changed_rows": changed, "rows": past.height, "symbols": past["symbol"].n_unique()}
    return dg.AssetCheckResult(passed=changed == 0, metadata=metadata)


def _changed(recomputed: pl.DataFrame, stored: pl.DataFrame) -> int:
    beside = recomputed.join(stored, on=["symbol", "session"], how="left", suffix="_stored")
    return beside.filter(pl.any_horizontal(_differs(name) for name in FEATURE_NAMES)).height


def _differs(name: str) -> pl.Expr:
    new, old = pl.col(name), pl.col(f"{name}_stored")
    far = (new - old).abs() > TOLERANCE * pl.max_horizontal(new.abs(), old.abs())
    return (new.is_null() != old.is_null()) | far.fill_null(value=False)
