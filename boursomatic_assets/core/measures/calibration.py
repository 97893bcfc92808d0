"""How good probabilities are, and one temperature, found on the validation set, that makes them better.

Trees that are stopped early are too timid, and trees that have learned by heart too bold. One number corrects both
and keeps the order of the classes; the base rates of one validation year are not carried over.
Panels and forecasters are those of `classification`.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.market.bars import PANEL_KEY, require_rows
from boursomatic_assets.core.measures.classification import (
    MODEL,
    PRIOR,
    PROBABILITIES,
    mean_of,
    probability_columns,
    ratio,
)
from boursomatic_assets.core.measures.inference import PERCENTILES
from boursomatic_assets.core.measures.resampling import bootstrap_weights
from boursomatic_assets.errors import NoRowsError

COLDEST, HOTTEST = 0.2, 5.0
UNCALIBRATED = 1.0
# A probability of 0 for what happened would be an infinite loss; scikit-learn's bound.
LEAST_PROBABILITY = float(np.finfo(np.float64).eps)
CALIBRATION_BINS = 10


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
    logs = np.log(np.maximum(probabilities, LEAST_PROBABILITY)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: np.ndarray, labels: pl.Series) -> float:
    """Find the temperature with the smallest log loss.

    Parameters
    ----------
    probabilities : ndarray of shape (n_rows, 3)
        In the order of `CLASS_NAMES`.
    labels : Series
        What each row turned out to be.

    Returns
    -------
    float
        Between `COLDEST` and `HOTTEST`; 1.0, which changes nothing, without rows.

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

    def loss(temperature: float) -> float:
        shown = pl.DataFrame(calibrate(probabilities, temperature), list(PROBABILITIES), orient="row")
        return log_loss(shown.with_columns(label=labels))

    best = minimize_scalar(loss, bounds=(COLDEST, HOTTEST), method="bounded", options={"xatol": 1e-4})
    return round(float(best.x), 4)


def row_log_loss(forecaster: str = MODEL) -> pl.Expr:
    """Negative logarithm of the probability that was given to what happened, in nats; null where there is none."""
    given = pl.coalesce(
        pl.when(pl.col("label") == name).then(column)
        for name, column in zip(CLASS_NAMES, probability_columns(forecaster), strict=True)
    )
    # Polars takes the logarithm of the C library, as scikit-learn does; NumPy's can differ in the last digit.
    return -given.clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY).log()


def row_brier_score(forecaster: str = MODEL) -> pl.Expr:
    """Squared distance between the probabilities and what happened; null where there are none."""
    happened = (pl.when(pl.col("label") == name).then(1.0).otherwise(0.0) for name in CLASS_NAMES)
    given = map(pl.col, probability_columns(forecaster))
    # From the first class to the last: `sum_horizontal` adds in another order, which shows in the last digit.
    return sum(((left - right) ** 2 for left, right in zip(given, happened, strict=True)), pl.lit(0.0))


def log_loss(panel: pl.DataFrame, forecaster: str = MODEL) -> float:
    """Mean negative logarithm of the probability that was given to what happened, in nats; NaN for no rows.

    Raises
    ------
    NoRowsError
        If a row has no label or no probability.

    Notes
    -----
    As scikit-learn's `log_loss`, with its bounds of a probability.
    """
    return _mean_over_rows(panel, forecaster, row_log_loss(forecaster))


def brier_score(panel: pl.DataFrame, forecaster: str = MODEL) -> float:
    """Mean over the rows of the squared distance between the probabilities and what happened.

    Returns
    -------
    float
        In [0, 2]; 0 is certainty that is always right. NaN for no rows.

    Notes
    -----
    Brier (1950), "Verification of Forecasts Expressed in Terms of Probability", in its own form: the sum over
    all classes of (p_k - y_k)^2, twice the half that is often quoted for two classes.
    """
    return _mean_over_rows(panel, forecaster, row_brier_score(forecaster))


def brier_skill(panel: pl.DataFrame, forecaster: str = MODEL) -> float:
    """Part of the prior's Brier score that the probabilities save: 1 - Brier / Brier of the prior.

    At most 1; 0 is no better than the prior, below 0 is worse. NaN where the prior is always right.
    """
    return 1.0 - ratio(brier_score(panel, forecaster), brier_score(panel, PRIOR))


def calibration_bins(panel: pl.DataFrame, bins: int = CALIBRATION_BINS) -> pl.DataFrame:
    """Rows from the lowest p(BUY) up: `session`, `bin` from 0, `probability`, and `frequency` (1 for a BUY label).

    Rows of equal probability may fall on both sides of a bin's edge; symbol and session decide which.

    Raises
    ------
    NoRowsError
        If a row has no probability or no label.
    """
    if panel.height:
        require_rows(panel, "a calibration curve needs probabilities and labels", ("probability_buy", "label"))
    return panel.sort("probability_buy", *PANEL_KEY).select(
        "session",
        bin=pl.int_range(pl.len()) * bins // pl.len(),
        probability="probability_buy",
        frequency=(pl.col("label") == "BUY").cast(pl.Float64),
    )


def reliability_curve(panel: pl.DataFrame, bins: int = CALIBRATION_BINS) -> pl.DataFrame:
    """Probability of BUY beside the share of BUY labels, in bins of equally many rows; at most one bin per row.

    Returns
    -------
    DataFrame
        `probability` (mean of the bin), `frequency` (share of BUY labels), `rows`; from the lowest bin up.
    """
    return calibration_bins(panel, bins).group_by("bin", maintain_order=True).agg(
        pl.col("probability", "frequency").mean(), rows=pl.len().cast(pl.Int64)
    ).drop("bin")  # fmt: skip


def expected_calibration_error(panel: pl.DataFrame, bins: int = CALIBRATION_BINS) -> float:
    """Mean distance between p(BUY) and the share of BUY labels, over bins of equally many rows.

    Returns
    -------
    float
        In [0, 1]; NaN for no rows. Noise alone gives about sqrt(2 p (1 - p) / (pi x rows per bin)), never 0.

    Notes
    -----
    Equal-mass bins after Nixon et al. (2019), "Measuring Calibration in Deep Learning": bins of equal width leave
    most of them empty where forecasts crowd around the base rate, as they do here.
    """
    curve = reliability_curve(panel, bins)
    distance = (curve["probability"] - curve["frequency"]).abs()
    return ratio(float((distance * curve["rows"]).sum()), float(panel.height))


def calibration_interval(panel: pl.DataFrame, block: int, draws: int, seed: int) -> tuple[float, float]:
    """Bounds between which 95 % of the calibration errors of resampled sessions lie; bins stay as they are.

    Parameters
    ----------
    panel : DataFrame
        As for `reliability_curve`.
    block, draws, seed : int
        As for `sharpe_interval`.

    Returns
    -------
    tuple of float
        NaN for fewer sessions than two blocks: draws of one block are all alike.
    """
    if panel["session"].n_unique() < 2 * block:
        return math.nan, math.nan
    binned = calibration_bins(panel).with_columns(gap=pl.col("frequency") - pl.col("probability"))
    gaps = binned.pivot("bin", index="session", values="gap", aggregate_function="sum").sort("session")
    sums = gaps.drop("session").fill_null(0.0).to_numpy()
    rows = binned.group_by("session").len().sort("session")["len"].to_numpy()
    weights = bootstrap_weights(len(rows), block, draws, seed)
    errors = np.abs(weights @ sums).sum(axis=1) / (weights @ rows)
    low, high = np.quantile(errors, PERCENTILES)
    return float(low), float(high)


def _mean_over_rows(panel: pl.DataFrame, forecaster: str, term: pl.Expr) -> float:
    if panel.height:
        needed = ("label", *probability_columns(forecaster))
        require_rows(panel, "rows to judge need their labels and probabilities", needed)
    return mean_of(panel.select(term).to_series().to_numpy())
