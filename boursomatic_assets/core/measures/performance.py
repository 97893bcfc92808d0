"""Measures of a series of daily returns: growth, risk, the Sharpe ratio and its uncertainty.

Returns are arrays of shape (n_sessions,) of simple returns per session, as fractions. Each measure raises
NonFiniteReturnsError for a return that is NaN, infinite or below -1.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from boursomatic_assets.core.measures.inference import PERCENTILES
from boursomatic_assets.core.measures.resampling import bootstrap_weights
from boursomatic_assets.errors import NonFiniteReturnsError

SESSIONS_PER_YEAR = 252


def _require_returns(returns: np.ndarray) -> None:
    broken = ~np.isfinite(returns) | (returns < -1)
    if broken.any():
        position = int(np.flatnonzero(broken)[0])
        message = f"returns must be finite and at least -1; found {returns[position]} at position {position}"
        raise NonFiniteReturnsError(message)


def sharpe_ratio(returns: np.ndarray) -> float:
    """Annualised Sharpe ratio, mean / sd x sqrt(252) with the sample deviation (n - 1).

    Returns must be daily, not over several sessions. NaN for fewer than two sessions or a constant return.
    """
    _require_returns(returns)
    if len(returns) < 2 or _is_constant(returns):  # noqa: PLR2004 (a deviation needs two)
        return math.nan
    return float(returns.mean() / returns.std(ddof=1) * np.sqrt(SESSIONS_PER_YEAR))


def wealth(returns: np.ndarray) -> np.ndarray:
    """Compounded wealth, shape (n_sessions + 1,), the starting capital of 1.0 first."""
    _require_returns(returns)
    return np.concatenate([[1.0], np.cumprod(1.0 + returns)])


def drawdown(returns: np.ndarray) -> np.ndarray:
    """Distance of wealth from its running peak, shape (n_sessions + 1,), each in [-1, 0]."""
    path = wealth(returns)
    return path / np.maximum.accumulate(path) - 1.0


def max_drawdown(returns: np.ndarray) -> float:
    """Maximum drawdown: the largest peak-to-trough loss of compounded wealth, in [-1, 0]; NaN for no sessions.

    The starting capital counts as the first peak.

    >>> max_drawdown(np.array([-0.5, 0.0]))
    -0.5
    """
    return float(drawdown(returns).min()) if len(returns) else math.nan


def total_return(returns: np.ndarray) -> float:
    """Compounded return over all sessions, as a fraction; NaN for none."""
    return float(wealth(returns)[-1] - 1.0) if len(returns) else math.nan


def annual_return(returns: np.ndarray) -> float:
    """Geometric return per year of 252 sessions, as a fraction; NaN for no sessions."""
    if not len(returns):
        return math.nan
    return float(wealth(returns)[-1] ** (SESSIONS_PER_YEAR / len(returns)) - 1.0)


def annual_volatility(returns: np.ndarray) -> float:
    """Standard deviation of daily returns x sqrt(252), the sample's (n - 1); NaN for fewer than two sessions."""
    _require_returns(returns)
    if len(returns) < 2:  # noqa: PLR2004 (a deviation needs two)
        return math.nan
    return 0.0 if _is_constant(returns) else float(returns.std(ddof=1) * np.sqrt(SESSIONS_PER_YEAR))


def hit_rate(returns: np.ndarray, exposure: np.ndarray | None = None) -> float:
    """Share of the sessions with a gain, in [0, 1]; NaN without a session.

    With `exposure`, the share of capital invested over each session, sessions without any are left out. A return of
    exactly zero is no gain.
    """
    _require_returns(returns)
    invested = returns if exposure is None else returns[exposure > 0]
    return float((invested > 0).mean()) if len(invested) else math.nan


def lo_sharpe_ratio(returns: np.ndarray, lags: int) -> float:
    """Annualised Sharpe ratio, corrected for autocorrelation of the daily returns.

    eta(q) x mean / sd with eta(q) = q / sqrt(q + 2 sum_k (q - k) rho_k) and q = 252. Autocorrelations up to `lags`,
    at most 251, count; the others are taken as zero. NaN where `sharpe_ratio` is, for at most `lags` sessions, and
    where the sum is not positive.

    Lo (2002), "The Statistics of Sharpe Ratios", Financial Analysts Journal 58, equation 20.
    """
    daily = _daily_sharpe(returns)
    if len(returns) <= lags:
        return math.nan
    centred = returns - returns.mean()
    lagged = np.arange(1, min(lags, SESSIONS_PER_YEAR - 1) + 1)
    products = np.array([centred[lag:] @ centred[:-lag] for lag in lagged])
    squares = float(centred @ centred)
    correlated = float((SESSIONS_PER_YEAR - lagged) @ products) / squares if squares else 0.0
    variance = SESSIONS_PER_YEAR + 2 * correlated
    return daily * SESSIONS_PER_YEAR / math.sqrt(variance) if variance > 0 else math.nan


def sharpe_interval(returns: np.ndarray, block: int, draws: int, seed: int) -> tuple[float, float]:
    """95 % interval of the Sharpe ratio by the stationary bootstrap of Politis and Romano (1994).

    Blocks have `block` sessions on average, at least the horizon over which positions overlap. NaN where
    `sharpe_ratio` is NaN and for fewer sessions than two blocks. Draws without variance are left out.
    """
    if len(returns) < 2 * block or math.isnan(sharpe_ratio(returns)):
        return math.nan, math.nan
    counts = bootstrap_weights(len(returns), block, draws, seed)
    # Centred, so that equal returns leave no rounding error.
    centred = returns - returns.mean()
    means, squares = counts @ centred / len(returns), counts @ centred**2 / len(returns)
    variances = (squares - means**2) * len(returns) / (len(returns) - 1)
    varied = variances > np.finfo(np.float64).eps * squares
    ratios = (means[varied] + returns.mean()) / np.sqrt(variances[varied])
    low, high = np.quantile(ratios * np.sqrt(SESSIONS_PER_YEAR), PERCENTILES)
    return float(low), float(high)


def probabilistic_sharpe_ratio(returns: np.ndarray, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio lies above `benchmark`, a Sharpe ratio per *session*.

    Phi((SR - benchmark) sqrt(n - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2)) with SR per session, g3 the skewness and
    g4 the kurtosis (3 for a normal distribution). NaN for fewer than three sessions, a constant return or an
    undefined benchmark.

    Bailey and López de Prado (2012), "The Sharpe Ratio Efficient Frontier", Journal of Risk 15. It takes the
    sessions as independent.
    """
    ratio = _daily_sharpe(returns)
    if len(returns) < 3 or math.isnan(ratio) or math.isnan(benchmark):  # noqa: PLR2004 (a skewness needs three)
        return math.nan
    centred = returns - returns.mean()
    deviation = math.sqrt(float(np.mean(centred**2)))
    skewness, kurtosis = (float(np.mean((centred / deviation) ** power)) for power in (3, 4))
    variance = 1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2
    # At least zero except for rounding: a kurtosis is at least the squared skewness plus one.
    error = math.sqrt(max(variance, np.finfo(np.float64).eps) / (len(returns) - 1))
    # The normal distribution function, without cancellation in its lower tail.
    return 0.5 * math.erfc(-((ratio - benchmark) / error) / math.sqrt(2.0))


def expected_max_sharpe(trials: int, variance: float) -> float:
    """Expected best Sharpe ratio per session of several trials without skill.

    Trials are trainings on the same data with distinct experiments; `variance` is that of their Sharpe ratios per
    *session*. sd x ((1 - g) Z(1 - 1/N) + g Z(1 - 1/(N e))), with g Euler's constant and Z the normal quantile; 0.0
    for one trial, whatever the variance; NaN for none, and for more than one where the variance is negative or NaN.

    Bailey and López de Prado (2014), "The Deflated Sharpe Ratio", Journal of Portfolio Management 40.
    """
    if trials == 1:
        return 0.0
    if trials < 1 or not variance >= 0:
        return math.nan
    quantile = NormalDist().inv_cdf
    of_best = (1 - np.euler_gamma) * quantile(1 - 1 / trials) + np.euler_gamma * quantile(1 - 1 / (trials * math.e))
    return float(math.sqrt(variance) * of_best)


def deflated_sharpe_ratio(returns: np.ndarray, trials: int, variance: float) -> float:
    """Probability that the Sharpe ratio exceeds the best of `trials` without skill (`expected_max_sharpe`)."""
    return probabilistic_sharpe_ratio(returns, expected_max_sharpe(trials, variance))


def _daily_sharpe(returns: np.ndarray) -> float:
    return sharpe_ratio(returns) / math.sqrt(SESSIONS_PER_YEAR)


def _is_constant(returns: np.ndarray) -> bool:
    return bool(returns.max() == returns.min())
