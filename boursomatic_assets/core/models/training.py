"""LightGBM classifier and regressor: trained reproducibly, kept as text for serving and as pickle for people."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES, label_mix
from boursomatic_assets.errors import DegenerateLabelsError

if TYPE_CHECKING:
    import lightgbm
    import pandas as pd

    from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment


@dataclass(frozen=True)
class FittedModel:
    """A trained model as the bytes that are stored, which are also the bytes that predict."""

    text: str  # LightGBM's text format; the same for the same data and experiment at any thread count
    pickled: bytes  # the scikit-learn estimator, for people; opened only by `estimator()`
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...] = ()  # in the order of the probabilities; empty for a regressor

    @cached_property
    def booster(self) -> lightgbm.Booster:
        """The model read from its text."""
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    def predict(self, panel: pl.DataFrame) -> np.ndarray:
        """Probabilities (n_rows, n_classes) from a classifier, forward returns (n_rows,) from a regressor."""
        return np.asarray(self.booster.predict(model_matrix(panel, self.feature_names)))

    def importance(self) -> dict[str, np.ndarray]:
        """Total gain and number of splits per feature, each of shape (n_features,)."""
        return {kind: self.booster.feature_importance(kind) for kind in ("gain", "split")}

    def estimator(self) -> Any:  # noqa: ANN401 (LGBMClassifier or LGBMRegressor, as the pickle holds)
        """Unpickle the scikit-learn estimator. Only for bytes whose digest has been compared."""
        return pickle.loads(self.pickled)  # noqa: S301 (the store compares digests before it hands bytes out)


def model_matrix(panel: pl.DataFrame, feature_names: tuple[str, ...]) -> pd.DataFrame:
    """Features as a float32 frame of named columns, shape (n_rows, n_features); null becomes NaN."""
    import pandas as pd

    values = panel.select(pl.col(name).cast(pl.Float32) for name in feature_names).to_numpy()
    return pd.DataFrame(values, columns=list(feature_names), copy=False)


def fit_classifier(train_set: pl.DataFrame, experiment: Experiment, threads: int = 0) -> FittedModel:
    """Train the BUY / HOLD / SELL classifier; `threads`, 0 for all cores, never changes the model.

    Raises DegenerateLabelsError if a class never occurs in the training rows.
    """
    mix = label_mix(train_set)
    if not all(mix.values()):
        message = (
            f"the classifier needs rows of every class to train on; found {mix} in {train_set.height} rows. "
            "Move the thresholds in the experiment (buy_threshold, sell_threshold) or ingest other prices"
        )
        raise DegenerateLabelsError(message)
    import lightgbm

    parameters = _parameters(experiment.classifier, experiment.seed, threads)
    model = lightgbm.LGBMClassifier(objective="multiclass", **parameters)
    target = train_set["label"].cast(pl.String).to_numpy()
    model.fit(model_matrix(train_set, experiment.features), target)
    return _fitted(model, experiment.features, CLASS_NAMES)


def fit_regressor(train_set: pl.DataFrame, experiment: Experiment, threads: int = 0) -> FittedModel:
    """Train the regressor of the forward return; `threads`, 0 for all cores, never changes the model."""
    import lightgbm

    parameters = _parameters(experiment.regressor, experiment.seed, threads)
    model = lightgbm.LGBMRegressor(objective="regression", **parameters)
    model.fit(model_matrix(train_set, experiment.features), train_set["forward_return"].to_numpy())
    return _fitted(model, experiment.features)


def _parameters(booster: BoosterParameters, seed: int, threads: int) -> dict[str, Any]:
    return {
        **booster.model_dump(),
        "random_state": seed,
        "n_jobs": threads or -1,
        # Histograms are built row-wise and summed in a fixed order: the same trees at any thread count.
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _fitted(
    model: lightgbm.LGBMModel, feature_names: tuple[str, ...], class_names: tuple[str, ...] = ()
) -> FittedModel:
    return FittedModel(
        # The training machine's thread count, the only line that is not about the model, becomes 0 (all cores).
        text=re.sub(
            r"^\[num_threads: -?\d+\]$", "[num_threads: 0]", model.booster_.model_to_string(), flags=re.MULTILINE
        ),
        pickled=pickle.dumps(model, protocol=5),
        feature_names=feature_names,
        class_names=class_names,
    )


def feature_importance(classifier: FittedModel, regressor: FittedModel) -> pl.DataFrame:
    """Gain and split count of each feature in both models, sorted by the classifier's gain.

    Columns: `feature`, `classifier_gain`, `classifier_splits`, `regressor_gain`, `regressor_splits`. Gains are
    shares of the model's total gain (0 to 1).
    """
    columns: dict[str, Any] = {"feature": list(classifier.feature_names)}
    for name, model in (("classifier", classifier), ("regressor", regressor)):
        importance = model.importance()
        total = importance["gain"].sum()
        columns[f"{name}_gain"] = importance["gain"] / total if total else importance["gain"]
        columns[f"{name}_splits"] = importance["split"].astype(np.int64)
    return pl.DataFrame(columns).sort("classifier_gain", "feature", descending=[True, False])
