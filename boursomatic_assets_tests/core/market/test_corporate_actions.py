from __future__ import annotations

from datetime import date
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from boursomatic_assets.core.market.bars import BAR_SCHEMA, PANEL_KEY, PRICE_COLUMNS
from boursomatic_assets.core.market.corporate_actions import (
    ADJUSTMENT_SCHEMA,
    JUMP_SCHEMA,
    apply_adjustments,
    doubtful_steps,
    large_moves,
    split_like_jumps,
)
from boursomatic_assets.errors import PanelContractError
from boursomatic_assets_tests.support.strategies import SYMBOLS, bar_panels, flat_bars, weekdays

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


def test_apply_adjustments_halves_prices_before_a_two_for_one_split() -> None:
    bars = flat_bars({"AAA": [100.0, 102.0, 51.0, 52.0]}, volume=1000.0)
    # 100 * 0.5 = 50, 102 * 0.5 = 51, from the session on nothing; 1000 / 0.5 = 2000
    adjusted = apply_adjustments(bars, entered(("AAA", THIRD, 0.5)))
    for name in PRICE_COLUMNS:
        assert adjusted[name].to_list() == [50.0, 51.0, 51.0, 52.0]
    assert adjusted["volume"].to_list() == [2000.0, 2000.0, 1000.0, 1000.0]
    assert adjusted.select(PANEL_KEY).equals(bars.select(PANEL_KEY))


def test_apply_adjustments_multiplies_later_ratios() -> None:
    bars = flat_bars({"AAA": [80.0, 40.0, 400.0, 100.0]}, volume=100.0)
    # before the second session 0.5 * 10 * 0.25 = 1.25, before the third 2.5, before the fourth 0.25
    adjusted = apply_adjustments(bars, entered(("AAA", FOURTH, 0.25), ("AAA", SECOND, 0.5), ("AAA", THIRD, 10.0)))
    assert adjusted["close"].to_list() == [80 * 1.25, 40 * 2.5, 400 * 0.25, 100.0] == [100.0] * 4
    assert adjusted["volume"].to_list() == [100 / 1.25, 100 / 2.5, 100 / 0.25, 100.0]


def test_apply_adjustments_ignores_a_ratio_of_one_and_unknown_symbols() -> None:
    bars = flat_bars({"AAA": [100.0, 50.0], "BBB": [100.0, 50.0]})
    assert apply_adjustments(bars, entered(("AAA", SECOND, 1.0), ("CCC", SECOND, 0.5))).equals(bars)
    assert apply_adjustments(bars, NONE_ENTERED).equals(bars)


def test_apply_adjustments_keeps_columns_in_their_places() -> None:
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
def test_apply_adjustments_agrees_with_a_loop(case: tuple[pl.DataFrame, pl.DataFrame], seed: int) -> None:
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
def test_apply_adjustments_by_the_ratio_of_closes_is_continuous(bars: pl.DataFrame, data: st.DataObject) -> None:
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
        # Ratios that no list held: any step of this size is looked at.
        (1.0, 250.0, 250.0),
        (1.0, 60.0, 60.0),
        (90.0, 10.0, 1 / 9),
        (130.0, 10.0, 1 / 13),
    ],
)
def test_split_like_jumps_finds_any_ratio(before: float, after: float, ratio: float) -> None:
    found = split_like_jumps(opened_and_closed((before, before), (after, after), (after, after)))
    assert dict(found.schema) == JUMP_SCHEMA
    ((symbol, session, moved, near),) = found.rows()
    assert (symbol, session) == ("AAA", SECOND)
    assert moved == pytest.approx(ratio, rel=1e-12)
    assert near == pytest.approx(ratio, rel=1e-12)


def test_split_like_jumps_finds_a_split_under_the_day_s_own_move() -> None:
    # TSLA on 2020-08-31: five for one, and the stock rose by 12.6 %; the open told the ratio
    calm = [(2200.0, 2210.0), (2210.0, 2190.0), (2190.0, 2213.4)]
    ((_, _, moved, near),) = split_like_jumps(opened_and_closed(*calm, (444.6, 498.3))).rows()
    # 498.3 / 2213.4 = 0.2251, whose log is -1.491; that of a fifth is -1.609
    assert moved == pytest.approx(498.3 / 2213.4, rel=1e-12)
    assert near == pytest.approx(0.2, rel=1e-12)


def test_split_like_jumps_finds_a_spin_off() -> None:
    # EBAY's spin-off of PayPal on 2015-07-20, on a volume of 1.5 times the usual
    calm = [(65.0, 65.5), (65.5, 66.0), (66.0, 66.3)]
    bars = opened_and_closed(*calm, (26.9, 28.6)).with_columns(volume=pl.Series([1000.0, 1000.0, 1000.0, 1500.0]))
    assert split_like_jumps(bars)["session"].to_list() == [FOURTH]


@pytest.mark.parametrize("opened", [100.0, 90.0])
def test_split_like_jumps_ignores_a_fall_during_the_session(opened: float) -> None:
    bars = opened_and_closed((100.0, 100.0), (opened, 50.0))
    assert split_like_jumps(bars).is_empty()


def stepped(after: float, times: float, before: float = 100.0) -> pl.DataFrame:
    """Sixty calm sessions, then a step on `times` the usual volume."""
    traded = pl.when(pl.int_range(pl.len()) == 60).then(1000.0 * times).otherwise(1000.0)
    return flat_bars({"AAA": [before] * 60 + [after] * 3}).with_columns(volume=traded)


@pytest.mark.parametrize(("times", "jumps", "doubtful"), [(1, 1, 0), (3, 1, 0), (8, 0, 1), (17, 0, 1), (20, 0, 0)])
def test_a_fall_of_30_percent_is_believed_by_its_volume(times: float, jumps: int, doubtful: int) -> None:
    # ln 0.7 = -0.357 after 60 calm sessions, whose usual move is sqrt(2 * 0.05^2 / 61) = 0.009: more than twelve of
    # them. It bears -0.9 + 1.5 ln 12 + 1.25 ln 0.357 = 1.54 of log volume beyond 0.357: 1.90 is ln 6.7. 0.7 lies
    # off any split. Without volume it is a spin-off or a special dividend; up to ln 6.7 + 1, which is 18 times the
    # usual volume, it is doubtful.
    bars = stepped(70.0, times)
    assert (split_like_jumps(bars).height, doubtful_steps(bars).height) == (jumps, doubtful)
    assert dict(doubtful_steps(bars).schema) == JUMP_SCHEMA


@pytest.mark.parametrize(("times", "jumps"), [(5.0, 0), (0.5, 1)])
def test_a_doubled_price_is_believed_by_its_volume(times: float, jumps: int) -> None:
    assert split_like_jumps(stepped(40.0, times, before=20.0)).height == jumps


def test_doubtful_steps_leave_out_small_steps() -> None:
    # ln(100 / 87) = 0.139
    assert doubtful_steps(stepped(87.0, 3.0)).is_empty()


def test_split_like_jumps_at_a_first_bar_and_across_missing_bars() -> None:
    assert split_like_jumps(flat_bars({"AAA": [100.0, 100.0], "BBB": [50.0, 50.0], "CCC": [25.0]})).is_empty()
    assert split_like_jumps(flat_bars({"AAA": [100.0, None, None, 50.0]}))["session"].to_list() == [FOURTH]


def test_jumps_and_moves_need_a_panel() -> None:
    bars = flat_bars({"AAA": [100.0, 50.0]})
    with pytest.raises(PanelContractError, match="sorted"):
        split_like_jumps(bars.reverse())
    with pytest.raises(PanelContractError, match=r"missing \['open'\]"):
        split_like_jumps(bars.drop("open"))
    with pytest.raises(PanelContractError, match=r"missing \['close'\]"):
        large_moves(bars.drop("close"))


def test_large_moves_exceed_40_percent() -> None:
    # 60 / 100 = 0.6 is exactly 40 % less, 100 / 60 the like above: neither is more than that
    bars = flat_bars(
        {"AAA": [100.0, 60.0, 100.0], "BBB": [100.0, 59.0, 100.0], "CCC": [1.0, 1.6], "DDD": [1.0, 1.7, 1.7]}
    )
    assert large_moves(bars).rows() == [("BBB", SECOND, 0.59), ("BBB", THIRD, 100 / 59), ("DDD", SECOND, 1.7)]


@given(bar_panels(min_sessions=2, max_sessions=15))
def test_large_moves_agree_with_a_loop(bars: pl.DataFrame) -> None:
    expected = []
    for (symbol,), rows in bars.group_by("symbol", maintain_order=True):
        for before, now in pairwise(rows.iter_rows(named=True)):
            ratio = now["close"] / before["close"]
            if ratio < 0.6 or 1 / ratio < 0.6:
                expected.append((symbol, now["session"], pytest.approx(ratio, rel=1e-12)))
    assert large_moves(bars).rows() == expected
