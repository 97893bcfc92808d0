"""Probabilities that mean what they say: one temperature, found on the validation set.

Trees that are stopped early are too timid, and trees that have learned by heart too bold. One number corrects both
and keeps the order of the classes; the base rates of one validation year are not carried over.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.errors import NoRowsError

COLDEST, HOTTEST = 0.2, 5.0
UNCALIBRATED = 1.0
# Below this a probability is taken for it: its logarithm stays finite.
SMALLEST = 1e-15


def calibrate(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logarithms of probabilities by a temperature.

    Parameters
    ----------
    probabilities : ndarray of shape (n_rows, n_classes)
        Each row sums to 1.
    temperature : float
        Above 0; above 1 for less certainty, 1 to leave everything as it is.

    Returns
    -------
    ndarray of shape (n_rows, n_classes)
        Each row sums to 1; the order within a row is kept.

    Notes
    -----
    Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks (2017), section 4.2.

    Examples
    --------
    Logarithms of 0.8 and 0.2 halved: square roots, 2 to 1.

    >>> calibrate(np.array([[0.8, 0.2]]), 2.0).round(3).tolist()
    [[0.667, 0.333]]
    """
    if temperature == UNCALIBRATED:
        return probabilities
    logs = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: np.ndarray, labels: pl.Series) -> float:
    """Find the temperature with which the labels that came were least surprising.

    Parameters
    ----------
    probabilities : ndarray of shape (n_rows, 3)
        In the order of `CLASS_NAMES`.
    labels : Series
        What each row turned out to be.

    Returns
    -------
    float
        Of least log loss between `COLDEST` and `HOTTEST`; 1.0, which changes nothing, without rows.

    Raises
    ------
    NoRowsError
        If a row has no label or no probability.
    """
    if not len(labels):
        return UNCALIBRATED
    if labels.null_count() or not np.isfinite(probabilities).all():
        unknown = int((~np.isfinite(probabilities)).any(axis=1).sum())
        message = (
            f"a temperature needs labels and probabilities; of {len(labels)} rows {labels.null_count()} have no "
            f"label and {unknown} no probability"
        )
        raise NoRowsError(message)
    from scipy.optimize import minimize_scalar

    places = (
        labels.cast(pl.String).replace_strict({name: place for place, name in enumerate(CLASS_NAMES)}).to_numpy()
    )
    rows = np.arange(len(places))

    def log_loss(temperature: float) -> float:
        found = calibrate(probabilities, temperature)[rows, places]
        return float(-np.log(np.maximum(found, SMALLEST)).mean())

    best = minimize_scalar(log_loss, bounds=(COLDEST, HOTTEST), method="bounded", options={"xatol": 1e-4})
    return round(float(best.x), 4)
