"""What a series of daily returns is worth: growth, risk, and how far its Sharpe ratio can be believed."""

from __future__ import annotations

import numpy as np

from boursomatic_assets.errors import NonFiniteReturnsError

SESSIONS_PER_YEAR = 252


def _require_returns(returns: np.ndarray) -> None:
    broken = ~np.isfinite(returns) | (returns < -1)
    if broken.any():
        position = int(np.flatnonzero(broken)[0])
        message = f"returns must be finite and at least -1; found {returns[position]} at position {position}"
        raise NonFiniteReturnsError(message)


def sharpe_ratio(returns: np.ndarray) -> float:
    """Annualised mean of daily returns over their standard deviation.

    Parameters
    ----------
    returns : ndarray of shape (n_sessions,)
        Simple returns per *session*, as fractions; never returns over several sessions.

    Returns
    -------
    float
        mean / sd x sqrt(252), the sample standard deviation (n - 1); NaN for fewer than two sessions or a
        constant return, where it is undefined.

    Raises
    ------
    NonFiniteReturnsError
        If any return is NaN, infinite or below -1.
    """
    _require_returns(returns)
    if len(returns) < 2 or returns.max() == returns.min():  # noqa: PLR2004 (a deviation needs two)
        return float("nan")
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
    """Deepest fall of compounded wealth from its running peak.

    Parameters
    ----------
    returns : ndarray of shape (n_sessions,)
        Simple returns per session, as fractions.

    Returns
    -------
    float
        In [-1, 0]; 0.0 when wealth never falls below its start.

    Raises
    ------
    NonFiniteReturnsError
        If any return is NaN, infinite or below -1.

    Notes
    -----
    The starting capital counts as the first peak.

    Examples
    --------
    >>> max_drawdown(np.array([-0.5, 0.0]))
    -0.5
    """
    return float(drawdown(returns).min())


def total_return(returns: np.ndarray) -> float:
    """Compounded return over all sessions, as a fraction; 0.0 for none."""
    return float(wealth(returns)[-1] - 1.0)


def annual_return(returns: np.ndarray) -> float:
    """Geometric return per year of 252 sessions, as a fraction; NaN for no sessions."""
    if not len(returns):
        return float("nan")
    return float(wealth(returns)[-1] ** (SESSIONS_PER_YEAR / len(returns)) - 1.0)
