from __future__ import annotations

from itertools import pairwise
from math import exp, log, sqrt
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from boursomatic_assets.core.market import price_steps
from boursomatic_assets.core.market.price_steps import (
    STEP_SCHEMA,
    PriceHistory,
    nearest_split,
    news_surprise,
    overnight_steps,
)
from boursomatic_assets.errors import PanelContractError
from boursomatic_assets_tests.support.strategies import bar_panels, flat_bars, random_walk_bars, weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHARES = (2, 3, 4, 5, 7, 9, 10, 13, 20, 60, 250)
SPLITS = (*(1 / shares for shares in _SHARES), *(float(shares) for shares in _SHARES))


def unadjusted(bars: pl.DataFrame, symbol: str, at: int, ratio: float, volume: float = 1.0) -> pl.DataFrame:
    """The bars with a split left in at the `at`-th session of a symbol; its own volume there is multiplied."""
    mine = pl.col("symbol") == symbol
    number = pl.int_range(pl.len()).over("symbol")
    before = mine & (number < at)
    prices = [
        pl.when(before).then(pl.col(name) / ratio).otherwise(name).alias(name)
        for name in ("open", "high", "low", "close")
    ]
    traded = (
        pl.when(before)
        .then(pl.col("volume") * ratio)
        .when(mine & (number == at))
        .then(pl.col("volume") * volume)
        .otherwise("volume")
    )
    return bars.with_columns(*prices, volume=traded)


def test_overnight_steps_score_of_a_fall_by_hand() -> None:
    # Two flat returns before: usual = sqrt((2 * 0 + 2 * 0.05^2) / (2 + 2)) = 0.0354. The step is ln 2 = 0.6931,
    # which is 19.6 of them, capped at 12. The volume is the usual one; a fall of ln 2 explains ln 2 more: -0.6931.
    (step,) = overnight_steps(flat_bars({"AAA": [100.0, 100.0, 100.0, 50.0]})).to_dicts()
    assert (step["symbol"], step["session"], step["ratio"], step["split_ratio"]) == (
        "AAA",
        weekdays(4)[3],
        0.5,
        0.5,
    )
    assert step["size"] == pytest.approx(log(2), rel=1e-12)
    assert step["deviations"] == pytest.approx(log(2) / sqrt(0.05**2 * 2 / 4), rel=1e-12)
    assert step["volume_surprise"] == pytest.approx(-log(2), rel=1e-12)
    # -0.9 + 1.5 ln 12 + 1.25 ln 0.6931 + 0.5 (on a split) + 0.6931; nothing moved after the open
    expected = -0.9 + 1.5 * log(12) + 1.25 * log(log(2)) + 0.5 + log(2)
    assert step["score"] == pytest.approx(expected, rel=1e-9)


def test_overnight_steps_score_of_a_rise_by_hand() -> None:
    bars = flat_bars({"AAA": [100.0, 100.0, 100.0, 200.0]}).with_columns(
        volume=pl.Series([1000.0, 1000.0, 1000.0, 4000.0])
    )
    (step,) = overnight_steps(bars).to_dicts()
    # ln(4000 / 1000) = ln 4; -1.6 for a rise
    assert step["volume_surprise"] == pytest.approx(log(4), rel=1e-12)
    expected = -0.9 + 1.5 * log(12) + 1.25 * log(log(2)) + 0.5 - 1.6 - log(4)
    assert step["score"] == pytest.approx(expected, rel=1e-9)


def test_overnight_steps_score_falls_with_the_move_after_the_open() -> None:
    bars = flat_bars({"AAA": [100.0, 100.0, 100.0, 50.0]})
    later = bars.with_columns(
        open=pl.Series([100.0, 100.0, 100.0, 70.0]), high=pl.Series([100.0, 100.0, 100.0, 70.0])
    )
    (step,) = overnight_steps(later).to_dicts()
    # The open fell by ln(10/7) = 0.3567 and the close by 0.6931: the whole bar stepped by 0.3567, and the price
    # went on by 0.3365 = 0.943 of it. 10/7 = 1.429 lies nearest to 3:2; the middle, 0.5249, is off ln 1.5 = 0.4055.
    size = log(10 / 7)
    assert step["size"] == pytest.approx(size, rel=1e-12)
    assert step["split_ratio"] == pytest.approx(2 / 3, rel=1e-12)
    usual = sqrt(0.05**2 * 2 / 4)
    expected = -0.9 + 1.5 * log(size / usual) + 1.25 * log(size) - 2.0 * log(70 / 50) / size + size
    assert step["score"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("opened", "closed", "is_looked_at"),
    [(92.0, 92.0, True), (93.0, 80.0, False), (80.0, 93.0, False), (110.0, 80.0, False), (100.0, 50.0, False)],
)
def test_overnight_steps_need_a_whole_bar_to_move(opened: float, closed: float, *, is_looked_at: bool) -> None:
    # ln 0.92 = -0.0834 and ln 0.93 = -0.0726; after 40 flat sessions usual = sqrt(2 * 0.05^2 / 41) = 0.011
    bars = flat_bars({"AAA": [100.0] * 40 + [closed]})
    moved = bars.with_columns(
        open=pl.when(pl.int_range(pl.len()) == 40).then(opened).otherwise("open"),
        high=pl.max_horizontal("high", pl.lit(opened)),
        low=pl.min_horizontal("low", pl.lit(opened)),
    )
    assert overnight_steps(moved).height == int(is_looked_at)


def test_overnight_steps_exceed_five_usual_moves() -> None:
    # Alternating moves of 5 %: the median is 0.0488 or so, times 1.4826 = 0.072; five of them are 0.36.
    volatile = [100.0, 105.0] * 20
    assert overnight_steps(flat_bars({"AAA": [*volatile, 105.0 / 1.4]})).is_empty()
    assert overnight_steps(flat_bars({"AAA": [*volatile, 105.0 / 1.5]})).height == 1


def test_overnight_steps_leave_jumps_out_of_the_usual_move() -> None:
    # One flat return counts before the second step once the first is no move: sqrt(2 * 0.05^2 / 3) = 0.041
    steps = overnight_steps(flat_bars({"AAA": [100.0, 50.0, 25.0]}))
    assert steps["session"].to_list() == weekdays(3)[1:]
    assert steps["deviations"][1] == pytest.approx(log(2) / sqrt(2 * 0.05**2 / 3), rel=1e-12)
    assert (steps["score"] > 0).all()


def test_overnight_steps_are_measured_beyond_the_market() -> None:
    rng = np.random.default_rng(5)
    falls = {f"W{number:02d}": 0.8 + 0.01 * rng.normal() for number in range(12)}
    crash = flat_bars({symbol: [100.0] * 30 + [100.0 * fall] for symbol, fall in falls.items()})
    assert overnight_steps(crash).is_empty()
    # Alone, the same bar would be one, and so it is where the others stay.
    alone = flat_bars({"W00": [100.0] * 30 + [80.0], **{f"W{number:02d}": [100.0] * 31 for number in range(1, 12)}})
    assert overnight_steps(alone)["symbol"].to_list() == ["W00"]
    # A split in the crash stands out by what it moved beyond the others.
    beside = flat_bars(
        {**{name: [100.0] * 30 + [100.0 * fall] for name, fall in falls.items()}, "ZZZ": [100.0] * 30 + [40.0]}
    )
    (step,) = overnight_steps(beside).to_dicts()
    middle = float(np.median([log(fall) for fall in [*falls.values(), 0.4]]))
    assert step["size"] == pytest.approx(middle - log(0.4), rel=1e-9)


def test_overnight_steps_sample_the_market_of_a_large_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_steps, "MOST_SYMBOLS", 20)
    crash = flat_bars({f"W{number:02d}": [100.0] * 30 + [79.0 + number / 50] for number in range(60)})
    assert overnight_steps(crash).is_empty()


def test_overnight_steps_allow_for_a_halt() -> None:
    # 61 weekdays on are 85 days: 85 * 5 / 7 = 61 sessions, sqrt(61) = 7.8 times the usual move of 0.0154.
    halted = [100.0] * 20 + [None] * 60 + [70.0]
    assert overnight_steps(flat_bars({"AAA": halted})).is_empty()
    assert overnight_steps(flat_bars({"AAA": [100.0] * 20 + [70.0]})).height == 1


def test_overnight_steps_allow_for_a_tick() -> None:
    # From 0.02 to 0.03 is one tick of 33 %; at 20 and 30 it is a step.
    assert overnight_steps(flat_bars({"AAA": [0.02] * 30 + [0.03]})).is_empty()
    assert overnight_steps(flat_bars({"AAA": [20.0] * 30 + [30.0]})).height == 1
    # A price that was scaled down has finer steps than that.
    assert overnight_steps(flat_bars({"AAA": [0.0217] * 30 + [0.0325]})).height == 1


def test_overnight_steps_without_volume() -> None:
    bars = flat_bars({"AAA": [100.0, 100.0, 50.0]}).select("symbol", "session", "open", "close")
    assert overnight_steps(bars)["volume_surprise"].to_list() == pytest.approx([-log(2)])


def test_overnight_steps_of_impossible_prices_or_no_rows_are_none() -> None:
    assert overnight_steps(flat_bars({"AAA": [100.0, 0.0, 100.0, -5.0, 100.0, float("nan"), 100.0]})).is_empty()
    empty = overnight_steps(flat_bars({"AAA": [1.0]}).clear())
    assert dict(empty.schema) == STEP_SCHEMA
    assert empty.is_empty()
    with pytest.raises(PanelContractError, match="sorted"):
        overnight_steps(flat_bars({"AAA": [100.0, 50.0]}).reverse())


@pytest.mark.parametrize(
    ("ratio", "split"),
    [
        (1 / 2.1, 1 / 2), (0.66, 2 / 3), (0.76, 3 / 4), (0.81, 4 / 5), (1 / 7.03, 1 / 7), (1 / 13.2, 1 / 13),
        (1 / 9.4, 1 / 9),
        # above twelve shares to the next five, where that is within 7 %
        (14.1, 15.0), (248.05, 250.0), (59.2, 60.0), (4.73, 5.0), (1.45, 1.5), (1.0, 1.25),
    ],
)  # fmt: skip
def test_nearest_split_by_hand(ratio: float, split: float) -> None:
    assert nearest_split(np.array([ratio]))[0] == pytest.approx(split, rel=1e-12)


def test_overnight_steps_find_planted_splits() -> None:
    # A walk of up to 4 % a day, and volume of a deviation of a half; busy is what the split adds to its session.
    rng, draws, missed = np.random.default_rng(0), 500, []
    for seed in range(draws):
        ratio, busy = float(rng.choice(SPLITS)), rng.uniform(-0.6, 0.6)
        bars = random_walk_bars(symbols=1, sessions=120, seed=seed)
        found = overnight_steps(unadjusted(bars, "W000", 80, ratio, volume=exp(busy)))
        if found.filter(pl.col("score") > 0)["session"].to_list() != [bars["session"][80]]:
            missed.append((ratio, found["volume_surprise"].to_list()))
    # A price that doubles on nearly twice its usual volume is what news look like: of 1:2 some are believed.
    assert len(missed) <= draws // 100
    assert all(ratio == 2.0 and surprise > 0.6 for ratio, (surprise, *_) in missed)


@pytest.mark.parametrize("seed", range(20))
def test_overnight_steps_find_nothing_in_a_walk(seed: int) -> None:
    bars = random_walk_bars(symbols=3, sessions=250, seed=seed)
    assert overnight_steps(bars).filter(pl.col("score") > 0).is_empty()


@given(bar_panels(min_sessions=30, max_sessions=60), st.floats(0.01, 100), st.floats(0.01, 100))
def test_overnight_steps_do_not_depend_on_scale(bars: pl.DataFrame, times: float, lots: float) -> None:
    # A tick counts where all prices so far are whole hundredths: here the first of each symbol is none.
    odd = bars.with_columns(pl.col(name) * 1.0012345 for name in ("open", "high", "low", "close"))
    scaled = odd.with_columns(
        *(pl.col(name) * times for name in ("open", "high", "low", "close")), volume=pl.col("volume") * lots
    )
    for panel in (odd, scaled):
        hundredths = panel.group_by("symbol").agg(pl.col("close").first())["close"].to_numpy() * 100
        assume((np.abs(hundredths - np.maximum(np.rint(hundredths), 1)) > 0.01).all())
    before, after = overnight_steps(odd), overnight_steps(scaled)
    assert before.select("symbol", "session").equals(after.select("symbol", "session"))
    np.testing.assert_allclose(after["score"], before["score"], atol=1e-6)


@given(bar_panels(min_sessions=20, max_sessions=60), st.integers(1, 59))
def test_overnight_steps_do_not_depend_on_later_bars(bars: pl.DataFrame, kept: int) -> None:
    earlier = bars.filter(
        pl.col("session") <= bars["session"].unique().sort()[min(kept, bars["session"].n_unique() - 1)]
    )
    assert overnight_steps(earlier).equals(
        overnight_steps(bars).join(earlier, on=["symbol", "session"], how="semi")
    )


def usual_by_a_loop(closes: Sequence[float]) -> float:
    """Usual move before the last of these closes, on a price without ticks and without halts."""
    moves = sorted(abs(log(after / before)) for before, after in pairwise(closes[:-1]))
    middle, high, highest = (moves[int(share * (len(moves) - 1))] if moves else 0.0 for share in (0.5, 0.9, 1.0))
    shown = max(1.4826 * middle, high / 1.645) if middle else highest
    return sqrt((len(moves) * shown**2 + 2 * 0.05**2) / (len(moves) + 2))


@given(st.lists(st.floats(10.00123, 20.0), min_size=2, max_size=40))
def test_usual_moves_agree_with_a_loop(closes: list[float]) -> None:
    closes = [close + 0.000777 for close in closes]
    bars = flat_bars({"AAA": closes})
    found = PriceHistory(bars).usual_moves(np.array([len(closes) - 1]))[0]
    assert found == pytest.approx(usual_by_a_loop(closes), rel=1e-9)


def test_news_surprise_grows_with_the_step() -> None:
    sizes = np.array([0.1, 0.2, 0.4, 0.8])
    assert np.all(np.diff(news_surprise(sizes / 0.02, sizes)) > 0)
    # At a fall of 30 % or more the size counts 1.25 times; below it, only 0.75 times.
    expected = -0.9 + 1.5 * log(10) + 1.25 * log(0.5)
    assert news_surprise(np.array([10.0]), np.array([0.5]))[0] == pytest.approx(expected)
    fall = -log(0.7)
    expected = -0.9 + 1.5 * log(10) + 1.25 * log(fall) + 0.75 * log(0.2 / fall)
    assert news_surprise(np.array([10.0]), np.array([0.2]))[0] == pytest.approx(expected)
