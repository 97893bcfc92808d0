"""Feature contributions to each prediction: exact SHAP values of the trees, computed by LightGBM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.models.training import model_matrix

if TYPE_CHECKING:
    from boursomatic_assets.core.models.training import FittedModel

SAMPLE_ROWS = 1000


@dataclass(frozen=True)
class Contributions:
    """SHAP values of some rows."""

    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]  # classes of a classifier, or the forward return of a regressor
    values: np.ndarray  # (n_rows, n_outputs, n_features), in the raw score: log-odds, or a fraction
    expected: np.ndarray  # (n_rows, n_outputs): score of the average training row, the rest of a row's raw score
    inputs: np.ndarray  # (n_rows, n_features): the features; NaN for null

    def mean_absolute(self) -> pl.DataFrame:
        """Mean absolute contribution of each `feature` to each output, the largest sum first; 0.0 without rows."""
        sizes = np.abs(self.values).sum(axis=0) / max(len(self.values), 1)
        columns = dict(zip(self.output_names, sizes, strict=True))
        ranked = pl.DataFrame({"feature": list(self.feature_names), **columns})
        total = pl.sum_horizontal(self.output_names)
        return ranked.sort(total, "feature", descending=[True, False])


def spread_rows(panel: pl.DataFrame, count: int = SAMPLE_ROWS) -> pl.DataFrame:
    """Pick at most `count` rows at equal distances, always the same ones of the same panel."""
    picked = np.unique(np.linspace(0, max(panel.height - 1, 0), min(count, panel.height)).round().astype(np.int64))
    return panel[picked]


def feature_contributions(model: FittedModel, panel: pl.DataFrame) -> Contributions:
    """Split each row's raw score into the contributions of its features.

    Lundberg, Erion and Lee, Consistent Individualized Feature Attribution for Tree Ensembles (2018), by LightGBM's
    `pred_contrib`. It explains the model, not the market.
    """
    outputs = model.class_names or ("forward return",)
    inputs = model_matrix(panel, model.feature_names)
    shape = (panel.height, len(outputs), len(model.feature_names) + 1)
    # LightGBM refuses a frame without rows.
    contributions = np.asarray(model.booster.predict(inputs, pred_contrib=True)) if panel.height else np.empty(0)
    values = contributions.reshape(shape)
    return Contributions(model.feature_names, outputs, values[:, :, :-1], values[:, :, -1], inputs.to_numpy())
