from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import rankdata

from boursomatic_assets.core.market.bars import BAR_SCHEMA, check_bars
from boursomatic_assets.core.market.simulation import SimulatedMarket, simulate_bars
from boursomatic_assets_tests.support.strategies import weekdays

WALK, PLANTED = SimulatedMarket(symbols=100, sessions=600), SimulatedMarket(symbols=100, sessions=600, signal=0.1)
SEED = 5


def panel_of(column: str, market: SimulatedMarket, seed: int = SEED) -> np.ndarray:
    """A column as an array, shape (sessions, symbols)."""
    values = simulate_bars(market, seed)[column].to_numpy()
    return np.asarray(values.reshape(market.symbols, market.sessions).T)


def returns_of(market: SimulatedMarket, seed: int = SEED) -> np.ndarray:
    """Returns of each session after the first, shape (sessions - 1, symbols)."""
    close = panel_of("close", market, seed)
    return np.asarray(close[1:] / close[:-1] - 1)


def coefficients(score: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """Spearman's correlation over the symbols of each session."""
    ranks = [rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (score, outcome)]
    norms = [np.sqrt((side**2).sum(axis=1)) for side in ranks]
    return np.asarray((ranks[0] * ranks[1]).sum(axis=1) / norms[0] / norms[1])


def deviations_from_zero(values: np.ndarray) -> float:
    """How many standard errors the mean of independent values is away from zero."""
    return float(values.mean() / values.std(ddof=1) * np.sqrt(len(values)))


@pytest.mark.parametrize(
    ("market", "seed"), [(WALK, 1), (PLANTED, 2), (SimulatedMarket(3, 3000), 3), (SimulatedMarket(1, 1), 4)]
)
def test_simulate_bars_keeps_the_bar_contract(market: SimulatedMarket, seed: int) -> None:
    bars = simulate_bars(market, seed)
    checked = check_bars(bars, today=date(2100, 1, 1))
    assert checked.rejected.height == 0
    # Already typed, sorted and unique.
    assert_frame_equal(checked.accepted, bars)
    assert bars.schema == pl.Schema(BAR_SCHEMA)
    assert bars.height == market.symbols * market.sessions


def test_simulate_bars_keys_and_seed() -> None:
    market = SimulatedMarket(symbols=2, sessions=7, signal=0.1)
    bars = simulate_bars(market, seed=7)
    assert bars["symbol"].to_list() == ["W000"] * 7 + ["W001"] * 7
    assert bars["session"].to_list() == weekdays(7) * 2
    assert_frame_equal(bars, simulate_bars(market, 7))
    assert (panel_of("close", market, 7) != panel_of("close", market, 8)).all()


def test_a_signal_changes_only_later_prices() -> None:
    # The same draws: volumes show a signal that moves prices in the one panel and nothing in the other.
    np.testing.assert_array_equal(panel_of("volume", WALK), panel_of("volume", PLANTED))
    walk, planted = panel_of("close", WALK), panel_of("close", PLANTED)
    # The signal begins with zero in the first session and moves the return of the next: the third is the first to
    # differ, and with it all that follow.
    np.testing.assert_array_equal(walk[:2], planted[:2])
    assert (walk[2:] != planted[2:]).all()


def test_returns_of_a_walk_are_uncorrelated() -> None:
    returns = returns_of(WALK)
    # The market's part makes names move together: each session is one observation. Deviations from zero of the
    # mean product over sessions are normal: within 3.5 in 99.95 of 100 cases, for each of four lags.
    for lag in (1, 2, 5, 20):
        products = (returns[lag:] * returns[:-lag]).mean(axis=1)
        assert abs(deviations_from_zero(products)) < 3.5


def test_nothing_ranks_tomorrows_returns_of_a_walk() -> None:
    returns = returns_of(WALK)
    shown = {
        "return": returns[:-1],
        "distance": np.abs(returns[:-1]),
        "volume": panel_of("volume", WALK)[1:-1],
        "close": panel_of("close", WALK)[1:-1],
    }
    # About 598 independent coefficients; deviations from zero within 3.5 as above.
    for score in shown.values():
        assert abs(deviations_from_zero(coefficients(score, returns[1:]))) < 3.5


def test_volatility_is_predictable() -> None:
    distances = np.abs(returns_of(WALK))
    # Instruments differ (their level spreads by a factor of e^0.35, a third), and calm and volatile times last. A
    # coefficient of 100 independent pairs varies by 0.1; the mean of nearly 600 of them by 0.004.
    assert coefficients(distances[:-1], distances[1:]).mean() > 0.05
    # Months later as well: that is the instruments' own level.
    assert coefficients(distances[:-250], distances[250:]).mean() > 0.02
    # And in time: mean distances of a session and the next. 1 / sqrt(600) = 0.04 without memory, five of them.
    market = np.log(distances.mean(axis=1))
    assert np.corrcoef(market[:-1], market[1:])[0, 1] > 0.2


def test_prices_move_together() -> None:
    # Half of each movement is the market's: a correlation of MARKET_SHARE^2 = 0.25 where volatility is steady.
    correlations = np.corrcoef(np.sign(returns_of(WALK)).T)
    # Of signs: 2 / pi x arcsin(0.25) = 0.16; it wavers with the volatility of the market.
    assert np.mean(correlations[np.triu_indices(WALK.symbols, 1)]) == pytest.approx(0.16, abs=0.05)


def innovations(market: SimulatedMarket) -> np.ndarray:
    """What is new in each session's signal, as the volume shows it: shape (sessions - 1, symbols)."""
    shown = np.log(panel_of("volume", market))
    return np.asarray(shown[1:] - 0.8 * shown[:-1])


def test_volume_shows_the_planted_signal_one_session_ahead() -> None:
    new, returns = innovations(PLANTED), returns_of(PLANTED)
    # A positive innovation is followed by higher returns. Half of the signal's innovation, 0.5 x sqrt(1 - 0.8^2) =
    # 0.3, is seen beside noise of 0.1 x sqrt(1 + 0.8^2) = 0.13: its correlation with the signal is 0.6 x 0.3 /
    # sqrt(0.3^2 + 0.13^2) = 0.55. Against shocks of sqrt(0.75) within a session: 0.55 x 0.1 / 0.87 =
    # 0.063, less for ranks of unequally volatile names; with an error of 0.1 / sqrt(598) = 0.004.
    ahead = coefficients(new[:-1], returns[1:])
    assert ahead.mean() > 0.03
    assert deviations_from_zero(ahead) > 5


@pytest.mark.parametrize("earlier", [0, 1, 2, 5])
def test_new_signal_is_unrelated_to_earlier_returns(earlier: int) -> None:
    new, returns = innovations(PLANTED), returns_of(PLANTED)
    past = coefficients(new[earlier:], returns[: len(returns) - earlier])
    # The innovation of a session, also where it is seen, is of no return up to that session's own.
    assert abs(deviations_from_zero(past)) < 3.5


def test_a_negative_signal_turns_around() -> None:
    turned = SimulatedMarket(symbols=100, sessions=600, signal=-0.1)
    assert coefficients(innovations(turned)[:-1], returns_of(turned)[1:]).mean() < -0.03


def test_the_signal_fades_over_days() -> None:
    shown, returns = np.log(panel_of("volume", PLANTED)), returns_of(PLANTED)
    # 0.8^9 = 0.13 of it is left after ten sessions, 0.8^4 = 0.41 after five.
    after = {lag: coefficients(shown[:-lag], returns[lag - 1 :]).mean() for lag in (1, 5, 10)}
    assert after[1] > after[5] > after[10]
    assert after[5] == pytest.approx(0.41 * after[1], abs=0.02)
