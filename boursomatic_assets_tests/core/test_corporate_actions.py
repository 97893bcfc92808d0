from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from boursomatic_assets.core.corporate_actions import (
    ADJUSTMENT_SCHEMA,
    ISOLATED,
    JUMP_SCHEMA,
    apply_adjustments,
    large_moves,
    set_aside_isolated,
    split_like_jumps,
)
from boursomatic_assets.core.market_data import BAR_SCHEMA, PANEL_KEY, PRICE_COLUMNS, CheckedBars, check_bars
from boursomatic_assets.errors import PanelContractError
from boursomatic_assets_tests.strategies import SYMBOLS, bar_panels, flat_bars, weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

# Numbers of new shares for one old one, or of old shares for a new one, in splits that companies do.
SHARES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)
RATIOS = [*(1 / shares for shares in SHARES), *SHARES, 2 / 3, 3 / 2]
SECOND, THIRD, FOURTH = weekdays(4)[1:]
NONE_ENTERED = pl.DataFrame(schema=ADJUSTMENT_SCHEMA)


def entered(*rows: tuple[str, date, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=ADJUSTMENT_SCHEMA, orient="row")


def opened_and_closed(*prices: tuple[float, float], symbol: str = "AAA") -> pl.DataFrame:
    """Bars of an open and a close each, on successive weekdays."""
    rows = [
        (symbol, session, first, max(first, last), min(first, last), last, 1000.0)
        for session, (first, last) in zip(weekdays(len(prices)), prices, strict=True)
    ]
    return pl.DataFrame(rows, schema=BAR_SCHEMA, orient="row")


def test_bars_before_a_two_for_one_split_have_half_the_price_and_twice_the_volume() -> None:
    bars = flat_bars({"AAA": [100.0, 102.0, 51.0, 52.0]}, volume=1000.0)
    # 100 * 0.5 = 50, 102 * 0.5 = 51, from the session on nothing; 1000 / 0.5 = 2000
    adjusted = apply_adjustments(bars, entered(("AAA", THIRD, 0.5)))
    for name in PRICE_COLUMNS:
        assert adjusted[name].to_list() == [50.0, 51.0, 51.0, 52.0]
    assert adjusted["volume"].to_list() == [2000.0, 2000.0, 1000.0, 1000.0]
    assert adjusted.select(PANEL_KEY).equals(bars.select(PANEL_KEY))


def test_ratios_of_several_sessions_multiply_up_to_each() -> None:
    bars = flat_bars({"AAA": [80.0, 40.0, 400.0, 100.0]}, volume=100.0)
    # before the second session 0.5 * 10 * 0.25 = 1.25, before the third 2.5, before the fourth 0.25
    adjusted = apply_adjustments(bars, entered(("AAA", FOURTH, 0.25), ("AAA", SECOND, 0.5), ("AAA", THIRD, 10.0)))
    assert adjusted["close"].to_list() == [80 * 1.25, 40 * 2.5, 400 * 0.25, 100.0] == [100.0] * 4
    assert adjusted["volume"].to_list() == [100 / 1.25, 100 / 2.5, 100 / 0.25, 100.0]


def test_an_adjustment_between_two_bars_or_after_the_last_one_counts_for_the_bars_before_it() -> None:
    bars = flat_bars({"AAA": [100.0, None, 50.0]})
    assert apply_adjustments(bars, entered(("AAA", SECOND, 0.5)))["close"].to_list() == [50.0, 50.0]
    after = weekdays(3)[-1] + timedelta(days=1)
    assert apply_adjustments(bars, entered(("AAA", after, 0.5)))["close"].to_list() == [50.0, 25.0]
    before = weekdays(1)[0]
    assert apply_adjustments(bars, entered(("AAA", before, 0.5))).equals(bars)


def test_a_ratio_of_one_and_other_symbols_change_nothing() -> None:
    bars = flat_bars({"AAA": [100.0, 50.0], "BBB": [100.0, 50.0]})
    real = entered(("AAA", SECOND, 1.0), ("CCC", SECOND, 0.5))
    assert apply_adjustments(bars, real).equals(bars)
    assert apply_adjustments(bars, NONE_ENTERED).equals(bars)
    adjusted = apply_adjustments(bars, pl.concat([real, entered(("BBB", SECOND, 0.5))]))
    assert adjusted.filter(pl.col("symbol") == "AAA").equals(bars.head(2))
    assert adjusted["close"].to_list() == [100.0, 50.0, 50.0, 50.0]


def test_only_the_columns_that_are_there_are_scaled_and_the_others_stay_in_their_places() -> None:
    bars = flat_bars({"AAA": [100.0, 50.0]}).select("symbol", "close", "session", pl.lit("XNYS").alias("exchange"))
    adjusted = apply_adjustments(bars, entered(("AAA", SECOND, 0.5)))
    assert adjusted.rows() == [("AAA", 50.0, bars["session"][0], "XNYS"), ("AAA", 50.0, SECOND, "XNYS")]
    assert adjusted.columns == bars.columns


@st.composite
def panels_with_adjustments(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A panel, and ratios at some of its sessions, between them, outside of them, and of other symbols."""
    bars = draw(bar_panels(min_sessions=2, max_sessions=15))
    days = st.dates(date(2017, 12, 25), date(2018, 2, 28))
    keys = draw(st.sets(st.tuples(st.sampled_from(SYMBOLS), days), max_size=8))
    ratio = st.sampled_from([1.0, 0.5, 2 / 3, 10.0, 0.98, 1 / 7])
    return bars, entered(*((symbol, session, draw(ratio)) for symbol, session in sorted(keys)))


@given(panels_with_adjustments(), st.integers(0, 2**32 - 1))
def test_each_bar_is_scaled_by_the_product_of_the_ratios_after_it(
    case: tuple[pl.DataFrame, pl.DataFrame], seed: int
) -> None:
    bars, adjustments = case
    expected = []
    for row in bars.iter_rows(named=True):
        factor = 1.0
        for symbol, session, ratio in adjustments.iter_rows():
            if symbol == row["symbol"] and session > row["session"]:
                factor *= ratio
        scaled = {name: row[name] * factor for name in PRICE_COLUMNS}
        expected.append({**row, **scaled, "volume": row["volume"] / factor})
    shuffled = adjustments.sample(fraction=1.0, shuffle=True, seed=seed)
    found = apply_adjustments(bars, shuffled)
    assert_frame_equal(found, pl.DataFrame(expected, schema=BAR_SCHEMA), rel_tol=1e-12, abs_tol=0)


@given(bar_panels(symbols=1, min_sessions=4, max_sessions=20), st.data())
def test_with_the_ratio_of_the_closes_as_it_was_the_adjusted_price_is_continuous(
    bars: pl.DataFrame, data: st.DataObject
) -> None:
    places = data.draw(st.sets(st.integers(1, bars.height - 1), min_size=1), label="adjusted")
    closes, sessions = bars["close"].to_list(), bars["session"].to_list()
    ratios = [("AAA", sessions[at], closes[at] / closes[at - 1]) for at in sorted(places)]
    adjusted = apply_adjustments(bars, entered(*ratios))
    found = adjusted["close"].to_list()
    for at in range(1, bars.height):
        # elsewhere the returns are what they were
        expected = 1.0 if at in places else closes[at] / closes[at - 1]
        assert found[at] / found[at - 1] == pytest.approx(expected, rel=1e-12)
    # money traded is what it was
    traded, before = adjusted["close"] * adjusted["volume"], bars["close"] * bars["volume"]
    np.testing.assert_allclose(traded, before, rtol=1e-12)


@pytest.mark.parametrize(
    ("before", "after", "ratio"),
    [
        (100.0, 50.0, 0.5),  # two for one
        (3.0, 30.0, 10.0),  # one for ten
        (150.0, 100.0, 2 / 3),  # three for two
        (100.0, 150.0, 1.5),  # two for three
        (700.0, 100.0, 1 / 7),  # Apple, June 2014
        (0.2, 20.0, 100.0),
        (2000.0, 100.0, 0.05),  # Amazon and Alphabet, 2022
    ],
)
def test_a_jump_that_looks_like_a_split_is_found(before: float, after: float, ratio: float) -> None:
    found = split_like_jumps(opened_and_closed((before, before), (after, after), (after, after)))
    assert dict(found.schema) == JUMP_SCHEMA
    ((symbol, session, moved, near),) = found.rows()
    assert (symbol, session) == ("AAA", SECOND)
    assert moved == pytest.approx(ratio, rel=1e-12)
    assert near == pytest.approx(ratio, rel=1e-15)


def test_the_ratio_is_that_of_the_closes_and_beside_it_stands_the_split_it_is_near() -> None:
    # 26 / 100 = 0.26 lies 4 % above a quarter, and the open of 24.5 lies 2 % below
    found = split_like_jumps(opened_and_closed((99.0, 100.0), (24.5, 26.0)))
    assert found.rows() == [("AAA", SECOND, 0.26, 0.25)]


@pytest.mark.parametrize("opened", [100.0, 90.0, 60.0])
def test_a_fall_during_the_session_is_a_fall(opened: float) -> None:
    bars = opened_and_closed((100.0, 100.0), (opened, 50.0))
    assert split_like_jumps(bars).is_empty()


def test_a_gap_overnight_that_is_bought_back_is_no_split() -> None:
    bars = opened_and_closed((100.0, 100.0), (50.0, 80.0))
    assert split_like_jumps(bars).is_empty()


@pytest.mark.parametrize(
    ("opened", "closed", "is_found"),
    [
        # half of 100 is 50: 5 % of it is 2.5
        (50.0, 52.4, True),
        (50.0, 52.6, False),
        (50.0, 47.6, True),
        (50.0, 47.4, False),
        (52.4, 50.0, True),
        (52.6, 50.0, False),
        (47.6, 50.0, True),
        (47.4, 50.0, False),
        (47.6, 52.4, True),
    ],
)
def test_open_and_close_may_each_lie_a_twentieth_off_the_ratio(
    opened: float, closed: float, *, is_found: bool
) -> None:
    bars = opened_and_closed((100.0, 100.0), (opened, closed))
    assert split_like_jumps(bars).height == int(is_found)


def test_the_first_bar_of_a_symbol_jumps_from_nothing() -> None:
    bars = flat_bars({"AAA": [100.0, 100.0], "BBB": [50.0, 50.0], "CCC": [25.0]})
    assert split_like_jumps(bars).is_empty()


def test_a_jump_across_missing_bars_is_found_at_the_bar_after_them() -> None:
    bars = flat_bars({"AAA": [100.0, None, None, 50.0]})
    assert split_like_jumps(bars)["session"].to_list() == [FOURTH]


def test_jumps_and_moves_want_a_panel() -> None:
    bars = flat_bars({"AAA": [100.0, 50.0]})
    with pytest.raises(PanelContractError, match="sorted"):
        split_like_jumps(bars.reverse())
    with pytest.raises(PanelContractError, match=r"missing \['open'\]"):
        split_like_jumps(bars.drop("open"))
    with pytest.raises(PanelContractError, match=r"missing \['close'\]"):
        large_moves(bars.drop("close"))


@st.composite
def jumping_panels(draw: st.DrawFn) -> pl.DataFrame:
    """Walks with jumps near split ratios and elsewhere; the open lies near the close, or where it was before."""
    pieces = []
    for symbol in SYMBOLS[: draw(st.integers(1, 3))]:
        moves = draw(
            st.lists(
                st.tuples(
                    st.sampled_from([1.0, 1.0, 0.8, 0.3, *RATIOS]), st.floats(0.93, 1.07), st.floats(0.9, 1.1)
                ),
                min_size=1,
                max_size=8,
            )
        )
        prices = [(100.0, 100.0)]
        for ratio, noise, gap in moves:
            close = prices[-1][1] * ratio * noise
            overnight = prices[-1][1] if draw(st.booleans()) and draw(st.booleans()) else close
            prices.append((overnight * gap, close))
        pieces.append(opened_and_closed(*prices, symbol=symbol))
    return pl.concat(pieces)


def near_a_split(ratio: float) -> list[float]:
    return [known for known in RATIOS if abs(ratio / known - 1) <= 0.05]


@given(jumping_panels())
def test_exactly_the_jumps_whose_open_and_close_are_near_one_ratio_are_found(bars: pl.DataFrame) -> None:
    expected = []
    for (symbol,), rows in bars.group_by("symbol", maintain_order=True):
        for before, now in pairwise(rows.iter_rows(named=True)):
            both = near_a_split(now["close"] / before["close"]), near_a_split(now["open"] / before["close"])
            expected += [
                (symbol, now["session"], now["close"] / before["close"], known)
                for known in both[0]
                if known in both[1]
            ]
    assert split_like_jumps(bars).rows() == expected


def test_moves_of_more_than_two_fifths_are_listed_and_smaller_ones_are_not() -> None:
    # 60 / 100 = 0.6 is exactly 40 % less, 100 / 60 the like above: neither is more than that
    bars = flat_bars(
        {"AAA": [100.0, 60.0, 100.0], "BBB": [100.0, 59.0, 100.0], "CCC": [1.0, 1.6], "DDD": [1.0, 1.7, 1.7]}
    )
    assert large_moves(bars).rows() == [
        ("BBB", SECOND, 0.59),
        ("BBB", THIRD, 100 / 59),
        ("DDD", SECOND, 1.7),
    ]


@given(bar_panels(min_sessions=2, max_sessions=15))
def test_large_moves_are_those_that_a_loop_finds(bars: pl.DataFrame) -> None:
    expected = []
    for (symbol,), rows in bars.group_by("symbol", maintain_order=True):
        for before, now in pairwise(rows.iter_rows(named=True)):
            ratio = now["close"] / before["close"]
            if ratio < 0.6 or 1 / ratio < 0.6:
                expected.append((symbol, now["session"], pytest.approx(ratio, rel=1e-12)))
    assert large_moves(bars).rows() == expected


def sound(bars: pl.DataFrame) -> CheckedBars:
    checked = check_bars(bars, today=date(2030, 1, 1))
    assert checked.rejected.is_empty()
    return checked


def closes_kept_and_aside(*closes: float) -> tuple[list[float], list[float]]:
    checked = set_aside_isolated(sound(flat_bars({"AAA": closes})))
    assert set(checked.rejected["reason"]) <= {ISOLATED}
    return checked.accepted["close"].to_list(), checked.rejected["close"].to_list()


@pytest.mark.parametrize("tick", [50.0, 10.0, 75.0, 400 / 3, 1000.0, 51.0])
def test_a_price_a_split_ratio_off_that_comes_back_is_set_aside(tick: float) -> None:
    # a half, a tenth, three quarters, four thirds, ten; 51 / 100 is 2 % above a half
    assert closes_kept_and_aside(100.0, tick, 101.0) == ([100.0, 101.0], [tick])


@pytest.mark.parametrize("tick", [80.0, 125.0, 90.0, 45.0, 100.0])
def test_a_price_off_by_something_else_stays(tick: float) -> None:
    # 80 / 100 lies 6.7 % above three quarters, 125 / 100 as much below four thirds, 45 lies 10 % below a half
    assert closes_kept_and_aside(100.0, tick, 100.0) == ([100.0, tick, 100.0], [])


@pytest.mark.parametrize(("after", "aside"), [(104.0, [50.0]), (106.0, []), (96.0, [50.0]), (94.0, [])])
def test_it_has_come_back_within_a_twentieth_of_where_it_was(after: float, aside: list[float]) -> None:
    assert closes_kept_and_aside(100.0, 50.0, after)[1] == aside


def test_a_price_that_stays_or_comes_back_later_is_no_wrong_tick() -> None:
    assert closes_kept_and_aside(100.0, 50.0, 50.0, 50.0)[1] == []
    assert closes_kept_and_aside(100.0, 50.0, 50.0, 100.0)[1] == []


def test_the_first_and_the_last_bar_of_a_symbol_stay_since_nothing_lies_on_their_other_side() -> None:
    bars = flat_bars({"AAA": [50.0, 100.0, 50.0], "BBB": [100.0, 50.0], "CCC": [100.0]})
    checked = set_aside_isolated(sound(bars))
    assert checked.rejected.select(PANEL_KEY).rows() == [("AAA", SECOND)]
    assert checked.accepted.height == 5


def test_what_was_rejected_before_stays_so_beside_what_is_set_aside() -> None:
    bars = flat_bars({"AAA": [100.0, 50.0, 100.0], "BBB": [100.0, 100.0]})
    broken = bars.with_columns(volume=pl.when(pl.col("symbol") == "BBB").then(-1.0).otherwise("volume"))
    checked = set_aside_isolated(check_bars(broken, today=date(2030, 1, 1)))
    assert checked.accepted.equals(broken.filter((pl.col("symbol") == "AAA") & (pl.col("close") == 100)))
    assert checked.rejected.select("symbol", "session", "reason").rows() == [
        ("AAA", SECOND, "isolated price: a split ratio away from the sessions before and after"),
        ("BBB", weekdays(1)[0], "negative volume"),
        ("BBB", SECOND, "negative volume"),
    ]


def isolated_places(closes: Sequence[float]) -> list[int]:
    """Positions of closes that a wrong tick explains, one after the other."""
    found = []
    for at in range(1, len(closes) - 1):
        before, tick, after = closes[at - 1 : at + 2]
        known = [*RATIOS, 3 / 4, 4 / 3]
        if any(abs(tick / before / ratio - 1) <= 0.05 for ratio in known) and abs(after / before - 1) <= 0.05:
            found.append(at)
    return found


PATHS = st.lists(st.sampled_from([100.0, 103.0, 97.0, 50.0, 51.0, 75.0, 10.0, 88.0]), min_size=1, max_size=9)


@given(st.lists(PATHS, min_size=1, max_size=3))
def test_no_other_bar_is_set_aside_and_none_is_lost(paths: list[list[float]]) -> None:
    bars = flat_bars(dict(zip(SYMBOLS, paths, strict=False)))
    checked = set_aside_isolated(sound(bars))
    expected = [
        (symbol, weekdays(len(path))[at])
        for symbol, path in zip(SYMBOLS, paths, strict=False)
        for at in isolated_places(path)
    ]
    assert checked.rejected.select(PANEL_KEY).rows() == expected
    together = pl.concat([checked.accepted, checked.rejected.drop("reason")]).sort(PANEL_KEY)
    assert together.equals(bars)
    assert checked.accepted.equals(checked.accepted.sort(PANEL_KEY))
