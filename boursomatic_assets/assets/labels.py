"""BUY, HOLD and SELL labels of past sessions, beside the features they will be learned from."""

from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.assets.features import compute_inputs
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import with_derived_inputs
from boursomatic_assets.core.dataset.labels import (
    closed_early,
    label_mix,
    label_panel,
    realised_rows,
    unlabelled_rows,
)
from boursomatic_assets.core.dataset.leaks import (
    contradicted_labels,
    different_rows,
    forgotten_members,
    non_members,
    outlived_labels,
    sampled_symbols,
    slow_outcomes,
)
from boursomatic_assets.core.dataset.price_levels import rows_that_follow_levels, why_levels_are_refused
from boursomatic_assets.core.market.membership import within_membership
from boursomatic_assets.core.market.sessions import off_sessions
from boursomatic_assets.display.ui.canvas import embedded
from boursomatic_assets.display.ui.data_pictures import label_mix_picture
from boursomatic_assets.display.ui.metadata import column_lineage, data_version, markdown_table, panel_metadata
from boursomatic_assets.services.reference_prices import read_benchmark
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource
from boursomatic_assets.storage.dagster.retries import retried
from boursomatic_assets.storage.postgres.market_tables import read_features, read_spans, read_usable_bars
from boursomatic_assets.storage.postgres.membership_table import read_members
from boursomatic_assets.storage.postgres.panels import Part

SYMBOLS_LOOKED_AT, STRAY_ROWS_SHOWN = 24, 50


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
    mix = label_mix(labelled)
    metadata = {
        **panel_metadata(labelled),
        **column_lineage("labels", settings.features),
        **{f"rows_{name.lower()}": count for name, count in mix.items()},
        "rows_to_predict": unlabelled_rows(labelled).height,
        "rows_of_no_members": every.height - labelled.height,
        "symbols_never_members": every["symbol"].n_unique() - labelled["symbol"].n_unique(),
        "memberships_known": members.height,
        "horizon": settings.horizon,
        "rows_closed_at_their_last_price": closed_early(realised_rows(labelled, settings))["rows"],
        **_stray_metadata(labelled, price_bars),
        "label_mix": dg.MetadataValue.md(embedded(label_mix_picture({"labels": mix}), "Label mix")),
    }
    return dg.Output(labelled, metadata=metadata, data_version=data_version(labelled))


def _stray_metadata(labelled: pl.DataFrame, closes: pl.DataFrame) -> dict[str, Any]:
    """Count and name rows on days that are no sessions: nothing is learned from them, and none is judged."""
    stray = off_sessions(closes).join(labelled, on=["symbol", "session"], how="semi").sort("session", "symbol")
    named = ", ".join(
        f"{symbol} {day}" for symbol, day in stray.head(STRAY_ROWS_SHOWN).select("symbol", "session").rows()
    )
    return {"rows_on_no_session": stray.height, **({"on_no_session": named} if stray.height else {})}


@dg.asset_check(asset=labels, blocking=True)
def labels_end_after_their_session(labels: pl.DataFrame, experiment: ExperimentResource) -> dg.AssetCheckResult:
    """Every label became known after its session, and says what its forward return says."""
    early = labels.filter(pl.col("label_end") <= pl.col("session")).height
    half = labels.filter(pl.col("label_end").is_null() != pl.col("forward_return").is_null()).height
    contradicted = contradicted_labels(labels, experiment.value()).height
    unrealised = labels.filter(
        (pl.col("realised_on") <= pl.col("session"))
        | (pl.col("realised_on").is_null() != pl.col("realised_return").is_null())
        | (pl.col("realised_return") != pl.col("forward_return"))
        | (pl.col("realised_on") != pl.col("label_end"))
    ).height
    return dg.AssetCheckResult(
        passed=early == half == contradicted == unrealised == 0,
        metadata={
            "realised_unlike_the_label": unrealised,
            "labels_too_early": early,
            "labels_without_return": half,
            "labels_unlike_their_return": contradicted,
        },
    )


@dg.asset_check(asset=labels, blocking=True, additional_deps=["price_bars"])
def labels_follow_their_own_instrument(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """Closes and forward returns are those of the symbol's own bars, computed a second time, bar by bar."""
    some, expected = _looked_at(labels, experiment.value(), platform)
    wrong = different_rows(some, expected, ["close", "forward_return"]).height
    return dg.AssetCheckResult(passed=wrong == 0, metadata={"wrong_rows": wrong, "rows": some.height})


@dg.asset_check(asset=labels, blocking=True, additional_deps=["price_bars"])
def labels_end_a_horizon_later(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """Each label ends at the session that lies the experiment's horizon ahead, counted a second time."""
    some, expected = _looked_at(labels, experiment.value(), platform)
    ends = some.join(expected, on=["symbol", "session"], how="left", suffix="_expected")
    wrong = ends.filter(pl.col("label_end").ne_missing(pl.col("label_end_expected"))).height
    return dg.AssetCheckResult(passed=wrong == 0, metadata={"wrong_rows": wrong, "rows": some.height})


@dg.asset_check(asset=labels, blocking=True, additional_deps=["price_bars"])
def no_label_outlives_its_instrument(labels: pl.DataFrame, platform: PlatformResource) -> dg.AssetCheckResult:
    """No label ends after the last bar of its symbol: a price that is carried on past it was paid to nobody."""
    outlived = outlived_labels(labels, read_spans(platform.database()))
    metadata = {"outlived_labels": outlived.height, "symbols": outlived["symbol"].n_unique()}
    return dg.AssetCheckResult(passed=outlived.is_empty(), metadata=metadata)


@dg.asset_check(asset=labels, blocking=True, additional_deps=["features"])
def labels_carry_the_stored_features(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """The inputs beside the labels are the values of the table, neither scaled nor filled nor moved.

    An input that is not in the table follows from the table's values and the close.
    """
    some = labels.filter(pl.col("symbol").is_in(_symbols(labels)))
    stored = read_features(platform.database(), part=Part(symbols=_symbols(labels)))
    there = stored.join(some.select("symbol", "session", "close"), on=["symbol", "session"])
    wrong = different_rows(some, with_derived_inputs(there), experiment.value().features).height
    return dg.AssetCheckResult(passed=wrong == 0, metadata={"wrong_rows": wrong, "rows": some.height})


@dg.asset_check(asset=labels, blocking=True, additional_deps=["features", "price_bars"])
def inputs_do_not_depend_on_price_level(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """No model input changes when whole histories of prices and volumes are multiplied by constants.

    The level of back-adjusted prices knows the future: they are divided by every later split and dividend.
    """
    bars = read_usable_bars(platform.database(), part=Part(symbols=_symbols(labels)))
    moved = rows_that_follow_levels(bars, compute_inputs, experiment.value().features)
    guilty = moved["input"].unique().sort().to_list()
    counted = moved.group_by("input", "is_own").agg(rows=pl.len()).sort("input", "is_own")
    return dg.AssetCheckResult(
        passed=not guilty,
        description=why_levels_are_refused(guilty) if guilty else None,
        metadata={
            "inputs_that_follow_levels": guilty,
            "changed_rows": dg.MetadataValue.md(markdown_table(counted)),
            "rows": bars.height,
            "symbols": bars["symbol"].n_unique(),
        },
    )


@dg.asset_check(asset=labels, blocking=True, additional_deps=["features"])
def only_members_of_the_time(
    labels: pl.DataFrame, experiment: ExperimentResource, platform: PlatformResource
) -> dg.AssetCheckResult:
    """Where it is known who belonged to the universe when, rows are of members of their session, and none lacks."""
    database, benchmark = platform.database(), experiment.value().benchmark
    members = read_members(database).filter(pl.col("symbol").ne_missing(pl.lit(benchmark, pl.String)))
    strangers = non_members(labels, members).height
    first = labels["session"].min()
    available = read_spans(database, "features", first)  # type: ignore[arg-type]
    forgotten = forgotten_members(labels, members, available)
    return dg.AssetCheckResult(
        passed=strangers == 0 and not forgotten,
        metadata={
            "rows_of_no_members": strangers,
            "members_without_rows": forgotten,
            "memberships": members.height,
        },
    )


def _symbols(labels: pl.DataFrame) -> list[str]:
    spans = labels.group_by("symbol").agg(rows=pl.len(), last=pl.col("session").max())
    return sampled_symbols(spans, SYMBOLS_LOOKED_AT)


def _looked_at(
    labels: pl.DataFrame, settings: Experiment, platform: PlatformResource
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of some symbols, and what they ought to say."""
    symbols = _symbols(labels)
    part = Part(lookback_days=settings.lookback_days, symbols=symbols)
    closes = read_usable_bars(platform.database(), ["close", "exchange"], part)
    some = labels.filter(pl.col("symbol").is_in(symbols)).select(
        "symbol", "session", "close", "forward_return", "label_end"
    )
    expected = closes.join(slow_outcomes(closes, settings.horizon), on=["symbol", "session"])
    return some, expected.join(some, on=["symbol", "session"], how="semi")


@dg.asset_check(asset=labels)
def every_class_occurs(labels: pl.DataFrame) -> dg.AssetCheckResult:
    """BUY, HOLD and SELL all occur; a class that never does cannot be learned."""
    mix = label_mix(labels)
    return dg.AssetCheckResult(passed=all(mix.values()), severity=dg.AssetCheckSeverity.WARN, metadata={**mix})
