from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES, Profile, Profiles
from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS
from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.measures.calibration import COLDEST, HOTTEST, calibrate
from boursomatic_assets.core.models.predictions import predict_sets, set_of
from boursomatic_assets.core.models.training import fit_classifier, fit_regressor, model_matrix
from boursomatic_assets.core.recommendations.calls import (
    CALIBRATED,
    RECOMMENDATION_SCHEMA,
    Recommended,
    apply_profiles,
    recommend,
)
from boursomatic_assets.core.recommendations.reasons import Facts, justify
from boursomatic_assets.core.recommendations.snapshots import content_digest, facts_of, snapshots
from boursomatic_assets.errors import PanelContractError
from boursomatic_assets_tests.support.served import (
    EXPERIMENT,
    TEMPERATURE,
    all_rows,
    models,
    newest_rows,
    serving,
    split,
)
from boursomatic_assets_tests.support.strategies import MONDAY, risk_profiles

RAW = ["probability_buy", "probability_hold", "probability_sell"]
DEFAULTS = Profiles()
BARS = {symbol: {"inputs": f"of {symbol}", "adjustments": []} for symbol in ("W000", "W001", "W002", "W003")}


def predicted(buy: float, sell: float, **others: float) -> pl.DataFrame:
    """One predicted row of an instrument at 100; calibrated as it is."""
    values = {"close": 100.0, "predicted_return": 0.03, "vol_20d": 0.01, "atr_14": 2.0, **others}
    probabilities = (buy, 1 - buy - sell, sell)
    return pl.DataFrame(
        {
            "symbol": "AAA",
            "session": MONDAY,
            **dict(zip(RAW, probabilities, strict=True)),
            **dict(zip(CALIBRATED, probabilities, strict=True)),
            **values,
        }
    )


def called(rows: pl.DataFrame, tau: float | None = None, profiles: Profiles = DEFAULTS) -> list[tuple[Any, Any]]:
    """Label and what held it back, for each profile."""
    return apply_profiles(rows, tau, profiles).select("label", "held_back").rows()


BUY, SELL = ("BUY", None), ("SELL", None)
UNLIKELY, BELOW, WILD = ("HOLD", "probability"), ("HOLD", "threshold"), ("HOLD", "volatility")


@pytest.mark.parametrize(
    ("buy", "sell", "volatility", "tau", "expected"),
    [
        # p(BUY) and p(SELL) needed: 0.50, 0.40, 0.35; volatility allowed: 0.02, 0.03, 0.05
        (0.50, 0.20, 0.01, None, [BUY, BUY, BUY]),
        (0.49, 0.20, 0.01, None, [UNLIKELY, BUY, BUY]),
        (0.39, 0.20, 0.01, None, [UNLIKELY, UNLIKELY, BUY]),
        (0.34, 0.34, 0.01, None, [UNLIKELY, UNLIKELY, UNLIKELY]),
        # as much of both is a BUY, a little more p(SELL) a SELL
        (0.45, 0.45, 0.01, None, [UNLIKELY, BUY, BUY]),
        (0.45, 0.46, 0.01, None, [UNLIKELY, SELL, SELL]),
        (0.20, 0.50, 0.01, None, [SELL, SELL, SELL]),
        (0.20, 0.39, 0.01, None, [UNLIKELY, UNLIKELY, SELL]),
        # bounds themselves are allowed; to leave what is wild is no risk
        (0.60, 0.20, 0.02, None, [BUY, BUY, BUY]),
        (0.60, 0.20, 0.03, None, [WILD, BUY, BUY]),
        (0.60, 0.20, 0.05, None, [WILD, WILD, BUY]),
        (0.60, 0.20, 0.06, None, [WILD, WILD, WILD]),
        (0.20, 0.60, 0.06, None, [SELL, SELL, SELL]),
        # the model's own threshold, 0.45 included
        (0.45, 0.20, 0.01, 0.45, [UNLIKELY, BUY, BUY]),
        (0.44, 0.20, 0.01, 0.45, [UNLIKELY, BELOW, BELOW]),
        (0.20, 0.50, 0.01, 0.45, [SELL, SELL, SELL]),
        # of two reasons the first is told
        (0.44, 0.20, 0.06, 0.45, [UNLIKELY, BELOW, BELOW]),
    ],
)
def test_apply_profiles_follows_the_rule(
    buy: float, sell: float, volatility: float, tau: float | None, expected: list[tuple[Any, Any]]
) -> None:
    assert called(predicted(buy, sell, vol_20d=volatility), tau) == expected


def test_apply_profiles_holds_where_buy_and_a_likelier_sell_both_fall_short() -> None:
    shy_of_selling = Profile(buy_probability=0.3, sell_probability=0.5)
    profiles = Profiles(conservative=shy_of_selling, moderate=shy_of_selling, aggressive=shy_of_selling)
    assert called(predicted(0.35, 0.45), None, profiles) == [UNLIKELY] * 3


def test_apply_profiles_compares_raw_with_tau_and_calibrated_with_the_profile() -> None:
    rows = predicted(0.55, 0.20).with_columns(probability_buy=0.44)
    assert called(rows, 0.44) == [BUY] * 3
    assert called(rows, 0.45) == [BELOW] * 3


def test_stop_and_target_lie_multiples_of_the_range_from_the_close() -> None:
    # a range of 2: 100 - 2 * 2 and 100 + 3 * 2; 100 - 2.5 * 2 and 100 + 4 * 2; 100 - 3 * 2 and 100 + 4.5 * 2
    bought, sold, held = (
        apply_profiles(predicted(*shares), None, DEFAULTS).select("stop_loss", "take_profit").rows()
        for shares in ((0.6, 0.1), (0.1, 0.6), (0.1, 0.1))
    )
    assert bought == [(96.0, 106.0), (95.0, 108.0), (94.0, 109.0)]
    assert sold == [(104.0, 94.0), (105.0, 92.0), (106.0, 91.0)]
    assert held == [(None, None)] * 3


def test_stop_and_target_are_at_least_a_hundredth_of_the_close() -> None:
    # 100 - 2 * 60 is below zero; 100 - 2 * 49.6 = 0.8 is above, and below 1
    for wild_range in (60.0, 49.6):
        bought = apply_profiles(predicted(0.6, 0.1, atr_14=wild_range), None, DEFAULTS)
        assert bought["stop_loss"].to_list() == [1.0] * 3
        assert bought["take_profit"][0] == 100 + 3 * wild_range
        sold = apply_profiles(predicted(0.1, 0.6, atr_14=wild_range), None, DEFAULTS)
        assert sold["take_profit"].to_list() == [1.0] * 3


def test_confidence_is_the_calibrated_probability_of_the_label() -> None:
    rows = predicted(0.45, 0.15).with_columns(calibrated_buy=0.42, calibrated_hold=0.38, calibrated_sell=0.20)
    made = apply_profiles(rows, None, DEFAULTS)
    assert made.select("label", "confidence").rows() == [("HOLD", 0.38), ("BUY", 0.42), ("BUY", 0.42)]
    rows = predicted(0.15, 0.45).with_columns(calibrated_buy=0.20, calibrated_hold=0.38, calibrated_sell=0.42)
    assert apply_profiles(rows, None, DEFAULTS)["confidence"].to_list() == [0.38, 0.42, 0.42]


def test_expected_return_is_in_percent_for_any_label() -> None:
    made = apply_profiles(predicted(0.1, 0.6, predicted_return=0.25), None, DEFAULTS)
    assert made["expected_return_pct"].to_list() == [25.0] * 3


taus = st.none() | st.floats(0.2, 0.8)


@st.composite
def raw_probabilities(draw: st.DrawFn) -> tuple[float, float, float]:
    weights = draw(st.tuples(*[st.floats(0, 1)] * 3).filter(lambda drawn: sum(drawn) > 1e-3))
    buy, hold, sell = (weight / sum(weights) for weight in weights)
    return buy, hold, sell


@st.composite
def predictions(draw: st.DrawFn) -> pl.DataFrame:
    """One predicted row of any price, range and volatility, its probabilities calibrated."""
    return with_probabilities(
        draw(raw_probabilities()),
        draw(st.floats(COLDEST, HOTTEST)),
        close=(close := 10 ** draw(st.floats(-4, 6))),
        atr_14=close * 10 ** draw(st.floats(-5.9, 0)),
        vol_20d=draw(st.floats(0, 0.2)),
        predicted_return=draw(st.floats(-1, 2)),
    )


def with_probabilities(raw: tuple[float, float, float], temperature: float, **others: float) -> pl.DataFrame:
    calibrated = calibrate(np.array([raw]), temperature)[0].tolist()
    values = dict(zip((*RAW, *CALIBRATED), (*raw, *calibrated), strict=True))
    return pl.DataFrame({"symbol": "AAA", "session": MONDAY, **values, **others})


@given(predictions(), taus, risk_profiles())
def test_stop_and_target_lie_on_their_sides_of_the_close(
    rows: pl.DataFrame, tau: float | None, profiles: Profiles
) -> None:
    for row in apply_profiles(rows, tau, profiles).iter_rows(named=True):
        stop, close, target = row["stop_loss"], row["close"], row["take_profit"]
        if row["label"] == "HOLD":
            assert stop is target is None
        elif row["label"] == "BUY":
            assert 0 < stop < close < target
        else:
            assert 0 < target < close < stop


@given(predictions(), taus, risk_profiles())
def test_apply_profiles_keeps_every_call_of_a_stricter_profile(
    rows: pl.DataFrame, tau: float | None, profiles: Profiles
) -> None:
    for (strict, _), (bold, _) in pairwise(called(rows, tau, profiles)):
        assert strict in {"HOLD", bold}


@given(predictions(), taus, risk_profiles())
def test_confidence_is_a_probability_and_only_a_hold_is_held_back(
    rows: pl.DataFrame, tau: float | None, profiles: Profiles
) -> None:
    for row in apply_profiles(rows, tau, profiles).iter_rows(named=True):
        assert 0 <= row["confidence"] <= 1
        assert row["confidence"] == row[f"calibrated_{row['label'].lower()}"]
        assert (row["held_back"] is not None) == (row["label"] == "HOLD")


@given(raw_probabilities(), st.floats(COLDEST, HOTTEST), taus, risk_profiles(), st.floats(0, 1))
def test_apply_profiles_keeps_a_buy_when_its_probability_grows(
    raw: tuple[float, float, float], temperature: float, tau: float | None, profiles: Profiles, part: float
) -> None:
    # the two others keep their ratio, and what they lose goes to BUY
    buy, hold, sell = raw
    more = (1 - (1 - part) * (hold + sell), (1 - part) * hold, (1 - part) * sell)
    others = {"close": 100.0, "atr_14": 2.0, "vol_20d": 0.02, "predicted_return": 0.0}
    before = called(with_probabilities(raw, temperature, **others), tau, profiles)
    # where nothing is added, rounding may still take a bit away
    added = (max(more[0], buy), more[1], more[2])
    after = called(with_probabilities(added, temperature, **others), tau, profiles)
    for (label, _), (now, _) in zip(before, after, strict=True):
        assert label != "BUY" or now == "BUY"
        assert now != "SELL" or label == "SELL"


@pytest.fixture(scope="module")
def recommended() -> Recommended:
    return recommend(newest_rows(), serving(), DEFAULTS)


@pytest.fixture(scope="module")
def kept(recommended: Recommended) -> list[dict[str, Any]]:
    return snapshots(recommended, serving(), DEFAULTS, BARS)


def test_recommend_gives_a_row_per_instrument_and_profile(recommended: Recommended) -> None:
    rows = recommended.rows
    assert rows.schema == pl.Schema(RECOMMENDATION_SCHEMA)
    assert rows["symbol"].to_list() == [f"W{number:03d}" for number in range(4) for _ in PROFILE_NAMES]
    assert rows["profile"].to_list() == list(PROFILE_NAMES) * 4
    assert rows["horizon_days"].to_list() == [EXPERIMENT.horizon] * 12 == [5] * 12


def test_recommend_says_what_the_models_say(recommended: Recommended) -> None:
    classifier, regressor = (model.estimator() for model in models())
    newest = newest_rows()
    # what is not in the table: the average range over the close
    inputs = model_matrix(newest.with_columns(natr_14=pl.col("atr_14") / pl.col("close")), DEFAULT_INPUTS)
    probabilities, forecast = classifier.predict_proba(inputs), regressor.predict(inputs)
    for place, symbol in enumerate(newest["symbol"]):
        # softmax of log p / 1.25: p to the power of 0.8, made to sum to 1
        powers = probabilities[place] ** (1 / TEMPERATURE)
        expected = dict(zip(CLASS_NAMES, powers / powers.sum(), strict=True))
        for row in recommended.rows.filter(symbol=symbol).iter_rows(named=True):
            assert row["confidence"] == pytest.approx(expected[row["label"]], rel=1e-12)
            assert row["expected_return_pct"] == pytest.approx(100 * forecast[place], rel=1e-12)


def test_probabilities_sum_to_one_raw_and_calibrated(recommended: Recommended) -> None:
    for columns in (RAW, list(CALIBRATED)):
        sums = recommended.predictions.select(pl.sum_horizontal(columns)).to_series()
        np.testing.assert_allclose(sums, 1, atol=1e-12)


def test_recommend_live_equals_a_backtest_to_the_last_bit() -> None:
    sets = {"validation": split().validation, "test": split().test}
    backtest = set_of(predict_sets(sets, *models()), "test")
    columns = ["symbol", "session", *RAW, "predicted_return"]
    # the rows as they are served: beside what the models read, what calls are priced by
    served_rows = all_rows().join(sets["test"], on=["symbol", "session"], how="semi")
    whole = recommend(served_rows, serving(), DEFAULTS)
    assert_frame_equal(whole.predictions.select(columns), backtest.select(columns), check_exact=True)
    for session in sets["test"]["session"].unique().sort()[::7]:
        # what was known then: the session's rows
        live = recommend(all_rows().filter(pl.col("session") == session), serving(), DEFAULTS)
        then = backtest.filter(pl.col("session") == session)
        assert_frame_equal(live.predictions.select(columns), then.select(columns), check_exact=True)
        assert_frame_equal(live.rows, whole.rows.filter(pl.col("session") == session), check_exact=True)


def test_recommend_depends_on_each_row_alone(recommended: Recommended, kept: list[dict[str, Any]]) -> None:
    newest = newest_rows()
    turned = recommend(newest.reverse(), serving(), DEFAULTS)
    assert_frame_equal(turned.rows, recommended.rows, check_exact=True)
    assert snapshots(turned, serving(), DEFAULTS, BARS) == kept
    for place in range(newest.height):
        alone = recommend(newest[place : place + 1], serving(), DEFAULTS)
        assert_frame_equal(alone.rows, recommended.rows[3 * place : 3 * place + 3], check_exact=True)
        assert snapshots(alone, serving(), DEFAULTS, BARS) == kept[3 * place : 3 * place + 3]


def test_recommend_without_rows_gives_none() -> None:
    nothing = recommend(newest_rows().clear(), serving(), DEFAULTS)
    assert nothing.rows.schema == pl.Schema(RECOMMENDATION_SCHEMA)
    assert nothing.rows.is_empty()
    whole = recommend(newest_rows(), serving(), DEFAULTS)
    assert nothing.predictions.schema == whole.predictions.schema
    assert snapshots(nothing, serving(), DEFAULTS, {}) == []


def test_recommend_refuses_rows_that_lack_a_column_or_repeat() -> None:
    with pytest.raises(PanelContractError, match="atr_14"):
        recommend(newest_rows().drop("atr_14"), serving(), DEFAULTS)
    with pytest.raises(PanelContractError, match="unique"):
        recommend(pl.concat([newest_rows()] * 2), serving(), DEFAULTS)


def test_recommend_limits_and_prices_by_features_that_the_model_does_not_read() -> None:
    narrow = EXPERIMENT.model_copy(update={"features": ("rsi_14", "ret_1d")})
    train_set = split().train
    served = dataclasses.replace(
        serving(), classifier=fit_classifier(train_set, narrow, 1), regressor=fit_regressor(train_set, narrow, 1)
    )
    limit = newest_rows()["vol_20d"].median()
    bold = Profile(buy_probability=0.01, sell_probability=0.01, max_volatility=limit)
    alike = Profiles(conservative=bold, moderate=bold, aggressive=bold)
    made = recommend(newest_rows(), served, alike)
    assert made.predictions.columns[-4:] == ["rsi_14", "ret_1d", "vol_20d", "atr_14"]
    # two of four instruments lie above the median: they may be sold or held, never bought
    volatile = newest_rows().filter(pl.col("vol_20d") > limit)["symbol"]
    assert len(volatile) == 2
    assert "BUY" not in made.rows.filter(pl.col("symbol").is_in(volatile.implode()))["label"].to_list()
    priced = made.rows.filter(pl.col("label") != "HOLD").join(newest_rows(), on="symbol")
    assert priced.height
    for row in priced.iter_rows(named=True):
        assert abs(row["close"] - row["stop_loss"]) == pytest.approx(bold.stop_atr * row["atr_14"])
    assert list(snapshots(made, served, alike, BARS)[0]["features"]) == ["rsi_14", "ret_1d", "vol_20d", "atr_14"]


def test_snapshot_holds_what_the_row_was_made_from(recommended: Recommended, kept: list[dict[str, Any]]) -> None:
    newest = newest_rows().rows(named=True)
    for place, (row, snapshot) in enumerate(zip(recommended.rows.iter_rows(named=True), kept, strict=True)):
        source = newest[place // 3]
        source["natr_14"] = source["atr_14"] / source["close"]
        assert snapshot["session"] == source["session"].isoformat()
        assert snapshot["close"] == source["close"]
        assert list(snapshot["features"].items()) == [(name, source[name]) for name in (*DEFAULT_INPUTS, "atr_14")]
        assert snapshot["profile"] == {"name": row["profile"], **getattr(DEFAULTS, row["profile"]).model_dump()}
        assert snapshot["calibrated"][row["label"]] == row["confidence"]
        assert 100 * snapshot["predicted_return"] == row["expected_return_pct"]
        assert snapshot["held_back"] == row["held_back"]
        assert snapshot["bars"] == BARS[row["symbol"]]
    fixed = kept[0]
    assert (fixed["schema"], fixed["horizon"], fixed["temperature"], fixed["tau"]) == (1, 5, TEMPERATURE, None)
    assert fixed["labelling"] == {"buy_threshold": 0.05, "sell_threshold": -0.02}
    assert fixed["model"] == {"version": "20260102_030405_abcdef", **serving().digests}


def test_snapshot_reproduces_its_row(recommended: Recommended, kept: list[dict[str, Any]]) -> None:
    stored = [json.loads(json.dumps(snapshot, allow_nan=False)) for snapshot in kept]
    assert stored == kept
    symbols = recommended.rows["symbol"]
    rows = pl.DataFrame(
        {"symbol": symbol, "close": snapshot["close"], **snapshot["features"]}
        for symbol, snapshot in zip(symbols[::3], stored[::3], strict=True)
    ).with_columns(session=pl.Series([snapshot["session"] for snapshot in stored[::3]]).str.to_date())
    again = recommend(rows, serving(), DEFAULTS)
    assert_frame_equal(again.rows, recommended.rows, check_exact=True)
    assert [entry["digest"] for entry in snapshots(again, serving(), DEFAULTS, BARS)] == [
        snapshot["digest"] for snapshot in stored
    ]


def test_snapshot_contributions_add_up_to_the_predictions(kept: list[dict[str, Any]]) -> None:
    for snapshot in kept[::3]:
        assert list(snapshot["contributions"]) == [*CLASS_NAMES, "forward return"]
        scores = {
            name: sum(added.values()) + snapshot["expected_scores"][name]
            for name, added in snapshot["contributions"].items()
        }
        assert scores.pop("forward return") == pytest.approx(snapshot["predicted_return"], rel=1e-9)
        # softmax of the raw scores
        total = sum(math.exp(score) for score in scores.values())
        softmax = {name: math.exp(score) / total for name, score in scores.items()}
        assert softmax == pytest.approx(snapshot["probabilities"], rel=1e-9)


def test_snapshot_of_a_missing_feature_has_null() -> None:
    silent = newest_rows().with_columns(volume_zscore=pl.lit(None, pl.Float64))
    for snapshot in snapshots(recommend(silent, serving(), DEFAULTS), serving(), DEFAULTS, BARS):
        assert snapshot["features"]["volume_zscore"] is None
        json.dumps(snapshot, allow_nan=False)


def test_snapshot_justification_follows_from_facts(recommended: Recommended, kept: list[dict[str, Any]]) -> None:
    for row, snapshot in zip(recommended.rows.iter_rows(named=True), kept, strict=True):
        label, profile = row["label"], getattr(DEFAULTS, row["profile"])
        facts = facts_of(snapshot, label, row["held_back"], row["profile"], profile)
        assert facts == Facts(
            label=label, held_back=row["held_back"], probability=row["confidence"],
            calibrated=snapshot["calibrated"], expected_return=snapshot["predicted_return"], horizon=5,
            features=snapshot["features"], close=snapshot["close"], contributions=snapshot["contributions"][label],
            profile=row["profile"], max_volatility=profile.max_volatility, tau=None, buy_threshold=0.05,
            sell_threshold=-0.02,
        )  # fmt: skip
        assert snapshot["justification"] == justify(facts)


def test_content_digest_is_that_of_the_compact_json_of_both_parts() -> None:
    # keys in alphabetical order, no spaces; the part that profiles share goes in by its own digest
    shared = hashlib.sha256(b'{"close":1.5,"schema":1}').hexdigest()
    text = (
        f'{{"held_back":null,"justification":{{"en":"Why."}},"profile":{{"name":"moderate"}},"shared":"{shared}"}}'
    )
    snapshot = {"schema": 1, "profile": {"name": "moderate"}, "justification": {"en": "Why."}, "close": 1.5}
    assert content_digest(snapshot) == hashlib.sha256(text.encode()).hexdigest()


def test_content_digest_does_not_depend_on_run_or_bars(kept: list[dict[str, Any]]) -> None:
    for snapshot in kept:
        written = {**snapshot, "run": {"id": "another"}, "bars": {"inputs": "others"}, "digest": "forgotten"}
        assert content_digest(json.loads(json.dumps(written))) == snapshot["digest"]
    assert len({snapshot["digest"] for snapshot in kept}) == len(kept)


@pytest.mark.parametrize("name", ["schema", "close", "features", "tau", "profile", "held_back", "justification"])
def test_content_digest_changes_with_the_content(kept: list[dict[str, Any]], name: str) -> None:
    assert content_digest({**kept[0], name: "other"}) != kept[0]["digest"]


def test_snapshot_refuses_a_number_that_is_not_finite(recommended: Recommended) -> None:
    broken = dataclasses.replace(
        recommended, predictions=recommended.predictions.with_columns(ret_1d=pl.lit(math.nan))
    )
    with pytest.raises(ValueError, match="JSON"):
        snapshots(broken, serving(), DEFAULTS, BARS)
