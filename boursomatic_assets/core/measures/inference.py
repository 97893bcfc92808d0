"""Inference on few, overlapping observations: errors, intervals and p-values that hold when nothing is there.

Sessions whose labels look `horizon` sessions ahead share most of what they look at: some hundred sessions hold some
ten independent observations. Normal tables reject such nulls far too often. Here every statistic is read against
its own distribution under the null for that many sessions, that overlap and that lag (`core.overlap_reference`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from boursomatic_assets.core.measures.overlap_reference import overlap_quantile, overlap_reference
from boursomatic_assets.errors import NonFiniteReturnsError

CONFIDENCE = 0.95
# Of resampled figures, the bounds of the same confidence.
PERCENTILES = (0.025, 0.975)
# So far out the normal shocks of the reference, not the arithmetic, would decide: no chance is given as smaller.
SMALLEST_CHANCE = 1e-6


@dataclass(frozen=True)
class MeanTest:
    """A mean with what is known of its error.

    Attributes
    ----------
    value : float
        The mean, or the ratio of means.
    error : float
        Its standard error, robust to autocorrelation.
    statistic : float
        Distance from the value under the null, in standard errors.
    p_value : float
        Chance of a statistic at least so large where the null holds; one-sided, against "greater".
    low, high : float
        95 % interval.
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
        """The same test with its interval moved to lie around another value."""
        return replace(self, value=value, low=value + self.low - self.value, high=value + self.high - self.value)


UNDEFINED = MeanTest(*[float("nan")] * 6)


def newey_west_error(values: np.ndarray, lag: int) -> float:
    """Standard error of a mean, robust to heteroskedasticity and autocorrelation.

    Parameters
    ----------
    values : ndarray of shape (n,)
    lag : int
        Autocovariances up to this lag count, with Bartlett weights.

    Returns
    -------
    float
        sqrt((g_0 + 2 sum_j (1 - j / (lag + 1)) g_j) / n) with g_j = sum_t e_t e_(t-j) / n and e = values - mean.
        NaN for fewer than two values, of which nothing varies.

    Notes
    -----
    Newey and West (1987), Econometrica 55. The weighted sum of autocovariances equals the mean square of all sums
    over `lag` + 1 neighbours, the form computed here.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:  # noqa: PLR2004 (a deviation needs two)
        return float("nan")
    count, width = len(values), lag + 1
    sums = np.concatenate([np.zeros(width), np.cumsum(values - values.mean())])
    # Windows that hang over an end stop at it: before the first value and behind the last there are zeros.
    sums = np.concatenate([sums, np.repeat(sums[-1:], width - 1)])
    return float(np.sqrt(np.square(sums[width:] - sums[:-width]).sum() / width) / count)


def overlap_test(values: np.ndarray, overlap: int, lag: int, null: float = 0.0) -> MeanTest:
    """Test whether a mean of overlapping observations is above a value.

    Parameters
    ----------
    values : ndarray of shape (n_sessions,)
        One value per session, in time order.
    overlap : int
        How many neighbouring values share what they look at: the horizon for outcomes over it, 1 for daily returns.
    lag : int
        Lag of the Newey-West error, at least `overlap` - 1.
    null : float
        The mean where nothing is there.

    Returns
    -------
    MeanTest
        NaN throughout for fewer than `overlap` + 2 values, or values that do not vary.

    Notes
    -----
    The statistic is Newey and West's. It is compared with the same statistic of moving sums of `overlap`
    independent normal values, as many as there are here: the finite-sample counterpart of fixed-b asymptotics
    (Kiefer and Vogelsang 2005, Econometric Theory 21), for the dependence that overlapping horizons have by
    construction.
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
    """Value below which a mean of overlapping observations lies with 95 % certainty.

    Parameters
    ----------
    values, overlap, lag
        As in `overlap_test`.

    Returns
    -------
    float
        One-sided: that the mean is at or above it would be rejected at 5 %. The mean itself where the values do not
        vary; NaN for fewer than `overlap` + 2 of them.
    """
    values = np.asarray(values, dtype=np.float64)
    _require_finite(values)
    if len(values) < overlap + 2:
        return float("nan")
    value = float(values.mean())
    if values.max() == values.min():
        return value
    # Both tails of twice 5 % lie as far out as one of 5 %.
    width = overlap_quantile(len(values), overlap, lag, 2 * CONFIDENCE - 1)
    return value + width * newey_west_error(values, lag)


def ratio_test(
    numerators: np.ndarray, denominators: np.ndarray, overlap: int, lag: int, null: float = 1.0
) -> MeanTest:
    """Test whether a ratio of sums over sessions is above a value.

    Parameters
    ----------
    numerators, denominators : ndarray of shape (n_sessions,)
        What each session adds to both sums, such as the hits among its calls and the hits to expect.
    overlap, lag, null
        As in `overlap_test`.

    Returns
    -------
    MeanTest
        Of sum(numerators) / sum(denominators). NaN throughout where the denominators sum to zero.

    Notes
    -----
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


def diebold_mariano(
    losses_of_model: np.ndarray, losses_of_baseline: np.ndarray, overlap: int, lag: int
) -> MeanTest:
    """Test whether a model's losses are lower than a baseline's.

    Parameters
    ----------
    losses_of_model, losses_of_baseline : ndarray of shape (n_sessions,)
        Losses of the same sessions, the lower the better; the negative return of a book is a loss.
    overlap, lag
        As in `overlap_test`.

    Returns
    -------
    MeanTest
        Of baseline - model: positive where the model is better.

    Notes
    -----
    Diebold and Mariano (1995), Journal of Business & Economic Statistics 13, with the reference distribution of
    `overlap_test` in place of the normal one, after Harvey, Leybourne and Newbold (1997).
    """
    return overlap_test(np.asarray(losses_of_baseline) - np.asarray(losses_of_model), overlap, lag)


def clark_west_terms(realised: np.ndarray, forecast: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """What each forecast adds to the adjusted difference of squared errors, shape of the inputs.

    (y - f0)^2 - (y - f1)^2 + (f1 - f0)^2 = 2 (y - f0) (f1 - f0), for a baseline f0 that the model nests.

    Notes
    -----
    Clark and West (2007), Journal of Econometrics 138. Where there is nothing to know, a model with more parameters
    has the larger squared error by the noise it fitted; without the adjustment the null would never be rejected.
    """
    return np.asarray(2.0 * (realised - baseline) * (forecast - baseline))
