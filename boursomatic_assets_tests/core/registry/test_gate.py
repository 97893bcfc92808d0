from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment, Promotion
from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, compute_features
from boursomatic_assets.core.dataset.labels import LABEL_TYPE, label_panel
from boursomatic_assets.core.dataset.splits import Split, split_panel
from boursomatic_assets.core.market.simulation import SimulatedMarket, simulate_bars
from boursomatic_assets.core.models.predictions import predict_sets
from boursomatic_assets.core.models.threshold import threshold_of
from boursomatic_assets.core.models.training import fit_classifier, fit_regressor
from boursomatic_assets.core.registry.comparison import Comparison, Difference, compare
from boursomatic_assets.core.registry.contenders import Contender, Unscored, common_rows, last_label_end, score
from boursomatic_assets.core.registry.gate import GateDecision, decide, weigh
from boursomatic_assets.core.registry.serving import Serving
from boursomatic_assets_tests.support import served

HORIZON = 10
TREES = BoosterParameters(n_estimators=40)
EXPERIMENT = Experiment(classifier=TREES, regressor=TREES, horizon=HORIZON, bootstrap_draws=500)
FIRST_DAY = date(2018, 1, 1)


@cache
def labels(signal: float = 0.0, experiment: Experiment = EXPERIMENT) -> pl.DataFrame:
    """Thirty instruments of 900 sessions in which volatility can be foretold, and direction by a signal."""
    bars = simulate_bars(SimulatedMarket(symbols=30, sessions=900, signal=signal), seed=3)
    return label_panel(compute_features(bars), bars, experiment)


def fitted(version: str, split: Split, experiment: Experiment = EXPERIMENT) -> Contender:
    """A version trained and tuned on a split."""
    classifier, regressor = fit_classifier(split.train, experiment, 1), fit_regressor(split.train, experiment, 1)
    predictions = predict_sets({"validation": split.validation, "test": split.test}, classifier, regressor)
    chosen = threshold_of(predictions, experiment)
    serving = Serving(version, classifier, regressor, experiment, chosen.tau, chosen.temperature, None, {})
    return Contender(serving, last_label_end(split.train, split.validation))


@cache
def contender(version: str, signal: float = 0.0) -> Contender:
    return fitted(version, split_panel(labels(signal), EXPERIMENT))


@cache
def shuffled(version: str, signal: float = 0.0) -> Contender:
    """A version whose training labels were dealt out anew."""
    split = split_panel(labels(signal), EXPERIMENT)
    order = np.random.default_rng(4).permutation(split.train.height)
    dealt = split.train.with_columns(
        split.train["label"].gather(order), split.train["forward_return"].gather(order)
    )
    return fitted(version, replace(split, train=dealt))


def window(signal: float = 0.0) -> pl.DataFrame:
    return split_panel(labels(signal), EXPERIMENT).test


def by(mode: str, **changes: Any) -> Experiment:  # noqa: ANN401 (fields of the experiment)
    return EXPERIMENT.model_copy(update={"promotion": Promotion(mode=mode, **changes)})


def test_decide_refuses_a_challenger_of_shuffled_labels_and_says_why() -> None:
    decision = decide(shuffled("new"), contender("old"), window(), EXPERIMENT)
    assert not decision.promoted
    assert (decision.champion, decision.challenger) == ("old", "new")
    assert decision.reason.startswith("Not promoted, old stays: on the same ")
    assert "its log loss may be " in decision.reason
    assert "0.005 is allowed" in decision.reason
    loss = decision.figures["log_loss"]
    # Volatility can be foretold, and whoever was told nothing of it is worse in earnest.
    assert loss["difference"] > 0
    assert loss["upper_bound"] > 0.005


def test_decide_promotes_an_equal_model() -> None:
    decision = decide(contender("new"), contender("old"), window(), EXPERIMENT)
    assert decision.promoted
    zero = {"difference": 0.0, "low": None, "high": None, "upper_bound": 0.0}
    assert decision.figures["log_loss"].items() >= zero.items()
    assert decision.figures["rank_ic"]["low"] == decision.figures["rank_ic"]["high"] == 0.0
    assert "not worse on the same" in decision.reason
    # The sessions of the test window: none of them was learned from.
    assert decision.sessions == window()["session"].n_unique() == decision.figures["sessions"]
    assert decision.figures["rows"] == window().height


def test_decide_promotes_a_better_model() -> None:
    # A drift of 0.3 daily deviations: strong enough that 135 sessions show it in the ranks too.
    decision = decide(contender("new", 0.3), shuffled("old", 0.3), window(0.3), EXPERIMENT)
    assert decision.promoted
    loss, ranks = decision.figures["log_loss"], decision.figures["rank_ic"]
    assert loss["high"] < 0
    assert ranks["low"] > 0


def test_decide_promotes_the_first_version_in_every_mode() -> None:
    for mode in ("gate", "always", "never"):
        decision = decide(contender("new"), None, window(), by(mode))
        assert (decision.promoted, decision.champion, decision.sessions) == (True, None, 0)
        assert "it is the first" in decision.reason
        assert decision.figures == {"mode": mode, "margin": 0.005}
        assert decision.active == "new"


def test_decide_always_and_never_show_the_figures_too() -> None:
    always = decide(shuffled("new"), contender("old"), window(), by("always"))
    never = decide(contender("new"), shuffled("old"), window(), by("never"))
    assert (always.promoted, never.promoted) == (True, False)
    assert "promotion.mode is always" in always.reason
    assert "promotion.mode is never" in never.reason
    assert (always.active, never.active) == ("new", "old")
    assert always.figures["log_loss"]["difference"] == pytest.approx(-never.figures["log_loss"]["difference"])
    assert always.sessions == never.sessions > 0


def test_decide_allows_a_loss_up_to_the_margin() -> None:
    bound = decide(shuffled("new"), contender("old"), window(), EXPERIMENT).figures["log_loss"]["upper_bound"]
    judgements = [
        decide(shuffled("new"), contender("old"), window(), by("gate", margin=margin))
        for margin in (bound * 0.99, bound, bound * 1.01)
    ]
    assert ["log loss may be" in decision.reason for decision in judgements] == [True, False, False]


def test_decide_promotes_over_a_champion_that_cannot_be_scored() -> None:
    decision = decide(contender("new"), Unscored("old", "its bundle is gone"), window(), EXPERIMENT)
    assert decision.promoted
    assert decision.reason == "Promoted in place of old, with which it could not be compared: its bundle is gone."
    assert not decide(contender("new"), Unscored("old", "gone"), window(), by("never")).promoted


@pytest.mark.parametrize(("field", "value"), [("horizon", 11), ("buy_threshold", 0.06), ("sell_threshold", -0.03)])
def test_decide_promotes_over_a_champion_of_other_labels(field: str, value: float) -> None:
    old = contender("old")
    other = replace(old.serving, experiment=EXPERIMENT.model_copy(update={field: value}))
    decision = decide(contender("new"), replace(old, serving=other), window(), EXPERIMENT)
    assert decision.promoted
    assert f"its labels have another meaning ({field})" in decision.reason
    assert decision.sessions == 0


def test_decide_needs_two_horizons_of_common_sessions() -> None:
    days = window()["session"].unique().sort()
    decisions = {}
    for left in (2 * HORIZON - 1, 2 * HORIZON):
        knows = replace(contender("old"), learned_until=days[-left - 1])
        decisions[left] = decide(shuffled("new"), knows, window(), EXPERIMENT)
    few, enough = decisions.values()
    assert (few.promoted, few.sessions) == (True, 0)
    assert "only 19 sessions of its test window lie after what both have learned from, and 20 are" in few.reason
    assert enough.sessions == 20


def test_decide_needs_three_sessions_at_a_horizon_of_one() -> None:
    one = EXPERIMENT.model_copy(update={"horizon": 1})
    days = window()["session"].unique().sort()
    versions = [replace(found, serving=replace(found.serving, experiment=one)) for found in (contender("a"),) * 2]
    found = [
        decide(replace(versions[0], learned_until=days[-left - 1]), versions[1], window(), one).sessions
        for left in (2, 3)
    ]
    assert found == [0, 3]


def test_decide_does_not_favour_a_champion_trained_on_the_window() -> None:
    # It has learned the first half of the challenger's window by heart.
    days, split = window()["session"].unique().sort(), split_panel(labels(), EXPERIMENT)
    half = days[len(days) // 2]
    seen = labels().filter(pl.col("label_end") < half, pl.col("session") >= days[0])
    greedy = EXPERIMENT.model_copy(
        update={
            "classifier": BoosterParameters(n_estimators=300, num_leaves=255, max_depth=-1, min_child_samples=1)
        }
    )
    remembers = fitted("old", replace(split, train=seen), greedy)
    remembers = replace(remembers, serving=replace(remembers.serving, experiment=EXPERIMENT, temperature=1.0))
    assert remembers.learned_until == seen["label_end"].max()

    on_all = compare(score(split.test, contender("new").serving), score(split.test, remembers.serving), EXPERIMENT)
    decision = decide(contender("new"), remembers, split.test, EXPERIMENT)
    later = split.test.filter(pl.col("session") > remembers.learned_until)
    assert decision.sessions == later["session"].n_unique() < len(days)
    assert decision.figures["first_session"] == str(later["session"].min())
    # On all of the window its memory would help it; on the rest it is no good.
    assert on_all.log_loss.value > decision.figures["log_loss"]["difference"]
    assert decision.figures["log_loss"]["high"] < 0
    assert decision.promoted


def test_common_rows_are_unseen_labelled_and_readable_by_all() -> None:
    days = [FIRST_DAY + timedelta(days=number) for number in range(6)]
    rows = pl.DataFrame(
        {
            "symbol": ["A"] * 6,
            "session": days,
            "label": pl.Series(["BUY", "BUY", "BUY", "BUY", "BUY", None], dtype=LABEL_TYPE),
            "ret_1d": [0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
            "ret_5d": [0.1, 0.1, None, 0.1, 0.1, 0.1],
        }
    )

    def reads(name: str, until: date) -> Contender:
        serving = replace(contender("x").serving, experiment=Experiment(features=(name,)))
        return Contender(serving, until)

    day, week = reads("ret_1d", days[0]), reads("ret_5d", days[1])
    # Without the last one, whose horizon has not passed, those up to the later of both ends, and the third, which
    # one of them could not read.
    assert common_rows(rows, day, week)["session"].to_list() == [days[3], days[4]]
    assert common_rows(rows, day)["session"].to_list() == days[1:5]
    assert common_rows(rows.reverse(), day)["session"].to_list() == days[1:5]


def test_score_uses_the_threshold_and_calibrated_probabilities() -> None:
    serving, rows = served.serving(), served.split().test
    found = score(rows.sample(fraction=1.0, shuffle=True, seed=1), serving)
    raw = found.select("probability_buy", "probability_hold", "probability_sell").to_numpy()
    # A temperature of 1.25: each probability to the power of 0.8, and the sum 1 again.
    powers = raw ** (1 / 1.25)
    shown = powers / powers.sum(axis=1, keepdims=True)
    places = [["BUY", "HOLD", "SELL"].index(label) for label in found["label"]]
    expected = [-math.log(row[place]) for row, place in zip(shown, places, strict=True)]
    np.testing.assert_allclose(found["loss"].to_numpy(), expected, rtol=1e-12)
    assert found["call"].to_list() == found["predicted_label"].to_list()
    assert found["vol_20d"].to_list() == rows.sort("symbol", "session")["vol_20d"].to_list()
    eager = score(rows, replace(serving, tau=0.0))
    assert set(eager["call"]) == {"BUY"}


def test_score_has_the_volatility_that_a_version_does_not_read() -> None:
    names = tuple(name for name in DEFAULT_INPUTS if name != "vol_20d")
    blind = served.EXPERIMENT.model_copy(update={"features": names})
    models = fit_classifier(served.split().train, blind, 1), fit_regressor(served.split().train, blind, 1)
    version = Contender(Serving("b", *models, blind, 0.3, 1.0, None, {}), FIRST_DAY)
    assert version.columns == [*names, "vol_20d"]
    assert contender("x").columns == list(DEFAULT_INPUTS)
    assert score(served.split().test, version.serving)["vol_20d"].null_count() == 0


def difference(value: float, low: float, high: float, upper: float = math.nan) -> Difference:
    return Difference(value, 0.0, low, high, upper, "none")


SOUND = Comparison(
    difference(0.0, -0.01, 0.01, 0.004), difference(0.0, -0.1, 0.1), difference(0.0, -0.1, 0.1), 100, 50,
    date(2020, 1, 1), date(2020, 3, 1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"log_loss": difference(0.001, -0.01, 0.01, 0.005)}, []),
        ({"log_loss": difference(0.001, -0.01, 0.01, 0.0051)}, ["log loss may be"]),
        # Better for sure, by how much nobody knows.
        ({"log_loss": difference(-1.0, -2.0, 1.0, 0.9)}, ["log loss may be"]),
        ({"log_loss": difference(0.0, math.nan, math.nan, math.nan)}, ["log loss may be"]),
        ({"matched_lift": difference(-0.2, -0.3, -0.001)}, ["BUY lift at equal volatility is lower"]),
        ({"matched_lift": difference(-0.2, -0.3, 0.0)}, []),
        ({"rank_ic": difference(-0.2, -0.3, -0.1)}, ["rank IC is lower"]),
        ({"rank_ic": difference(math.nan, math.nan, math.nan)}, []),
        # an interval below zero, of a value that is not
        ({"rank_ic": difference(0.001, -0.003, -0.001)}, ["rank IC is lower"]),
        (
            {"matched_lift": difference(-0.2, -0.3, -0.1), "rank_ic": difference(-0.2, -0.3, -0.1)},
            ["BUY lift at equal volatility is lower", "rank IC is lower"],
        ),
    ],
)
def test_weigh_follows_the_rule(changes: dict[str, Difference], said: list[str]) -> None:
    promoted, reason = weigh(replace(SOUND, **changes), "old", margin=0.005)
    assert promoted is not bool(said)
    faults = ("its log loss may be", "its BUY lift at equal volatility is lower", "its rank IC is lower")
    assert [fault for fault in faults if fault in reason] == [f"its {name}" for name in said]
    assert reason.startswith(
        "Promoted in place of old: not worse on" if promoted else "Not promoted, old stays: on"
    )
    assert "the same 50 sessions, 2020-01-01 to 2020-03-01" in reason


@pytest.mark.parametrize(("low", "certain"), [(-0.01, False), (0.0, False), (math.nan, False), (0.0001, True)])
def test_weigh_says_whether_the_loss_is_certainly_higher(low: float, *, certain: bool) -> None:
    loss = difference(0.02, low, 0.05, 0.04)
    promoted, reason = weigh(replace(SOUND, log_loss=loss), "old", margin=0.005)
    assert not promoted
    assert ("that it is higher at all is not certain" in reason) is not certain
    assert "its log loss may be 0.0400 nats higher (95 %; most likely +0.0200" in reason


def test_gate_decision_is_strict_json() -> None:
    decision = decide(shuffled("new"), contender("old"), window(), EXPERIMENT)
    written = json.loads(json.dumps(decision.to_json(), allow_nan=False))
    assert written == decision.to_json()
    assert GateDecision.read(written) == decision
    assert GateDecision.read({"promoted": True, "reason": "first"}).champion is None
    assert list(written) == ["promoted", "reason", "champion", "challenger", "sessions", "figures"]
    assert {"mode", "margin", "log_loss", "matched_lift_buy", "rank_ic"} <= set(written["figures"])
    for name in ("log_loss", "matched_lift_buy", "rank_ic"):
        assert {"difference", "low", "high"} <= set(written["figures"][name])
