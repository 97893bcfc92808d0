"""Errors of forecast returns, beside those of the training mean.

Panels have `forward_return`, `predicted_return` and the training mean as `prior_return`.
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
    """scikit-learn's `r2_score`; NaN where the returns do not vary.

    Its baseline, the mean of the same returns, was unknown beforehand; `r2_over_prior` uses a known baseline.
    """
    realised = _values(panel, pl.col("forward_return"))
    # Equal returns deviate from their mean by rounding only: no variance to explain.
    varies = len(realised) and realised.max() > realised.min()
    spread = float(np.sum((realised - realised.mean()) ** 2)) if varies else 0.0
    return 1.0 - ratio(_squared_error(panel, MODEL), spread)


def r2_over_prior(panel: pl.DataFrame) -> float:
    """Share by which the forecast reduces the training mean's squared error; NaN where that error is zero."""
    return 1.0 - ratio(_squared_error(panel, MODEL), _squared_error(panel, PRIOR))


def _squared_error(panel: pl.DataFrame, forecast: str) -> float:
    return float(np.sum(_values(panel, row_error(forecast) ** 2)))


def _values(panel: pl.DataFrame, column: pl.Expr) -> np.ndarray:
    return panel.select(column).to_series().to_numpy()
