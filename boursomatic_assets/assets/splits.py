"""Training, validation and test set: consecutive in time, purged at both boundaries."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.dataset.labels import label_mix
from boursomatic_assets.core.dataset.leaks import foreign_rows, knowledge_of_the_label
from boursomatic_assets.core.dataset.splits import Split, overlaps, split_panel
from boursomatic_assets.display.ui.data_pictures import label_mix_picture, split_picture
from boursomatic_assets.display.ui.metadata import column_lineage, data_version, panel_metadata, picture, table
from boursomatic_assets.storage.dagster.resources import ExperimentResource

_DESCRIPTIONS = {
    "train_set": "The oldest sessions. The models learn from them.",
    "validation_set": "The sessions after the training set. Choices, such as the threshold, are made on them.",
    "test_set": "The newest labelled sessions, used only for the final figures.",
}


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            name,
            description=f"{text} Rows whose label reaches into a later set are left out.",
            group_name="splits",
            kinds={"polars", "parquet"},
            owners=OWNERS,
            code_version=code_version(__name__, "splits"),
            deps=["labels"],
            skippable=True,
        ).with_io_manager_key("panels")
        for name, text in _DESCRIPTIONS.items()
    ],
    can_subset=True,
)
def splits(
    context: dg.AssetExecutionContext, labels: pl.DataFrame, experiment: ExperimentResource
) -> Iterator[dg.MaterializeResult[pl.DataFrame]]:
    """Cut the labelled sessions into three sets and purge the earlier two."""
    settings = experiment.value()
    split = split_panel(labels, settings)
    spans: dict[str, Any] = {
        name: (panel["session"].min(), panel["session"].max(), panel.height) for name, panel in split.sets().items()
    }
    shared = {
        "purged_rows": split.purged,
        "timeline": picture(split_picture(spans), "The three sets in time"),
    }
    for name, panel in split.sets().items():
        if dg.AssetKey(name) in context.selected_asset_keys:
            mix, version = label_mix(panel), data_version(panel)
            metadata: dict[str, Any] = {
                **panel_metadata(panel),
                **column_lineage(name, settings.features),
                **{f"rows_{label.lower()}": count for label, count in mix.items()},
                "label_mix": picture(label_mix_picture({name: mix}), "Label mix"),
                **shared,
                "content_sha256": version.value,
            }
            yield dg.MaterializeResult(asset_key=name, value=panel, metadata=metadata, data_version=version)


_TIMES = {"columns": ["symbol", "session", "label_end"]}


@dg.asset_check(
    asset="train_set",
    blocking=True,
    additional_ins={
        "validation_set": dg.AssetIn("validation_set", metadata=_TIMES),
        "test_set": dg.AssetIn("test_set", metadata=_TIMES),
    },
)
def sets_do_not_touch(
    train_set: pl.DataFrame, validation_set: pl.DataFrame, test_set: pl.DataFrame
) -> dg.AssetCheckResult:
    """No label of an earlier set reaches into a later one, and no session lies in two sets."""
    overlapping = overlaps(Split(train_set, validation_set, test_set, purged=0))
    return dg.AssetCheckResult(passed=not overlapping, metadata={"overlaps": overlapping})


@dg.asset_check(
    asset="train_set",
    blocking=True,
    additional_ins={name: dg.AssetIn(name) for name in ("validation_set", "test_set", "labels")},
)
def sets_are_rows_of_the_labels(
    train_set: pl.DataFrame, validation_set: pl.DataFrame, test_set: pl.DataFrame, labels: pl.DataFrame
) -> dg.AssetCheckResult:
    """Every row of a set is, value for value, a row of the labels: nothing was scaled, filled or redated."""
    foreign = foreign_rows([train_set, validation_set, test_set], labels)
    return dg.AssetCheckResult(passed=foreign == 0, metadata={"foreign_rows": foreign})


@dg.asset_check(asset="train_set", blocking=True)
def no_feature_knows_the_label(train_set: pl.DataFrame, experiment: ExperimentResource) -> dg.AssetCheckResult:
    """No feature's changes predict the returns that enter the label, within sessions or between them."""
    settings = experiment.value()
    correlations = knowledge_of_the_label(train_set, settings.features, settings.horizon)
    guilty = correlations.filter("knows")
    return dg.AssetCheckResult(
        passed=guilty.is_empty(),
        metadata={
            "features_that_know": guilty["feature"].unique().sort().to_list(),
            "largest_correlation": float(correlations["correlation"].abs().max()),  # type: ignore[arg-type]
            "correlations": table(correlations),
        },
    )
