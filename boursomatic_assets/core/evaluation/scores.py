"""Figures of the predictions: ranking, calls, probabilities and forecasts, each beside its value without skill."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.evaluation.book_figures import loss_comparisons
from boursomatic_assets.core.evaluation.session_sums import FORECASTERS, session_sums
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.measures import classification, forecasts
from boursomatic_assets.core.measures.calibration import (
    brier_score,
    brier_skill,
    calibration_interval,
    expected_calibration_error,
    log_loss,
)
from boursomatic_assets.core.measures.classification import NO_VOLATILITY, mean_of, ratio
from boursomatic_assets.core.measures.detection import Detection, detections
from boursomatic_assets.core.measures.figures import Figure
from boursomatic_assets.core.measures.inference import UNDEFINED, MeanTest, overlap_test, ratio_test
from boursomatic_assets.core.measures.ranking import GROUP_NAMES, RANK_IC_TITLES, rank_ic, rank_ics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.dataset.experiment import Experiment

NO_CALL = "the model never makes this call here, or it would never have been right"
BLIND = "as many calls made blindly"
FEW_NAMES = f"no session has {2 * GROUP_NAMES} names or more"
NO_RANKS = "no session has three names or more whose forecasts differ, or there are too few sessions"


class Scores(NamedTuple):
    """What is measured on judged rows; `rank_ic` has the coefficient of each session."""

    figures: list[Figure]
    comparisons: list[dict[str, Any]]
    detections: dict[str, Detection]
    rank_ic: pl.DataFrame


def scores(judged: pl.DataFrame, experiment: Experiment) -> Scores:
    """Measure judged rows: values from the rows, intervals from the sums and rank ICs of their sessions."""
    # Sums of the same numbers in another order differ in their last digits.
    ordered, horizon = judged.sort(PANEL_KEY), experiment.horizon
    sessions, coefficients = session_sums(ordered), rank_ics(ordered)
    figures = [
        *_ranking(ordered, coefficients, horizon),
        *_calls(ordered, sessions, horizon),
        *_probabilities(ordered, sessions, experiment),
        *_forecasts(ordered, sessions, horizon),
    ]
    comparisons = loss_comparisons(sessions, horizon)
    return Scores(figures, comparisons, detections(coefficients, horizon), coefficients["rank_ic"])


def _ranking(judged: pl.DataFrame, coefficients: Mapping[str, pl.DataFrame], horizon: int) -> list[Figure]:
    values, matched = (coefficients[name]["rank_ic"].to_numpy() for name in ("rank_ic", "matched_rank_ic"))
    by_momentum = rank_ic(judged, "momentum_12_1")["rank_ic"].to_numpy()
    varies = len(values) > 1 and np.ptp(values) > 0
    mean, deviation = mean_of(values), float(values.std(ddof=1)) if varies else math.nan
    plain, alike = (overlap_test(each, horizon, horizon - 1) for each in (values, matched))
    return [
        Figure(
            "rank_ic", RANK_IC_TITLES["rank_ic"], "ranking", mean, plain.low, plain.high, plain.p_value,
            no_skill=0.0, baseline=mean_of(by_momentum), baseline_is="12-1 momentum", why_undefined=NO_RANKS,
        ),
        Figure(
            "matched_rank_ic", RANK_IC_TITLES["matched_rank_ic"], "ranking", mean_of(matched), alike.low,
            alike.high, alike.p_value, no_skill=0.0, why_undefined=FEW_NAMES,
        ),
        Figure(
            "rank_ic_deviation", "Deviation of the sessions' rank IC", "ranking", deviation, why_undefined=NO_RANKS,
        ),
        Figure(
            "icir", "Rank IC over its deviation", "ranking", mean / deviation, no_skill=0.0, why_undefined=NO_RANKS,
        ),
        Figure(
            "rank_ic_t", "Newey-West t of the rank IC", "ranking", plain.statistic, no_skill=0.0,
            why_undefined=NO_RANKS,
        ),
    ]  # fmt: skip


def _calls(judged: pl.DataFrame, sessions: pl.DataFrame, horizon: int) -> list[Figure]:
    right = _ratio(sessions, "correct", "rows", horizon).around(classification.accuracy(judged))
    return [
        Figure(
            "accuracy", "Accuracy", "classification", *right.estimate, unit="percent",
            no_skill=classification.accuracy(judged, classification.most_probable(classification.PRIOR)),
            baseline=classification.constant_accuracy(judged, classification.majority_class(judged)),
            baseline_is="most frequent class",
        ),
        *(figure for name in CLASS_NAMES for figure in _of_class(judged, sessions, name, horizon)),
        _raw_lift(judged, sessions, horizon),
        _matched_lift(judged, sessions, horizon),
        _selection_lift(sessions, horizon),
    ]  # fmt: skip


def _of_class(judged: pl.DataFrame, sessions: pl.DataFrame, name: str, horizon: int) -> list[Figure]:
    hits, calls, labels = (pl.col(f"{kind}_{name}") for kind in ("hit", "called", "actual"))
    base = classification.constant_accuracy(judged, name)
    called = mean_of((judged["call"] == name).to_numpy())
    # Random calls have precision equal to the base rate and recall equal to the share called.
    values = classification.class_figures(judged)[name]
    found = (
        ("precision", values["precision"], (hits, calls), base, "base rate"),
        ("recall", values["recall"], (hits, labels), called, "share of rows called"),
        ("f1", values["f1-score"], (2 * hits, calls + labels), ratio(2 * base * called, base + called), BLIND),
    )
    return [
        Figure(
            f"{kind}_{name.lower()}", f"{kind.capitalize()} of {name}", "classification",
            *_ratio(sessions.select(part=part, whole=whole), "part", "whole", horizon).around(value).estimate,
            unit="percent", no_skill=without, baseline=without, baseline_is=what, why_undefined=NO_CALL,
        )
        for kind, value, (part, whole), without, what in found
    ]  # fmt: skip


def _raw_lift(judged: pl.DataFrame, sessions: pl.DataFrame, horizon: int) -> Figure:
    value = classification.buy_lift(judged)
    if not math.isfinite(value):
        return Figure("lift_buy", "BUY lift, raw", "classification", math.nan, why_undefined=NO_CALL)
    parts = {name: sessions[name].to_numpy() for name in ("hit_BUY", "called_BUY", "actual_BUY", "rows")}
    relative = {name: values / values.mean() if values.any() else values for name, values in parts.items()}
    # Delta method: relative changes of a product's factors add up.
    influence = value * (relative["hit_BUY"] - relative["called_BUY"] - relative["actual_BUY"] + relative["rows"])
    return Figure(
        "lift_buy", "BUY lift, raw", "classification",
        *overlap_test(influence, horizon, horizon - 1).around(value).estimate, no_skill=1.0,
        baseline_is="volatile stocks cross both thresholds more often: it can be above 1 without skill",
    )  # fmt: skip


def _matched_lift(judged: pl.DataFrame, sessions: pl.DataFrame, horizon: int) -> Figure:
    """BUY precision over the base rate of equally volatile rows of all sessions, without a p-value.

    Over several folds its null is not quite 1: a model calls more BUY after months that rose, and the months after
    them lag the mean of the whole record. `_selection_lift` compares within the session.
    """
    tested = _surprise_test(sessions, "matched", horizon).around(classification.matched_lift(judged))
    return Figure(
        "matched_lift_buy", "BUY lift at equal volatility", "classification", *tested.estimate, no_skill=1.0,
        why_undefined=NO_VOLATILITY,
    )  # fmt: skip


def _selection_lift(sessions: pl.DataFrame, horizon: int) -> Figure:
    """BUY precision over the base rate of names of the same session with a similar p(HOLD).

    p(HOLD) falls with volatility. Among names alike in it, only a direction can tell a BUY from a SELL.
    """
    tested = _surprise_test(sessions, "selected", horizon)
    return Figure(
        "selection_lift_buy", "BUY lift within the session", "classification", 1 + tested.value, 1 + tested.low,
        1 + tested.high, tested.p_value, no_skill=1.0,
        why_undefined=f"no BUY call in a session of {2 * GROUP_NAMES} names or more",
    )  # fmt: skip


def _surprise_test(sessions: pl.DataFrame, kind: str, horizon: int) -> MeanTest:
    expected = float(sessions[f"expected_{kind}"].to_numpy().mean())
    if not expected > 0:
        return UNDEFINED
    surprises = sessions[f"surprise_{kind}"].to_numpy() / expected
    # As in `ratio_test`, the value is defined where the interval is not.
    return replace(overlap_test(surprises, horizon, horizon - 1), value=float(surprises.mean()))


def _probabilities(judged: pl.DataFrame, sessions: pl.DataFrame, experiment: Experiment) -> list[Figure]:
    horizon, volatility, prior = experiment.horizon, FORECASTERS["volatility"], FORECASTERS["prior"]
    loss = _ratio(sessions, "log_loss_model", "rows", horizon).around(log_loss(judged))
    score = _ratio(sessions, "brier_model", "rows", horizon).around(brier_score(judged))
    lost = _ratio(sessions, "brier_model", "brier_prior", horizon).around(1 - brier_skill(judged))
    alone = "volatility-only classifier"
    known = not sessions["log_loss_volatility"].null_count()
    beside = [
        measure(judged, volatility) if known else math.nan for measure in (log_loss, brier_score, brier_skill)
    ]
    low, high = calibration_interval(judged, horizon, experiment.bootstrap_draws, experiment.seed)
    return [
        Figure(
            "log_loss", "Log loss, nats", "calibration", *loss.estimate, no_skill=log_loss(judged, prior),
            baseline=beside[0], baseline_is=alone,
        ),
        Figure(
            "brier", "Brier score", "calibration", *score.estimate, no_skill=brier_score(judged, prior),
            baseline=beside[1], baseline_is=alone,
        ),
        Figure(
            "brier_skill", "Brier skill over the training prior", "calibration", brier_skill(judged),
            low=1 - lost.high, high=1 - lost.low, no_skill=0.0, baseline=beside[2], baseline_is=alone,
        ),
        Figure(
            "ece_buy", "Calibration error of p(BUY), above 0 by noise alone", "calibration",
            expected_calibration_error(judged), low=low, high=high, unit="percent",
        ),
    ]  # fmt: skip


def _forecasts(judged: pl.DataFrame, sessions: pl.DataFrame, horizon: int) -> list[Figure]:
    squares, absolute = (_ratio(sessions, name, "rows", horizon) for name in ("square", "absolute"))
    absolute = absolute.around(forecasts.mean_absolute_error(judged))
    saved = forecasts.r2_over_prior(judged)
    left = _ratio(sessions, "square", "square_prior", horizon).around(1 - saved)
    terms = (sessions["clark_west"] / sessions["rows"]).to_numpy()
    tested = overlap_test(terms, horizon, horizon - 1)
    lowest = max(squares.low, 0.0) if math.isfinite(squares.low) else math.nan
    return [
        Figure(
            "r2_over_prior", "R² of the forecast", "regression", saved, low=1 - left.high, high=1 - left.low,
            p_value=tested.p_value, no_skill=0.0, baseline=0.0, baseline_is="training mean", unit="percent",
            why_undefined="the realised returns do not vary",
        ),
        Figure(
            "rmse", "RMSE of the forecast", "regression", forecasts.root_mean_squared_error(judged),
            low=math.sqrt(lowest), high=math.sqrt(squares.high),
            baseline=forecasts.root_mean_squared_error(judged, forecasts.PRIOR), baseline_is="training mean",
            unit="percent",
        ),
        Figure("mae", "MAE of the forecast", "regression", *absolute.estimate, unit="percent"),
    ]  # fmt: skip


def _ratio(sessions: pl.DataFrame, part: str, whole: str, horizon: int) -> MeanTest:
    """Test of a ratio of two sums over the sessions."""
    return ratio_test(sessions[part].to_numpy(), sessions[whole].to_numpy(), horizon, horizon - 1)
