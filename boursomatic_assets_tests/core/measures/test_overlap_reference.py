from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm, t

from boursomatic_assets.core.measures.inference import newey_west_error
from boursomatic_assets.core.measures.overlap_reference import OverlapReference, overlap_quantile, overlap_reference

SHARES = (0.5, 0.9, 0.95, 0.999)


def quadratic_forms(count: int, overlap: int, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean's coefficients and the matrix of its squared error in the shocks, written out as the words say."""
    shocks = count + overlap - 1
    sums = np.zeros((count, shocks))
    for session in range(count):
        sums[session, session : session + overlap] = 1.0
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    bartlett = np.where(apart <= lag, 1 - apart / (lag + 1), 0.0)
    deviations = sums - sums.mean(axis=0)
    return sums.mean(axis=0), deviations.T @ bartlett @ deviations / count**2


def inverted(count: int, overlap: int, lag: int, statistic: float) -> float:
    """Chance by Imhof's inversion of the characteristic function, over the eigenvalues of the form."""
    mean, error = quadratic_forms(count, overlap, lag)
    weights = np.linalg.eigvalsh(np.outer(mean, mean) - statistic**2 * error)
    weights /= np.abs(weights).max()

    def integrand(u: float) -> float:
        angle = np.arctan(weights * u).sum() / 2
        return float(np.sin(angle) / (u * np.exp(np.log1p((weights * u) ** 2).sum() / 4)))

    return 0.5 + quad(integrand, 0, np.inf, limit=4000, epsabs=1e-11)[0] / math.pi


CASES = [(7, 5, 4), (8, 5, 30), (12, 1, 0), (40, 5, 4), (60, 20, 19), (120, 20, 30), (150, 1, 19), (250, 20, 19)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("share", SHARES)
def test_quantile_agrees_with_inverted_characteristic_function(case: tuple[int, int, int], share: float) -> None:
    # Imhof (1961), Biometrika 48. A chance that is off by a share d moves the quantile by less than that share.
    found = inverted(*case, overlap_reference(*case).quantile(share))
    assert found == pytest.approx(1 - share, rel=1e-4)


@pytest.mark.parametrize("count", [3, 8, 30, 250, 3000])
@pytest.mark.parametrize("share", SHARES)
def test_quantile_of_independent_values_is_students(count: int, share: float) -> None:
    # The error divides by n and not by n - 1: the statistic is Student's times sqrt(n / (n - 1)).
    expected = t.ppf((1 + share) / 2, count - 1) * math.sqrt(count / (count - 1))
    assert overlap_reference(count, 1, 0).quantile(share) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("statistic", [1e-9, 1e-3, 0.1, 1.0, 3.0, 8.0])
def test_exceeded_of_independent_values_is_students(statistic: float) -> None:
    expected = 2 * t.sf(statistic * math.sqrt(29 / 30), 29)
    assert overlap_reference(30, 1, 0).exceeded(statistic) == pytest.approx(expected, rel=1e-4)
    assert overlap_reference(30, 1, 0).exceeded(-statistic) == overlap_reference(30, 1, 0).exceeded(statistic)


def drawn(count: int, overlap: int, lag: int, draws: int, seed: int) -> np.ndarray:
    """Absolute statistics of drawn histories, their errors by the function that real ones go through."""
    shocks = np.random.default_rng(seed).standard_normal((draws, count + overlap - 1))
    rows = np.lib.stride_tricks.sliding_window_view(shocks, overlap, axis=1).sum(axis=2)
    return np.array([abs(row.mean()) / newey_west_error(row, lag) for row in rows])


@pytest.mark.parametrize("case", [(30, 5, 4), (45, 20, 19), (60, 5, 9), (700, 60, 59)])
def test_quantile_agrees_with_simulated_histories(case: tuple[int, int, int]) -> None:
    # 20,000 histories: shares of 10 % and 5 % are off by sqrt(p (1 - p) / 20000) = 0.0021 and 0.0015; four of them.
    statistics = drawn(*case, draws=20_000, seed=sum(case))
    for share in (0.9, 0.95):
        above = np.mean(statistics > overlap_reference(*case).quantile(share))
        assert abs(above - (1 - share)) < 4 * math.sqrt(share * (1 - share) / 20_000)


def test_quantile_of_many_sessions_is_nearly_normal() -> None:
    # The Newey-West error of independent values without bias, some 2,000 sessions a lag: a t of that many degrees.
    assert overlap_reference(4000, 1, 1).quantile(0.95) == pytest.approx(norm.ppf(0.975), rel=2e-3)


@pytest.mark.parametrize(("count", "overlap", "lag"), [(2000, 20, 19), (2000, 5, 40)])
def test_overlap_reference_of_a_long_sample_agrees_with_the_full_matrix(count: int, overlap: int, lag: int) -> None:
    # The same forms without the structure: determinant and quadratic form of a matrix of all shocks.
    reference = overlap_reference(count, overlap, lag)
    mean, error = quadratic_forms(count, overlap, lag)
    scale = 3.0 / float(np.trace(error))
    whole = np.eye(len(mean)) + scale * error
    place = np.array(math.log(scale))
    assert float(reference.weight(place)) == pytest.approx(np.linalg.slogdet(whole)[1], rel=1e-4)
    reach = scale * float(mean @ np.linalg.solve(whole, mean))
    assert math.exp(float(reference.log_reach(place))) == pytest.approx(reach, rel=1e-4)


@given(st.integers(1, 8), st.integers(2, 30), st.integers(0, 60))
def test_exceeded_falls_from_one_and_quantile_is_its_inverse(overlap: int, beyond: int, lag: int) -> None:
    reference = overlap_reference(overlap + beyond, overlap, lag)
    assert reference.exceeded(0.0) == 1.0
    chances = [reference.exceeded(statistic) for statistic in (1e-6, 0.1, 0.7, 2.0, 6.0, 30.0)]
    assert all(one > two > 0 for one, two in pairwise(chances))
    for share in (0.02, 0.9):
        assert reference.exceeded(reference.quantile(share)) == pytest.approx(1 - share, rel=1e-9)


def test_quantile_of_a_lag_beyond_the_sample_only_scales() -> None:
    # Deviations sum to zero: with weights 1 - j / (lag + 1) over all pairs the squared error is
    # sum_jk (-|j - k|) e_j e_k / ((lag + 1) n^2): twice the lag + 1 makes the statistic sqrt(2) times as large.
    near, far = overlap_reference(10, 3, 19), overlap_reference(10, 3, 39)
    assert far.quantile(0.9) == pytest.approx(math.sqrt(2) * near.quantile(0.9), rel=1e-6)


def test_overlap_quantile_is_the_quantile_of_the_reference() -> None:
    assert overlap_quantile(33, 5, 4, 0.95) == OverlapReference.quantile(overlap_reference(33, 5, 4), 0.95)
