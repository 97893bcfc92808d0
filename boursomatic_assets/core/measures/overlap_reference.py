"""Distribution under the null of a mean of overlapping observations over its standard error.

The observations are sums of `overlap` neighbouring independent standard normal shocks; the error is Newey and
West's. The chance that the statistic exceeds a bound is a computed integral, not a simulation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from scipy.interpolate import BSpline

# Steps of 3/4 of an e-fold: D and log h are smooth in the logarithm of the scale, and splines of degree 7 leave a
# relative error of about 1e-5 in a quantile.
STEP, DEGREE = 0.75, 7
# The table ends where the integrand is below exp(-40). With few sessions digits cancel before that scale: the
# table then ends earlier and is continued linearly.
NEGLIGIBLE, CANCELLED = 80.0, 1e-9
SMALLEST_SCALE = 1e-4
NODES = 80


@dataclass(frozen=True)
class OverlapReference:
    """Distribution of the absolute statistic for one number of sessions, overlap and lag.

    `weight` and `log_reach` are D(c) and log h(c), see `exceeded`, as splines of log c between both `log_scales`.
    """

    weight: BSpline
    log_reach: BSpline
    log_scales: tuple[float, float]

    def exceeded(self, statistic: float) -> float:
        """Chance that the absolute statistic is above that of `statistic`.

        With shocks z, mean a'z and squared error z'Qz the chance is that of z'(aa' - x^2 Q)z > 0. That form has one
        positive eigenvalue, l, so it compares a normal variable with an independent positive one, V. By Craig's
        form of the normal tail (1991, IEEE MILCOM) the chance is the mean over angles t in (0, pi/2) of
        E exp(-V s / (2 l)) with s = 1 / sin^2 t, which is ((1 - s) / det(I - (aa' - x^2 Q) s / l))^(1/2).

        With c = s x^2 / l the determinant is exp(D(c)) (1 - h(c) / x^2), where D(c) = log det(I + cQ) and
        h(c) = c a'(I + cQ)^-1 a; l follows from h(x^2 / l) = x^2. Neither D nor h depends on x.
        """
        if statistic == 0:
            return 1.0
        log_square = 2 * math.log(abs(statistic))
        angles, weights = _quadrature()
        log_s = -2 * np.log(np.sin(angles))
        log_scales = self._log_scale_of(log_square) + log_s
        ratio = np.expm1(self._reach(log_scales) - log_square) / np.expm1(log_s)
        values = np.exp(-self._weight(log_scales) / 2) / np.sqrt(ratio)
        return float(min(weights @ values, 1.0))

    def quantile(self, share: float) -> float:
        """Quantile of the absolute statistic, for a probability `share` in (0, 1)."""

        def short(log_statistic: float) -> float:
            return math.log(self.exceeded(math.exp(log_statistic))) - math.log1p(-share)

        from scipy.optimize import brentq

        low, high = -1.0, 1.0
        while short(low) < 0:
            low -= 1.0
        while short(high) > 0:
            high += 1.0
        return math.exp(brentq(short, low, high, xtol=1e-12))

    def _log_scale_of(self, log_square: float) -> float:
        """Logarithm of the scale at which h has the given logarithm; h is unbounded and increasing."""
        from scipy.optimize import brentq

        low, high = self.log_scales
        while self._reach(np.array(low)) > log_square:
            low -= 1.0
        while self._reach(np.array(high)) < log_square:
            high += 1.0
        return float(brentq(lambda place: float(self._reach(np.array(place))) - log_square, low, high, xtol=1e-13))

    def _weight(self, log_scales: np.ndarray) -> np.ndarray:
        """D; below the table it is proportional to the scale."""
        below = np.exp(np.minimum(log_scales - self.log_scales[0], 0.0))
        weight: np.ndarray = _continued(self.weight, log_scales, self.log_scales) * below
        return weight

    def _reach(self, log_scales: np.ndarray) -> np.ndarray:
        """Logarithm of h; below the table h is proportional to the scale."""
        below = np.minimum(log_scales - self.log_scales[0], 0.0)
        reach: np.ndarray = _continued(self.log_reach, log_scales, self.log_scales) + below
        return reach


@lru_cache(maxsize=256)
def overlap_quantile(count: int, overlap: int, lag: int, share: float) -> float:
    """Cached quantile of `overlap_reference`."""
    return overlap_reference(count, overlap, lag).quantile(share)


def _continued(spline: BSpline, places: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """A spline, extended as a constant before its first place and linearly after its last."""
    values: np.ndarray = spline(np.clip(places, *ends)) + np.maximum(places - ends[1], 0.0) * spline(ends[1], nu=1)
    return values


@lru_cache(maxsize=1)
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Angles between 0 and pi/2 with weights that sum to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return (nodes + 1) * math.pi / 4, weights / 2


@lru_cache(maxsize=64)
def overlap_reference(count: int, overlap: int, lag: int) -> OverlapReference:
    """Tabulate D and h for at least `overlap` + 2 sessions.

    A banded Cholesky decomposition for each of about twenty-five scales: memory grows with count x (overlap + lag),
    time with count x (overlap + lag)^2.
    """
    from scipy.interpolate import make_interp_spline

    rows: list[tuple[float, float, float]] = []
    # Threads do not help with bands this narrow.
    with threadpool_limits(1, user_api="blas"):
        form = _error_form(count, overlap, lag)
        smallest = math.log(SMALLEST_SCALE / form.mean_square)
        while len(rows) <= DEGREE or (rows[-1][0] < NEGLIGIBLE and rows[-1][2] > CANCELLED):
            rows.append(form.at(math.exp(smallest + STEP * len(rows))))
    places = smallest + STEP * np.arange(len(rows))
    weight, reach, _ = np.array(rows).T
    return OverlapReference(
        make_interp_spline(places, weight, k=DEGREE),
        make_interp_spline(places, np.log(reach), k=DEGREE),
        (float(places[0]), float(places[-1])),
    )


@dataclass(frozen=True)
class _ErrorForm:
    """The squared error as a quadratic form of the shocks: (band + both K both') / scale, K of shape (2, 2)."""

    band: np.ndarray
    both: np.ndarray
    centring: np.ndarray
    count: int
    scale: float
    mean_square: float

    def at(self, c: float) -> tuple[float, float, float]:
        """D(c), h(c), and the factor by which centring changes the determinant."""
        from scipy.linalg import cho_solve_banded, cholesky_banded

        gamma = c / self.scale
        shifted = self.band * gamma
        shifted[0] += 1.0
        factor: Any = cholesky_banded(shifted, lower=True, overwrite_ab=True, check_finite=False)
        solved = cho_solve_banded((factor, True), self.both, check_finite=False)
        products = self.both.T @ solved
        beside = np.eye(2) + gamma * products @ self.centring
        left = float(np.linalg.det(beside))
        weight = 2 * float(np.log(factor[0]).sum()) + math.log(left)
        # The first column of `both` is `count` times the mean's coefficients.
        reach = c * float(np.linalg.solve(beside, products)[0, 0]) / self.count**2
        return weight, reach, left


def _error_form(count: int, overlap: int, lag: int) -> _ErrorForm:
    """Squared Newey-West error of the mean of moving sums as a form of the shocks.

    With Bartlett weights it is e'Ae / ((lag + 1) count^2), A_ij = max(lag + 1 - |i - j|, 0), e the deviations from
    the mean. A constant added to A changes nothing: e sums to zero.
    """
    width = min(lag + 1, count)
    # The middle of a long sample is uniform: a short sample has both ends, and a middle column is repeated.
    short = min(count, 3 * overlap + 2 * width)
    kernel = np.maximum(width - np.abs(np.subtract.outer(np.arange(short), np.arange(short))), 0.0)
    sums = _moving_sums(_moving_sums(kernel, overlap).T, overlap)
    shocks, reach = len(sums), min(count + overlap - 1, overlap + width - 1)
    band = np.zeros((reach, shocks))
    for distance in range(reach):
        band[distance, : shocks - distance] = np.diagonal(sums, -distance)
    middle = np.repeat(band[:, overlap : overlap + 1], count - short, axis=1)
    band = np.concatenate([band[:, :overlap], middle, band[:, overlap:]], axis=1)
    of_sessions = np.convolve(np.ones(count), width - np.abs(np.arange(1 - width, width)))[
        width - 1 : width - 1 + count
    ]
    both = np.column_stack([_moving_sums(each, overlap) for each in (np.ones(count), of_sessions)])
    centring = np.array([[of_sessions.sum() / count**2, -1 / count], [-1 / count, 0.0]])
    scale = float(lag + 1) * count**2
    trace = band[0].sum() + np.trace(centring @ both.T @ both)
    return _ErrorForm(band, both, centring, count, scale, float(trace) / scale)


def _moving_sums(rows: np.ndarray, overlap: int) -> np.ndarray:
    """Sum, for each shock, over the sessions that contain it: along the first axis, `overlap` - 1 longer."""
    edge = np.zeros((overlap, *rows.shape[1:]))
    sums = np.concatenate([edge[:1], np.cumsum(rows, axis=0)])
    sums = np.concatenate(
        [np.repeat(sums[:1], overlap - 1, axis=0), sums, np.repeat(sums[-1:], overlap - 1, axis=0)]
    )
    moved: np.ndarray = sums[overlap:] - sums[:-overlap]
    return moved
