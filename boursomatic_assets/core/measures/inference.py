"""Inference on few, overlapping observations: errors, intervals and p-values that hold under the null.

Sessions whose labels look `horizon` sessions ahead share most of that future: a hundred sessions hold about ten
independent observations. Normal tables then reject a true null far too often. Each statistic is compared with its
distribution under the null for this number of sessions, overlap and lag (`overlap_reference`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from boursomatic_assets.core.measures.overlap_reference import overlap_quantile, overlap_reference
from boursomatic_assets.errors import NonFiniteReturnsError

CONFIDENCE = 0.95
# Bounds of a bootstrap interval of the same confidence.
PERCENTILES = (0.025, 0.975)
# Smaller probabilities would depend on the assumption of normal shocks.
SMALLEST_CHANCE = 1e-6


@dataclass(frozen=True)
class MeanTest:
    """A mean, or a ratio of means, with its standard error, 95 % interval and p-value.

    `statistic` is the distance from the value under the null in standard errors. `p_value` is one-sided: the chance
    under the null of a statistic at least as large.
    """

    value: float
    error: float
    statistic: float
    p_value: float
    low: float
    high: float

    @property
    def estimate(self) -> tuple[float, float, float]:
        """Value and interval."""
        return self.value, self.low, self.high

    def around(self, value: float) -> MeanTest:
        """The same test with its interval around another value."""
        return replace(self, value=value, low=value + self.low - self.value, high=value + self.high - self.value)


UNDEFINED = MeanTest(*[math.nan] * 6)


def newey_west_error(values: np.ndarray, lag: int) -> float:
    """Standard error of a mean, robust to heteroskedasticity and autocorrelation; NaN for fewer than two values.

    Autocovariances up to `lag` count, with Bartlett weights: sqrt((g_0 + 2 sum_j (1 - j / (lag + 1)) g_j) / n) with
    g_j = sum_t e_t e_(t-j) / n and e = values - mean.

    Newey and West (1987), Econometrica 55. The weighted sum of autocovariances equals the mean square of all sums
    over `lag` + 1 neighbours, the form computed here.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:  # noqa: PLR2004 (a deviation needs two)
        return math.nan
    count, width = len(values), lag + 1
    sums = np.concatenate([np.zeros(width), np.cumsum(values - values.mean())])
    # Zeros before the first value and after the last: windows are cut at the ends.
    sums = np.concatenate([sums, np.repeat(sums[-1:], width - 1)])
    return float(np.sqrt(np.square(sums[width:] - sums[:-width]).sum() / width) / count)


def overlap_test(values: np.ndarray, overlap: int, lag: int, null: float = 0.0) -> MeanTest:
    """Test whether a mean of overlapping observations, `values` in time order, is above `null`.

    Parameters
    ----------
    overlap : int
        Neighbouring values that share observations: the horizon for outcomes over it, 1 for daily returns.
    lag : int
        Lag of the Newey-West error, at least `overlap` - 1.

    Returns
    -------
    MeanTest
        `UNDEFINED` for fewer than `overlap` + 2 values, or values that do not vary.

    Raises
    ------
    NonFiniteReturnsError
        If a value is not finite.

    Notes
    -----
    The statistic is Newey and West's. Its reference is the same statistic of moving sums of `overlap` independent
    normal values: the finite-sample counterpart of fixed-b asymptotics (Kiefer and Vogelsang 2005, Econometric
    Theory 21), for the dependence that overlapping horizons have by construction.
    """
    values = np.asarray(values, dtype=np.float64)
    _require_finite(values)
    if len(values) < overlap + 2 or values.max() == values.min():
        return UNDEFINED
    value, error = float(values.mean()), newey_west_error(values, lag)
    if error == 0:
        return UNDEFINED
    statistic = (value - null) / error
    beyond = max(overlap_reference(len(values), overlap, lag).exceeded(statistic), SMALLEST_CHANCE)
    p_value = beyond / 2 if statistic > 0 else 1 - beyond / 2
    width = overlap_quantile(len(values), overlap, lag, CONFIDENCE) * error
    return MeanTest(value, error, statistic, p_value, value - width, value + width)


def upper_bound(values: np.ndarray, overlap: int, lag: int) -> float:
    """Upper end of a one-sided 95 % confidence interval of a mean of overlapping observations.

    Arguments as in `overlap_test`. The mean itself where the values do not vary; NaN for fewer than `overlap` + 2.
    """
    values = np.asarray(values, dtype=np.float64)
    _require_finite(values)
    if len(values) < overlap + 2:
        return math.nan
    value = float(values.mean())
    if values.max() == values.min():
        return value
    # A one-sided 95 % bound is the end of a two-sided 90 % interval.
    width = overlap_quantile(len(values), overlap, lag, 2 * CONFIDENCE - 1)
    return value + width * newey_west_error(values, lag)


def ratio_test(
    numerators: np.ndarray, denominators: np.ndarray, overlap: int, lag: int, null: float = 1.0
) -> MeanTest:
    """Test whether sum(numerators) / sum(denominators) over sessions is above `null`.

    Both are arrays of shape (n_sessions,); the other arguments as in `overlap_test`. `UNDEFINED` where the
    denominators sum to zero.

    Linearised (delta method): the ratio deviates from `null` by the mean of numerator - null x denominator, over
    the mean denominator.
    """
    numerators, denominators = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    whole = float(denominators.mean()) if len(denominators) else 0.0
    if whole == 0:
        return UNDEFINED
    tested = overlap_test((numerators - null * denominators) / whole, overlap, lag)
    value = float(numerators.mean()) / whole
    around = overlap_test((numerators - value * denominators) / whole, overlap, lag)
    return MeanTest(value, around.error, tested.statistic, tested.p_value, value + around.low, value + around.high)


def _require_finite(values: np.ndarray) -> None:
    broken = ~np.isfinite(values)
    if broken.any():
        position = int(np.flatnonzero(broken)[0])
        message = f"a test needs finite values; found {values[position]} at position {position} of {len(values)}"
        raise NonFiniteReturnsError(message)


def diebold_mariano(model: np.ndarray, baseline: np.ndarray, overlap: int, lag: int) -> MeanTest:
    """Test whether a model's losses per session are lower than a baseline's: the mean of baseline - model.

    Diebold and Mariano (1995), Journal of Business & Economic Statistics 13, with the reference distribution of
    `overlap_test` in place of the normal one, after Harvey, Leybourne and Newbold (1997).
    """
    return overlap_test(np.asarray(baseline) - np.asarray(model), overlap, lag)


def clark_west_terms(realised: np.ndarray, forecast: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Terms of the adjusted difference of squared errors, for a baseline f0 that the model f1 nests.

    (y - f0)^2 - (y - f1)^2 + (f1 - f0)^2 = 2 (y - f0) (f1 - f0)

    Clark and West (2007), Journal of Econometrics 138. Under the null a model with more parameters has the larger
    squared error, by the noise it fitted; without the adjustment the null would never be rejected.
    """
    return np.asarray(2.0 * (realised - baseline) * (forecast - baseline))
