from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.recommendations.outcome_audit import SlowOutcome, differences, slow_outcome
from boursomatic_assets.core.recommendations.outcomes import judge_outcomes
from boursomatic_assets_tests.support.oracles import shared_file
from boursomatic_assets_tests.support.waiting_calls import a_call, bars_of, calls_of, calls_on, july, placed_panels

if TYPE_CHECKING:
    from collections.abc import Mapping


def slow(call: Mapping[str, Any], bars: pl.DataFrame) -> SlowOutcome:
    found = slow_outcome(call, bars)
    assert found is not None
    return found


def test_slow_outcome_follows_a_call_bar_by_bar() -> None:
    # the 4th is the third session after the 1st: 106 / 100 - 1; on the 3rd a low of 90 is the stop
    bars = bars_of({1: 100.0, 2: 100.0, 3: (119.0, 90.0, 100.0), 4: 106.0, 5: (300.0, 1.0, 2.0)})
    found = slow(a_call(), bars)
    assert (found.exit_session, found.realised_return) == (july(4), pytest.approx(0.06))
    assert (found.first_touch, found.touched_session) == ("stop", july(3))
    assert slow_outcome(a_call(session=july(6)), bars) is None
    assert slow_outcome(a_call(session=july(8)), bars) is None


@given(placed_panels(), st.data())
def test_slow_outcome_agrees_with_judge_outcomes(bars: pl.DataFrame, data: st.DataObject) -> None:
    calls = data.draw(calls_on(bars))
    given_calls = {call["id"]: call for call in calls.to_dicts()}
    for stored in judge_outcomes(calls, bars).to_dicts():
        call = given_calls[stored["recommendation_id"]]
        found = slow(call, bars.filter(pl.col("symbol") == call["symbol"]))
        assert differences(stored, call, found) == []


BARS = bars_of({1: 100.0, 2: 100.0, 3: (119.0, 90.0, 100.0), 4: 106.0})


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("exit_session", july(3), ["exit_session"]),
        ("exit_close", 107.0, ["exit_close"]),
        ("realised_return", 0.07, ["exit_close", "realised_return"]),
        ("realised_label", "HOLD", ["realised_label"]),
        ("hit", False, ["hit"]),
        ("first_touch", "target", ["first_touch"]),
        ("touched_session", july(4), ["touched_session"]),
    ],
)
def test_differences_name_what_differs(column: str, value: Any, named: list[str]) -> None:  # noqa: ANN401
    stored = judge_outcomes(calls_of(a_call()), BARS).row(0, named=True)
    found = slow(a_call(), BARS)
    assert differences(stored, a_call(), found) == []
    assert differences({**stored, column: value}, a_call(), found) == named


def test_differences_ignore_a_split_since() -> None:
    stored = judge_outcomes(calls_of(a_call()), BARS).row(0, named=True)
    found = slow(a_call(), BARS.with_columns(pl.col("high", "low", "close") / 3))
    assert differences(stored, a_call(), found) == []


def calls_at_random(bars: pl.DataFrame, count: int) -> pl.DataFrame:
    """Calls of every label on some bars, over 20 sessions, with stop and target 1 to 10 % away."""
    random = np.random.default_rng(11)
    chosen = bars.sample(count, seed=11)
    made = []
    for number, bar in enumerate(chosen.to_dicts()):
        label = str(random.choice(["BUY", "HOLD", "SELL"]))
        stop, target = random.uniform(0.01, 0.1, 2) * (-1 if label == "SELL" else 1)
        made.append(
            a_call(
                id=str(number), symbol=bar["symbol"], exchange="XNYS", session=bar["session"], label=label,
                close=bar["close"], horizon_days=20,
                stop_loss=None if label == "HOLD" else bar["close"] * (1 - stop),
                take_profit=None if label == "HOLD" else bar["close"] * (1 + target),
            )
        )  # fmt: skip
    return calls_of(*made)


def test_slow_outcome_agrees_with_judge_outcomes_on_real_bars() -> None:
    read = pl.read_parquet(shared_file("data/us_sp500_2013_2018.parquet")).rename({"date": "session"})
    whole = read.drop_nulls(["high", "low", "close"]).sort("symbol", "session")
    bars = whole.select("symbol", pl.col("session").cast(pl.Date), "high", "low", "close", exchange=pl.lit("XNYS"))
    calls = calls_at_random(bars, 2000)
    outcomes = judge_outcomes(calls, bars)
    # 20 of about 1259 sessions, 1.6 % of the calls, are too new: 32, with a standard deviation of 6
    assert 10 <= calls.height - outcomes.height <= 60
    own = {str(symbol): rows for (symbol,), rows in bars.partition_by("symbol", as_dict=True).items()}
    given_calls = {call["id"]: call for call in calls.to_dicts()}
    for stored in outcomes.to_dicts():
        call = given_calls[stored["recommendation_id"]]
        found = slow(call, own[call["symbol"]])
        assert differences(stored, call, found) == []
