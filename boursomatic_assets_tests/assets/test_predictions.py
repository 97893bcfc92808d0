"""What the checks of predictions and threshold refuse: each test plants a fault in what is stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.models.threshold import choose_threshold
from boursomatic_assets_tests.support.stored import overwrite_figures, overwrite_panel

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow


def check(asset: str, name: str) -> dg.AssetSelection:
    return dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(asset), name))


OUT_OF_SAMPLE = check("predictions", "predictions_are_out_of_sample")
TEST_SET_UNREAD = check("threshold", "the_test_set_is_not_read")


def stored_at(installation: Installation, name: str) -> Path:
    return installation.artifacts / "assets" / name


def only_evaluation(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (made,) = result.get_asset_check_evaluations()
    return made


def test_predictions_of_rows_that_were_learned_from_stop_a_version(trained: Installation) -> None:
    # One training row among the predictions, as if it had not been learned from.
    predictions = pl.read_parquet(stored_at(trained, "predictions.parquet"))
    learned = pl.read_parquet(stored_at(trained, "train_set.parquet")).row(0, named=True)
    first = pl.int_range(pl.len()) == 0
    among = predictions.with_columns(
        pl.when(first).then(pl.lit(learned["session"])).otherwise("session").alias("session")
    )
    overwrite_panel(trained, "predictions", among)

    made = only_evaluation(trained.execute(OUT_OF_SAMPLE))
    assert not made.passed
    assert made.severity is dg.AssetCheckSeverity.ERROR
    faults = made.metadata["faults"].value
    assert any("where the training labels end" in fault for fault in faults)
    assert any("rows of a set that are not predicted" in fault for fault in faults)

    refused = trained.execute(dg.AssetSelection.assets("model_version"))
    assert not refused.success
    assert len(trained.versions()) == 1
    overwrite_panel(trained, "predictions", predictions)
    assert only_evaluation(trained.execute(OUT_OF_SAMPLE)).passed


def test_a_threshold_that_was_chosen_on_the_test_set_stops_a_version(trained: Installation) -> None:
    predictions = pl.read_parquet(stored_at(trained, "predictions.parquet"))
    settings = Experiment()
    leaking = choose_threshold(predictions, settings.horizon, settings.bootstrap_draws, settings.seed, 40).to_json()
    before = json.loads(stored_at(trained, "threshold.json").read_bytes())["value"]
    overwrite_figures(trained, "threshold", leaking)

    made = only_evaluation(trained.execute(TEST_SET_UNREAD))
    assert not made.passed
    assert made.severity is dg.AssetCheckSeverity.ERROR
    assert len(made.metadata["differences"].value) == 2
    assert not trained.execute(dg.AssetSelection.assets("model_version")).success
    assert len(trained.versions()) == 1
    overwrite_figures(trained, "threshold", before)
    assert only_evaluation(trained.execute(TEST_SET_UNREAD)).passed
