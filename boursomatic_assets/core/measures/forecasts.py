"""Errors of forecast returns, beside those of the training mean.

Everything here works on a panel with `forward_return`, `predicted_return` and, as a forecast that needs no model,
`prior_return`.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from boursomatic_assets.core.measures.classification import mean_of, ratio

MODEL, PRIOR = "predicted_return", "prior_return"


def row_error(forecast: str = MODEL) -> pl.Expr:
    """Realised return less the forecast, a fraction."""
    return pl.col("forward_return") - pl.col(forecast)


def mean_absolute_error(panel: pl.DataFrame, forecast: str = MODEL) -> float:
    """Mean size of the error, a fraction; NaN for no rows."""
    return mean_of(_values(panel, row_error(forecast).abs()))


def root_mean_squared_error(panel: pl.DataFrame, forecast: str = MODEL) -> float:
    """Root of the mean squared error, a fraction; NaN for no rows."""
    return math.sqrt(mean_of(_values(panel, row_error(forecast) ** 2)))


def r2(panel: pl.DataFrame) -> float:
    """Part of the squared deviations from the returns' own mean that the forecast saves; NaN without any.

    As scikit-learn's `r2_score`. Nobody knew that mean beforehand; `r2_over_prior` compares with a known one.
    """
    realised = _values(panel, pl.col("forward_return"))
    # Equal returns leave a residue of rounding around their mean: no variance to explain.
    varies = len(realised) and realised.max() > realised.min()
    spread = float(np.sum((realised - realised.mean()) ** 2)) if varies else 0.0
    return 1.0 - ratio(_squares(panel, MODEL), spread)


def r2_over_prior(panel: pl.DataFrame) -> float:
    """Part of the training mean's squared error that the forecast saves; at most 1, NaN where that has no error."""
    return 1.0 - ratio(_squares(panel, MODEL), _squares(panel, PRIOR))


def _squares(panel: pl.DataFrame, forecast: str) -> float:
    return float(np.sum(_values(panel, row_error(forecast) ** 2)))


def _values(panel: pl.DataFrame, column: pl.Expr) -> np.ndarray:
    return panel.select(column).to_series().to_numpy()
