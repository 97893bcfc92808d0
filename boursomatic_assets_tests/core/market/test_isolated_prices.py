from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.market.bars import BAR_SCHEMA, PANEL_KEY, CheckedBars, check_bars
from boursomatic_assets.core.market.isolated_prices import ISOLATED, NO_TRADE, set_aside_isolated
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
def test_a_price_far_off_that_comes_back_is_set_aside_whatever_its_ratio(tick: float) -> None:
    # 80 is off by ln 1.25 = 0.223, six usual moves of a calm price are 0.16 or so
    assert closes_kept_and_aside(*CALM, tick, 101.0) == ([*CALM, 101.0], [tick])


@pytest.mark.parametrize("tick", [90.0, 100.0, 110.0])
def test_a_price_a_little_off_stays(tick: float) -> None:
    assert closes_kept_and_aside(*CALM, tick, 101.0) == ([*CALM, tick, 101.0], [])


@pytest.mark.parametrize(("after", "aside"), [(104.0, [50.0]), (109.0, []), (96.0, [50.0]), (91.0, [])])
def test_it_has_come_back_to_where_it_was(after: float, aside: list[float]) -> None:
    # within 0.05, or two usual moves: sqrt((4 * shown^2 + 2 * 0.05^2) / 6) with shown near 0.015 gives 0.031
    assert closes_kept_and_aside(*CALM, 50.0, after)[1] == aside


def test_it_may_stay_away_for_three_sessions_and_not_for_four() -> None:
    for length in (1, 2, 3):
        assert closes_kept_and_aside(*CALM, *[50.0] * length, 100.0)[1] == [50.0] * length
    assert closes_kept_and_aside(*CALM, *[50.0] * 4, 100.0)[1] == []
    assert closes_kept_and_aside(*CALM, 50.0, 50.0)[1] == []


def test_the_first_and_the_last_bar_of_a_symbol_stay_since_nothing_lies_on_their_other_side() -> None:
    bars = flat_bars({"AAA": [50.0, 100.0, 50.0], "BBB": [100.0, 50.0], "CCC": [100.0]})
    checked = set_aside_isolated(sound(bars))
    assert checked.rejected.select(PANEL_KEY).rows() == [("AAA", SECOND)]
    assert checked.accepted.height == 5


def test_a_fall_and_a_recovery_on_heavy_volume_stay() -> None:
    # As OKE in March 2020, PCG in November 2018 and GME in March 2021: the bar still touches the old price.
    fallen = (99.0, 99.0, 68.0, 70.0, 3000.0)
    quiet = [(100.0, 101.0, 99.0, 100.0, 1000.0)] * 5
    assert set_aside_isolated(sound(bars_like(*quiet, fallen, *quiet))).rejected.is_empty()
    # A whole bar 30 % below on thirty times the volume is news that was denied; on the usual one a wrong price.
    for volume, aside in ((30_000.0, 0), (1000.0, 1)):
        below = (70.0, 71.0, 69.0, 70.0, volume)
        assert set_aside_isolated(sound(bars_like(*quiet, below, *quiet))).rejected.height == aside


def test_beyond_a_factor_of_two_and_a_half_no_volume_and_no_range_makes_it_a_price() -> None:
    # TCO on 2015-04-06: the bar of another company, on 150 times the volume; and a close that is wrong alone
    quiet = [(25.0, 25.3, 24.9, 25.2, 4000.0)] * 5
    for wrong in ((77.25, 77.85, 76.99, 77.25, 599_100.0), (25.0, 77.25, 24.9, 77.25, 4000.0)):
        checked = set_aside_isolated(sound(bars_like(*quiet, wrong, *quiet)))
        assert checked.rejected["close"].to_list() == [77.25]


def test_a_stock_that_doubles_and_falls_back_within_a_wild_month_stays() -> None:
    # As GME in January 2021: by then the usual move is 0.2 times 1.5 or so, and six of them are 1.8
    wild = [20.0, 24.0, 20.0, 25.0, 21.0, 26.0, 22.0, 27.0, 22.0, 50.0, 22.0]
    assert closes_kept_and_aside(*wild)[1] == []


def test_a_last_bar_that_nobody_traded_at_is_set_aside_until_another_confirms_it() -> None:
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
    # Where nobody ever traded, as of an index, a volume of nothing tells nothing.
    silent = [(38.0, 38.5, 37.5, 38.0, 0.0)] * 4
    assert set_aside_isolated(sound(bars_like(*silent, idle))).rejected.is_empty()


def test_wrong_prices_one_after_the_other_are_all_found_and_the_traded_ones_between_them_stay() -> None:
    # CJ in March 2017: two idle sessions at 0.022, one at 0.02 four sessions on, and the last one
    traded = (37.0, 37.5, 36.5, 37.0, 1000.0)
    idle = (0.022, 0.022, 0.022, 0.022, 0.0)
    bars = bars_like(traded, idle, idle, traded, idle, traded, traded, traded, idle)
    checked = set_aside_isolated(sound(bars))
    assert checked.accepted["close"].to_list() == [37.0] * 5
    assert checked.rejected["reason"].to_list() == [ISOLATED] * 3 + [NO_TRADE]


def test_stored_bars_beside_them_show_what_a_delivery_alone_does_not() -> None:
    whole = flat_bars({"AAA": [*CALM, 50.0, 100.0], "BBB": [10.0] * 7})
    stored, new = (
        whole.filter(pl.col("session") < weekdays(7)[6]),
        whole.filter(pl.col("session") >= weekdays(7)[6]),
    )
    checked = set_aside_isolated(sound(new), stored)
    # The stored wrong bar is among the rejected, and the accepted are those of the delivery alone.
    assert checked.rejected.select("symbol", "close", "reason").rows() == [("AAA", 50.0, ISOLATED)]
    assert checked.accepted.equals(new)
    assert set_aside_isolated(sound(new)).rejected.is_empty()
    # And a wrong bar at either end of the delivery is told from the stored one next to it.
    at_the_end, after = whole.filter(pl.col("session") < weekdays(7)[6]), new
    assert set_aside_isolated(sound(at_the_end), after).rejected["close"].to_list() == [50.0]


def test_what_was_rejected_before_stays_so_beside_what_is_set_aside() -> None:
    bars = flat_bars({"AAA": [100.0, 50.0, 100.0], "BBB": [100.0, 100.0]})
    broken = bars.with_columns(volume=pl.when(pl.col("symbol") == "BBB").then(-1.0).otherwise("volume"))
    checked = set_aside_isolated(check_bars(broken, today=date(2030, 1, 1)))
    assert checked.accepted.equals(broken.filter((pl.col("symbol") == "AAA") & (pl.col("close") == 100)))
    assert checked.rejected.select("symbol", "session", "reason").rows() == [
        ("AAA", SECOND, "isolated price: far from the sessions before and after"),
        ("BBB", weekdays(1)[0], "negative volume"),
        ("BBB", SECOND, "negative volume"),
    ]


def test_no_bars_at_all_are_fine() -> None:
    nothing = sound(flat_bars({"AAA": [1.0]}).clear())
    assert set_aside_isolated(nothing) is nothing


PATHS = st.lists(st.sampled_from([100.0, 103.0, 97.0, 50.0, 51.0, 75.0, 10.0, 88.0]), min_size=1, max_size=9)


@given(st.lists(PATHS, min_size=1, max_size=3))
def test_no_bar_is_lost_and_what_is_set_aside_lies_between_two_that_agree(paths: list[list[float]]) -> None:
    bars = flat_bars(dict(zip(SYMBOLS, paths, strict=False)))
    checked = set_aside_isolated(sound(bars))
    together = pl.concat([checked.accepted, checked.rejected.drop("reason")]).sort(PANEL_KEY)
    assert together.equals(bars)
    assert checked.accepted.equals(checked.accepted.sort(PANEL_KEY))
    kept = {symbol: rows["session"].to_list() for (symbol,), rows in checked.accepted.group_by("symbol")}
    for symbol, session in checked.rejected.select(PANEL_KEY).rows():
        assert min(kept[symbol]) < session < max(kept[symbol])


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 28), max_size=4, unique=True), st.floats(3, 1000))
def test_wrong_ticks_planted_in_a_walk_are_the_ones_that_are_found(
    seed: int, places: Sequence[int], factor: float
) -> None:
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
def test_judging_again_what_was_accepted_finds_nothing_more(bars: pl.DataFrame) -> None:
    accepted = set_aside_isolated(sound(bars)).accepted
    assert set_aside_isolated(sound(accepted)).rejected.is_empty()
