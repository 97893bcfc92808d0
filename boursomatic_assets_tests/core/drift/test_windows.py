from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, spearmanr

from boursomatic_assets.core.dataset.labels import LABEL_TYPE
from boursomatic_assets.core.drift.distances import CELLS, bin_shares
from boursomatic_assets.core.drift.prediction_windows import prediction_statistics, predictions_from_training
from boursomatic_assets.core.drift.windows import (
    BASELINE,
    FEATURE_STATISTICS,
    WINDOW,
    Scale,
    changed_partners,
    feature_statistics,
    full_sessions,
    summed_up,
    training_cells,
)
from boursomatic_assets_tests.support.strategies import weekdays

NEEDED = BASELINE + WINDOW
NAMES = ("one", "two", "three")


def drawn(sessions: int, symbols: int = 12, seed: int = 0) -> pl.DataFrame:
    """Three features of which the first two go together."""
    random = np.random.default_rng(seed)
    count = sessions * symbols
    one = random.normal(size=count)
    return pl.DataFrame(
        {
            "symbol": [f"S{number:02d}" for number in range(symbols)] * sessions,
            "session": [day for day in weekdays(sessions) for _ in range(symbols)],
            "one": one,
            "two": one + 0.3 * random.normal(size=count),
            "three": random.normal(size=count),
        }
    )


def measured(rows: pl.DataFrame, usual: float = 1.0) -> np.ndarray:
    """Statistics of each window, by a scale taken from the rows themselves."""
    scale = scale_of(rows, usual)
    return feature_statistics(summed_up(rows, NAMES, scale.cells), scale)


def scale_of(rows: pl.DataFrame, usual: float = 1.0) -> Scale:
    return Scale(NAMES, training_cells(rows, NAMES), np.full(3, 1e-6), np.full((3, 6), usual))


def statistic(values: np.ndarray, name: str, feature: str) -> float:
    return float(values[-1, FEATURE_STATISTICS.index(name), NAMES.index(feature)])


def late(rows: pl.DataFrame, expression: pl.Expr, feature: str) -> pl.DataFrame:
    """Rows with another value of a feature in the newest window."""
    since = rows["session"].unique().sort()[-WINDOW]
    return rows.with_columns(pl.when(pl.col("session") >= since).then(expression).otherwise(feature).alias(feature))


def test_full_sessions_leave_out_one_in_which_hardly_any_instrument_traded() -> None:
    rows = drawn(3).with_row_index().filter((pl.col("session") != weekdays(3)[1]) | (pl.col("index") < 14))
    # 12, 2 and 12 rows: the median is 12, a quarter of it 3
    assert full_sessions(rows)["session"].unique().sort().to_list() == [weekdays(3)[0], weekdays(3)[2]]
    # with 3 rows it stays
    assert full_sessions(pl.concat([rows, drawn(2).tail(12).head(3).with_row_index()]).unique("index")).height >= 24
    assert full_sessions(rows.clear()).is_empty()


def listed(symbol: str, first: int, sessions: int, nulls: set[int]) -> pl.DataFrame:
    """An instrument from a session on; `vol_20d` and `rsi_14` are null in some of its sessions."""
    places = range(first, first + sessions)
    return pl.DataFrame(
        {
            "symbol": [symbol] * sessions,
            "session": [weekdays(60)[place] for place in places],
            "vol_20d": [None if place in nulls else 0.02 for place in places],
            "rsi_14": [None if place == first else 50.0 for place in places],
        },
        schema_overrides={"vol_20d": pl.Float64},
    )


def test_full_sessions_leave_out_warm_up_rows_and_no_other_nulls() -> None:
    names = ("vol_20d", "rsi_14")
    old, new = listed("OLD", 0, 60, {30, 31}), listed("NEW", 35, 25, set(range(35, 55)))
    rows = full_sessions(pl.concat([old, new]), names)
    # NEW has 20 sessions without history, 35 to 54, and rows from session 55 on; OLD keeps the two that it lost.
    assert rows.filter(pl.col("symbol") == "NEW")["session"].to_list() == weekdays(60)[55:]
    assert rows.filter(pl.col("symbol") == "OLD").height == 60
    # rsi_14 is null for a price that never moves: beside vol_20d, which needs more history, it vouches for nothing
    assert rows.filter(pl.col("session") == weekdays(60)[0]).height == 1
    # A column that stays away longer than any history takes is lost, not warming up: 25 - 20 rows remain.
    lost = listed("NEW", 35, 25, set(range(35, 60)))
    assert full_sessions(pl.concat([old, lost]), names).filter(pl.col("symbol") == "NEW").height == 5
    # Order does not matter, and without named features every row stays.
    shuffled = pl.concat([new, old]).sample(fraction=1.0, shuffle=True, seed=3)
    assert full_sessions(shuffled, names).equals(rows)
    assert full_sessions(pl.concat([old, new])).height == 85


def test_full_sessions_count_the_rows_that_remain() -> None:
    # 12 new instruments without history: 12 + 1 rows would make sessions of one row look half loaded (a quarter of
    # 13 is 3.25); they are those of the one instrument that has history.
    new = [listed(f"N{number:02d}", 5, 20, set(range(60))) for number in range(12)]
    rows = full_sessions(pl.concat([listed("OLD", 0, 60, set()), *new]), ("vol_20d",))
    assert rows["session"].to_list() == weekdays(60)


def test_bin_shares_count_an_empty_bin_as_half_a_row() -> None:
    counts = np.zeros(CELLS + 1)
    counts[3] = 4
    # 4 rows in the first of ten bins and a place for nulls: 4.5 of 4 + 11 x 0.5 = 9.5 rows, 0.5 in each other
    assert bin_shares(counts) == pytest.approx([4.5 / 9.5] + [0.5 / 9.5] * 10)


def test_distances_of_shares_that_trade_places() -> None:
    # The feature is 0 for six instruments and 1 for six; in the newest window it is 1 for all twelve.
    rows = drawn(NEEDED).with_columns(one=(pl.col("symbol") >= "S06").cast(pl.Float64))
    values = measured(late(rows, pl.lit(1.0), "one"))
    # 60 rows, each of two bins 30; then 0 and 60: with half a row in each of 11 places, of 65.5
    now, before = np.array([0.5, 60.5]) / 65.5, np.array([30.5, 30.5]) / 65.5
    assert statistic(values, "psi", "one") == pytest.approx(((now - before) * np.log(now / before)).sum())
    # half of the rows have moved
    assert statistic(values, "kolmogorov_smirnov", "one") == pytest.approx(0.5)
    assert statistic(values, "jensen_shannon", "one") == pytest.approx(jensen_shannon_by_hand(now, before))


def jensen_shannon_by_hand(now: np.ndarray, before: np.ndarray) -> float:
    middle = (now + before) / 2
    return math.sqrt(0.5 * (now * np.log2(now / middle)).sum() + 0.5 * (before * np.log2(before / middle)).sum())


@given(st.integers(0, 10_000))
def test_kolmogorov_smirnov_is_that_of_scipy(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = drawn(NEEDED).with_columns(one=pl.Series(random.integers(0, 9, 12 * NEEDED).astype(float)))
    sessions = rows["session"].unique().sort()
    window = rows.filter(pl.col("session") >= sessions[-WINDOW])["one"]
    before = rows.filter(pl.col("session").is_between(sessions[-2 * WINDOW], sessions[-WINDOW - 1]))["one"]
    expected = ks_2samp(window.to_numpy(), before.to_numpy(), method="asymp").statistic
    assert statistic(measured(rows), "kolmogorov_smirnov", "one") == pytest.approx(expected)


def test_correlation_is_spearmans_within_each_session() -> None:
    rows = drawn(2)
    found = summed_up(rows, NAMES, training_cells(rows, NAMES)).correlation
    session = rows.head(12)
    one, three = session["one"].to_numpy(), session["three"].to_numpy()
    assert found[0, 0, 2] == pytest.approx(spearmanr(one, three).statistic)
    # the second three are the distances from the session's median
    assert found[0, 0, 5] == pytest.approx(spearmanr(one, np.abs(three - np.median(three))).statistic)


def test_feature_statistics_of_a_flipped_sign() -> None:
    # "three" is the square of "one", so that it leans to one side and goes with the distance of "one"
    rows = drawn(NEEDED).with_columns(three=pl.col("one") ** 2)
    flipped = measured(late(rows, -pl.col("two"), "two"))
    # "one" and "two" correlate by about 0.94; the change is nearly 2, twice that
    assert 1.7 < statistic(flipped, "rank_correlation", "two") <= 2
    flipped = measured(late(rows, -pl.col("three"), "three"))
    assert statistic(flipped, "asymmetry", "three") > 0.8
    assert statistic(flipped, "rank_correlation", "three") > 1.5
    # in units of the usual change: a fifth makes five times as much
    assert measured(rows, usual=0.2)[:, 5] == pytest.approx(5 * measured(rows)[:, 5])


def test_changed_partners_name_the_largest_change() -> None:
    rows = late(drawn(NEEDED), -pl.col("two"), "two")
    scale = scale_of(rows)
    assert changed_partners(summed_up(rows, NAMES, scale.cells), scale)[:2] == ["two", "one"]


@pytest.mark.parametrize("factor", [2.0, 100.0, 0.5])
def test_spread_changes_by_the_log_of_the_unit(factor: float) -> None:
    # Each session has the same twelve values, so that nothing but the unit changes.
    rows = drawn(NEEDED).with_columns(one=pl.col("symbol").str.slice(1).cast(pl.Float64))
    values = measured(late(rows, factor * pl.col("one"), "one"))
    assert statistic(values, "spread", "one") == pytest.approx(abs(math.log(factor)))


def test_feature_statistics_of_a_constant_and_of_a_lost_column() -> None:
    rows = drawn(NEEDED)
    constant = measured(late(rows, pl.lit(0.5), "one"))
    # the floor is a millionth; the quartiles of twelve normal values lie about 1.3 apart: ln(1.3e6) = 14
    assert statistic(constant, "spread", "one") == pytest.approx(14, abs=1)
    assert statistic(constant, "rank_correlation", "one") > 0.85
    lost = measured(late(rows, pl.lit(None, pl.Float64), "one"))
    # no value lies anywhere: the largest gap is the whole
    assert statistic(lost, "kolmogorov_smirnov", "one") == pytest.approx(1.0)
    assert statistic(lost, "psi", "one") > 5
    # a column without any value has quantiles all the same
    nothing = rows.with_columns(one=pl.lit(None, pl.Float64))
    assert np.isfinite(measured(nothing)).all()


def test_feature_statistics_depend_on_their_own_sessions_and_on_no_order() -> None:
    rows = drawn(NEEDED + 7)
    scale, cells = scale_of(rows), training_cells(rows, NAMES)
    every = feature_statistics(summed_up(rows, NAMES, cells), scale)
    assert every.shape == (8, 6, 3)
    some = rows.filter(pl.col("session").is_in(weekdays(NEEDED + 3)[3:]))
    assert feature_statistics(summed_up(some, NAMES, cells), scale)[0] == pytest.approx(every[3])
    shuffled = full_sessions(rows.sample(fraction=1.0, shuffle=True, seed=1))
    assert feature_statistics(summed_up(shuffled, NAMES, cells), scale) == pytest.approx(every)


def calls(chances: list[float], labels: list[str]) -> pl.DataFrame:
    """Two rows of each session: its chance and label."""
    return pl.DataFrame(
        {
            "session": [day for day in weekdays(len(chances)) for _ in range(2)],
            "probability_buy": np.repeat(chances, 2),
            "predicted_label": pl.Series(np.repeat(labels, 2), dtype=LABEL_TYPE),
        }
    )


def test_prediction_statistics_compare_with_the_window_before() -> None:
    rows = calls([0.25] * BASELINE + [0.5] * WINDOW, ["HOLD"] * BASELINE + ["BUY"] * WINDOW)
    dates, values = prediction_statistics(rows)
    assert dates == weekdays(NEEDED)
    # log odds of 1/4 are -ln 3, of 1/2 they are 0
    assert values[0, 1] == pytest.approx(math.log(3))
    # 10 rows of one class and half a row in each: 10.5 and 0.5 of 11.5 trade places
    now, before = np.array([10.5, 0.5, 0.5]) / 11.5, np.array([0.5, 10.5, 0.5]) / 11.5
    assert values[0, 0] == pytest.approx(jensen_shannon_by_hand(now, before))
    apart = predictions_from_training(rows, now, 0.25)
    assert apart == pytest.approx([0.0, math.log(3)], abs=1e-9)


def test_prediction_statistics_clip_certainty_to_a_millionth() -> None:
    _, values = prediction_statistics(calls([0.0] * BASELINE + [1.0] * WINDOW, ["SELL"] * NEEDED))
    assert values[0] == pytest.approx([0.0, 2 * math.log(999_999)], abs=1e-9)
