from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy.stats import rankdata, spearmanr

from boursomatic_assets.core.measures.ranking import (
    FEWEST_NAMES,
    GROUP_NAMES,
    MOST_GROUPS,
    matched_rank_ic,
    rank_ic,
    rank_ic_by_year,
    volatility_groups,
)
from boursomatic_assets_tests.support.strategies import weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence


def forecasts(*sessions: Sequence[tuple[float | None, float | None]]) -> pl.DataFrame:
    """Of each session what was forecast and what followed, per name."""
    rows = [
        (f"S{number}", day, *pair)
        for day, pairs in zip(weekdays(len(sessions)), sessions, strict=True)
        for number, pair in enumerate(pairs)
    ]
    schema = {"symbol": pl.String, "session": pl.Date, "predicted_return": pl.Float64, "forward_return": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@st.composite
def panels(draw: st.DrawFn) -> pl.DataFrame:
    """Some sessions of a few names; values are often equal, some are missing."""
    value = st.one_of(st.none(), st.integers(-3, 3).map(float))
    session = st.lists(st.tuples(value, value), min_size=0, max_size=9)
    return forecasts(*draw(st.lists(session, min_size=1, max_size=6)))


def test_rank_ic_by_hand() -> None:
    table = rank_ic(
        forecasts(
            [(1, 10), (2, 20), (3, 30)],
            [(1, 30), (2, 20), (3, 10)],
            # only order counts: 1 2 3 4 against 1 3 2 4: 1 - 6 (0 + 1 + 1 + 0) / (4 x 15) = 0.8
            [(-5, 0.1), (0, 0.3), (0.001, 0.2), (900, 70)],
            # ranks 1.5 1.5 3 against 1 2 3: deviations -1/2 -1/2 1 and -1 0 1; (1/2 + 1) / sqrt(3/2 x 2)
            [(7, 1), (7, 2), (9, 3)],
        )
    )
    assert table["session"].to_list() == weekdays(4)
    assert table["rank_ic"].to_list() == pytest.approx([1.0, -1.0, 0.8, 3**0.5 / 2], abs=1e-12)
    assert table["names"].to_list() == [3, 3, 4, 3]


def test_rank_ic_leaves_out_sessions_without_a_ranking() -> None:
    found = rank_ic(
        forecasts(
            [(1, 1), (2, 2)],  # two names
            [(1, 1), (2, 2), (None, 3), (4, None)],  # two with both values
            [(5, 1), (5, 2), (5, 3)],  # equal forecasts
            [(1, 4), (2, 4), (3, 4)],  # equal outcomes
            [],
            [(1, 1)],
            [(1, 1), (2, 2), (3, 3)],
        )
    )
    assert found["session"].to_list() == [weekdays(7)[6]]
    assert found["names"].to_list() == [FEWEST_NAMES]


def test_rank_ic_takes_other_columns() -> None:
    panel = forecasts([(1, 3), (2, 2), (3, 1)]).with_columns(momentum=-pl.col("predicted_return"))
    assert rank_ic(panel, "momentum")["rank_ic"].to_list() == pytest.approx([1.0])
    assert rank_ic(panel, "momentum", "predicted_return")["rank_ic"].to_list() == pytest.approx([-1.0])


def test_rank_ic_of_no_rows_is_empty() -> None:
    assert rank_ic(forecasts()).height == 0
    assert rank_ic_by_year(rank_ic(forecasts())).height == 0


@given(panels())
def test_rank_ic_agrees_with_scipy(panel: pl.DataFrame) -> None:
    found = {session: (coefficient, names) for session, coefficient, names in rank_ic(panel).rows()}
    for (session,), rows in panel.drop_nulls().partition_by("session", as_dict=True).items():
        score, outcome = rows["predicted_return"].to_numpy(), rows["forward_return"].to_numpy()
        defined = len(rows) >= 3 and np.ptp(score) > 0 and np.ptp(outcome) > 0
        assert (session in found) == defined
        if defined:
            assert found[session] == (pytest.approx(spearmanr(score, outcome).statistic, abs=1e-9), len(rows))


@given(panels(), st.randoms(use_true_random=False))
def test_rank_ic_does_not_depend_on_row_order_or_rising_functions(
    panel: pl.DataFrame, random: st.random.Random
) -> None:
    order = list(range(panel.height))
    random.shuffle(order)
    expected = rank_ic(panel)
    assert_frame_equal(rank_ic(panel[order]), expected, abs_tol=1e-12)
    risen = panel.with_columns(pl.col("predicted_return").exp() * 3, pl.col("forward_return") ** 3 - 7)
    assert_frame_equal(rank_ic(risen), expected, abs_tol=1e-12)
    turned = rank_ic(panel.with_columns(-pl.col("predicted_return")))
    assert_frame_equal(turned.with_columns(-pl.col("rank_ic")), expected, abs_tol=1e-12)


@given(panels(), panels())
def test_rank_ic_is_bounded_and_of_its_own_session(panel: pl.DataFrame, other: pl.DataFrame) -> None:
    expected = rank_ic(panel)
    assert expected["rank_ic"].is_between(-1 - 1e-12, 1 + 1e-12).all()
    elsewhere = other.with_columns(pl.col("session").dt.offset_by("1y"))
    beside = rank_ic(pl.concat([elsewhere, panel]))
    assert_frame_equal(beside.filter(pl.col("session") < date(2019, 1, 1)), expected, abs_tol=1e-12)


def test_rank_ic_by_year_is_the_mean_of_each_year() -> None:
    days = [date(2018, 1, 1), date(2018, 12, 31), date(2019, 1, 1)]
    table = rank_ic_by_year(pl.DataFrame({"session": days[::-1], "rank_ic": [0.5, 0.3, -0.1], "names": [9, 9, 9]}))
    # 2018: (0.3 - 0.1) / 2 = 0.1; 2019: 0.5
    assert table.rows() == [(2018, pytest.approx(0.1), 2), (2019, 0.5, 1)]


def held(hold: Sequence[float], score: Sequence[float], outcome: Sequence[float]) -> pl.DataFrame:
    """One session: the probability of HOLD, what was forecast and what followed, per name."""
    panel = forecasts(list(zip(score, outcome, strict=True)))
    return panel.with_columns(
        symbol=pl.format("S{}", pl.int_range(pl.len()).cast(pl.String).str.zfill(3)),
        probability_hold=pl.Series(hold, dtype=pl.Float64),
    )


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (15, []),  # fewer than two groups of eight
        (16, [8, 8]),
        (17, [9, 8]),  # the nth of 17 is in group n x 2 // 17, from 0: the first nine in 0
        (24, [8, 8, 8]),
        (95, [10, 9, 10, 9, 10, 9, 10, 9, 10, 9]),  # n x 10 // 95: a group begins at each 9.5, rounded up
    ],
)
def test_volatility_groups_have_similar_sizes(names: int, sizes: list[int]) -> None:
    grouped = volatility_groups(held(np.linspace(0.2, 0.6, names), [0.0] * names, [0.0] * names))
    # In order of p(HOLD): the least probable, which is the most volatile, is in group 0.
    assert grouped["group"].to_list() == [group for group, size in enumerate(sizes) for _ in range(size)]
    assert (GROUP_NAMES, MOST_GROUPS) == (8, 10)


def test_volatility_groups_order_equally_probable_names_by_symbol() -> None:
    grouped = volatility_groups(held([0.5] * 16, [0.0] * 16, [0.0] * 16))
    assert grouped.filter(pl.col("group") == 0)["symbol"].to_list() == [f"S{number:03d}" for number in range(8)]


def test_matched_rank_ic_ignores_differences_between_groups() -> None:
    # Eight volatile names fell, eight calm ones rose, and the forecasts knew it. Within the first group ranks 1 to
    # 8 stand against 8 to 1, within the second against 1 to 8: -42 + 42 over 84.
    hold = [0.2] * 8 + [0.6] * 8
    score = [*range(8), *range(100, 108)]
    outcome = [*range(7, -1, -1), *range(100, 108)]
    assert matched_rank_ic(held(hold, score, outcome)).rows() == [(weekdays(1)[0], pytest.approx(0, abs=1e-12), 16)]
    # Plain ranks: those of the first eight differ by 7, 5, 3, 1, 1, 3, 5, 7: 1 - 6 x 168 / (16 x 255) = 0.753
    assert rank_ic(held(hold, score, outcome))["rank_ic"].to_list() == pytest.approx([1 - 1008 / 4080])


def test_matched_rank_ic_of_the_right_order_in_each_group_is_one() -> None:
    # The groups themselves are upside down.
    panel = held([0.2] * 8 + [0.6] * 8, [*range(100, 108), *range(8)], [*range(8), *range(100, 108)])
    assert matched_rank_ic(panel)["rank_ic"].to_list() == pytest.approx([1.0])
    turned = panel.with_columns(-pl.col("forward_return"))
    assert matched_rank_ic(turned)["rank_ic"].to_list() == pytest.approx([-1.0])


def test_matched_rank_ic_needs_two_groups_and_a_difference() -> None:
    assert matched_rank_ic(held([0.5] * 15, range(15), range(15))).height == 0
    assert matched_rank_ic(held([0.5] * 16, [1.0] * 16, range(16))).height == 0
    # One of 16 has no outcome: 15 are left.
    missing = held([0.5] * 16, range(16), range(16)).with_columns(
        forward_return=pl.when(pl.col("symbol") != "S003").then("forward_return")
    )
    assert matched_rank_ic(missing).height == 0


@given(st.integers(16, 60), st.integers(0, 2**32 - 1))
def test_matched_rank_ic_is_the_correlation_of_centred_ranks(names: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    hold = random.permutation(names) / 100
    score, outcome = random.integers(0, 9, (2, names)).astype(float)
    groups = min(names // 8, 10)
    group = rankdata(hold).astype(int) - 1
    group = group * groups // names
    centred = np.zeros((2, names))
    for number in range(groups):
        inside = group == number
        for side, values in enumerate((score, outcome)):
            ranks = rankdata(values[inside])
            centred[side, inside] = ranks - ranks.mean()
    found = matched_rank_ic(held(hold, score, outcome))
    assert found["rank_ic"].to_list() == pytest.approx([np.corrcoef(centred)[0, 1]], abs=1e-9)
    assert found["names"].to_list() == [names]
