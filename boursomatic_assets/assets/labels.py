"""BUY, HOLD and SELL labels of past sessions, beside the features they will be learned from."""

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core import calendars
from boursomatic_assets.core import labels as core
from boursomatic_assets.core.labels import label_mix, label_panel, unlabelled_rows
from boursomatic_assets.display.canvas import embedded
from boursomatic_assets.display.data_pictures import label_mix_picture
from boursomatic_assets.display.metadata import column_lineage, data_version, panel_metadata
from boursomatic_assets.storage.resources import ExperimentResource


@dg.asset(
    group_name="labels",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    code_version=code_version(core, calendars),
    io_manager_key="panels",
    ins={
        "features": dg.AssetIn(metadata={"recent": True}),
        "price_bars": dg.AssetIn(metadata={"recent": True, "columns": ["close", "exchange"]}),
    },
)
def labels(
    features: pl.DataFrame, price_bars: pl.DataFrame, experiment: ExperimentResource
) -> dg.Output[pl.DataFrame]:
    """BUY, HOLD or SELL per symbol and session, from the return over the next `horizon` sessions of its exchange.

    The newest rows of each symbol, whose horizon has not passed, stay without a label: they are to be predicted.
    """
    settings = experiment.value()
    labelled = label_panel(features, price_bars, settings)
    mix = label_mix(labelled)
    metadata = {
        **panel_metadata(labelled),
        **column_lineage("labels", settings.features),
        **{f"rows_{name.lower()}": count for name, count in mix.items()},
        "rows_to_predict": unlabelled_rows(labelled).height,
        "horizon": settings.horizon,
        "label_mix": dg.MetadataValue.md(embedded(label_mix_picture({"labels": mix}), "Label mix")),
    }
    return dg.Output(labelled, metadata=metadata, data_version=data_version(labelled))


@dg.asset_check(asset=labels, blocking=True)
def labels_end_after_their_session(labels: pl.DataFrame) -> dg.AssetCheckResult:
    """Every label became known after its session, and says what its forward return says."""
    known = labels.drop_nulls("label")
    early = known.filter(pl.col("label_end") <= pl.col("session")).height
    half = labels.filter(pl.col("label").is_null() != pl.col("forward_return").is_null()).height
    return dg.AssetCheckResult(
        passed=early == 0 and half == 0, metadata={"labels_too_early": early, "labels_without_return": half}
    )


@dg.asset_check(asset=labels)
def every_class_occurs(labels: pl.DataFrame) -> dg.AssetCheckResult:
    """BUY, HOLD and SELL all occur; a class that never does cannot be learned."""
    mix = label_mix(labels)
    return dg.AssetCheckResult(passed=all(mix.values()), severity=dg.AssetCheckSeverity.WARN, metadata={**mix})
