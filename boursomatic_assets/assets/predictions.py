"""Predictions of both models on the validation and test sets, and the threshold of BUY."""

from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.dataset.labels import closed_early, label_mix
from boursomatic_assets.core.dataset.splits import judged_sets
from boursomatic_assets.core.measures.classification import PROBABILITIES
from boursomatic_assets.core.models.predictions import predict_sets, prediction_faults
from boursomatic_assets.core.models.threshold import differences_without_test_set, threshold_of
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.display.ui.metadata import (
    column_lineage,
    data_version,
    numeric_metadata,
    panel_metadata,
    table,
)
from boursomatic_assets.storage.dagster.resources import ExperimentResource

SYMBOLS_SHOWN = 50


@dg.asset(
    group_name="predictions",
    kinds={"lightgbm", "parquet"},
    owners=OWNERS,
    code_version=code_version(__name__, "predictions"),
    io_manager_key="panels",
)
def predictions(  # noqa: PLR0913, PLR0917 (each input is an edge of the lineage)
    classifier: FittedModel,
    regressor: FittedModel,
    validation_set: pl.DataFrame,
    test_set: pl.DataFrame,
    labels: pl.DataFrame,
    experiment: ExperimentResource,
) -> dg.Output[pl.DataFrame]:
    """Probabilities and expected return of every row that the models have not learned from, beside its outcome.

    Rows are those of both sets, and rows of the same sessions whose instrument stopped trading or was halted over
    the whole horizon. The latter are closed at their last price.
    """
    sets = judged_sets({"validation": validation_set, "test": test_set}, labels, experiment.value())
    panel = predict_sets(sets, classifier, regressor)
    mix = label_mix(panel.with_columns(label="predicted_label"))
    outputs = panel.select(*PROBABILITIES, "predicted_return")
    metadata = {
        **panel_metadata(panel),
        **column_lineage("predictions", experiment.value().features),
        **{f"rows_{name.lower()}": count for name, count in mix.items()},
        **{f"rows_of_{name}": int(count) for name, count in panel["set"].value_counts().rows()},
        **_closed_early(sets),
        "probabilities": table(outputs.describe().filter(pl.col("statistic") != "null_count")),
        **numeric_metadata({f"mean_{column.name}": column.mean() for column in outputs}),  # type: ignore[misc]
    }
    return dg.Output(panel, metadata=metadata, data_version=data_version(panel))


def _closed_early(sets: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """Rows closed at their last price, per set, and their symbols."""
    closed = {name: closed_early(rows) for name, rows in sets.items()}
    symbols = sorted({symbol for each in closed.values() for symbol in each["symbols"]})
    return {
        **{f"rows_of_{name}_closed_at_their_last_price": each["rows"] for name, each in closed.items()},
        "symbols_closed_at_their_last_price": len(symbols),
        **({"closed_at_their_last_price": ", ".join(symbols[:SYMBOLS_SHOWN])} if symbols else {}),
    }


@dg.asset(
    group_name="predictions",
    kinds={"json"},
    owners=OWNERS,
    code_version=code_version(__name__, "threshold"),
    io_manager_key="figures",
)
def threshold(predictions: pl.DataFrame, experiment: ExperimentResource) -> dg.Output[dict[str, Any]]:
    """The probability from which on a row is called BUY, chosen on the validation set alone.

    It is the smallest whose precision is above the base rate of equally volatile rows, by more than chance
    explains. Without such a value it is null, and the most probable class is called. `temperature` calibrates the
    probabilities that people are shown.
    """
    chosen = threshold_of(predictions, experiment.value())
    value = chosen.to_json()
    metadata: dict[str, Any] = {
        **({} if chosen.tau is None else {"tau": float(chosen.tau)}),
        "reason": chosen.reason,
        "temperature": float(chosen.temperature),
        "candidate_values": chosen.candidates.height,
        "preview": table(chosen.candidates),
    }
    return dg.Output(value, metadata=metadata, data_version=data_version(value))


@dg.asset_check(
    asset=predictions,
    blocking=True,
    additional_ins={
        "train_set": dg.AssetIn("train_set", metadata={"columns": ["symbol", "session", "label_end"]}),
        **{name: dg.AssetIn(name) for name in ("validation_set", "test_set", "labels")},
    },
)
def predictions_are_out_of_sample(  # noqa: PLR0913, PLR0917 (what is predicted, and all that it follows from)
    predictions: pl.DataFrame,
    train_set: pl.DataFrame,
    validation_set: pl.DataFrame,
    test_set: pl.DataFrame,
    labels: pl.DataFrame,
    experiment: ExperimentResource,
) -> dg.AssetCheckResult:
    """Every row of the validation and test sets is predicted once, and all training labels ended before.

    The same holds for rows whose instrument ended within the horizon. Probabilities lie within 0 and 1 and sum to
    1.
    """
    sets = judged_sets({"validation": validation_set, "test": test_set}, labels, experiment.value())
    faults = prediction_faults(predictions, train_set, sets)
    return dg.AssetCheckResult(passed=not faults, metadata={"faults": faults})


@dg.asset_check(asset=threshold, blocking=True, additional_ins={"predictions": dg.AssetIn("predictions")})
def the_test_set_is_not_read(
    threshold: dict[str, Any], predictions: pl.DataFrame, experiment: ExperimentResource
) -> dg.AssetCheckResult:
    """The threshold is the same without the test rows, and with their outcomes reversed."""
    differences = differences_without_test_set(threshold, predictions, experiment.value())
    return dg.AssetCheckResult(passed=not differences, metadata={"differences": differences})
