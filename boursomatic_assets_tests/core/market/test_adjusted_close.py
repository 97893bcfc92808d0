from __future__ import annotations

import math
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.market.adjusted_close import BAD_FACTOR, MOVES_APART, scale_to_adjusted
from boursomatic_assets.core.market.bars import BAR_SCHEMA, PRICE_COLUMNS, check_bars
from boursomatic_assets_tests.support.strategies import bar_panels, flat_bars, random_walk_bars

TODAY = date(2030, 1, 1)


def path_with(closes: list[float], adjusted_closes: list[float], symbol: str = "AAA") -> pl.DataFrame:
    """Bars at these closes on successive weekdays, with these adjusted closes."""
    return flat_bars({symbol: closes}).with_columns(adj_close=pl.Series(adjusted_closes))


def with_factors(closes: list[float], factors: list[float]) -> pl.DataFrame:
    return path_with(closes, [close * factor for close, factor in zip(closes, factors, strict=True)])


def objected(bars: pl.DataFrame) -> list[bool]:
    """Row by row, whether the scaling objects to the adjusted close."""
    scaled = scale_to_adjusted(bars)
    assert scaled.height == bars.height
    if "objection" not in scaled.columns:
        return [False] * bars.height
    assert set(scaled["objection"].drop_nulls()) == {BAD_FACTOR}
    return scaled["objection"].is_not_null().to_list()


@pytest.mark.parametrize("level", [7.84, 1.05, 0.001, 1.0, 250.0])
def test_scale_to_adjusted_accepts_a_steady_factor_at_any_level(level: float) -> None:
    # 7.84: a reverse split after the end of the file lifts every factor in it
    bars = with_factors([100.0, 101.0, 99.0, 100.0], [level] * 4)
    assert objected(bars) == [False] * 4
    np.testing.assert_allclose(scale_to_adjusted(bars)["close"], np.array([100.0, 101.0, 99.0, 100.0]) * level)


@pytest.mark.parametrize("factor", [2365.0, 3.0, 1.31, 0.76, 0.001])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_scale_to_adjusted_objects_to_a_factor_off_for_up_to_three_sessions(factor: float, length: int) -> None:
    factors = [*[1.0] * 3, *[factor] * length, *[1.0] * 4]
    # a later rise of 45 % changes nothing
    for later in ([100.0] * 2, [145.0] * 2):
        bars = with_factors([100.0] * (5 + length) + later, factors)
        assert objected(bars) == [False] * 3 + [True] * length + [False] * 4


def test_scale_to_adjusted_accepts_a_factor_that_corrects_the_raw_price() -> None:
    # The raw close is a hundred times too high for a session, and its factor a hundredth: 10000 * 0.01 = 100.
    bars = with_factors([100.0, 100.0, 10_000.0, 100.0, 100.0], [1.0, 1.0, 0.01, 1.0, 1.0])
    assert objected(bars) == [False] * 5
    np.testing.assert_allclose(scale_to_adjusted(bars)["close"], 100.0)


# ACA.PA: an adjusted close that runs from -4 over 2.7 to -0.7 times the close, and is right from 2007 on
RUNS = [-4.0, -4.0, 2.7, 2.7, 2.7, 2.7, 2.7, -0.7, -0.7, 0.6, 0.6, 0.6]


@pytest.mark.parametrize(
    ("closes", "factors", "absurd"),
    [
        # a first or last factor that alone has left 1
        ([100.0] * 3, [2.0, 1.0, 1.0], [True, False, False]),
        ([100.0] * 3, [1.0, 1.0, 2.0], [False, False, True]),
        ([100.0] * 3, [1.0, 1.0, 0.5], [False, False, True]),
        # A dividend of half the price pushes all before it down.
        ([100.0] * 3, [0.5, 1.0, 1.0], [False] * 3),
        ([100.0] * 3, [1.29, 1.0, 1.0], [False] * 3),
        # The last one is 1, as it ought to be; that all others are 2 is no wrong bar.
        ([100.0] * 3, [2.0, 2.0, 1.0], [False] * 3),
        ([100.0], [2.0], [False]),
        # rounding, and a step that lasts
        ([0.05] * 5, [1.0, 1.0, 1.29, 1.0, 1.0], [False] * 5),
        ([100.0] * 8, [1.0] * 2 + [0.5] * 4 + [1.0] * 2, [False] * 8),
        # raised factors that end at negative ones; a reverse split brings them down: 2.7 * 100 = 0.6 * 450
        ([100.0] * 12, RUNS, [True] * 9 + [False] * 3),
        ([100.0] * 9 + [450.0] * 3, RUNS, [True] * 2 + [False] * 5 + [True] * 2 + [False] * 3),
    ],
)
def test_scale_to_adjusted_objects_to_absurd_factors(
    closes: list[float], factors: list[float], absurd: list[bool]
) -> None:
    assert objected(with_factors(closes, factors)) == absurd


def test_scale_to_adjusted_accepts_a_split_of_raw_close_and_factor() -> None:
    # One for ten on the fourth session, and two for one on the last: 0.5 * 10 = 5 before both
    bars = with_factors([10.0, 10.0, 10.0, 100.0, 100.0, 50.0], [5.0, 5.0, 5.0, 0.5, 0.5, 1.0])
    assert objected(bars) == [False] * 6
    assert scale_to_adjusted(bars)["close"].to_list() == [50.0] * 6


@pytest.mark.parametrize(
    ("sessions", "moves", "objects"),
    # of 19 steps 7 are 37 %, 6 are 32 %; 19 sessions are too few to tell
    [(20, 7, True), (20, 6, False), (19, 18, False)],
)
def test_scale_to_adjusted_objects_to_a_close_that_moves_apart(sessions: int, moves: int, *, objects: bool) -> None:
    # Each move is ln 1.01 = 0.00995; of two prices near 100, rounding to cents moves a factor by 0.0002.
    factors = [1.01 ** min(step, moves) for step in range(sessions)]
    moving = with_factors([100.0] * sessions, factors)
    still = path_with([50.0] * sessions, [50.0] * sessions, symbol="BBB")
    scaled = scale_to_adjusted(pl.concat([moving, still]))
    if not objects:
        assert "objection" not in scaled.columns
        return
    assert scaled["objection"].to_list() == [MOVES_APART] * sessions + [None] * sessions
    assert scaled["close"].to_list() == [100.0] * sessions + [50.0] * sessions


def test_scale_to_adjusted_accepts_factors_that_move_by_rounding() -> None:
    # 0.335, rounded to cents up and down: ln(0.34 / 0.33) = 0.0299, less than 0.002 + 0.01 / 100 + 0.01 / 0.34
    bars = path_with([100.0] * 40, [0.33, 0.34] * 20)
    assert objected(bars) == [False] * 40


def test_scale_to_adjusted_compares_factors_within_a_symbol() -> None:
    bars = pl.concat([path_with([100.0] * 2, [200.0] * 2), path_with([10.0] * 2, [10.0] * 2, "BBB")])
    assert objected(bars) == [False] * 4


def test_scale_to_adjusted_keeps_the_prices_of_bars_that_it_objects_to() -> None:
    # 50 / 100 = 0.5 scales the second bar; the first keeps its prices, so that a person sees what came
    checked = check_bars(scale_to_adjusted(path_with([100.0, 100.0], [300.0, 50.0])), TODAY)
    assert checked.accepted["close"].to_list() == [50.0]
    assert checked.rejected["close"].to_list() == [100.0]
    assert checked.reasons() == {BAD_FACTOR: 1}
    # without an objection there is no such column
    scaled = scale_to_adjusted(path_with([100.0, 100.0], [50.0, 100.0]))
    assert dict(scaled.schema) == BAR_SCHEMA
    assert scaled["close"].to_list() == [50.0, 100.0]


def wrong_by_a_loop(closes: list[float], factors: list[float]) -> list[bool]:
    """The rule, factor by factor, for one symbol's usable rows."""
    levels, prices = [math.log(factor) for factor in factors], [math.log(close) for close in closes]
    step, count = math.log(1.3), len(levels)

    def worse(at: int, other: int) -> bool:
        raw = prices[at] - prices[other]
        return abs(levels[at] - levels[other] + raw) > abs(raw)

    def is_wrong(at: int) -> bool:
        for before in range(max(at - 3, 0), at):
            for after in range(at + 1, min(before + 5, count)):
                off, back = levels[at] - levels[before], levels[at] - levels[after]
                agree = abs(off - back) <= max(math.log(1.05), 0.25 * abs(off))
                if abs(off) >= step and abs(back) >= step and agree and worse(at, before):
                    return True
        if count == 1:
            return False
        if at == 0:
            return levels[0] - levels[1] >= step and levels[0] >= step and worse(0, 1)
        left = abs(levels[at] - levels[at - 1]) >= step and abs(levels[at]) > abs(levels[at - 1])
        return at == count - 1 and left and worse(at, at - 1)

    return [is_wrong(at) for at in range(count)]


@given(bar_panels(min_sessions=2, max_sessions=20), st.integers(0, 2**32 - 1))
def test_scale_to_adjusted_objects_as_a_loop_in_any_row_order(bars: pl.DataFrame, seed: int) -> None:
    rng = np.random.default_rng(seed)
    factor = pl.Series(rng.choice([-1.0, 0.5, 1.0, 1.0, 1.2, 7.0], bars.height))
    came = bars.with_columns(factor=factor, adj_close=pl.col("close") * factor, row=pl.int_range(pl.len()))
    expected = [float(times) < 0 for times in factor]
    for _, mine in came.group_by("symbol", maintain_order=True):
        # As computed: close * factor / close is the factor but for the last bit.
        factors = (mine["adj_close"] / mine["close"]).to_list()
        at = [place for place, times in enumerate(factors) if times > 0]
        closes = [mine["close"][place] for place in at]
        wrong = wrong_by_a_loop(closes, [factors[place] for place in at])
        for number, place in enumerate(at[:-1]):
            # Where factors that cannot be come next, and the price after them stands lower for no reason.
            level, after = math.log(factors[place]), math.log(factors[at[number + 1]])
            raw = math.log(closes[number] / closes[number + 1])
            if at[number + 1] == place + 1 or min(level, level - after) < math.log(1.3):
                continue
            if abs(level - after + raw) > abs(raw):
                back = number
                while back >= 0 and at[back] - at[number] == back - number:
                    wrong[back] = True
                    back -= 1
        for place, is_wrong in zip(at, wrong, strict=True):
            expected[mine["row"][place]] = is_wrong
    plain = came.drop("factor", "row")
    assert objected(plain) == expected
    order = rng.permutation(bars.height)
    assert objected(plain[order]) == [expected[number] for number in order]


def split_left_in(shares: float, *, in_volume: bool, sessions: int = 60) -> pl.DataFrame:
    """A walk with a split in the middle: raw closes and factors step there, and volumes if `in_volume`."""
    bars = random_walk_bars(symbols=1, sessions=sessions, seed=3)
    before = pl.int_range(pl.len()) < sessions // 2
    adjusted = bars.with_columns(adj_close="close")
    raw = [pl.when(before).then(pl.col(name) * shares).otherwise(name).alias(name) for name in PRICE_COLUMNS]
    volume = pl.when(before & in_volume).then(pl.col("volume") / shares).otherwise("volume")
    return adjusted.with_columns(*raw, volume=volume)


@pytest.mark.parametrize("shares", [10.0, 2.0, 3.0, 1.5, 1.25, 0.1, 0.125, 1 / 250])
def test_scale_to_adjusted_scales_volume_before_a_split(shares: float) -> None:
    bars = random_walk_bars(symbols=1, sessions=60, seed=3)
    scaled = scale_to_adjusted(split_left_in(shares, in_volume=True))
    np.testing.assert_allclose(scaled["close"], bars["close"], rtol=1e-12)
    np.testing.assert_allclose(scaled["volume"], bars["volume"], rtol=1e-9)


@pytest.mark.parametrize("shares", [10.0, 2.0, 0.1])
def test_scale_to_adjusted_keeps_a_volume_without_a_step(shares: float) -> None:
    came = split_left_in(shares, in_volume=False)
    assert scale_to_adjusted(came)["volume"].to_list() == came["volume"].to_list()


def test_scale_to_adjusted_scales_volume_by_two_splits_but_not_of_a_wrong_bar() -> None:
    # Two for one on the third session, five for one on the fifth; the factors of the first and last bar are wrong.
    closes = [100.0, 100.0, 50.0, 50.0, 10.0, 10.0]
    bars = flat_bars({"AAA": closes}).with_columns(
        volume=pl.Series([10.0, 10.0, 20.0, 20.0, 100.0, 7.0]),
        adj_close=pl.Series([-1.0, 10.0, 10.0, 10.0, 10.0, 40.0]),
    )
    scaled = scale_to_adjusted(bars)
    assert scaled["objection"].is_not_null().to_list() == [True, False, False, False, False, True]
    np.testing.assert_allclose(scaled["volume"], [10.0, 100.0, 100.0, 100.0, 100.0, 7.0], rtol=1e-12)


@pytest.mark.parametrize("shares", [4.0, 1.5, 0.1])
def test_scale_to_adjusted_scales_volume_by_a_split_with_a_dividend_on_its_day(shares: float) -> None:
    # A dividend of 1 % of the close before: factors up to then are 0.99 / shares, and volumes those of old shares.
    bars = with_factors([100.0] * 4 + [100.0 / shares] * 4, [0.99 / shares] * 4 + [1.0] * 4).with_columns(
        volume=pl.Series([1000.0] * 4 + [1000.0 * shares] * 4)
    )
    np.testing.assert_allclose(scale_to_adjusted(bars)["volume"], [1000.0 * shares] * 8, rtol=1e-12)


def test_scale_to_adjusted_keeps_volume_at_a_dividend_and_a_spin_off() -> None:
    # A factor of 0.8075 = 1 / 1.2384 is no ratio of few shares; 0.95 is too small a step to be one of them.
    for factor in (0.8075, 0.95):
        bars = with_factors([100.0] * 4 + [100.0 * factor] * 4, [factor] * 4 + [1.0] * 4).with_columns(
            volume=pl.Series([1000.0] * 4 + [1000.0 / factor] * 4)
        )
        assert scale_to_adjusted(bars)["volume"].to_list() == bars["volume"].to_list()


@given(bar_panels(min_sessions=1, max_sessions=20), st.floats(1e-6, 1e6))
def test_scale_to_adjusted_keeps_valid_bars_valid_and_their_returns(bars: pl.DataFrame, factor: float) -> None:
    scaled = scale_to_adjusted(bars.with_columns(adj_close=pl.col("close") * factor))
    assert check_bars(scaled, TODAY).rejected.is_empty()
    np.testing.assert_allclose(scaled["close"], bars["close"] * factor, rtol=1e-12)
    assert scaled["volume"].to_list() == bars["volume"].to_list()


SOUND = {
    "symbol": "AAA", "session": date(2018, 1, 1), "open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0,
    "volume": 100.0,
}  # fmt: skip


def adjusted(**change: object) -> pl.DataFrame:
    """A valid bar with an adjusted close of 5.5 and the values given, scaled."""
    values = SOUND | {"adj_close": 5.5} | change
    return scale_to_adjusted(pl.DataFrame([values], schema={**BAR_SCHEMA, "adj_close": pl.Float64()}, orient="row"))


def test_scale_to_adjusted_scales_the_whole_bar() -> None:
    # factor 5.5 / 11 = 0.5; the volume stays
    assert adjusted().to_dicts() == [SOUND | {"open": 5.0, "high": 6.0, "low": 4.5, "close": 5.5}]


# -10 * (10 / -10) = 10: the factor alone would make a valid bar of negative prices.
NEGATIVE = dict.fromkeys(("open", "high", "low", "close"), -10.0)


@pytest.mark.parametrize(
    "change",
    [
        *({"adj_close": factor} for factor in (-5.5, 0.0, None, math.nan, math.inf)),
        *({"close": close} for close in (0.0, None, math.nan, -11.0)),
        *(NEGATIVE | {"adj_close": factor} for factor in (-10.0, 10.0)),
    ],
)
def test_scale_to_adjusted_never_makes_an_unusable_close_usable(change: dict[str, float | None]) -> None:
    checked = check_bars(adjusted(**change), TODAY)
    assert checked.accepted.is_empty()
    assert checked.rejected.height == 1


@pytest.mark.parametrize("adj_close", [-5.5, 0.0])
def test_scale_to_adjusted_objects_to_a_factor_that_is_not_positive(adj_close: float) -> None:
    # factor -5.5 / 11 = -0.5 would turn every price negative, and 0 / 11 every price to nothing
    scaled = adjusted(adj_close=adj_close)
    assert scaled.to_dicts() == [SOUND | {"objection": "negative or absurd adjusted close"}]
    checked = check_bars(scaled, TODAY)
    assert checked.rejected.to_dicts() == [SOUND | {"reason": BAD_FACTOR}]


def test_scale_to_adjusted_accepts_the_bundled_sample(adjusted_sample: pl.DataFrame) -> None:
    assert adjusted_sample.height == 12_154
    assert sorted(adjusted_sample["symbol"].unique()) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
