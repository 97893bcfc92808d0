from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.market.bars import BAR_SCHEMA, ISOLATED, NO_TRADE, PANEL_KEY, CheckedBars, check_bars
from boursomatic_assets.core.market.isolated_prices import set_aside_isolated
from boursomatic_assets_tests.support.strategies import SYMBOLS, bar_panels, flat_bars, random_walk_bars, weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND, THIRD, FOURTH, FIFTH = weekdays(5)[1:]
CALM = [100.0, 101.0, 100.5, 101.5, 100.0]


def sound(bars: pl.DataFrame) -> CheckedBars:
    checked = check_bars(bars, today=date(2030, 1, 1))
    assert checked.rejected.is_empty()
    return checked


def closes_kept_and_aside(*closes: float) -> tuple[list[float], list[float]]:
    checked = set_aside_isolated(sound(flat_bars({"AAA": closes})))
    assert set(checked.rejected["reason"]) <= {ISOLATED}
    return checked.accepted["close"].to_list(), checked.rejected["close"].to_list()


def bars_like(*rows: tuple[float, float, float, float, float], symbol: str = "AAA") -> pl.DataFrame:
    """Open, high, low, close and volume of a bar each."""
    dated = [(symbol, session, *row) for session, row in zip(weekdays(len(rows)), rows, strict=True)]
    return pl.DataFrame(dated, schema=BAR_SCHEMA, orient="row")


@pytest.mark.parametrize("tick", [50.0, 10.0, 75.0, 400 / 3, 1000.0, 51.0, 45.0, 80.0, 125.0, 10_000.0, 0.4])
def test_set_aside_isolated_rejects_a_tick_of_any_ratio(tick: float) -> None:
    # 80 is off by ln 1.25 = 0.223, six usual moves of a calm price are about 0.16
    assert closes_kept_and_aside(*CALM, tick, 101.0) == ([*CALM, 101.0], [tick])


@pytest.mark.parametrize("tick", [90.0, 100.0, 110.0])
def test_set_aside_isolated_keeps_a_price_a_little_off(tick: float) -> None:
    assert closes_kept_and_aside(*CALM, tick, 101.0) == ([*CALM, tick, 101.0], [])


@pytest.mark.parametrize(("after", "aside"), [(104.0, [50.0]), (109.0, []), (96.0, [50.0]), (91.0, [])])
def test_set_aside_isolated_needs_the_price_to_return(after: float, aside: list[float]) -> None:
    # within 0.05, or two usual moves: sqrt((4 * shown^2 + 2 * 0.05^2) / 6) with shown near 0.015 gives 0.031
    assert closes_kept_and_aside(*CALM, 50.0, after)[1] == aside


@pytest.mark.parametrize(
    ("path", "rejected"), [([50.0] * n + [100.0], n if n < 4 else 0) for n in (1, 2, 3, 4)] + [([50.0, 50.0], 0)]
)
def test_set_aside_isolated_rejects_up_to_three_sessions(path: list[float], rejected: int) -> None:
    assert closes_kept_and_aside(*CALM, *path)[1] == [50.0] * rejected


def test_set_aside_isolated_keeps_first_and_last_bars() -> None:
    bars = flat_bars({"AAA": [50.0, 100.0, 50.0], "BBB": [100.0, 50.0], "CCC": [100.0]})
    checked = set_aside_isolated(sound(bars))
    assert checked.rejected.select(PANEL_KEY).rows() == [("AAA", SECOND)]
    assert checked.accepted.height == 5


def test_set_aside_isolated_keeps_a_recovery_on_heavy_volume() -> None:
    # As OKE in March 2020, PCG in November 2018 and GME in March 2021: the bar still touches the old price.
    fallen = (99.0, 99.0, 68.0, 70.0, 3000.0)
    quiet = [(100.0, 101.0, 99.0, 100.0, 1000.0)] * 5
    assert set_aside_isolated(sound(bars_like(*quiet, fallen, *quiet))).rejected.is_empty()
    # A whole bar 30 % below on thirty times the volume is denied news; on the usual volume it is a wrong price.
    for volume, aside in ((30_000.0, 0), (1000.0, 1)):
        below = (70.0, 71.0, 69.0, 70.0, volume)
        assert set_aside_isolated(sound(bars_like(*quiet, below, *quiet))).rejected.height == aside


def test_set_aside_isolated_rejects_a_factor_of_2_5_at_any_volume() -> None:
    # TCO on 2015-04-06: the bar of another company, on 150 times the volume; and a close that is wrong alone
    quiet = [(25.0, 25.3, 24.9, 25.2, 4000.0)] * 5
    for wrong in ((77.25, 77.85, 76.99, 77.25, 599_100.0), (25.0, 77.25, 24.9, 77.25, 4000.0)):
        checked = set_aside_isolated(sound(bars_like(*quiet, wrong, *quiet)))
        assert checked.rejected["close"].to_list() == [77.25]


def test_set_aside_isolated_keeps_moves_of_a_volatile_month() -> None:
    # As GME in January 2021: by then the usual move is about 0.2 times 1.5, and six of them are 1.8
    volatile = [20.0, 24.0, 20.0, 25.0, 21.0, 26.0, 22.0, 27.0, 22.0, 50.0, 22.0]
    assert closes_kept_and_aside(*volatile)[1] == []


def test_set_aside_isolated_rejects_untraded_last_bars() -> None:
    traded = [(38.0, 38.5, 37.5, 38.0, 1000.0)] * 4
    idle = (0.02, 0.02, 0.02, 0.02, 0.0)
    checked = set_aside_isolated(sound(bars_like(*traded, idle)))
    assert checked.rejected.select("close", "reason").rows() == [(0.02, NO_TRADE)]
    # With a volume, with a range, near the last price, or once there is another bar, nothing is said.
    for last in ((0.02, 0.02, 0.02, 0.02, 5.0), (0.02, 0.03, 0.02, 0.02, 0.0), (40.0, 40.0, 40.0, 40.0, 0.0)):
        assert set_aside_isolated(sound(bars_like(*traded, last))).rejected.is_empty()
    assert set_aside_isolated(sound(bars_like(*traded, idle, idle, idle))).rejected.height == 3
    assert set_aside_isolated(sound(bars_like(*traded, idle, idle, idle, idle))).rejected.is_empty()
    assert set_aside_isolated(sound(bars_like(*traded, idle, (0.02, 0.02, 0.02, 0.02, 9.0)))).rejected.is_empty()
    # An index never has a volume.
    silent = [(38.0, 38.5, 37.5, 38.0, 0.0)] * 4
    assert set_aside_isolated(sound(bars_like(*silent, idle))).rejected.is_empty()


def test_set_aside_isolated_keeps_traded_bars_between_wrong_ones() -> None:
    # CJ in March 2017: two idle sessions at 0.022, one at 0.02 four sessions on, and the last one
    traded = (37.0, 37.5, 36.5, 37.0, 1000.0)
    idle = (0.022, 0.022, 0.022, 0.022, 0.0)
    bars = bars_like(traded, idle, idle, traded, idle, traded, traded, traded, idle)
    checked = set_aside_isolated(sound(bars))
    assert checked.accepted["close"].to_list() == [37.0] * 5
    assert checked.rejected["reason"].to_list() == [ISOLATED] * 3 + [NO_TRADE]


def test_set_aside_isolated_compares_with_stored_bars() -> None:
    whole = flat_bars({"AAA": [*CALM, 50.0, 100.0], "BBB": [10.0] * 7})
    last = pl.col("session") == weekdays(7)[6]
    stored, new = whole.filter(~last), whole.filter(last)
    checked = set_aside_isolated(sound(new), stored)
    # The stored wrong bar is among the rejected, and the accepted are those of the batch alone.
    assert checked.rejected.select("symbol", "close", "reason").rows() == [("AAA", 50.0, ISOLATED)]
    assert checked.accepted.equals(new)
    assert set_aside_isolated(sound(new)).rejected.is_empty()
    # A wrong bar at the end of the batch is found by the stored bar after it.
    assert set_aside_isolated(sound(stored), new).rejected["close"].to_list() == [50.0]


def test_set_aside_isolated_keeps_earlier_rejections() -> None:
    bars = flat_bars({"AAA": [100.0, 50.0, 100.0], "BBB": [100.0, 100.0]})
    broken = bars.with_columns(volume=pl.when(pl.col("symbol") == "BBB").then(-1.0).otherwise("volume"))
    checked = set_aside_isolated(check_bars(broken, today=date(2030, 1, 1)))
    assert checked.accepted.equals(broken.filter((pl.col("symbol") == "AAA") & (pl.col("close") == 100)))
    assert checked.rejected.select("symbol", "session", "reason").rows() == [
        ("AAA", SECOND, "isolated price: far from the sessions before and after"),
        ("BBB", weekdays(1)[0], "negative volume"),
        ("BBB", SECOND, "negative volume"),
    ]


def test_set_aside_isolated_of_no_bars() -> None:
    nothing = sound(flat_bars({"AAA": [1.0]}).clear())
    assert set_aside_isolated(nothing) is nothing


PATHS = st.lists(st.sampled_from([100.0, 103.0, 97.0, 50.0, 51.0, 75.0, 10.0, 88.0]), min_size=1, max_size=9)


@given(st.lists(PATHS, min_size=1, max_size=3))
def test_set_aside_isolated_loses_no_bar(paths: list[list[float]]) -> None:
    bars = flat_bars(dict(zip(SYMBOLS, paths, strict=False)))
    checked = set_aside_isolated(sound(bars))
    together = pl.concat([checked.accepted, checked.rejected.drop("reason")]).sort(PANEL_KEY)
    assert together.equals(bars)
    assert checked.accepted.equals(checked.accepted.sort(PANEL_KEY))
    kept = {symbol: rows["session"].to_list() for (symbol,), rows in checked.accepted.group_by("symbol")}
    for symbol, session in checked.rejected.select(PANEL_KEY).rows():
        assert min(kept[symbol]) < session < max(kept[symbol])


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 28), max_size=4, unique=True), st.floats(3, 1000))
def test_set_aside_isolated_finds_ticks_planted_in_a_walk(seed: int, places: Sequence[int], factor: float) -> None:
    # One in each thirty sessions at most, from the thirtieth on: the walk moves by up to 4 % a day.
    bars = random_walk_bars(symbols=1, sessions=160, seed=seed)
    rows = [30 * (number + 1) + place for number, place in enumerate(places)]
    wrong = pl.int_range(pl.len()).is_in(rows)
    planted = bars.with_columns(
        pl.when(wrong).then(pl.col(name) * factor).otherwise(name) for name in ("open", "high", "low", "close")
    )
    found = set(set_aside_isolated(sound(planted)).rejected["session"])
    assert found <= {bars["session"][row] for row in rows}
    # Those are found whose price comes back within 5 %; the walk itself may move further in two days.
    close = bars["close"]
    back = {bars["session"][row] for row in rows if abs(close[row + 1] / close[row - 1] - 1) < 0.049}
    assert back <= found


@given(bar_panels(min_sessions=20, max_sessions=40))
def test_set_aside_isolated_accepts_its_own_result(bars: pl.DataFrame) -> None:
    accepted = set_aside_isolated(sound(bars)).accepted
    assert set_aside_isolated(sound(accepted)).rejected.is_empty()
