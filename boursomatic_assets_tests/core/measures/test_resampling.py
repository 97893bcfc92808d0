from __future__ import annotations

import math

import numpy as np
import pytest
from arch.bootstrap import SPA, StationaryBootstrap

from boursomatic_assets.core.measures.resampling import bootstrap_weights, superior_predictive_ability


def test_bootstrap_weights_sum_to_the_sessions() -> None:
    weights = bootstrap_weights(37, 5, 200, seed=6)
    assert weights.shape == (200, 37)
    assert (weights >= 0).all()
    assert (weights.sum(axis=1) == 37).all()
    assert (bootstrap_weights(37, 5, 200, seed=6) == weights).all()
    assert (bootstrap_weights(37, 5, 200, seed=7) != weights).any()
    assert bootstrap_weights(1, 20, 3, seed=8).tolist() == [[1], [1], [1]]


def test_bootstrap_weights_of_an_endless_block_are_ones() -> None:
    # A chance of 1e-9 to jump: each draw is one block from anywhere on, around the end: every session once.
    assert (bootstrap_weights(50, 10**9, 100, seed=9) == 1).all()


def test_bootstrap_weights_wrap_around_the_ends() -> None:
    weights = bootstrap_weights(30, 6, 20_000, seed=10)
    # Without wrapping the first session would be in fewer blocks. A count's variance is about 2 x 6 - 1 = 11
    # (a block counts whole or not at all), its mean over 20000 off by sqrt(11 / 20000) = 0.023; four of them.
    assert np.abs(weights.mean(axis=0) - 1).max() < 0.094


def test_bootstrap_weights_have_the_block_length_on_average() -> None:
    # The variance of a resampled mean tells the length of the blocks: of alternating +1, -1 a block of odd length
    # leaves +-1 and one of even length 0. For the stationary bootstrap it is known: with q = 1 - 1/block,
    # n var(mean) = c_0 + 2 sum_k (1 - k/n) q^k c_k over the circular autocovariances (Politis and Romano 1994,
    # lemma 1), here c_k = (-1)^k.
    count, block, draws = 60, 4, 20_000
    values = np.tile([1.0, -1.0], count // 2)
    means = bootstrap_weights(count, block, draws, seed=11) @ values / count
    lags = np.arange(1, count)
    expected = (1 + 2 * np.sum((1 - lags / count) * (-0.75) ** lags)) / count
    # A sample variance over 20000 draws is off by a share of sqrt(2 / 20000) = 1 %; four of them.
    assert means.var() == pytest.approx(expected, rel=0.04)
    assert means.mean() == pytest.approx(0, abs=4 * math.sqrt(expected / draws))


def test_bootstrap_weights_agree_with_arch() -> None:
    # Sums of eight neighbouring shocks.
    values = np.convolve(np.random.default_rng(12).standard_normal(87), np.ones(8), "valid")
    draws, block = 4000, 10
    ours = np.sort(bootstrap_weights(80, block, draws, seed=13) @ values / 80)
    theirs = np.sort(StationaryBootstrap(block, values, seed=14).apply(np.mean, draws)[:, 0])
    # Two samples of 4000 from one distribution: their distribution functions differ by less than
    # 1.63 sqrt(2 / 4000) = 0.036 in 99 of 100 cases (Kolmogorov and Smirnov).
    both = np.concatenate([ours, theirs])
    gaps = np.searchsorted(ours, both, side="right") - np.searchsorted(theirs, both, side="right")
    assert np.abs(gaps).max() / draws < 0.036


def daily_returns(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.01, count)


@pytest.mark.parametrize(("count", "block"), [(120, 10), (121, 1), (40, 20), (500, 7)])
@pytest.mark.parametrize("worse", [0.0, 0.0005, 0.01])
def test_superior_predictive_ability_agrees_with_arch(count: int, block: int, worse: float) -> None:
    own, one, two = (daily_returns(count, seed) for seed in (15, 16, 17))
    two -= worse
    p_value = superior_predictive_ability(own, {"one": one, "two": two}, block, draws=300, seed=18)
    theirs = SPA(-own, np.column_stack([-one, -two]), block_size=block, reps=300, seed=18)
    theirs.compute()
    assert p_value == pytest.approx(theirs.pvalues["consistent"], abs=1e-9)


def test_superior_predictive_ability_is_the_consistent_p_value() -> None:
    own, one, two = (daily_returns(120, seed) for seed in (15, 16, 17))
    theirs = SPA(-own, np.column_stack([-one, -two]), block_size=10, reps=300, seed=18)
    theirs.compute()
    # The other two ways of centring give other p-values here: the threshold decides.
    assert theirs.pvalues["lower"] < theirs.pvalues["consistent"] < theirs.pvalues["upper"]
    p_value = superior_predictive_ability(own, {"one": one, "two": two}, block=10, draws=300, seed=18)
    assert theirs.pvalues["lower"] < p_value < theirs.pvalues["upper"]


def test_superior_predictive_ability_finds_a_better_book_only() -> None:
    own = daily_returns(250, 19)
    # The other earns 0.005 a session more, with noise of 0.01 / sqrt(250) = 0.0006 in its mean.
    other = own + daily_returns(250, 20)
    assert superior_predictive_ability(own, {"better": other + 0.005}, 20, 300, 21) < 0.01
    assert superior_predictive_ability(own, {"worse": other - 0.005}, 20, 300, 21) > 0.5


def test_superior_predictive_ability_leaves_out_equal_books() -> None:
    own, other = daily_returns(120, 22), daily_returns(120, 23)
    alone = superior_predictive_ability(own, {"other": other}, 10, 300, 24)
    assert superior_predictive_ability(own, {"same": own, "other": other}, 10, 300, 24) == alone
    assert math.isnan(superior_predictive_ability(own, {"same": own.copy()}, 10, 300, 24))
    assert math.isnan(superior_predictive_ability(own, {}, 10, 300, 24))


def test_superior_predictive_ability_needs_two_blocks_of_sessions() -> None:
    own, other = daily_returns(20, 25), daily_returns(20, 26)
    assert 0 <= superior_predictive_ability(own, {"other": other}, 10, 100, 27) <= 1
    assert math.isnan(superior_predictive_ability(own[:19], {"other": other[:19]}, 10, 100, 27))
