from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, precision_recall_fscore_support, r2_score

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.evaluation.scores import scores
from boursomatic_assets.core.evaluation.session_sums import FORECASTERS, session_sums
from boursomatic_assets.core.measures.calibration import expected_calibration_error
from boursomatic_assets.core.measures.classification import matched_lift
from boursomatic_assets.core.measures.inference import clark_west_terms, newey_west_error, overlap_test
from boursomatic_assets.core.measures.ranking import rank_ic
from boursomatic_assets.core.measures.resampling import bootstrap_weights
from boursomatic_assets_tests.support.judged import (
    EXPERIMENT,
    HORIZON,
    hand_made,
    judged_panel,
    on_sessions,
    poor_panels,
)

if TYPE_CHECKING:
    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.measures.figures import Figure

JUDGED = judged_panel(symbols=20, sessions=40, seed=1)
LABELS, CALLS = (JUDGED[name].cast(pl.String).to_numpy() for name in ("label", "call"))
PROBABILITIES = [f"probability_{name.lower()}" for name in CLASS_NAMES]
SMALL_PANELS = st.builds(judged_panel, st.integers(1, 20), st.integers(1, 12), st.integers(0, 2**32 - 1))


def figures_of(judged: pl.DataFrame, experiment: Experiment = EXPERIMENT) -> dict[str, Figure]:
    return {figure.name: figure for figure in scores(judged, experiment).figures}


FIGURES = figures_of(JUDGED)

THREE = hand_made(
    ["BUY", "SELL", "HOLD"],
    ["BUY", "BUY", "HOLD"],
    probability_buy=[0.5, 0.6, 0.2],
    probability_hold=[0.3, 0.3, 0.7],
    probability_sell=[0.2, 0.1, 0.1],
    prior_probability_buy=[0.3] * 3,
    prior_probability_hold=[0.45] * 3,
    prior_probability_sell=[0.25] * 3,
    forward_return=[0.1, -0.05, 0.0],
    predicted_return=[0.02, 0.0, 0.01],
    prior_return=[0.01] * 3,
)


def test_session_sums_by_hand() -> None:
    (sums,) = session_sums(THREE).drop("session").to_dicts()
    assert sums == pytest.approx(
        {
            "rows": 3,
            "correct": 2,  # BUY and HOLD
            "correct_prior": 1,  # its most probable class is HOLD
            "called_BUY": 2,
            "called_HOLD": 1,
            "called_SELL": 0,
            "actual_BUY": 1,
            "actual_HOLD": 1,
            "actual_SELL": 1,
            "hit_BUY": 1,
            "hit_HOLD": 1,
            "hit_SELL": 0,
            "log_loss_model": -math.log(0.5) - math.log(0.1) - math.log(0.7),
            "log_loss_volatility": 3 * math.log(3),
            "log_loss_prior": -math.log(0.3) - math.log(0.25) - math.log(0.45),
            # Row by row: (0.25 + 0.09 + 0.04) + (0.36 + 0.09 + 0.81) + (0.04 + 0.09 + 0.01)
            "brier_model": 0.38 + 1.26 + 0.14,
            "brier_volatility": 3 * (4 / 9 + 1 / 9 + 1 / 9),
            # Row by row: (0.49 + 0.2025 + 0.0625) + (0.09 + 0.2025 + 0.5625) + (0.09 + 0.3025 + 0.0625)
            "brier_prior": 0.755 + 0.855 + 0.455,
            "square": 0.08**2 + 0.05**2 + 0.01**2,
            "square_prior": 0.09**2 + 0.06**2 + 0.01**2,
            "absolute": 0.08 + 0.05 + 0.01,
            # 2 (0.09 x 0.01 + -0.06 x -0.01 + -0.01 x 0)
            "clark_west": 0.003,
            # Three rows in ten deciles: each is alone, and its own base rate is what happened.
            "surprise_matched": 0,
            "expected_matched": 1,
            # Fewer than sixteen names: no group to choose in.
            "surprise_selected": 0,
            "expected_selected": 0,
        },
        abs=1e-12,
    )


def test_session_sums_log_loss_of_a_wrong_certainty_is_that_of_scikit_learn() -> None:
    sure = THREE.with_columns(
        probability_buy=pl.lit(0.0), probability_hold=pl.lit(1.0), probability_sell=pl.lit(0.0)
    )
    labels, chances = sure["label"].cast(pl.String).to_numpy(), sure.select(PROBABILITIES).to_numpy()
    loss = session_sums(sure)["log_loss_model"].item()
    assert loss == pytest.approx(log_loss(labels, chances, labels=CLASS_NAMES, normalize=False), rel=1e-9)


# Sixteen names are two groups of eight: those less probable to HOLD, and the others. Of the first eight four are
# called, three of them right, and four rise in all; of the others two are called, both wrong, and two rise.
SIXTEEN = hand_made(
    ["BUY"] * 3 + ["SELL"] + ["BUY"] + ["SELL"] * 3 + ["HOLD"] * 2 + ["BUY"] * 2 + ["HOLD"] * 4,
    ["BUY"] * 4 + ["HOLD"] * 4 + ["BUY"] * 2 + ["HOLD"] * 6,
    probability_hold=[0.2] * 8 + [0.6] * 8,
    probability_buy=[0.5] * 8 + [0.3] * 8,
    probability_sell=[0.3] * 8 + [0.1] * 8,
)


def test_session_sums_compare_hits_with_names_of_similar_probability() -> None:
    sums = session_sums(SIXTEEN)
    # Expected: 4 calls x 4/8 + 2 calls x 2/8 = 2.5; hits 3 + 0.
    assert sums["expected_selected"].item() == pytest.approx(2.5)
    assert sums["surprise_selected"].item() == pytest.approx(3 - 2.5)


def test_selection_lift_is_hits_over_expected_hits() -> None:
    figures = figures_of(SIXTEEN)
    assert figures["selection_lift_buy"].value == pytest.approx(3 / 2.5)
    # One session has no interval, but a value.
    assert math.isnan(figures["selection_lift_buy"].p_value)
    assert figures["precision_buy"].value == 3 / 6
    # 6 of 16 rise: 3/6 over 6/16
    assert figures["lift_buy"].value == pytest.approx(4 / 3)


def test_selection_lift_groups_within_the_session() -> None:
    # The same names on another day, all more probable to HOLD: the groups are the same, and so is the lift.
    calm = SIXTEEN.with_columns(probability_hold=pl.col("probability_hold") + 0.3)
    assert figures_of(on_sessions(SIXTEEN, calm))["selection_lift_buy"].value == pytest.approx(3 / 2.5)


def test_selection_lift_of_all_names_or_whole_groups_is_one() -> None:
    every = SIXTEEN.with_columns(call=pl.lit("BUY", SIXTEEN.schema["call"]))
    assert figures_of(every)["selection_lift_buy"].value == pytest.approx(1)
    group = pl.when(pl.col("probability_hold") < 0.5).then(pl.lit("BUY")).otherwise(pl.lit("HOLD"))
    volatile = SIXTEEN.with_columns(call=group.cast(SIXTEEN.schema["call"]))
    assert figures_of(volatile)["selection_lift_buy"].value == pytest.approx(1)


def test_selection_lift_needs_sixteen_names() -> None:
    few = figures_of(SIXTEEN.head(15))["selection_lift_buy"]
    assert math.isnan(few.value)
    assert few.why_undefined == "no BUY call in a session of 16 names or more"


@given(SMALL_PANELS)
def test_session_sums_surprises_give_the_matched_lift(judged: pl.DataFrame) -> None:
    sums, lift = session_sums(judged), matched_lift(judged)
    expected = float(sums["expected_matched"].to_numpy().sum())
    assert math.isnan(lift) == (expected == 0)
    if expected > 0:
        assert 1 + float(sums["surprise_matched"].to_numpy().sum()) / expected == pytest.approx(lift, abs=1e-9)


@given(SMALL_PANELS, st.randoms(use_true_random=False))
def test_session_sums_do_not_depend_on_the_order_of_rows(judged: pl.DataFrame, random: st.random.Random) -> None:
    order = list(range(judged.height))
    random.shuffle(order)
    # Not even in the last digit, also where p(HOLD) is equal.
    assert_frame_equal(session_sums(judged[order]), session_sums(judged), check_exact=True)


@given(SMALL_PANELS, SMALL_PANELS)
def test_session_sums_depend_on_their_own_session(judged: pl.DataFrame, other: pl.DataFrame) -> None:
    later = other.with_columns(pl.col("session").dt.offset_by("1y"))
    own = pl.exclude("surprise_matched", "expected_matched")
    both = session_sums(pl.concat([later, judged]))
    assert_frame_equal(both.head(judged["session"].n_unique()).select(own), session_sums(judged).select(own))


@given(SMALL_PANELS)
def test_session_sums_stay_within_their_rows(judged: pl.DataFrame) -> None:
    sums = session_sums(judged)
    assert sums["session"].is_sorted()
    assert sums["rows"].sum() == judged.height
    for kind in ("called", "actual"):
        assert (
            sums.select(pl.sum_horizontal(f"{kind}_{name}" for name in CLASS_NAMES)).to_series() == sums["rows"]
        ).all()
    hits = sums.select(pl.sum_horizontal(f"hit_{name}" for name in CLASS_NAMES)).to_series()
    assert (hits == sums["correct"]).all()
    for who in FORECASTERS:
        assert (sums[f"brier_{who}"] <= 2 * sums["rows"] + 1e-9).all()
        assert (sums[f"log_loss_{who}"] >= 0).all()
    for kind in ("matched", "selected"):
        assert (sums[f"expected_{kind}"] <= sums["called_BUY"] + 1e-9).all()


def test_scores_of_calls_are_those_of_scikit_learn() -> None:
    assert FIGURES["accuracy"].value == pytest.approx(accuracy_score(LABELS, CALLS), abs=1e-9)
    theirs = precision_recall_fscore_support(LABELS, CALLS, labels=CLASS_NAMES)
    for kind, values in zip(("precision", "recall", "f1"), theirs, strict=False):
        for name, value in zip(CLASS_NAMES, values, strict=True):
            assert FIGURES[f"{kind}_{name.lower()}"].value == pytest.approx(value, abs=1e-9)


def test_scores_of_each_class_stand_beside_random_calls() -> None:
    base, called = float(np.mean(LABELS == "BUY")), float(np.mean(CALLS == "BUY"))
    assert FIGURES["precision_buy"].baseline == pytest.approx(base, abs=1e-9)
    assert FIGURES["recall_buy"].baseline == pytest.approx(called, abs=1e-9)
    # F1 of a precision of `base` and a recall of `called`
    assert FIGURES["f1_buy"].no_skill == pytest.approx(2 / (1 / base + 1 / called), abs=1e-9)
    # Calls made without looking do come close: a thousand times the same labels in another order.
    shuffled = np.random.default_rng(2).permuted(np.tile(CALLS, (1000, 1)), axis=1)
    blind = (
        2
        * ((shuffled == "BUY") & (LABELS == "BUY")).sum(axis=1)
        / ((CALLS == "BUY").sum() + (LABELS == "BUY").sum())
    )
    # An F1 of 800 rows varies by about 0.03; its mean over a thousand by 0.001: four of them.
    assert FIGURES["f1_buy"].no_skill == pytest.approx(blind.mean(), abs=0.004)


def test_scores_accuracy_stands_beside_majority_and_prior() -> None:
    shares = [float(np.mean(name == LABELS)) for name in CLASS_NAMES]
    assert FIGURES["accuracy"].baseline == pytest.approx(max(shares), abs=1e-9)
    # The prior says 0.3, 0.45, 0.25: HOLD.
    assert FIGURES["accuracy"].no_skill == pytest.approx(shares[1], abs=1e-9)


@pytest.mark.parametrize(("who", "field"), [("model", "value"), ("volatility", "baseline"), ("prior", "no_skill")])
def test_scores_losses_are_those_of_scikit_learn(who: str, field: str) -> None:
    chances = JUDGED.select(f"{FORECASTERS[who]}_{name.lower()}" for name in CLASS_NAMES).to_numpy()
    loss = log_loss(LABELS, chances, labels=CLASS_NAMES)
    assert getattr(FIGURES["log_loss"], field) == pytest.approx(loss, abs=1e-9)
    happened = LABELS[:, None] == np.array(CLASS_NAMES)
    brier = ((chances - happened) ** 2).sum(axis=1).mean()
    assert getattr(FIGURES["brier"], field) == pytest.approx(brier, abs=1e-9)


def test_scores_brier_skill_is_the_part_of_the_prior_score_saved() -> None:
    brier, skill = FIGURES["brier"], FIGURES["brier_skill"]
    assert skill.value == pytest.approx(1 - brier.value / brier.no_skill, abs=1e-9)
    assert skill.baseline == pytest.approx(1 - brier.baseline / brier.no_skill, abs=1e-9)


def test_scores_forecast_errors_are_those_of_scikit_learn() -> None:
    realised, forecast, prior = (
        JUDGED[name].to_numpy() for name in ("forward_return", "predicted_return", "prior_return")
    )
    assert FIGURES["mae"].value == pytest.approx(mean_absolute_error(realised, forecast), abs=1e-9)
    assert FIGURES["rmse"].value == pytest.approx(math.sqrt(np.mean((realised - forecast) ** 2)), abs=1e-9)
    assert FIGURES["rmse"].baseline == pytest.approx(math.sqrt(np.mean((realised - prior) ** 2)), abs=1e-9)
    # R² over another mean than the rows' own: (1 - R²) of the one over (1 - R²) of the other.
    part = (1 - r2_score(realised, forecast)) / (1 - r2_score(realised, prior))
    assert FIGURES["r2_over_prior"].value == pytest.approx(1 - part, abs=1e-9)


def test_scores_forecast_is_tested_by_clark_and_west() -> None:
    named = JUDGED.with_columns(
        term=pl.Series(
            clark_west_terms(
                *(JUDGED[n].to_numpy() for n in ("forward_return", "predicted_return", "prior_return"))
            )
        )
    )
    means = named.group_by("session").agg(pl.col("term").mean()).sort("session")["term"].to_numpy()
    test = overlap_test(means, HORIZON, HORIZON - 1)
    assert FIGURES["r2_over_prior"].p_value == pytest.approx(test.p_value, abs=1e-9)


def test_scores_rank_ic_is_the_mean_over_sessions() -> None:
    values, past = (rank_ic(JUDGED, name)["rank_ic"].to_numpy() for name in ("predicted_return", "momentum_12_1"))
    test = overlap_test(values, HORIZON, HORIZON - 1)
    ic = FIGURES["rank_ic"]
    assert (ic.value, ic.low, ic.high, ic.p_value) == (test.value, test.low, test.high, test.p_value)
    assert ic.baseline == pytest.approx(past.mean(), abs=1e-12)
    assert FIGURES["rank_ic_deviation"].value == pytest.approx(values.std(ddof=1), rel=1e-9)
    assert FIGURES["icir"].value == pytest.approx(values.mean() / values.std(ddof=1), rel=1e-9)
    error = newey_west_error(values, HORIZON - 1)
    assert FIGURES["rank_ic_t"].value == pytest.approx(values.mean() / error, rel=1e-9)


def test_scores_intervals_hold_their_value() -> None:
    for figure in FIGURES.values():
        if math.isfinite(figure.low) and figure.name != "ece_buy":
            assert figure.low <= figure.value <= figure.high, figure.name
    for name in ("rmse", "mae", "ece_buy"):
        assert FIGURES[name].low >= 0


def test_scores_rmse_interval_is_not_below_zero() -> None:
    # One session of sixteen is off: the interval of the mean square reaches below zero, that of its root does not.
    off = [THREE] * 15 + [THREE.with_columns(predicted_return=pl.lit(3.0))]
    rmse = figures_of(on_sessions(*off))["rmse"]
    assert rmse.low == 0.0 < rmse.value < rmse.high


def test_scores_p_values_are_of_tests_with_a_null() -> None:
    tested = {name for name, figure in FIGURES.items() if math.isfinite(figure.p_value)}
    assert tested == {"rank_ic", "matched_rank_ic", "selection_lift_buy", "r2_over_prior"}


def test_scores_raw_lift_interval_is_that_of_resampling() -> None:
    # Independent sessions: without overlap the linearised interval and 1.96 deviations of 4000 resampled lifts are
    # two estimates of one width. Deviations from 4000 draws are off by 1 %, linearisation by a few; 10 % in all.
    judged = judged_panel(symbols=30, sessions=150, seed=3)
    lift = figures_of(judged, EXPERIMENT.model_copy(update={"horizon": 1}))["lift_buy"]
    sums = session_sums(judged).select("hit_BUY", "called_BUY", "actual_BUY", "rows").to_numpy()
    hits, called, actual, rows = (bootstrap_weights(150, 1, 4000, seed=4) @ sums).T
    drawn = hits / called / (actual / rows)
    assert (lift.high - lift.low) / 2 == pytest.approx(1.96 * drawn.std(), rel=0.10)
    assert (lift.high + lift.low) / 2 == pytest.approx(lift.value, rel=1e-9)


def test_scores_calibration_error_of_equal_sessions_is_certain() -> None:
    # Ten names with ten probabilities, the same on each of ten days: each bin of ten rows is one name, and however
    # often a day is drawn nothing changes. BUY came for the five of the lowest p(BUY): distances are 1 - p for
    # p = 0.05, 0.10, ... 0.25 and p for 0.30, ... 0.50: (5 - 0.75 + 2) / 10.
    chance = [0.05 * number for number in range(1, 11)]
    day = hand_made(["BUY"] * 5 + ["HOLD"] * 5, ["HOLD"] * 10, probability_buy=chance)
    figure = figures_of(on_sessions(*[day] * 10))["ece_buy"]
    assert [figure.value, figure.low, figure.high] == pytest.approx([0.625] * 3)


def test_scores_calibration_error_is_resampled_by_sessions() -> None:
    # Each draw laid out row by row: rows of a session as often as it was drawn, in the bins that they have.
    ordered = JUDGED.sort("probability_buy", "symbol", "session")
    place = np.arange(ordered.height) * 10 // ordered.height
    number = (ordered["session"].rank("dense") - 1).to_numpy()
    gap = (ordered["label"] == "BUY").to_numpy() - ordered["probability_buy"].to_numpy()
    errors = []
    for weights in bootstrap_weights(40, HORIZON, EXPERIMENT.bootstrap_draws, EXPERIMENT.seed):
        rows = np.repeat(np.arange(ordered.height), weights[number])
        total = sum(abs(gap[rows[place[rows] == which]].sum()) for which in range(10))
        errors.append(total / len(rows))
    figure = FIGURES["ece_buy"]
    assert figure.value == pytest.approx(expected_calibration_error(JUDGED), abs=1e-12)
    assert [figure.low, figure.high] == pytest.approx(np.quantile(errors, [0.025, 0.975]), abs=1e-9)


POOR = poor_panels(JUDGED)
ICIR, RANKS = {"icir", "rank_ic_deviation", "rank_ic_t"}, {"rank_ic", "matched_rank_ic"}
LIFTS = {"lift_buy", "matched_lift_buy", "selection_lift_buy"}
UNDEFINED = {
    "no volatility": {"matched_lift_buy"},
    "no BUY call": {"precision_buy", "precision_hold", *LIFTS},
    "only BUY calls": {"precision_hold", "precision_sell"},
    "no BUY label": {"recall_buy", *LIFTS},
    "neither BUY call nor BUY label": {"precision_buy", "recall_buy", "f1_buy", "precision_sell", *LIFTS},
    "BUY called and never right": {"precision_hold"},
    "one session": ICIR,
    "one session more than the horizon": {"rank_ic_t"},
    "one symbol": {*RANKS, *ICIR, "selection_lift_buy"},
    "no momentum": set(),
    "no volatility classifier": set(),
    "equal forecasts": {*RANKS, *ICIR},
    "the prior is right": {*RANKS, *ICIR, "r2_over_prior"},
}


@pytest.mark.parametrize("case", UNDEFINED)
def test_scores_that_are_undefined_say_why(case: str) -> None:
    judged, undefined = POOR[case], UNDEFINED[case]
    stored = [figure.to_json() for figure in figures_of(judged).values()]
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    assert {figure["name"] for figure in stored if figure["value"] is None} == undefined
    assert all(bool(figure["why_undefined"]) == (figure["name"] in undefined) for figure in stored)
    assert [figure["name"] for figure in stored] == list(FIGURES)


def test_scores_without_a_volatility_classifier_have_no_loss_of_it() -> None:
    judged = POOR["no volatility classifier"]
    assert session_sums(judged)["log_loss_volatility"].null_count() == 40
    figures = figures_of(judged)
    assert all(math.isnan(figures[name].baseline) for name in ("log_loss", "brier", "brier_skill"))
    # One row without it is enough.
    first = pl.int_range(pl.len()) == 0
    partly = JUDGED.with_columns(
        pl.when(~first)
        .then(f"volatility_probability_{name.lower()}")
        .alias(f"volatility_probability_{name.lower()}")
        for name in CLASS_NAMES
    )
    assert session_sums(partly)["brier_volatility"].null_count() == 1
    assert math.isnan(figures_of(partly)["brier"].baseline)


def test_scores_of_too_few_sessions_have_no_intervals() -> None:
    judged = POOR["one session more than the horizon"]
    for name, figure in figures_of(judged).items():
        assert math.isfinite(figure.value) != (name == "rank_ic_t"), name
        # The calibration error resamples what there is.
        assert math.isnan(figure.low) or name == "ece_buy", name
        assert math.isnan(figure.p_value), name


@settings(max_examples=25)
@given(SMALL_PANELS)
def test_scores_of_any_panel_are_possible(judged: pl.DataFrame) -> None:
    figures = figures_of(judged)
    for name, figure in figures.items():
        assert math.isnan(figure.p_value) or 0 <= figure.p_value <= 1
        if figure.unit == "percent" and figure.group in {"classification", "calibration"}:
            assert math.isnan(figure.value) or 0 <= figure.value <= 1, name
    for name in ("rank_ic", "matched_rank_ic"):
        assert math.isnan(figures[name].value) or abs(figures[name].value) <= 1 + 1e-12
