from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.dataset import features as features_core
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import (
    FEATURE_NAMES,
    FEATURES,
    INPUT_NAMES,
    LOOKBACK_SESSIONS,
    DerivedInput,
    Feature,
    compute_features,
    derived_among,
    is_warmed_up,
    require_history,
    table_columns,
    with_derived_inputs,
)
from boursomatic_assets.core.dataset.labels import label_mix, label_panel
from boursomatic_assets.core.market.bars import BAR_SCHEMA, PANEL_KEY, check_bars
from boursomatic_assets.errors import NotEnoughHistoryError, PanelContractError
from boursomatic_assets_tests.support.oracles import shared_file, slow_features, two_pass_deviation
from boursomatic_assets_tests.support.strategies import (
    SYMBOLS,
    bar_panels,
    flat_bars,
    random_walk_bars,
    weekdays,
    with_other_future,
)

if TYPE_CHECKING:
    import pandas as pd

# The weight of each older observation in an exponential mean of centre of mass 13: 13 / (1 + 13).
DECAY = 13 / 14
EPSILON = np.finfo(np.float64).eps


def feature_of(name: str, bars: pl.DataFrame) -> list[float | None]:
    return compute_features(bars)[name].to_list()


def bars_with(closes: list[float], **columns: list[float]) -> pl.DataFrame:
    """One instrument's flat bars with some columns replaced."""
    return flat_bars({"AAA": closes}).with_columns(**{name: pl.Series(values) for name, values in columns.items()})


def test_compute_features_has_a_row_per_bar_in_order() -> None:
    assert FEATURE_NAMES == (
        "ret_1d", "ret_5d", "ret_20d", "rsi_14", "momentum_5d", "vol_20d", "atr_14", "volume_zscore",
    )  # fmt: skip
    bars = random_walk_bars(symbols=3, sessions=30, seed=0)
    features = compute_features(bars)
    assert features.columns == [*PANEL_KEY, *FEATURE_NAMES]
    assert features.select(PANEL_KEY).equals(bars.select(PANEL_KEY))
    assert set(features.select(FEATURE_NAMES).dtypes) == {pl.Float64()}
    assert features["momentum_5d"].equals(features["ret_5d"])


def test_returns_by_hand() -> None:
    # index:  0..14    15     16..19   20     21     22
    closes = [100.0] * 15 + [80.0] + [100.0] * 4 + [110.0, 99.0, 120.0]
    bars = flat_bars({"AAA": closes})
    # 110 / 100 - 1 = 0.10; 99 / 110 - 1 = -0.10; 120 / 99 - 1 = 7 / 33
    assert feature_of("ret_1d", bars)[20:] == pytest.approx([0.10, -0.10, 7 / 33], rel=1e-12)
    # five before: 110 / 80 - 1 = 0.375; 99 / 100 - 1 = -0.01; 120 / 100 - 1 = 0.20
    assert feature_of("ret_5d", bars)[20:] == pytest.approx([0.375, -0.01, 0.20], rel=1e-12)
    # twenty before, at indices 0, 1, 2: all 100
    assert feature_of("ret_20d", bars)[20:] == pytest.approx([0.10, -0.01, 0.20], rel=1e-12)


def test_returns_skip_sessions_without_a_bar() -> None:
    # the bar before the gap is one session back for this instrument: 110 / 100 - 1
    bars = flat_bars({"AAA": [*[100.0] * 20, None, None, 110.0]})
    assert feature_of("ret_1d", bars)[-1] == pytest.approx(0.10, rel=1e-12)
    assert feature_of("ret_20d", bars)[-1] == pytest.approx(0.10, rel=1e-12)


def test_rsi_needs_fourteen_sessions_and_is_100_after_gains_and_0_after_losses() -> None:
    # observation 14, at index 13, is the first with a gain: L = 0 < G
    rsi = feature_of("rsi_14", flat_bars({"AAA": [100.0] * 13 + [101.0] * 8}))
    assert rsi == [None] * 13 + [100.0] * 8
    assert feature_of("rsi_14", flat_bars({"AAA": [100.0] * 20 + [99.0]}))[20] == 0.0
    # a price that never moved: null and not 50
    assert feature_of("rsi_14", flat_bars({"AAA": [100.0] * 25})) == [None] * 25


def test_rsi_weighs_gains_against_losses_by_their_age() -> None:
    # At index 20 a gain of 2, at index 21 a loss of 1. There G is 2 x 13/14 and L is 1, over the same sum of
    # weights: G / L = 26/14 and RSI = 100 - 100 / (1 + 26/14) = 100 x 26/40 = 65.
    # One session on, without a move, both are one session older: still 65.
    rsi = feature_of("rsi_14", flat_bars({"AAA": [100.0] * 20 + [102.0, 101.0, 101.0]}))
    assert rsi[20:] == [100.0, pytest.approx(65.0, rel=1e-12), pytest.approx(65.0, rel=1e-12)]


def test_volatility_is_the_sample_deviation_of_twenty_returns() -> None:
    # Returns +10 % and -10 % in turn, ten of each: mean 0, sum of squares 20 x 0.01, over 19.
    closes = [100.0]
    for i in range(20):
        closes.append(closes[-1] * (1.1 if i % 2 == 0 else 0.9))
    volatility = feature_of("vol_20d", flat_bars({"AAA": closes}))
    assert volatility[:20] == [None] * 20
    assert volatility[20] == pytest.approx(math.sqrt(0.20 / 19), rel=1e-12)
    assert feature_of("vol_20d", flat_bars({"AAA": [3.7] * 22}))[20:] == [0.0, 0.0]


def test_average_true_range_of_equal_bars_is_their_height() -> None:
    count = 21
    bars = bars_with([100.0] * count, high=[101.0] * count, low=[99.0] * count)
    atr = feature_of("atr_14", bars)
    assert atr[:13] == [None] * 13
    assert atr[13:] == pytest.approx([2.0] * 8, rel=1e-12)


@pytest.mark.parametrize(
    ("high", "low", "close", "true_range"),
    [
        (111.0, 109.0, 110.0, 11.0),  # a gap up: 111 - 100, more than 111 - 109
        (91.0, 89.0, 90.0, 11.0),  # a gap down: 100 - 89, more than 91 - 89
        (107.0, 96.0, 100.0, 11.0),  # a wide bar: 107 - 96, more than 107 - 100 and 100 - 96
    ],
    ids=["gap up", "gap down", "wide bar"],
)
def test_average_true_range_of_a_gap_or_wide_bar(high: float, low: float, close: float, true_range: float) -> None:
    # 20 bars of range 2 and then one of 11. The weights are d^0 + ... + d^20 = (1 - d^21) / (1 - d) with
    # d = 13/14, that is 14 (1 - d^21); the newest, of weight 1, exceeds the others by 9.
    bars = bars_with([100.0] * 20 + [close], high=[101.0] * 20 + [high], low=[99.0] * 20 + [low])
    expected = 2 + (true_range - 2) / (14 * (1 - DECAY**21))
    assert feature_of("atr_14", bars)[20] == pytest.approx(expected, rel=1e-12)


def test_average_true_range_of_the_first_bar_is_its_height() -> None:
    # Bar 0 is 16 high, 13 more bars are 2: at index 13 the oldest weight is d^13, out of 14 (1 - d^14).
    bars = bars_with([100.0] * 21, high=[108.0] + [101.0] * 20, low=[92.0] + [99.0] * 20)
    assert feature_of("atr_14", bars)[13] == pytest.approx(2 + 14 * DECAY**13 / (14 * (1 - DECAY**14)), rel=1e-12)


def test_volume_zscore_counts_the_current_bar_in_mean_and_deviation() -> None:
    # 19 bars of 100 and one of 200: mean 105; squares 19 x 25 + 95^2 = 9500, over 19 = 500; (200 - 105) / sqrt(500)
    bars = bars_with([100.0] * 21, volume=[100.0] * 20 + [200.0])
    zscore = feature_of("volume_zscore", bars)
    assert zscore[:19] == [None] * 19
    assert zscore[20] == pytest.approx(95 / math.sqrt(500), rel=1e-12)


@pytest.mark.parametrize("volume", [0.0, 7.3, 1e9])
def test_volume_zscore_of_a_constant_volume_is_null_and_never_infinite(volume: float) -> None:
    assert feature_of("volume_zscore", flat_bars({"AAA": [100.0] * 25}, volume=volume)) == [None] * 25


@pytest.mark.parametrize("spike", [1e3, 1e6, 1e9, 1e12, 1e15])
def test_volume_zscore_forgets_a_spike(spike: float) -> None:
    volume = np.random.default_rng(1).integers(100, 1000, 80).astype(float)
    volume[30] = spike
    zscore = compute_features(bars_with([100.0] * 80, volume=volume.tolist()))["volume_zscore"].to_numpy()
    windows = [volume[i - 19 : i + 1] for i in range(50, 80)]
    expected = [(window[-1] - window.sum() / 20) / two_pass_deviation(window) for window in windows]
    np.testing.assert_allclose(zscore[50:], expected, rtol=1e-9)


@pytest.mark.parametrize("spike", [1e3, 1e6, 1e9, 1e12])
def test_volatility_forgets_a_spike(spike: float) -> None:
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.01, 80)))
    closes[30] *= spike
    volatility = compute_features(flat_bars({"AAA": closes.tolist()}))["vol_20d"].to_numpy()
    returns = closes[1:] / closes[:-1] - 1
    # the return into bar 31 is the last that the spike touches; the window of bar 51 begins after it
    expected = [two_pass_deviation(returns[i - 20 : i]) for i in range(51, 80)]
    np.testing.assert_allclose(volatility[51:], expected, rtol=1e-9)


@pytest.mark.parametrize("spike", [1e3, 1e9, 1e15])
def test_a_constant_after_a_spike_has_no_deviation(spike: float) -> None:
    spiked = [7.3] * 60
    spiked[25] = spike
    zscore = feature_of("volume_zscore", bars_with([100.0] * 60, volume=spiked))
    # bar 44 is the last whose 20 volumes hold bar 25
    assert zscore[44] is not None
    assert zscore[45:] == [None] * 15
    # bar 46 is the first whose 20 returns begin after the one back from the spike, into bar 26
    assert feature_of("vol_20d", flat_bars({"AAA": spiked}))[46:] == [0.0] * 14


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_each_feature_begins_exactly_after_its_lookback(feature: Feature) -> None:
    features = compute_features(random_walk_bars(symbols=1, sessions=30, seed=5))
    values = features[feature.name]
    assert values.null_count() == feature.lookback
    assert values[feature.lookback] is not None
    assert features.filter(is_warmed_up([feature.name])).height == 30 - feature.lookback
    assert feature.doc.endswith(".")
    assert LOOKBACK_SESSIONS == 20


def test_feature_sources_are_the_columns_that_it_reads() -> None:
    assert {feature.name: feature.sources for feature in FEATURES} == {
        **{name: ["close"] for name in ("ret_1d", "ret_5d", "ret_20d", "rsi_14", "momentum_5d", "vol_20d")},
        "atr_14": ["close", "high", "low"],
        "volume_zscore": ["volume"],
    }
    gap = Feature("gap", pl.col("open") / pl.col("close").shift(1) - 1, 1, "Overnight return, a fraction.")
    assert gap.sources == ["close", "open"]
    assert gap.may_be_null is False


def test_compute_features_needs_a_panel() -> None:
    bars = random_walk_bars(symbols=1, sessions=30, seed=0)
    with pytest.raises(PanelContractError, match="sorted"):
        compute_features(bars.reverse())
    with pytest.raises(PanelContractError, match=r"missing \['volume'\]"):
        compute_features(bars.drop("volume"))


def spans_of(bars: pl.DataFrame) -> pl.DataFrame:
    """How many bars of each symbol there are, and from when to when."""
    session = pl.col("session")
    return bars.group_by("symbol").agg(rows=pl.len(), first=session.min(), last=session.max())


def test_require_history_accepts_twenty_one_sessions_of_one_symbol() -> None:
    bars = pl.concat([random_walk_bars(symbols=1, sessions=21, seed=0), flat_bars({"ZZZ": [1.0]})])
    require_history(spans_of(bars))
    features = compute_features(bars)
    assert features.height == 22
    assert features.filter(is_warmed_up()).select("symbol", "session").rows() == [("W000", weekdays(21)[20])]


def test_compute_features_of_little_history_is_mostly_null() -> None:
    # one of many symbols may be new: it has a row a bar all the same, and no value that needs more
    features = compute_features(flat_bars({"AAA": [100.0, 110.0]}))
    assert features["ret_1d"].to_list() == [None, pytest.approx(0.1, rel=1e-12)]
    assert features["ret_5d"].to_list() == [None, None]
    assert compute_features(pl.DataFrame(schema=BAR_SCHEMA)).columns == [*PANEL_KEY, *FEATURE_NAMES]


def test_require_history_refuses_twenty_sessions() -> None:
    # weekday 20 after Monday 2018-01-01 is Friday 2018-01-26
    bars = flat_bars({"AAA": [100.0] * 19, "FB": [100.0] * 20})
    with pytest.raises(NotEnoughHistoryError) as caught:
        require_history(spans_of(bars))
    assert "at least 21 sessions of one symbol" in str(caught.value)
    assert "the longest, 'FB', has 20 (2018-01-01..2018-01-26)" in str(caught.value)
    assert "boursomatic materialize" in str(caught.value)
    with pytest.raises(NotEnoughHistoryError, match="there are no bars"):
        require_history(spans_of(pl.DataFrame(schema=BAR_SCHEMA)))
    # of equally short histories the first is named
    bars = flat_bars({"BBB": [1.0] * 3, "AAA": [1.0] * 3})
    with pytest.raises(NotEnoughHistoryError, match=r"the longest, 'AAA', has 3 \(2018-01-01\.\.2018-01-03\)"):
        require_history(spans_of(bars))


def test_is_warmed_up_needs_the_longest_lookback() -> None:
    bars = random_walk_bars(symbols=2, sessions=25, seed=0)
    features = compute_features(bars)
    # all eight need 20 sessions before: 5 of 25 rows are left; ret_5d alone leaves 20
    assert features.filter(is_warmed_up()).height == 2 * 5
    assert features.filter(is_warmed_up(["ret_5d", "ret_1d"])).height == 2 * 20
    # a volume that never varies: volume_zscore is null in every row
    constant = compute_features(bars.with_columns(volume=pl.lit(5.0)))
    assert constant["volume_zscore"].null_count() == 2 * 25
    assert constant.filter(is_warmed_up()).height == 2 * 5


def assert_agree(
    features: pl.DataFrame, expected: pd.DataFrame, slack: dict[str, np.ndarray] | None = None
) -> None:
    """Null where null, and within 1e-9 relative; `slack` adds an absolute tolerance per row."""
    assert features.height == len(expected)
    for name in FEATURE_NAMES:
        ours, theirs = features[name].to_numpy(), expected[name].to_numpy()
        assert not features[name].is_nan().any(), name
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs), err_msg=f"nulls of {name}")
        allowed = 1e-9 * np.abs(theirs) + (slack or {}).get(name, 0.0)
        worst = np.nanmax(np.where(np.isnan(ours), 0.0, np.abs(ours - theirs) / np.maximum(allowed, 5e-324)))
        assert worst <= 1, f"{name}: {worst} times the allowed distance"


def rounding_of(bars: pl.DataFrame, expected: pd.DataFrame) -> dict[str, np.ndarray]:
    """What 16 units in the last place of the inputs can do to features that subtract nearly equal numbers."""
    volume = bars["volume"].to_pandas()
    return_1d = expected["ret_1d"].abs()
    symbols = expected["symbol"]
    greatest_return = return_1d.groupby(symbols).transform(lambda x: x.rolling(20).max())
    greatest_volume = volume.groupby(symbols).transform(lambda x: x.rolling(20).max())
    deviation = volume.groupby(symbols).transform(lambda x: x.rolling(20).apply(two_pass_deviation, raw=True))
    relative = greatest_volume / deviation.where(deviation > 0)
    rounding = 16 * EPSILON
    return {
        "rsi_14": np.full(len(expected), 100 * rounding),
        "vol_20d": (greatest_return * rounding).to_numpy(),
        "volume_zscore": (relative * (1 + expected["volume_zscore"].abs()) * rounding).to_numpy(),
    }


@given(bar_panels())
def test_compute_features_agrees_with_a_slow_implementation(bars: pl.DataFrame) -> None:
    expected = slow_features(bars)
    assert_agree(compute_features(bars), expected, rounding_of(bars, expected))


def test_compute_features_of_the_sample_agrees_with_a_slow_implementation(
    adjusted_sample: pl.DataFrame, sample_features: pl.DataFrame
) -> None:
    assert_agree(sample_features, slow_features(adjusted_sample))


def test_features_and_labels_of_the_sample_agree_with_the_golden_file(
    adjusted_sample: pl.DataFrame, sample_features: pl.DataFrame
) -> None:
    path = shared_file("golden/sample_features.parquet")
    golden = pl.read_parquet(path).rename({"date": "session"}).sort(PANEL_KEY)
    assert sample_features.select(PANEL_KEY).equals(golden.select(PANEL_KEY))
    assert_agree(sample_features, golden.to_pandas())
    labels = label_panel(sample_features, adjusted_sample, Experiment())
    assert labels.height == 12_154
    np.testing.assert_allclose(labels["forward_return"], golden["forward_return_20"], rtol=1e-9)
    # as schema.md records them
    assert label_mix(labels) == {"BUY": 3_759, "HOLD": 4_294, "SELL": 4_001}


def test_shared_file_skips_a_test_but_fails_it_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOURSOMATIC_TESTS_COMPLETE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="left out"):
        shared_file("no-such-folder/no-such-file")
    monkeypatch.setenv("BOURSOMATIC_TESTS_COMPLETE", "1")
    with pytest.raises(pytest.fail.Exception, match="left out"):
        shared_file("no-such-folder/no-such-file")


@st.composite
def panels_with_a_present(draw: st.DrawFn) -> tuple[pl.DataFrame, int]:
    """A bar panel and the number of sessions up to today, enough for features but not all there are."""
    bars = draw(bar_panels(min_sessions=30))
    first = bars.filter(pl.col("symbol") == "AAA")["session"]
    return bars, draw(st.integers(21, len(first) - 1))


@given(panels_with_a_present(), st.integers(0, 2**32 - 1))
def test_compute_features_never_reads_the_future(panel: tuple[pl.DataFrame, int], seed: int) -> None:
    bars, count = panel
    present = bars.filter(pl.col("symbol") == "AAA")["session"][count - 1]
    known = pl.col("session") <= present
    features = compute_features(bars).filter(known)
    assert compute_features(bars.filter(known)).equals(features)
    assert compute_features(with_other_future(bars, present, seed)).filter(known).equals(features)


def test_the_comparison_catches_a_feature_that_reads_one_bar_ahead() -> None:
    # the proof above has teeth: the same comparison tells a leaking expression from a sound one
    bars = random_walk_bars(symbols=1, sessions=30, seed=0)
    leaking = (pl.col("close").shift(-1) / pl.col("close") - 1).over("symbol")
    present = weekdays(30)[24]
    known = pl.col("session") <= present
    full = bars.with_columns(leak=leaking).filter(known)["leak"]
    assert not bars.filter(known).with_columns(leak=leaking)["leak"].equals(full)
    assert not with_other_future(bars, present, 1).with_columns(leak=leaking).filter(known)["leak"].equals(full)


@given(bar_panels(), st.integers(0, 2**32 - 1))
def test_compute_features_does_not_depend_on_row_order(bars: pl.DataFrame, seed: int) -> None:
    shuffled = bars.sample(fraction=1.0, shuffle=True, seed=seed)
    accepted = check_bars(shuffled, bars["session"].max()).accepted  # type: ignore[arg-type]
    assert compute_features(accepted).equals(compute_features(bars))


@given(bar_panels(symbols=4))
def test_compute_features_does_not_depend_on_other_instruments(bars: pl.DataFrame) -> None:
    features = compute_features(bars)
    this = pl.col("symbol") == "AAA"
    assert compute_features(bars.filter(this)).equals(features.filter(this))
    for other in SYMBOLS[1:]:
        without = pl.col("symbol") != other
        assert compute_features(bars.filter(without)).equals(features.filter(without))


def test_is_warmed_up_ignores_inputs_that_may_be_null(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is derived from volume_zscore is null whenever that is: after the history as before it.
    derived = DerivedInput("doubled", pl.col("volume_zscore") * 2, "volume_zscore", "Twice the score.")
    monkeypatch.setattr(features_core, "DERIVED_INPUTS", (derived,))
    rows = pl.DataFrame(
        {"doubled": [None, None], "ret_20d": [0.1, None]}, schema={"doubled": pl.Float64, "ret_20d": pl.Float64}
    )
    # 19 sessions of history behind the score, 20 behind the return: only the return proves its history
    assert (derived.lookback, derived.may_be_null) == (19, True)
    assert rows.select(is_warmed_up(["doubled", "ret_20d"])).to_series().to_list() == [True, False]
    assert rows.select(is_warmed_up(["doubled"])).to_series().to_list() == [False, False]


def test_natr_14_is_the_range_over_the_close() -> None:
    rows = pl.DataFrame(
        {"atr_14": [2.0, None, 3.0], "close": [100.0, 50.0, None]},
        schema={"atr_14": pl.Float64, "close": pl.Float64},
    )
    assert with_derived_inputs(rows, ["natr_14"])["natr_14"].to_list() == [0.02, None, None]
    # Nothing else is needed, nor added, where no derived input is named.
    assert with_derived_inputs(rows, ["atr_14"]).columns == ["atr_14", "close"]
    natr = derived_among(["ret_1d", "natr_14"])
    assert [(each.name, each.sources, each.lookback, each.may_be_null) for each in natr] == [
        ("natr_14", ["atr_14"], 13, False)
    ]
    known = rows.with_columns(natr_14=pl.Series([0.1, None, 0.1]))
    assert known.select(is_warmed_up(["natr_14"])).to_series().to_list() == [True, False, True]


def test_table_columns_are_those_of_the_table() -> None:
    assert table_columns(["natr_14"]) == ["atr_14"]
    # each column once
    assert table_columns(["atr_14", "ret_1d", "natr_14"]) == ["atr_14", "ret_1d"]
    assert (*FEATURE_NAMES, "natr_14") == INPUT_NAMES
