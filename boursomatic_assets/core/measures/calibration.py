"""Measures of probabilities, and the temperature, fitted on the validation set, that calibrates them.

Early stopping makes trees underconfident, overfitting makes them overconfident. One temperature corrects both,
keeps the order of the classes, and does not carry over the base rates of one validation year. `classification`
describes panels and forecasters.
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
# scikit-learn's bound: a probability of 0 for the true class would be an infinite loss.
LEAST_PROBABILITY = float(np.finfo(np.float64).eps)
CALIBRATION_BINS = 10


def calibrate(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Temperature scaling: divide log probabilities of shape (n_rows, n_classes) by a temperature, then normalise.

    A temperature above 1 lowers certainty, 1 changes nothing. The order within a row is kept. Guo, Pleiss, Sun and
    Weinberger, On Calibration of Modern Neural Networks (2017), section 4.2.

    >>> calibrate(np.array([[0.8, 0.2]]), 2.0).round(3).tolist()  # square roots: 2 to 1
    [[0.667, 0.333]]
    """
    if temperature == UNCALIBRATED:
        return probabilities
    logs = np.log(np.maximum(probabilities, LEAST_PROBABILITY)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: np.ndarray, labels: pl.Series) -> float:
    """Find the temperature with the smallest log loss, between `COLDEST` and `HOTTEST`; 1.0 without rows.

    Probabilities have shape (n_rows, 3), in the order of `CLASS_NAMES`. Raises NoRowsError if a row has no label or
    no probability.
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
    """Negative logarithm of the true class's probability, in nats; null where it is unknown."""
    given = pl.coalesce(
        pl.when(pl.col("label") == name).then(column)
        for name, column in zip(CLASS_NAMES, probability_columns(forecaster), strict=True)
    )
    # Polars takes the logarithm of the C library, as scikit-learn does; NumPy's can differ in the last digit.
    return -given.clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY).log()


def row_brier_score(forecaster: str = MODEL) -> pl.Expr:
    """Squared distance between probabilities and outcome, summed over the classes; null where one is unknown."""
    happened = (pl.when(pl.col("label") == name).then(1.0).otherwise(0.0) for name in CLASS_NAMES)
    given = map(pl.col, probability_columns(forecaster))
    # In class order: `sum_horizontal` adds in another order, which can change the last digit.
    return sum(((left - right) ** 2 for left, right in zip(given, happened, strict=True)), pl.lit(0.0))


def log_loss(panel: pl.DataFrame, forecaster: str = MODEL) -> float:
    """Mean of `row_log_loss`, as scikit-learn's `log_loss` with its bounds of a probability; NaN for no rows.

    Raises NoRowsError if a row has no label or no probability.
    """
    return _mean_over_rows(panel, forecaster, row_log_loss(forecaster))


def brier_score(panel: pl.DataFrame, forecaster: str = MODEL) -> float:
    """Mean of `row_brier_score`, in [0, 2]; NaN for no rows.

    Brier's own form (1950), "Verification of Forecasts Expressed in Terms of Probability": the sum over all
    classes. For two classes it is twice the form that is often quoted.
    """
    return _mean_over_rows(panel, forecaster, row_brier_score(forecaster))


def brier_skill(panel: pl.DataFrame, forecaster: str = MODEL) -> float:
    """Brier skill score, 1 - Brier / Brier of the prior: 0 is no better than the prior, below 0 worse, 1 perfect.

    NaN where the prior is always right.
    """
    return 1.0 - ratio(brier_score(panel, forecaster), brier_score(panel, PRIOR))


def calibration_bins(panel: pl.DataFrame, bins: int = CALIBRATION_BINS) -> pl.DataFrame:
    """Rows sorted by p(BUY): `session`, `bin` from 0, `probability`, and `frequency` (1 for a BUY label).

    Symbol and session decide which of two equally probable rows comes first. Raises NoRowsError if a row has no
    probability or no label.
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
    """Mean `probability` and `frequency` of BUY, and `rows`, in bins of equal size; at most one bin per row."""
    return calibration_bins(panel, bins).group_by("bin", maintain_order=True).agg(
        pl.col("probability", "frequency").mean(), rows=pl.len().cast(pl.Int64)
    ).drop("bin")  # fmt: skip


def expected_calibration_error(panel: pl.DataFrame, bins: int = CALIBRATION_BINS) -> float:
    """Mean distance between p(BUY) and the share of BUY labels, over bins of equal size; NaN for no rows.

    Noise alone gives about sqrt(2 p (1 - p) / (pi x rows per bin)), never 0. Equal-mass bins after Nixon et al.
    (2019), "Measuring Calibration in Deep Learning": forecasts crowd around the base rate, and most bins of equal
    width would be empty.
    """
    curve = reliability_curve(panel, bins)
    distance = (curve["probability"] - curve["frequency"]).abs()
    return ratio(float((distance * curve["rows"]).sum()), float(panel.height))


def calibration_interval(panel: pl.DataFrame, block: int, draws: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of `expected_calibration_error`: sessions are resampled, bins stay as they are.

    `block`, `draws` and `seed` as for `sharpe_interval`. NaN for fewer sessions than two blocks.
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
