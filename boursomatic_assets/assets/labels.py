"""BUY, HOLD and SELL labels of past sessions, beside the features they will be learned from."""

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

    The newest rows of each symbol, whose horizon has not passed, stay without a label: they are to be predicted.
    So do rows whose instrument stopped trading within the horizon: nothing is learned from them, but their realised
    return, at the last price, is judged.
    Where it is known who belonged to the universe when, only sessions of members have rows; the benchmark has none.
    """
    settings, members = experiment.value(), read_members(platform.database())
    # The first asset that reads the benchmark: an unknown one stops here, before anything is trained.
    read_benchmark(platform.database(), platform.settings(), settings.benchmark)
    every = label_panel(features, price_bars, settings)
    labelled = within_membership(every, members)
    metadata = labels_metadata(labelled, every, price_bars, members.height, settings)
    return dg.Output(labelled, metadata=metadata, data_version=data_version(labelled))


@dg.asset_check(asset=labels, blocking=True)
def labels_end_after_their_session(labels: pl.DataFrame, experiment: ExperimentResource) -> dg.AssetCheckResult:
    """Every label became known after its session, and says what its forward return says."""
    found = inconsistent_rows(labels, experiment.value())
    return dg.AssetCheckResult(passed=not any(found.values()), metadata={**found})


@dg.asset_check(asset=labels, blocking=True, additional_deps=["price_bars"])
def labels_follow_their_own_instrument(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """Closes and forward returns are those of the symbol's own bars, computed a second time, bar by bar."""
    returns, _ = label_audit.audit_outcomes(platform.database(), labels, experiment.value())
    return _result(returns)


@dg.asset_check(asset=labels, blocking=True, additional_deps=["price_bars"])
def labels_end_a_horizon_later(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """Each label ends at the session that lies the experiment's horizon ahead, counted a second time."""
    _, ends = label_audit.audit_outcomes(platform.database(), labels, experiment.value())
    return _result(ends)


@dg.asset_check(asset=labels, blocking=True, additional_deps=["price_bars"])
def no_label_outlives_its_instrument(labels: pl.DataFrame, platform: PlatformResource) -> dg.AssetCheckResult:
    """No label ends after the last bar of its symbol: a price that is carried on past it was paid to nobody."""
    outlived = label_audit.labels_without_a_bar(platform.database(), labels)
    metadata = {"outlived_labels": outlived.height, "symbols": outlived["symbol"].n_unique()}
    return dg.AssetCheckResult(passed=outlived.is_empty(), metadata=metadata)


@dg.asset_check(asset=labels, blocking=True, additional_deps=["features"])
def labels_carry_the_stored_features(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """The inputs beside the labels are the values of the table, neither scaled nor filled nor moved.

    An input that is not in the table follows from the table's values and the close.
    """
    names = experiment.value().features
    return _result(label_audit.audit_inputs(platform.database(), labels, names))


@dg.asset_check(asset=labels, blocking=True, additional_deps=["features", "price_bars"])
def inputs_do_not_depend_on_price_level(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """No model input changes when whole histories of prices and volumes are multiplied by constants.

    The level of back-adjusted prices knows the future: they are divided by every later split and dividend.
    """
    names = experiment.value().features
    found = label_audit.audit_levels(platform.database(), labels, compute_inputs, names)
    return dg.AssetCheckResult(
        passed=not found.guilty,
        description=found.why,
        metadata={
            "inputs_that_follow_levels": found.guilty,
            "changed_rows": table(found.changed),
            "rows": found.rows,
            "symbols": found.symbols,
        },
    )


@dg.asset_check(asset=labels, blocking=True, additional_deps=["features"])
def only_members_of_the_time(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """Where it is known who belonged to the universe when, rows are of members of their session, and none lacks."""
    found = label_audit.audit_members(platform.database(), labels, experiment.value().benchmark)
    return dg.AssetCheckResult(
        passed=found.strangers == 0 and not found.forgotten,
        metadata={
            "rows_of_no_members": found.strangers,
            "members_without_rows": found.forgotten,
            "memberships": found.memberships,
        },
    )


def _result(found: label_audit.LabelAudit) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=found.wrong_rows == 0, metadata={"wrong_rows": found.wrong_rows, "rows": found.rows}
    )


@dg.asset_check(asset=labels)
def every_class_occurs(labels: pl.DataFrame) -> dg.AssetCheckResult:
    """BUY, HOLD and SELL all occur; a class that never does cannot be learned."""
    mix = label_mix(labels)
    return dg.AssetCheckResult(passed=all(mix.values()), severity=dg.AssetCheckSeverity.WARN, metadata={**mix})
