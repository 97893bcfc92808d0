from __future__ import annotations

import json
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.labels import LABEL_TYPE
from boursomatic_assets.core.measures.calibration import fit_temperature
from boursomatic_assets.core.measures.classification import PROBABILITIES, buy_precision
from boursomatic_assets.core.measures.resampling import bootstrap_weights
from boursomatic_assets.core.models.threshold import (
    CANDIDATE_SCHEMA,
    Threshold,
    choose_threshold,
    differences_without_test_set,
    threshold_of,
    with_calls,
)
from boursomatic_assets_tests.support.judged import matched_base_rate
from boursomatic_assets_tests.support.strategies import weekdays

HORIZON = 5


def predicted(skill: float, seed: int, symbols: int = 20, sessions: int = 120) -> pl.DataFrame:
    """Rows whose chance of BUY rises with p(BUY) by `skill`: 0 is none; volatility knows nothing."""
    rng = np.random.default_rng(seed)
    count = symbols * sessions
    probability = rng.uniform(0.1, 0.7, count).round(4)
    bought = rng.uniform(size=count) < 0.4 + skill * (probability - 0.4)
    hold = (1 - probability) * rng.uniform(size=count)
    return pl.DataFrame(
        {
            "symbol": np.repeat([f"S{number:03d}" for number in range(symbols)], sessions),
            "session": weekdays(sessions) * symbols,
            "label": pl.Series(np.where(bought, "BUY", "HOLD"), dtype=LABEL_TYPE),
            "probability_buy": probability,
            "probability_hold": hold,
            "probability_sell": 1 - probability - hold,
            "predicted_label": pl.Series(
                np.where(probability > np.maximum(hold, 1 - probability - hold), "BUY", "HOLD"), dtype=LABEL_TYPE
            ),
            "vol_20d": rng.uniform(0.01, 0.05, count),
        }
    ).sort("symbol", "session")


def chosen(rows: pl.DataFrame, min_sessions: int = 2 * HORIZON) -> Threshold:
    return choose_threshold(rows, HORIZON, draws=500, seed=1, min_sessions=min_sessions)


def test_choose_threshold_follows_skill() -> None:
    skilled = chosen(predicted(skill=1.0, seed=0))
    assert skilled.tau is not None
    # BUY comes as often as p(BUY) says: 0.4 on the whole, more above any value within
    assert 0.1 < skilled.tau < 0.4
    assert "smallest of 40 values" in skilled.reason
    wrong = chosen(predicted(skill=-1.0, seed=0))
    assert wrong.tau is None
    assert "none has a lower 95 % bound" in wrong.reason
    assert "the most probable class is called" in wrong.reason


def test_choose_threshold_rarely_finds_a_candidate_without_skill() -> None:
    # a bound that holds in 95 % of panels: of 60, about 3 are above the base rate by luck
    better = 0
    for seed in range(60):
        rows = predicted(skill=0.0, seed=seed, symbols=10, sessions=100)
        middle = chosen(rows).candidates.row(20, named=True)
        better += middle["lower_bound"] > middle["matched_base_rate"]
    assert better <= 7


def test_choose_threshold_takes_the_smallest_better_candidate() -> None:
    found = chosen(predicted(skill=1.0, seed=0))
    table = found.candidates
    assert table["tau"].is_sorted()
    better = (table["lower_bound"] > table["matched_base_rate"] + 1e-9) & (table["sessions"] >= 10)
    assert found.tau == table.filter(better)["tau"].min()
    assert not better[0]


def test_choose_threshold_candidates_agree_with_their_calls() -> None:
    rows = predicted(skill=1.0, seed=0)
    table = chosen(rows).candidates
    assert table.schema == CANDIDATE_SCHEMA
    assert table.height == 40
    # at the smallest candidate every row is called
    assert table["calls"][0] == rows.height
    assert table["precision"][0] == pytest.approx(table["matched_base_rate"][0], rel=1e-9)
    for candidate in table.gather_every(9).iter_rows(named=True):
        calls = with_calls(rows, candidate["tau"])
        called = calls.filter(pl.col("call") == "BUY")
        assert candidate["calls"] == called.height
        assert candidate["sessions"] == called["session"].n_unique()
        assert candidate["precision"] == pytest.approx(buy_precision(calls), rel=1e-12)
        assert candidate["matched_base_rate"] == pytest.approx(matched_base_rate(calls), rel=1e-12)


def test_choose_threshold_lower_bound_is_a_bootstrap_quantile() -> None:
    rows = predicted(skill=0.5, seed=2, symbols=3, sessions=30)
    tau = chosen(rows).candidates["tau"][20]
    weights = bootstrap_weights(30, HORIZON, 500, 1)
    called = rows.filter(pl.col("probability_buy") >= tau)
    drawn = []
    for weight in weights:
        times = dict(zip(weekdays(30), weight.tolist(), strict=True))
        hits = sum(times[row["session"]] for row in called.iter_rows(named=True) if row["label"] == "BUY")
        drawn.append(hits / sum(times[session] for session in called["session"]))
    bound = chosen(rows).candidates["lower_bound"][20]
    assert bound == pytest.approx(np.quantile(drawn, 0.05), rel=1e-12)


def test_choose_threshold_needs_calls_on_enough_sessions() -> None:
    # 30 of 1,170 rows are more than a fortieth: the last of forty quantiles is theirs, all right, on one session
    rows = predicted(skill=0.0, seed=3, symbols=30, sessions=39)
    sure = pl.col("session") == weekdays(39)[20]
    rows = rows.with_columns(
        probability_buy=pl.when(sure).then(0.9).otherwise(0.1 + (pl.col("probability_buy") - 0.1) / 10),
        label=pl.when(sure).then(pl.lit("BUY", LABEL_TYPE)).otherwise("label"),
    )
    best = chosen(rows).candidates.row(-1, named=True)
    assert (best["tau"], best["calls"], best["sessions"], best["precision"]) == (0.9, 30, 1, 1.0)
    assert chosen(rows).tau != 0.9
    # everything is called on 120 sessions at most
    few = chosen(predicted(skill=1.0, seed=0), min_sessions=121)
    assert few.tau is None
    assert "none with calls on 121 sessions or more" in few.reason


def test_choose_threshold_counts_draws_without_a_call_as_zero() -> None:
    # The last of forty quantiles of 39 rows is the greatest: one right call, on the last of 39 sessions. More than
    # a third of the draws miss that session.
    rows = predicted(skill=0.0, seed=4, symbols=1, sessions=39).with_columns(
        probability_buy=0.1 + pl.int_range(pl.len()) / 1000, label=pl.lit("BUY", LABEL_TYPE)
    )
    best = chosen(rows).candidates.row(-1, named=True)
    assert (best["calls"], best["sessions"], best["precision"], best["lower_bound"]) == (1, 1, 1.0, 0.0)


def test_choose_threshold_without_volatility() -> None:
    found = chosen(predicted(skill=1.0, seed=0).with_columns(vol_20d=pl.lit(None, pl.Float64)))
    assert found.tau is None
    assert "vol_20d" in found.reason
    assert found.to_json()["candidates"] == []


def test_choose_threshold_of_equal_rows_is_none() -> None:
    # every session has the same share: no draw differs, and the bound is the base rate up to rounding
    rows = predicted(skill=0.0, seed=5, symbols=3, sessions=40).with_columns(
        label=pl.when(pl.col("symbol") == "S000")
        .then(pl.lit("BUY", LABEL_TYPE))
        .otherwise(pl.lit("HOLD", LABEL_TYPE)),
        probability_buy=pl.lit(0.4),
    )
    found = chosen(rows)
    assert found.tau is None
    assert found.candidates.height == 1
    assert found.candidates["lower_bound"][0] == pytest.approx(1 / 3, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_choose_threshold_does_not_depend_on_row_order(seed: int) -> None:
    rows = predicted(skill=0.6, seed=seed)
    other = chosen(rows.sample(fraction=1.0, shuffle=True, seed=seed))
    assert other.to_json() == chosen(rows).to_json()


def with_sets(rows: pl.DataFrame) -> pl.DataFrame:
    """The first half of the sessions validates, the second tests."""
    half = rows["session"].unique().sort()[60]
    name = pl.when(pl.col("session") < half).then(pl.lit("validation")).otherwise(pl.lit("test"))
    return rows.with_columns(set=name.cast(pl.Enum(["validation", "test"])))


EXPERIMENT = Experiment(horizon=HORIZON, bootstrap_draws=500, seed=1)


def test_threshold_of_reads_the_validation_set() -> None:
    rows = with_sets(predicted(skill=1.0, seed=0))
    validation = rows.filter(pl.col("set") == "validation")
    alone = choose_threshold(validation, HORIZON, 500, 1, 10)
    temperature = fit_temperature(validation.select(PROBABILITIES).to_numpy(), validation["label"])
    assert threshold_of(rows, EXPERIMENT).to_json() == alone.to_json() | {"temperature": temperature}
    assert alone.tau is not None


def test_differences_without_test_set_of_an_honest_threshold() -> None:
    for skill in (0.0, 1.0):
        rows = with_sets(predicted(skill, seed=0))
        # as it is read from the file that keeps it
        stored = json.loads(json.dumps(threshold_of(rows, EXPERIMENT).to_json(), allow_nan=False))
        assert differences_without_test_set(stored, rows, EXPERIMENT) == []


def test_differences_without_test_set_of_a_leaking_threshold() -> None:
    rows = with_sets(predicted(skill=1.0, seed=0))
    leaking = choose_threshold(rows, HORIZON, 500, 1, 10).to_json()
    found = differences_without_test_set(leaking, rows, EXPERIMENT)
    assert len(found) == 2
    assert "dropped" in found[0]
    assert "turned around" in found[1]


def test_with_calls_by_hand() -> None:
    rows = pl.DataFrame(
        {
            "probability_buy": [0.30, 0.29, 0.10, 0.20],
            "probability_hold": [0.60, 0.31, 0.20, 0.40],
            "probability_sell": [0.10, 0.40, 0.70, 0.40],
            "predicted_label": pl.Series(["HOLD", "SELL", "SELL", "HOLD"], dtype=LABEL_TYPE),
        }
    )
    calls = with_calls(rows, 0.30)
    # equally probable: the first in the order of the classes
    assert calls["call"].to_list() == ["BUY", "SELL", "SELL", "HOLD"]
    assert calls.schema["call"] == LABEL_TYPE
    assert with_calls(rows, None)["call"].to_list() == rows["predicted_label"].to_list()


@given(st.floats(0, 1), st.integers(0, 100))
def test_with_calls_depends_on_the_row_alone(tau: float, seed: int) -> None:
    rows = predicted(skill=0.0, seed=seed, symbols=2, sessions=5)
    whole = with_calls(rows, tau)
    assert_frame_equal(with_calls(rows[3:7], tau), whole[3:7])
    assert (whole["call"] == "BUY").sum() == (rows["probability_buy"] >= tau).sum()


def test_choose_threshold_is_fast_on_a_large_set() -> None:
    rows = predicted(skill=0.2, seed=0, symbols=500, sessions=180)
    started = time.process_time()
    choose_threshold(rows, 20, draws=2000, seed=1, min_sessions=40)
    assert time.process_time() - started < 2.0
