"""The stationary bootstrap, and Hansen's test of superior predictive ability."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from boursomatic_assets.errors import NoRowsError

if TYPE_CHECKING:
    from collections.abc import Mapping


def bootstrap_weights(count: int, block: int, draws: int, seed: int) -> np.ndarray:
    """Draw how often each session occurs in resampled histories, shape (draws, count).

    Stationary bootstrap: blocks of geometric length, `block` sessions on average, wrapped around the end. Politis
    and Romano (1994), Journal of the American Statistical Association 89.
    """
    if count < 1 or block < 1:
        message = f"a bootstrap draws blocks of at least one session out of at least one; found {count}, {block}"
        raise NoRowsError(message)
    random = np.random.default_rng(seed)
    position = np.arange(count)
    jumps = random.random((draws, count)) < 1.0 / block
    jumps[:, 0] = True
    begun = np.maximum.accumulate(np.where(jumps, position, 0), axis=1)
    starts = np.take_along_axis(random.integers(0, count, (draws, count)), begun, axis=1)
    drawn = (starts + position - begun) % count
    drawn += np.arange(draws)[:, None] * count
    return np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count)


def superior_predictive_ability(
    returns: np.ndarray, others: Mapping[str, np.ndarray], block: int, draws: int, seed: int
) -> float:
    """Hansen's p-value of the null that none of several books earns more than `returns`.

    All are daily returns of the same sessions; `block` is the bootstrap's mean block length. NaN where no book
    differs by more than a constant, and for fewer sessions than two blocks.

    Hansen (2005), Journal of Business & Economic Statistics 23; the consistent p-value, as `arch` computes it: the
    statistic is the largest mean difference. Under the null each difference has mean zero, or its own mean where
    that is too far below zero to matter.
    """
    if len(returns) < 2 * block:
        return math.nan
    differing = [np.asarray(other) for other in others.values() if np.ptp(np.asarray(other) - returns) > 0]
    if not differing:
        return math.nan
    gains = np.column_stack(differing) - np.asarray(returns)[:, None]
    count, means = len(gains), gains.mean(axis=0)
    threshold = -np.sqrt(2 * np.log(np.log(count)) * _bootstrap_variances(gains, block) / count)
    centres = np.where(means >= threshold, means, 0.0)
    random = np.random.default_rng(seed)
    drawn = [(gains[_resampled(count, block, random)].mean(axis=0) - centres).max() for _ in range(draws)]
    return float(np.mean(np.array(drawn) > means.max()))


def _resampled(count: int, block: int, random: np.random.Generator) -> np.ndarray:
    """Positions of one resampled history: one draw as in `bootstrap_weights`."""
    starts, position = random.integers(count, size=count), np.arange(count)
    begins = random.random(count) <= 1.0 / block
    begins[0] = True
    begun = np.maximum.accumulate(np.where(begins, position, 0))
    positions: np.ndarray = (starts[begun] + position - begun) % count
    return positions


def _bootstrap_variances(values: np.ndarray, block: int) -> np.ndarray:
    """Variances that the stationary bootstrap gives sqrt(count) x mean of each column.

    Politis and Romano (1994): g_0 + 2 sum_j k_j g_j with the autocovariances g_j of `newey_west_error` and the
    weights k_j = (1 - j / n) q^j + (j / n) q^(n - j), where q = 1 - 1 / block is the chance that a block goes on.
    """
    count, deviations = len(values), values - values.mean(axis=0)
    lags, goes_on = np.arange(1, count), 1 - 1 / block
    weights = (1 - lags / count) * goes_on**lags + lags / count * goes_on ** (count - lags)
    products = np.array([(deviations[:-lag] * deviations[lag:]).sum(axis=0) for lag in lags])
    variances: np.ndarray = (np.square(deviations).sum(axis=0) + 2 * weights @ products) / count
    return variances
