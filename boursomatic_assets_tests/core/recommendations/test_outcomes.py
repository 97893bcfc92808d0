from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.corporate_actions import apply_adjustments
from boursomatic_assets.core.market.horizons import newest_sessions
from boursomatic_assets.core.measures.inference import overlap_test
from boursomatic_assets.core.recommendations.outcomes import (
    BuyRecord,
    buy_record,
    judge_outcomes,
    shared_horizons,
    summarise_outcomes,
    surprises,
)
from boursomatic_assets.errors import NotEnoughHistoryError, PanelContractError
from boursomatic_assets_tests.support.strategies import weekdays
from boursomatic_assets_tests.support.waiting_calls import a_call, bars_of, calls_of, calls_on, july, placed_panels

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from datetime import date

FLAT = dict.fromkeys((1, 2, 3, 4, 5), 100.0)


def judged(bars: pl.DataFrame, **call: Any) -> dict[str, Any]:  # noqa: ANN401
    """Outcome of one call whose horizon has passed."""
    (found,) = judge_outcomes(calls_of(a_call(**call)), bars).to_dicts()
    return found


def is_open(bars: pl.DataFrame, **call: Any) -> bool:  # noqa: ANN401
    return judge_outcomes(calls_of(a_call(**call)), bars).is_empty()


def test_outcome_is_the_return_over_the_horizon() -> None:
    # three sessions after Monday the 1st is Thursday the 4th: 106 / 100 - 1 = 6 %, which is a BUY
    found = judged(bars_of({1: 100.0, 2: 95.0, 3: 119.0, 4: 106.0, 5: 50.0}))
    assert found == {
        "recommendation_id": "1", "entry_session": july(1), "entry_close": 100.0, "exit_session": july(4),
        "exit_close": 106.0, "realised_return": pytest.approx(0.06, rel=1e-12), "realised_label": "BUY",
        "hit": True, "first_touch": None, "touched_session": None, "ended": "horizon",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("close", "label"), [(125.0, "BUY"), (124.99, "HOLD"), (75.01, "HOLD"), (75.0, "SELL"), (10.0, "SELL")]
)
def test_outcome_exactly_at_a_threshold_is_a_call(close: float, label: str) -> None:
    # 125 / 100 - 1 and 75 / 100 - 1 are exact in binary
    thresholds = {"buy_threshold": 0.25, "sell_threshold": -0.25}
    for said in ("BUY", "HOLD", "SELL"):
        found = judged(bars_of(FLAT | {4: close}), label=said, **thresholds)
        assert (found["realised_label"], found["hit"]) == (label, label == said)


def test_outcome_is_open_until_the_horizon_ends() -> None:
    assert is_open(bars_of(dict.fromkeys((1, 2, 3), 100.0)))
    assert not is_open(bars_of(dict.fromkeys((1, 2, 3, 4), 100.0)))


def test_outcome_counts_the_sessions_of_the_exchange() -> None:
    # in New York the 4th is a holiday: the third session after the 1st is the 5th
    bars = bars_of({1: 100.0, 2: 100.0, 3: 100.0, 5: 90.0, 8: 200.0}, exchange="XNYS")
    found = judged(bars, exchange="XNYS")
    assert (found["exit_session"], found["realised_label"]) == (july(5), "SELL")


def test_outcome_without_a_calendar_counts_own_bars() -> None:
    bars = bars_of({1: 100.0, 3: 100.0, 10: 100.0, 25: 110.0}, exchange="XLON")
    found = judged(bars, exchange="XLON")
    assert (found["exit_session"], found["ended"]) == (july(25), "horizon")
    assert is_open(bars, exchange="XLON", horizon_days=4)


def test_outcome_without_a_bar_at_the_end_takes_the_last_close_before() -> None:
    # none on the 3rd and the 4th, where the horizon ends; the 5th is beyond it
    found = judged(bars_of({1: 100.0, 2: 94.0, 5: 200.0}))
    assert (found["exit_session"], found["realised_label"], found["ended"]) == (july(2), "SELL", "horizon")


# High, low and close of the three sessions that follow, and what is touched first and when. Stop 90, target 120.
TOUCHES: dict[str, tuple[list[tuple[float, float, float]], tuple[str, int] | None]] = {
    "neither": ([(119.9, 90.1, 100)] * 3, None),
    "the stop": ([(100, 95, 100), (100, 90, 100), (130, 100, 130)], ("stop", 3)),
    "the target": ([(100, 95, 100), (100, 95, 100), (120, 100, 100)], ("target", 4)),
    "the target before the stop": ([(121, 100, 100), (100, 80, 100), (100, 80, 100)], ("target", 2)),
    "both in one bar": ([(125, 85, 100), (125, 100, 100), (125, 100, 100)], ("stop", 2)),
}


@pytest.mark.parametrize("case", TOUCHES)
@pytest.mark.parametrize("label", ["BUY", "SELL"])
def test_first_touch_is_found_in_highs_and_lows(case: str, label: str) -> None:
    ranges, expected = TOUCHES[case]
    if label == "SELL":
        # Mirrored at 100, so that the same happens to a SELL with its stop at 110 and its target at 80.
        ranges = [(200 - low, 200 - high, 200 - close) for high, low, close in ranges]
    stop, target = (90.0, 120.0) if label == "BUY" else (110.0, 80.0)
    bars = bars_of({1: 100.0, **dict(zip((2, 3, 4), ranges, strict=True))})
    found = judged(bars, label=label, stop_loss=stop, take_profit=target)
    wanted = (expected[0], july(expected[1])) if expected else (None, None)
    assert (found["first_touch"], found["touched_session"]) == wanted


def test_first_touch_ignores_the_calls_own_session_and_those_after_the_end() -> None:
    found = judged(bars_of({1: (150.0, 50.0, 100.0), 2: 100.0, 3: 100.0, 4: 100.0, 5: (150.0, 50.0, 100.0)}))
    assert found["first_touch"] is None


def test_first_touch_of_a_hold_is_none() -> None:
    found = judged(
        bars_of(FLAT | {2: (150.0, 50.0, 100.0)}), label="HOLD", stop_loss=None, take_profit=None, id="one"
    )
    assert (found["first_touch"], found["touched_session"], found["hit"]) == (None, None, True)


def test_outcome_after_a_split_is_the_same() -> None:
    # sold at 100 then; today's prices are a third of that, and 33.3 is still 90 * 1/3 = 30 away from the stop
    prices = {1: 100.0, 2: (105.0, 90.0, 95.0), 3: 110.0, 4: 97.0}
    before = judged(bars_of(prices))
    thirds = bars_of(prices).with_columns(pl.col("high", "low", "close") / 3)
    after = judged(thirds)
    assert before["first_touch"] == after["first_touch"] == "stop"
    assert after["entry_close"] == pytest.approx(100 / 3)
    assert after["realised_return"] == pytest.approx(-0.03, rel=1e-12)
    assert (after["realised_label"], after["touched_session"]) == ("SELL", july(2))


OTHERS = dict.fromkeys((1, 2, 3, 4, 5, 8, 9, 10, 11, 12), 50.0)


def with_others(last: int, own: dict[int, float], exchange: str | None = "XPAR") -> pl.DataFrame:
    """The bars of AAA beside another's that goes on to a day."""
    others = {day: price for day, price in OTHERS.items() if day <= last}
    return pl.concat([bars_of(own, exchange=exchange), bars_of(others, "BBB")])


def test_outcome_of_an_instrument_that_stopped_trading_takes_its_last_price() -> None:
    own = {1: 100.0, 2: 60.0}
    # its last bar is of the 2nd: five sessions after it is the 9th, when others still trade
    assert is_open(with_others(8, own))
    found = judged(with_others(9, own))
    assert (found["exit_session"], found["exit_close"], found["ended"]) == (july(2), 60.0, "stopped trading")
    assert (found["realised_label"], found["first_touch"], found["touched_session"]) == ("SELL", "stop", july(2))


def test_outcome_of_a_silent_instrument_waits_for_the_horizon() -> None:
    # eight sessions after the 1st is the 11th: silent since the 2nd, and still open on the 10th
    own = {1: 100.0, 2: 60.0}
    assert is_open(with_others(10, own), horizon_days=8)
    found = judged(with_others(11, own), horizon_days=8)
    assert found["ended"] == "stopped trading"


def test_outcome_ignores_other_exchanges() -> None:
    own = bars_of({1: 100.0, 2: 60.0}, exchange="XNYS")
    assert is_open(pl.concat([own, bars_of(OTHERS, "BBB")]), exchange="XNYS")


def test_outcome_reads_newest_sessions_of_instruments_without_a_call() -> None:
    bars = bars_of({1: 100.0, 2: 60.0})
    calls = calls_of(a_call())
    assert judge_outcomes(calls, bars).is_empty()
    assert judge_outcomes(calls, bars, {"XPAR": july(8)}).is_empty()
    assert judge_outcomes(calls, bars, {"XPAR": july(9)})["ended"].to_list() == ["stopped trading"]
    assert judge_outcomes(calls, bars, {"XNYS": july(30)}).is_empty()


def test_outcome_of_an_instrument_suspended_over_the_horizon_is_its_own_price() -> None:
    # no bar between the 1st and the 10th; the horizon ended on the 4th, and nobody could have sold
    found = judged(bars_of({1: 100.0, 10: 30.0}))
    assert (found["exit_session"], found["realised_return"], found["ended"]) == (july(1), 0.0, "stopped trading")
    assert found["first_touch"] is None


def test_outcome_without_a_calendar_counts_silence_in_days() -> None:
    # two days a session and two weeks on top: 1 + 2 * 3 + 14 = the 21st; two weeks after the last bar is the 26th
    bars, calls = bars_of({1: 100.0, 12: 80.0}, exchange="XLON"), calls_of(a_call(exchange="XLON"))
    assert judge_outcomes(calls, bars, {None: july(25)}).is_empty()
    found = judge_outcomes(calls, bars, {None: july(26)}).row(0, named=True)
    assert (found["exit_session"], found["ended"]) == (july(12), "stopped trading")
    early = bars.filter(pl.col("session") == july(1))
    assert judge_outcomes(calls, early, {None: july(20)}).is_empty()
    assert judge_outcomes(calls, early, {None: july(21)})["exit_session"].to_list() == [july(1)]


def test_outcome_before_the_calendars_begin_counts_bars() -> None:
    bars = bars_of(FLAT).with_columns(pl.col("session").dt.offset_by("-100y"))
    found = judge_outcomes(calls_of(a_call(session=bars["session"][0])), bars)
    assert found["exit_session"].to_list() == [bars["session"][3]]


@pytest.mark.parametrize(
    "lacking",
    [
        {"session": july(6)}, {"symbol": "ZZZ"}, {"session": None}, {"close": None}, {"horizon_days": None},
        {"horizon_days": 0}, {"buy_threshold": None}, {"sell_threshold": None},
    ],
)  # fmt: skip
def test_outcome_of_a_call_that_lacks_something_stays_open(lacking: dict[str, Any]) -> None:
    both = calls_of(a_call(**lacking), a_call(id="2"))
    assert judge_outcomes(both, bars_of(FLAT))["recommendation_id"].to_list() == ["2"]


def test_outcomes_of_no_calls_or_no_bars_are_empty() -> None:
    columns = judge_outcomes(calls_of(a_call()), bars_of(FLAT)).schema
    assert judge_outcomes(calls_of(), bars_of(FLAT)).schema == columns
    assert judge_outcomes(calls_of(a_call()), bars_of({})).schema == columns
    assert judge_outcomes(calls_of(), bars_of({})).is_empty()


def test_outcomes_refuse_bars_out_of_order() -> None:
    with pytest.raises(PanelContractError):
        judge_outcomes(calls_of(a_call()), bars_of(FLAT).reverse())


def test_newest_sessions_are_those_of_the_calendar() -> None:
    spans = pl.DataFrame(
        {"exchange": ["NYSE", "XNAS", "XPAR", "XLON", None], "last": [july(1), july(2), july(3), july(5), july(4)]}
    )
    assert newest_sessions(spans) == {"XNYS": july(2), "XPAR": july(3), None: july(5)}
    assert newest_sessions(spans.clear()) == {}


@given(placed_panels(), st.data())
def test_outcome_does_not_depend_on_bars_after_the_end(bars: pl.DataFrame, data: st.DataObject) -> None:
    calls = data.draw(calls_on(bars))
    newest = newest_sessions(bars.select("exchange", last="session"))
    for one in judge_outcomes(calls, bars, newest).partition_by("recommendation_id"):
        call = calls.filter(pl.col("id") == one["recommendation_id"][0])
        after = (pl.col("symbol") == call["symbol"][0]) & (pl.col("session") > one["exit_session"][0])
        price = pl.lit(data.draw(st.sampled_from([1e-3, 1e5])))
        other = pl.when(after).then(price)
        # Sessions between the exit and the end of the horizon have no bar of its own.
        wild = bars.with_columns(other.otherwise(pl.col(name)).alias(name) for name in ("high", "low", "close"))
        assert_frame_equal(judge_outcomes(call, wild, newest), one)


@given(placed_panels(), st.data())
def test_outcome_does_not_depend_on_other_instruments(bars: pl.DataFrame, data: st.DataObject) -> None:
    calls = data.draw(calls_on(bars))
    newest = newest_sessions(bars.select("exchange", last="session"))
    together = judge_outcomes(calls, bars, newest)
    alone = [
        judge_outcomes(own, bars.filter(pl.col("symbol") == own["symbol"][0]), newest)
        for own in calls.partition_by("symbol")
    ]
    assert_frame_equal(pl.concat(alone).sort("entry_session", "recommendation_id"), together)


@given(placed_panels(), st.data(), st.sampled_from([0.5, 4.0, 2.0**-10]))
def test_outcome_is_the_same_at_any_scale_of_prices(bars: pl.DataFrame, data: st.DataObject, factor: float) -> None:
    # powers of two scale exactly
    calls = data.draw(calls_on(bars))
    before = judge_outcomes(calls, bars)
    scaled = bars.with_columns(pl.col("high", "low", "close") * factor)
    prices = ["entry_close", "exit_close"]
    expected = before.with_columns(pl.col(prices) * factor)
    assert_frame_equal(judge_outcomes(calls, scaled), expected, check_exact=True)
    then = calls.with_columns(pl.col("close", "stop_loss", "take_profit") * factor)
    assert_frame_equal(judge_outcomes(then, bars), before, check_exact=True)


@given(placed_panels(), st.data(), st.sampled_from([1 / 3, 0.1, 1.5, 7.0]))
def test_outcome_does_not_depend_on_later_splits(bars: pl.DataFrame, data: st.DataObject, ratio: float) -> None:
    calls = data.draw(calls_on(bars))
    before = judge_outcomes(calls, bars)
    splits = bars.select("symbol").unique().with_columns(session=pl.lit(weekdays(200)[-1]), ratio=pl.lit(ratio))
    after = judge_outcomes(calls, apply_adjustments(bars, splits))
    kept = ["recommendation_id", "exit_session", "first_touch", "touched_session", "ended"]
    assert_frame_equal(after.select(kept), before.select(kept))
    assert after["realised_return"].to_list() == pytest.approx(before["realised_return"].to_list(), abs=1e-9)
    # A label may move only where the return lies on a threshold to the last digit.
    border = before.select(
        pl.min_horizontal((pl.col("realised_return") - limit).abs() for limit in (0.05, -0.02)) > 1e-9
    ).to_series()
    assert after.filter(border)["realised_label"].to_list() == before.filter(border)["realised_label"].to_list()


@given(placed_panels(), st.data())
def test_outcome_does_not_depend_on_the_order_of_calls(bars: pl.DataFrame, data: st.DataObject) -> None:
    calls = data.draw(calls_on(bars))
    assert_frame_equal(judge_outcomes(calls.reverse(), bars), judge_outcomes(calls, bars))


@given(placed_panels(), st.integers(1, 15))
def test_outcome_agrees_with_the_label(bars: pl.DataFrame, horizon: int) -> None:
    features = bars.select(*PANEL_KEY, ret_1d=pl.lit(0.0))
    try:
        labels = label_panel(features, bars, Experiment(horizon=horizon, features=("ret_1d",)))
    except NotEnoughHistoryError:
        labels = label_panel(features, bars, Experiment(horizon=1, features=("ret_1d",))).clear()
    calls = bars.select(*PANEL_KEY, "exchange", "close").with_columns(
        id=pl.concat_str("symbol", pl.col("session").cast(pl.String)), profile=pl.lit("moderate"),
        label=pl.lit("HOLD"), stop_loss=pl.lit(None, pl.Float64), take_profit=pl.lit(None, pl.Float64),
        horizon_days=pl.lit(horizon), confidence=pl.lit(0.5), buy_threshold=pl.lit(0.05),
        sell_threshold=pl.lit(-0.02),
    )  # fmt: skip
    outcomes = judge_outcomes(calls, bars).join(
        calls.select("id", "symbol"), left_on="recommendation_id", right_on="id"
    )
    passed = outcomes.filter(pl.col("ended") == "horizon").select(
        "symbol", session="entry_session", forward_return="realised_return", label="realised_label"
    )
    expected = labels.drop_nulls("label").select(*PANEL_KEY, "forward_return", pl.col("label").cast(pl.String))
    assert_frame_equal(passed.sort(PANEL_KEY), expected, check_exact=True)


def outcome(session: date, exit_session: date, **given: Any) -> dict[str, Any]:  # noqa: ANN401
    usual = {
        "profile": "moderate", "label": "BUY", "confidence": 0.5, "hit": True, "first_touch": None,
        "realised_return": 0.0, "ended": "horizon",
    }  # fmt: skip
    return usual | given | {"session": session, "exit_session": exit_session}


def stored(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema_overrides={"first_touch": pl.String})


def record_of(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    return summarise_outcomes(stored(rows))


D = weekdays(400)


def test_summary_counts_hits_beside_what_was_expected() -> None:
    rows = [
        outcome(D[0], D[3], confidence=0.6, first_touch="target", realised_return=0.10),
        outcome(D[0], D[3], confidence=0.4, hit=False, first_touch="stop", realised_return=-0.30),
        outcome(D[1], D[2], confidence=0.5, hit=False, ended="stopped trading", realised_return=-0.04),
        outcome(D[0], D[3], confidence=0.4, hit=False, first_touch="stop", profile="conservative"),
        outcome(D[0], D[3], confidence=0.7, label="HOLD"),
    ]
    record = record_of(rows)
    assert record.select("profile", "label").rows() == [
        ("conservative", "BUY"), ("moderate", "BUY"), ("moderate", "HOLD"),
    ]  # fmt: skip
    buy = record.row(1, named=True)
    assert (buy["calls"], buy["sessions"], buy["stopped_trading"]) == (3, 2, 1)
    # (0.6 + 0.4 + 0.5) / 3 = 0.5 expected, one of three realised; one stop, one target, one neither
    assert buy["expected"] == pytest.approx(0.5)
    assert buy["realised"] == buy["stop_first"] == buy["target_first"] == pytest.approx(1 / 3)
    assert buy["difference"] == pytest.approx(1 / 3 - 0.5)
    # (0.10 - 0.30 - 0.04) / 3 = -0.08
    assert buy["mean_return"] == pytest.approx(-0.08)
    # two sessions cannot say how far chance goes
    assert (buy["low"], buy["high"], buy["p_value"]) == (None, None, None)
    hold = record.row(2, named=True)
    assert (hold["stop_first"], hold["target_first"], hold["realised"]) == (None, None, 1.0)
    assert surprises(record).is_empty()


def test_summary_of_nothing_is_empty() -> None:
    record = summarise_outcomes(stored([outcome(D[0], D[1])]).clear())
    assert record.is_empty()
    assert record.schema == record_of([outcome(D[0], D[1])]).schema
    assert surprises(record).is_empty()


def test_summary_interval_allows_for_overlapping_horizons() -> None:
    hits = np.random.default_rng(3).random(60) < 0.5
    rows = [outcome(D[i], D[i + 5], confidence=0.4, hit=bool(hit)) for i, hit in enumerate(hits)]
    found = record_of(rows).row(0, named=True)
    # one call a session, so that the ratio of sums is the mean of hit - 0.4; five neighbours share a horizon
    tested = overlap_test(hits - 0.4, 5, 4)
    assert (found["difference"], found["low"], found["high"]) == pytest.approx(
        (tested.value, tested.low, tested.high)
    )
    assert found["p_value"] == pytest.approx(2 * min(tested.p_value, 1 - tested.p_value))


@pytest.mark.parametrize(
    ("every", "horizon", "shared"), [(1, 20, 20), (5, 20, 4), (5, 5, 1), (5, 3, 1), (3, 20, 7)]
)
def test_shared_horizons_of_calls_on_fewer_sessions(every: int, horizon: int, shared: int) -> None:
    # from one such session on: those less than a horizon later, itself counted
    days = range(0, 300, every)
    sessions, exits = (pl.Series([D[day + ahead] for day in days]) for ahead in (0, horizon))
    assert shared_horizons(sessions, exits) == shared


def test_shared_horizons_of_one_call_are_one() -> None:
    assert shared_horizons(pl.Series([D[0]]), pl.Series([D[0]])) == 1


def overlapping_hits(seed: int, chance: float) -> list[dict[str, Any]]:
    """Five calls a session over 150, whose hits depend on a market that ten sessions have in common."""
    random = np.random.default_rng(seed)
    market = np.convolve(random.standard_normal(159), np.ones(10), "valid") / np.sqrt(10)
    own = random.standard_normal((150, 5))
    hit = (np.sqrt(0.5) * (market[:, None] + own)) < NormalDist().inv_cdf(chance)
    return [
        outcome(D[day], D[day + 10], confidence=0.4, hit=bool(hit[day, call]))
        for day in range(150)
        for call in range(5)
    ]


@pytest.mark.slow
def test_surprises_are_rare_for_calls_as_good_as_expected() -> None:
    found = [surprises(record_of(overlapping_hits(seed, 0.4))).height for seed in range(200)]
    # 5 % of 200 is 10, with a standard deviation of 3.1: 20 is more than three beyond it
    assert sum(found) <= 20
    worse = [surprises(record_of(overlapping_hits(seed, 0.1))).height for seed in range(20)]
    assert sum(worse) >= 15


def test_surprises_are_corrected_for_their_number() -> None:
    # nine records: 0.05 / 9 = 0.0056
    record = pl.DataFrame({"label": ["BUY"] * 10, "p_value": [0.005, 0.006, *[0.5] * 7, None]})
    assert surprises(record)["p_value"].to_list() == [0.005]


def buys(rows: Sequence[dict[str, Any]], version: str = "v1") -> BuyRecord:
    return buy_record(stored([{"version": "v1"} | row for row in rows]), version)


def test_buy_record_counts_all_profiles_of_one_version() -> None:
    mine = [
        outcome(D[0], D[3], confidence=0.6),
        outcome(D[0], D[3], confidence=0.7, hit=False, profile="aggressive"),
        outcome(D[1], D[4], confidence=0.2, hit=False),
    ]
    others = [outcome(D[0], D[3], label="SELL", hit=False), outcome(D[2], D[5], hit=False) | {"version": "v0"}]
    found = buys([*mine, *others])
    # (0.6 + 0.7 + 0.2) / 3 = 0.5 expected, one of three realised, on two sessions
    assert (found.version, found.calls, found.sessions) == ("v1", 3, 2)
    assert (found.expected, found.realised) == (pytest.approx(0.5), pytest.approx(1 / 3))
    # two sessions cannot say how far chance goes
    assert found.bound is None
    assert not found.falls_short
    assert found.sentence == (
        "BUY calls of version v1 came true in 33.3 % where 50.0 % were expected (3 calls on 2 sessions): too few "
        "sessions to tell that from chance."
    )


@pytest.mark.parametrize("other", [{"label": "HOLD"}, {"version": "v0"}, None])
def test_buy_record_without_a_buy_call_is_empty(other: dict[str, str] | None) -> None:
    nothing = stored([{"version": "v1"} | outcome(D[0], D[1])]).clear()
    found = buys([outcome(D[0], D[1]) | other]) if other else buy_record(nothing, "v1")
    assert found == BuyRecord("v1", 0, 0, None, None, None)
    assert not found.falls_short
    assert found.sentence == "BUY calls of version v1: none has reached the end of its horizon."


@pytest.mark.parametrize(("confidence", "short"), [(0.5, False), (0.9, True)])
def test_buy_record_falls_short_where_the_interval_lies_below_zero(confidence: float, *, short: bool) -> None:
    # Every other call comes true, one a session whose horizon is that session's own: 20 of 40.
    rows = [outcome(D[day], D[day + 1], confidence=confidence, hit=day % 2 == 0) for day in range(40)]
    found = buys(rows)
    tested = overlap_test(np.array([1.0, 0.0] * 20) - confidence, 1, 0)
    assert found.bound == pytest.approx(confidence - (tested.value - tested.low))
    # The error is sqrt(0.25 / 40) = 0.079, about twice that is half of the interval: 0.74 of 0.9.
    assert found.bound == pytest.approx(confidence - 0.16, abs=0.01)
    assert found.falls_short == short == (tested.high < 0)
    how = "less often than expected: 50.0 % where 90.0 %" if short else "as often as expected: 50.0 % where 50.0 %"
    least = f"chance explains {100 * found.bound:.1f} % or more (40 calls on 40 sessions)."
    assert found.sentence == f"BUY calls of version v1 came true {how} were expected, and {least}"


@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1), st.booleans()), min_size=1, max_size=80),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_buy_record_at_the_expected_precision_never_falls_short(
    calls: list[tuple[int, float, bool]], horizon: int, order: random.Random
) -> None:
    rows = [outcome(D[day], D[day + horizon], confidence=sure, hit=hit) for day, sure, hit in calls]
    found = buys(rows)
    assert found.expected is not None
    assert found.realised is not None
    if found.bound is not None:
        assert found.bound <= found.expected + 1e-12
        # an interval needs more sessions than share a horizon
        assert found.sessions >= 3
    assert not (found.falls_short and found.realised > found.expected)
    # neither the order nor anybody else's calls matter
    others = [{**row, "label": "SELL", "hit": not row["hit"]} for row in rows]
    others += [{**row, "version": "v2", "confidence": 0.1} for row in rows]
    shuffled = [*rows, *others]
    order.shuffle(shuffled)
    again = buys(shuffled)
    assert (again.calls, again.sessions, again.falls_short) == (found.calls, found.sessions, found.falls_short)
    assert again.bound == pytest.approx(found.bound)


@pytest.mark.slow
def test_buy_record_rarely_falls_short_for_calls_as_good_as_expected() -> None:
    short = sum(buys(overlapping_hits(seed, 0.4)).falls_short for seed in range(200))
    # 2.5 % of 200 is 5, with a standard deviation of 2.2: 12 is more than three beyond it
    assert short <= 12
    assert sum(buys(overlapping_hits(seed, 0.1)).falls_short for seed in range(20)) >= 15
