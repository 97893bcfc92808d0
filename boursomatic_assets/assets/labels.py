"""BUY, HOLD and SELL labels of past sessions, beside their features."""

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.assets.features import compute_inputs
from boursomatic_assets.core.dataset.label_audit import inconsistent_rows
from boursomatic_assets.core.dataset.labels import label_mix, label_panel
from boursomatic_assets.core.market.membership import within_membership
from boursomatic_assets.display.ui.labels import labels_metadata
from boursomatic_assets.display.ui.metadata import data_version, table
from boursomatic_assets.services import label_audit
from boursomatic_assets.services.reference_prices import read_benchmark
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource
from boursomatic_assets.storage.dagster.retries import retried
from boursomatic_assets.storage.postgres.membership_table import read_members


@dg.asset(
    group_name="labels",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    code_version=code_version(__name__, "labels"),
    io_manager_key="panels",
    ins={
        "features": dg.AssetIn(metadata={"recent": True}),
        "price_bars": dg.AssetIn(metadata={"recent": True, "columns": ["close", "exchange"]}),
    },
)
@retried
def labels(
    features: pl.DataFrame, price_bars: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.Output[pl.DataFrame]:
    """BUY, HOLD or SELL per symbol and session, from the return over the next `horizon` sessions of its exchange.

    The newest rows of each symbol, whose horizon has not passed, have no label: they are to be predicted. Rows
    whose instrument stopped trading within the horizon have none either: models do not learn from them, but their
    return at the last price is judged. If memberships are known, only sessions of members have rows. The benchmark
    has no rows.
    """
    settings, members = experiment.value(), read_members(platform.database())
    # Stop here if the benchmark is unknown, before anything is trained.
    read_benchmark(platform.database(), platform.settings(), settings.benchmark)
    every = label_panel(features, price_bars, settings)
    labelled = within_membership(every, members)
    metadata = labels_metadata(labelled, every, price_bars, members.height, settings)
    return dg.Output(labelled, metadata=metadata, data_version=data_version(labelled))


@dg.asset_check(asset=labels, blocking=True)
def labels_end_after_their_session(labels: pl.DataFrame, experiment: ExperimentResource) -> dg.AssetCheckResult:
    """Every label became known after its session and agrees with its forward return."""
    inconsistent = inconsistent_rows(labels, experiment.value())
    return dg.AssetCheckResult(passed=not any(inconsistent.values()), metadata={**inconsistent})


@dg.asset_check(asset=labels, blocking=True, additional_deps=["price_bars"])
def labels_follow_their_own_instrument(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """Closes and forward returns are those of the symbol's own bars, computed a second time, bar by bar."""
    returns, _ = label_audit.audit_label_values(platform.database(), labels, experiment.value())
    return _result(returns)


@dg.asset_check(asset=labels, blocking=True, additional_deps=["price_bars"])
def labels_end_a_horizon_later(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """Each label ends one horizon after its session, counted a second time."""
    _, ends = label_audit.audit_label_values(platform.database(), labels, experiment.value())
    return _result(ends)


@dg.asset_check(asset=labels, blocking=True, additional_deps=["price_bars"])
def no_label_outlives_its_instrument(labels: pl.DataFrame, platform: PlatformResource) -> dg.AssetCheckResult:
    """No label ends after the last bar of its symbol: later prices do not exist."""
    outlived = label_audit.labels_without_a_bar(platform.database(), labels)
    metadata = {"outlived_labels": outlived.height, "symbols": outlived["symbol"].n_unique()}
    return dg.AssetCheckResult(passed=outlived.is_empty(), metadata=metadata)


@dg.asset_check(asset=labels, blocking=True, additional_deps=["features"])
def labels_carry_the_stored_features(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """The inputs beside the labels are the values in the table: not scaled, filled or shifted.

    Inputs that are not in the table follow from its values and the close.
    """
    return _result(label_audit.audit_inputs(platform.database(), labels, experiment.value().features))


@dg.asset_check(asset=labels, blocking=True, additional_deps=["features", "price_bars"])
def inputs_do_not_depend_on_price_level(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """No model input changes when a symbol's prices and volumes are multiplied by constants.

    The level of back-adjusted prices knows the future: they are divided by every later split and dividend.
    """
    names = experiment.value().features
    audited = label_audit.audit_levels(platform.database(), labels, compute_inputs, names)
    return dg.AssetCheckResult(
        passed=not audited.guilty,
        description=audited.why,
        metadata={
            "inputs_that_follow_levels": audited.guilty,
            "changed_rows": table(audited.changed),
            "rows": audited.rows,
            "symbols": audited.symbols,
        },
    )


@dg.asset_check(asset=labels, blocking=True, additional_deps=["features"])
def only_members_of_the_time(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """If memberships are known, every row is of a member in its session, and no member is missing."""
    audited = label_audit.audit_members(platform.database(), labels, experiment.value().benchmark)
    return dg.AssetCheckResult(
        passed=audited.strangers == 0 and not audited.forgotten,
        metadata={
            "rows_of_no_members": audited.strangers,
            "members_without_rows": audited.forgotten,
            "memberships": audited.memberships,
        },
    )


def _result(audited: label_audit.LabelAudit) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=audited.wrong_rows == 0, metadata={"wrong_rows": audited.wrong_rows, "rows": audited.rows}
    )


@dg.asset_check(asset=labels)
def every_class_occurs(labels: pl.DataFrame) -> dg.AssetCheckResult:
    """BUY, HOLD and SELL all occur; a model cannot learn a class that never does."""
    mix = label_mix(labels)
    return dg.AssetCheckResult(passed=all(mix.values()), severity=dg.AssetCheckSeverity.WARN, metadata={**mix})
