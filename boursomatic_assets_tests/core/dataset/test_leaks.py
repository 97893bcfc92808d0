from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, FEATURE_NAMES, compute_features
from boursomatic_assets.core.dataset.label_audit import contradicted_labels, outlived_labels, slow_outcomes
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.dataset.leaks import (
    KNOWS,
    different_rows,
    foreign_rows,
    knowledge_of_the_label,
    rows_that_read_the_future,
    rows_that_touch_others,
    sampled_symbols,
)
from boursomatic_assets.core.dataset.splits import split_panel
from boursomatic_assets.core.market.adjusted_close import scale_to_adjusted
from boursomatic_assets.core.market.bars import check_bars
from boursomatic_assets_tests.support.oracles import shared_file
from boursomatic_assets_tests.support.strategies import bar_panels, flat_bars, random_walk_bars, weekdays

if TYPE_CHECKING:
    from collections.abc import Callable

DAYS = weekdays(40)


def spans(*rows: tuple[str, int, int]) -> pl.DataFrame:
    """Symbols with their number of rows and the number of their last day."""
    return pl.DataFrame(
        [(symbol, count, DAYS[last]) for symbol, count, last in rows],
        schema={"symbol": pl.String, "rows": pl.Int64, "last": pl.Date},
        orient="row",
    )


def test_sampled_symbols_by_hand() -> None:
    every = spans(*((f"S{number:02d}", 100 + number, 30) for number in range(20)))
    some = every.with_columns(
        rows=pl.when(pl.col("symbol") == "S07").then(5).otherwise("rows"),
        last=pl.when(pl.col("symbol") == "S13").then(DAYS[2]).otherwise("last"),
    )
    # One quarter of four each: S07 is the shortest, S13 ended first; the other two are the first and the last.
    assert sampled_symbols(some, 4) == ["S00", "S07", "S13", "S19"]


@given(st.integers(0, 30), st.integers(4, 24))
def test_sampled_symbols_are_at_most_the_count(there: int, wanted: int) -> None:
    found = sampled_symbols(spans(*((f"S{n:02d}", n % 7, n % 11) for n in range(there))), wanted)
    # One symbol may be short and early at once: then there are fewer.
    assert min(there, wanted) - wanted // 4 <= len(found) <= wanted
    assert found == sorted(set(found))


def pair(values: list[float | None], days: list[int] | None = None) -> pl.DataFrame:
    place = range(len(values)) if days is None else days
    rows = [("AAA", DAYS[day], value) for day, value in zip(place, values, strict=True)]
    return pl.DataFrame(rows, schema={"symbol": pl.String, "session": pl.Date, "x": pl.Float64}, orient="row")


@pytest.mark.parametrize(
    ("one", "other", "days"),
    [
        (pair([1.0, None, 0.0]), pair([1.0, None, 0.0]), []),
        (pair([1.0, None]), pair([None, 1.0]), [0, 1]),
        # One part in 1e10 is rounding, one in 1e8 is not.
        (pair([1e6, 1e6]), pair([1e6 + 1e-4, 1e6 + 1e-2]), [1]),
        (pair([0.0]), pair([1e-30]), [0]),
        (pair([float("nan"), float("nan"), float("inf")]), pair([float("nan"), 1.0, 1.0]), [1, 2]),
        (pair([float("inf"), float("inf")]), pair([float("inf"), float("-inf")]), [1]),
        (pair([1.0, 2.0], [0, 1]), pair([2.0, 3.0], [1, 2]), [0, 2]),
    ],
)
def test_different_rows_by_hand(one: pl.DataFrame, other: pl.DataFrame, days: list[int]) -> None:
    expected = [DAYS[day] for day in days]
    assert different_rows(one, other, ["x"])["session"].to_list() == expected
    assert different_rows(other, one, ["x"])["session"].to_list() == expected


def over_symbol(expression: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda bars: bars.select("symbol", "session", x=expression.over("symbol"))


CLOSE = pl.col("close")


@settings(max_examples=25, deadline=None)
@given(bar_panels())
def test_features_read_neither_the_future_nor_other_symbols(bars: pl.DataFrame) -> None:
    assert rows_that_read_the_future(bars, compute_features, FEATURE_NAMES).is_empty()
    assert rows_that_touch_others(bars, compute_features, FEATURE_NAMES).is_empty()


@pytest.mark.parametrize(
    "leak",
    [
        CLOSE.shift(-1),
        # Reads the next bar only where there is one: absent bars show it at one row, other bars at all.
        CLOSE.shift(-1).fill_null(CLOSE),
        CLOSE - CLOSE.mean(),
        CLOSE.shift(20).backward_fill(),
        CLOSE.rank(),
        CLOSE.shift(-25),
        CLOSE.max() > CLOSE * 3,
        pl.len(),
    ],
)
def test_rows_that_read_the_future_finds_a_leak(leak: pl.Expr) -> None:
    bars = random_walk_bars(3, 90, seed=4)
    found = rows_that_read_the_future(bars, over_symbol(leak.cast(pl.Float64)), ["x"])
    assert not found.is_empty()
    assert set(found["future"]) <= {"absent", "another"}


def test_rows_that_read_the_future_finds_a_backward_fill_inside_the_lookback() -> None:
    bars = random_walk_bars(1, 90, seed=4)
    found = rows_that_read_the_future(bars, over_symbol(CLOSE.shift(20).backward_fill()), ["x"])
    # The widest gap is the first weekend, which lies there too.
    assert set(found["cut"]) == {"inside the lookback", "in the widest gap"}
    # The first 20 rows take the value of the 21st. The cut after the 11th takes it from these eleven.
    inside = found.filter(future="absent", cut="inside the lookback")
    assert inside["session"].to_list() == bars["session"].head(11).to_list()


def test_rows_that_read_the_future_finds_a_gap_filled_backward() -> None:
    path: list[float | None] = [100.0 + day for day in range(40)]
    bars = flat_bars({"AAA": [*path[:30], None, None, *path[32:]]})

    def filled(known: pl.DataFrame) -> pl.DataFrame:
        every = pl.DataFrame({"symbol": "AAA", "session": DAYS})
        inside = every.filter(pl.col("session").is_between(known["session"].min(), known["session"].max()))
        joined = inside.join(known, on=["symbol", "session"], how="left", maintain_order="left")
        return joined.select("symbol", "session", x=CLOSE.backward_fill())

    found = rows_that_read_the_future(bars, filled, ["x"])
    assert set(found["session"]) == {DAYS[30], DAYS[31]}
    assert found["cut"].unique().to_list() == ["in the widest gap"]


def test_rows_that_read_the_future_of_one_bar_are_none() -> None:
    assert rows_that_read_the_future(flat_bars({"AAA": [1.0]}), over_symbol(CLOSE.shift(-1)), ["x"]).is_empty()
    assert rows_that_read_the_future(flat_bars({}), over_symbol(CLOSE), ["x"]).is_empty()


def test_rows_that_touch_others_finds_a_shift_across_symbols() -> None:
    bars = random_walk_bars(3, 30, seed=1)
    touched = rows_that_touch_others(bars, lambda known: known.with_columns(x=CLOSE.shift(1)), ["x"])
    assert touched.rows() == [("W001", DAYS[0]), ("W002", DAYS[0])]


def test_slow_outcomes_by_hand_count_bars_without_a_calendar() -> None:
    closes = flat_bars({"AAA": [10.0, 20.0, None, 5.0], "BBB": [1.0]}).select("symbol", "session", "close")
    # Two bars ahead of the first is the fourth day: 5 / 10 - 1. Nothing is two bars ahead of the others.
    assert slow_outcomes(closes, 2).rows() == [
        ("AAA", DAYS[0], -0.5, DAYS[3]),
        ("AAA", DAYS[1], None, None),
        ("AAA", DAYS[3], None, None),
        ("BBB", DAYS[0], None, None),
    ]


def test_slow_outcomes_by_hand_count_sessions_of_the_exchange() -> None:
    # 2018-01-01 was no session in New York; the 4th, Thursday, has no bar; the 15th was a holiday.
    days = [date(2018, 1, day) for day in (2, 3, 5, 8, 12, 16)]
    closes = pl.DataFrame(
        {"symbol": "AAA", "session": days, "close": [10.0, 11.0, 12.0, 15.0, 18.0, 9.0], "exchange": "XNYS"}
    )
    assert slow_outcomes(closes, 1).rows() == [
        ("AAA", days[0], pytest.approx(0.1), days[1]),
        # One session after the 3rd is the 4th, without a bar: the last close before it is the 3rd's own.
        ("AAA", days[1], None, None),
        ("AAA", days[2], 0.25, days[3]),
        ("AAA", days[3], None, None),
        ("AAA", days[4], -0.5, days[5]),
        ("AAA", days[5], None, None),
    ]
    # Two sessions after the 8th, the 10th, has no bar; after the 5th is the 9th: the close of the 8th counts.
    assert slow_outcomes(closes, 2).rows()[2] == ("AAA", days[2], 0.25, date(2018, 1, 9))


def test_slow_outcomes_count_bars_before_1960() -> None:
    days = [date(1959, 12, 30), date(1959, 12, 31), date(1960, 1, 4)]
    closes = pl.DataFrame({"symbol": "AAA", "session": days, "close": [1.0, 2.0, 3.0], "exchange": "XNYS"})
    assert slow_outcomes(closes, 1).rows() == [
        ("AAA", days[0], 1.0, days[1]),
        ("AAA", days[1], 0.5, days[2]),
        ("AAA", days[2], None, None),
    ]
    assert slow_outcomes(closes.head(2), 1).rows()[0] == ("AAA", days[0], 1.0, days[1])


@settings(max_examples=25, deadline=None)
@given(bar_panels(min_sessions=35), st.integers(1, 12), st.sampled_from([None, "XNYS", "XPAR", "NOWHERE"]))
def test_label_panel_agrees_with_slow_outcomes(bars: pl.DataFrame, horizon: int, exchange: str | None) -> None:
    closes = bars if exchange is None else bars.with_columns(exchange=pl.lit(exchange))
    labels = label_panel(compute_features(bars), closes, Experiment(horizon=horizon))
    expected = slow_outcomes(closes, horizon)
    assert different_rows(labels, expected, ["forward_return"]).is_empty()
    assert labels["label_end"].to_list() == expected["label_end"].to_list()
    assert contradicted_labels(labels, Experiment(horizon=horizon)).is_empty()


def test_contradicted_labels_by_hand() -> None:
    experiment = Experiment(buy_threshold=0.05, sell_threshold=-0.02)
    gains = [0.05, 0.0499, -0.02, -0.0199, None, 0.1, None, 0.0, 0.0]
    named = ["BUY", "HOLD", "SELL", "HOLD", None, "HOLD", "HOLD", None, "SELL"]
    panel = pl.DataFrame({"forward_return": gains, "label": named}).with_row_index()
    assert contradicted_labels(panel, experiment)["index"].to_list() == [5, 6, 7, 8]


def test_outlived_labels_end_after_the_last_bar() -> None:
    labels = pl.DataFrame(
        {
            "symbol": ["AAA", "AAA", "AAA", "BBB"],
            "session": [DAYS[0], DAYS[1], DAYS[2], DAYS[0]],
            "label_end": [DAYS[5], DAYS[6], None, DAYS[5]],
        }
    )
    # Of BBB there is no bar at all.
    found = outlived_labels(labels, spans(("AAA", 6, 5)))
    assert found.select("symbol", "session").rows() == [("AAA", DAYS[1]), ("BBB", DAYS[0])]


def test_foreign_rows_differ_in_any_bit() -> None:
    labels = pair([1.0, 2.0, None])
    assert foreign_rows([labels.head(1), labels.tail(2), labels.clear()], labels) == 0
    moved = labels.with_columns(x=pl.col("x") + 1e-15)
    assert foreign_rows([labels, moved], labels) == 2
    assert foreign_rows([labels.with_columns(pl.col("session") + timedelta(days=1))], labels) == 3


HORIZON = 8
NAMES = ["symbol", "session", "close", "ret_1d", "forward_return", "label_end"]


def labelled(symbols: int, sessions: int, seed: int) -> pl.DataFrame:
    bars = random_walk_bars(symbols, sessions, seed)
    experiment = Experiment(horizon=HORIZON)
    return split_panel(label_panel(compute_features(bars), bars, experiment), experiment).train


def known_by(panel: pl.DataFrame, name: str) -> dict[str, bool]:
    found = knowledge_of_the_label(panel, [name], HORIZON)
    return dict(found.select("among", "knows").iter_rows())


@pytest.mark.parametrize("seed", range(12))
def test_knowledge_of_the_label_by_features_of_random_walks(seed: int) -> None:
    found = knowledge_of_the_label(labelled(6, 160, seed), DEFAULT_INPUTS, HORIZON)
    assert found["feature"].to_list() == [name for name in DEFAULT_INPUTS for _ in range(2)]
    assert not found["knows"].any()
    # The largest of sixteen normal deviates exceeds four in one of a thousand panels.
    assert (found["correlation"].abs() / found["error"]).max() < 4  # type: ignore[operator]


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_knowledge_of_the_label_by_features_of_the_sample_is_small(
    adjusted_sample: pl.DataFrame, sample_features: pl.DataFrame, horizon: int
) -> None:
    experiment = Experiment(horizon=horizon)
    train = split_panel(label_panel(sample_features, adjusted_sample, experiment), experiment).train
    found = knowledge_of_the_label(train, DEFAULT_INPUTS, horizon)
    # The limit is four tenths: real prices do not come near half of it.
    assert found["correlation"].abs().max() < KNOWS / 2
    assert not found["knows"].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["us_sp500_2013_2018", "europe_1989_2017"])
def test_knowledge_of_the_label_by_features_of_large_panels_is_small(name: str) -> None:
    source = pl.read_parquet(shared_file(f"data/{name}.parquet")).rename({"date": "session"})
    bars = check_bars(
        scale_to_adjusted(source) if "adj_close" in source.columns else source, date(2019, 1, 1)
    ).accepted
    experiment = Experiment()
    train = split_panel(label_panel(compute_features(bars), bars, experiment), experiment).train
    found = knowledge_of_the_label(train, DEFAULT_INPUTS, experiment.horizon)
    assert found["correlation"].abs().max() < KNOWS / 2
    known = train.with_columns(ret_1d="forward_return")
    assert knowledge_of_the_label(known, ["ret_1d"], experiment.horizon)["correlation"].min() > 0.6


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.25])
def test_knowledge_of_the_label_finds_the_forward_return_with_noise(noise: float) -> None:
    train = labelled(8, 900, seed=3)
    gain = pl.col("forward_return")
    added = pl.Series(np.random.default_rng(1).normal(0, noise, train.height))
    # The noise is a share of each symbol's own volatility.
    noised = train.with_columns(ret_1d=gain + added * gain.std().over("symbol"))
    assert known_by(noised, "ret_1d")["instruments"]
    assert known_by(noised.with_columns(-pl.col("ret_1d")), "ret_1d")["instruments"]


@pytest.mark.parametrize(
    ("symbols", "seed", "feature", "instruments", "sessions"),
    [
        # the future of the index is the same for all instruments of a session
        (8, 3, pl.col("forward_return").mean().over("session"), False, True),
        # one instrument has no others to be ranked with
        (1, 3, pl.col("ret_1d"), False, False),
        (1, 3, pl.col("forward_return"), False, True),
        # A persistent drift of each instrument ranks returns well in every session, and knows nothing of the
        # future.
        (8, 5, pl.col("forward_return").mean().over("symbol"), False, False),
    ],
    ids=["index", "honest single", "leaking single", "drift"],
)
def test_knowledge_of_the_label_within_and_between_sessions(
    symbols: int, seed: int, feature: pl.Expr, *, instruments: bool, sessions: bool
) -> None:
    train = labelled(symbols, 900, seed=seed).with_columns(ret_1d=feature)
    assert known_by(train, "ret_1d") == {"instruments": instruments, "sessions": sessions}


def test_knowledge_of_the_label_error_by_hand() -> None:
    # Three symbols at three sessions, a horizon of one: neighbours are compared at every session. The feature
    # changes by 1, 2, 3 at both of the first two sessions; the label gains in the same order at the first and in
    # the opposite one at the second.
    closes = {1: (1.0, 1.0, 1.1, 1.43), 2: (1.0, 1.0, 1.2, 1.44), 3: (1.0, 1.0, 1.3, 1.43)}
    rows = [
        (f"S{slope}", DAYS[day], path[day], slope * float(day), path[day + 1] / path[day] - 1, DAYS[day + 1])
        for slope, path in closes.items()
        for day in range(3)
    ]
    found = knowledge_of_the_label(pl.DataFrame(rows, schema=NAMES, orient="row"), ["ret_1d"], 1)
    within, between = found.rows(named=True)
    # Rank correlations of 1 and of -1, two degrees of freedom each: mean 0; by chance 1 / sqrt(4) = 0.5; observed
    # sqrt(2 ** 2 + 2 ** 2) / 4 = 0.71, the larger, five times which is 3.5.
    assert within["correlation"] == pytest.approx(0.0, abs=1e-12)
    assert within["error"] == pytest.approx(8**0.5 / 4)
    assert within["limit"] == pytest.approx(5 * 8**0.5 / 4)
    # The means of the feature's change are equal at both sessions: no correlation is defined.
    assert (between["correlation"], between["error"], between["knows"]) == (0.0, 1.0, False)


def test_knowledge_of_the_label_ignores_neighbours_beyond_the_horizon() -> None:
    # The second bar comes after the first one's label has ended.
    rows = [("AAA", DAYS[0], 1.0, 0.0, 0.1, DAYS[1]), ("AAA", DAYS[5], 1.0, 1.0, 0.2, DAYS[6])]
    found = knowledge_of_the_label(pl.DataFrame(rows, schema=NAMES, orient="row"), ["ret_1d"], 1)
    assert found["error"].to_list() == [1.0, 1.0]
    assert not found["knows"].any()
