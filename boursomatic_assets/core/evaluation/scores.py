"""Figures of the predictions: ranking, calls, probabilities and forecasts, each beside what needs no skill.

All of them are sums over sessions, so that one test fits all: sessions are resampled or correlated, never rows.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.market.bars import PANEL_KEY, require_rows
from boursomatic_assets.core.measures.classification import (
    CALIBRATION_BINS,
    expected_calibration_error,
    matched_lift,
    mean_of,
    volatility_deciles,
)
from boursomatic_assets.core.measures.figures import Figure
from boursomatic_assets.core.measures.inference import (
    UNDEFINED,
    MeanTest,
    bootstrap_weights,
    clark_west_terms,
    overlap_test,
    ratio_test,
)
from boursomatic_assets.core.measures.ranking import GROUP_NAMES, matched_rank_ic, rank_ic, volatility_groups

if TYPE_CHECKING:
    from boursomatic_assets.core.dataset.experiment import Experiment

# A probability of 0 for what happened would be an infinite loss; scikit-learn's bound.
LEAST_PROBABILITY = float(np.finfo(np.float64).eps)
NO_CALL = "the model never makes this call here, or it would never have been right"
NO_VOLATILITY = "vol_20d is no feature, there is no BUY call, or no BUY label among rows as volatile as the calls"
NO_RANKS = "no session has three names or more whose forecasts differ, or there are too few sessions"
_NEEDED = (
    "label", "call", "forward_return", "predicted_return", "prior_return",
    *(f"{prefix}_{name.lower()}" for prefix in ("probability", "prior_probability") for name in CLASS_NAMES),
)  # fmt: skip
FORECASTERS = {"model": "probability", "volatility": "volatility_probability", "prior": "prior_probability"}


def scores(judged: pl.DataFrame, experiment: Experiment) -> list[Figure]:
    """Measure judged rows.

    Parameters
    ----------
    judged : DataFrame
        Predictions with the columns of the baselines and `call`.
    experiment : Experiment
        Its horizon says how far neighbouring sessions overlap.

    Returns
    -------
    list of Figure

    Raises
    ------
    NoRowsError
        If no row was judged, or one lacks its outcome, forecast, probabilities or call.
    """
    sessions, horizon = session_sums(judged), experiment.horizon
    return [
        *_ranking(judged, horizon),
        *_calls(judged, sessions, horizon),
        *_probabilities(judged, sessions, experiment),
        *_forecasts(sessions, horizon),
    ]


def session_sums(judged: pl.DataFrame) -> pl.DataFrame:
    """What each session adds to the sums that the figures are made of.

    Parameters
    ----------
    judged : DataFrame

    Returns
    -------
    DataFrame
        A row per session in order: `rows`; `correct` calls, `correct_prior` of the most frequent class of the
        training rows; `called_…`, `actual_…` and `hit_…` per class; `log_loss_…` and `brier_…` of the model, of
        volatility alone and of the prior; `square`, `square_prior` and `absolute` errors of the forecast;
        `clark_west` terms; `surprise_…` and `expected_…` hits of the BUY calls, `matched` in volatility and
        `selected` within the session.

    Raises
    ------
    NoRowsError
        As `scores`.
    """
    # The sum of nulls is 0: it would count as no error, and as no hit.
    require_rows(judged, "figures need judged rows", _NEEDED)
    # Among equally probable rows symbols decide, so that the order of the rows decides nothing.
    judged = judged.sort(PANEL_KEY)
    label, call = pl.col("label").cast(pl.String), pl.col("call").cast(pl.String)
    terms = clark_west_terms(
        *(judged[name].to_numpy() for name in ("forward_return", "predicted_return", "prior_return"))
    )
    error = pl.col("forward_return") - pl.col("predicted_return")
    columns = {
        "correct": label == call,
        "correct_prior": label == _most_probable("prior_probability"),
        **{f"called_{name}": call == name for name in CLASS_NAMES},
        **{f"actual_{name}": label == name for name in CLASS_NAMES},
        **{f"hit_{name}": (label == name) & (call == name) for name in CLASS_NAMES},
        **{f"log_loss_{who}": _log_loss(prefix) for who, prefix in FORECASTERS.items()},
        **{f"brier_{who}": _brier(prefix) for who, prefix in FORECASTERS.items()},
        "square": error**2,
        "square_prior": (pl.col("forward_return") - pl.col("prior_return")) ** 2,
        "absolute": error.abs(),
    }
    rows = judged.select(*PANEL_KEY, **columns, clark_west=pl.Series(terms))
    sums = rows.join(_surprises(judged), on=PANEL_KEY, how="left").group_by("session")
    # The sum of nulls would be 0: without a volatility model there is no loss, rather than none lost.
    volatile = [name for name in rows.columns if name.endswith("_volatility")]
    return sums.agg(
        pl.exclude(*PANEL_KEY, *volatile).cast(pl.Float64).sum(),
        *(pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).otherwise(None) for name in volatile),
        rows=pl.len().cast(pl.Float64),
    ).sort("session")


def _surprises(judged: pl.DataFrame) -> pl.DataFrame:
    """What a row adds to BUY hits beyond those to expect, at its volatility and within its session.

    Base rates are estimated from the same rows, so that a month in which everything rises raises both sides. What
    remains is (y - base rate) x (call - share called), both of the row's group; its sum is that of y - base rate
    over the calls.
    """
    called, bought = (pl.col("call") == "BUY").cast(pl.Float64), (pl.col("label") == "BUY").cast(pl.Float64)
    rows, compared = judged.with_columns(called=called, bought=bought), [*PANEL_KEY, "called", "bought"]
    matched = volatility_deciles(rows).select(*compared, "decile").pipe(_beyond, ["decile"], "matched")
    chosen = volatility_groups(rows).select(*compared, "group")
    return matched.join(
        chosen.pipe(_beyond, ["session", "group"], "selected"), on=PANEL_KEY, how="full", coalesce=True
    )


def _beyond(rows: pl.DataFrame, group: list[str], name: str) -> pl.DataFrame:
    base_rate, share = (pl.col(column).mean().over(group) for column in ("bought", "called"))
    return rows.select(
        *PANEL_KEY,
        ((pl.col("bought") - base_rate) * (pl.col("called") - share)).alias(f"surprise_{name}"),
        (pl.col("called") * base_rate).alias(f"expected_{name}"),
    )


def _most_probable(prefix: str) -> pl.Expr:
    columns = [pl.col(f"{prefix}_{name.lower()}") for name in CLASS_NAMES]
    return pl.concat_list(columns).list.arg_max().replace_strict(dict(enumerate(CLASS_NAMES)), default=None)


def _log_loss(prefix: str) -> pl.Expr:
    given = pl.coalesce(
        pl.when(pl.col("label") == name).then(pl.col(f"{prefix}_{name.lower()}")) for name in CLASS_NAMES
    )
    return -given.clip(LEAST_PROBABILITY).log()


def _brier(prefix: str) -> pl.Expr:
    return pl.sum_horizontal(
        (
            (pl.col(f"{prefix}_{name.lower()}") - (pl.col("label") == name).cast(pl.Float64)) ** 2
            for name in CLASS_NAMES
        ),
        ignore_nulls=False,
    )


def _ranking(judged: pl.DataFrame, horizon: int) -> list[Figure]:
    coefficients, matched = rank_ic(judged)["rank_ic"].to_numpy(), matched_rank_ic(judged)["rank_ic"].to_numpy()
    by_momentum = rank_ic(judged, "momentum_12_1")["rank_ic"].to_numpy()
    varies = len(coefficients) > 1 and np.ptp(coefficients) > 0
    deviation = float(coefficients.std(ddof=1)) if varies else math.nan
    plain, alike = (overlap_test(values, horizon, horizon - 1) for values in (coefficients, matched))
    return [
        Figure(
            "rank_ic", "Rank IC", "ranking", mean_of(coefficients), plain.low, plain.high, plain.p_value,
            no_skill=0.0, baseline=mean_of(by_momentum), baseline_is="12-1 momentum", why_undefined=NO_RANKS,
        ),
        Figure(
            "matched_rank_ic", "Rank IC at equal volatility", "ranking", mean_of(matched), alike.low, alike.high,
            alike.p_value, no_skill=0.0, why_undefined=f"no session has {2 * GROUP_NAMES} names or more",
        ),
        Figure(
            "rank_ic_deviation", "Deviation of the sessions' rank IC", "ranking", deviation, why_undefined=NO_RANKS,
        ),
        Figure(
            "icir", "Rank IC over its deviation", "ranking", mean_of(coefficients) / deviation, no_skill=0.0,
            why_undefined=NO_RANKS,
        ),
        Figure(
            "rank_ic_t", "Newey-West t of the rank IC", "ranking", plain.statistic, no_skill=0.0,
            why_undefined=NO_RANKS,
        ),
    ]  # fmt: skip


def _calls(judged: pl.DataFrame, sessions: pl.DataFrame, horizon: int) -> list[Figure]:
    def share(part: str, whole: str) -> MeanTest:
        return _ratio(sessions, part, whole, horizon)

    majority = max(CLASS_NAMES, key=lambda name: sessions[f"actual_{name}"].sum())
    right = share("correct", "rows")
    figures = [
        Figure(
            "accuracy", "Accuracy", "classification", right.value, right.low, right.high, unit="percent",
            no_skill=share("correct_prior", "rows").value, baseline=share(f"actual_{majority}", "rows").value,
            baseline_is="most frequent class",
        )
    ]  # fmt: skip
    for name in CLASS_NAMES:
        figures += _of_class(sessions, name, horizon)
    return [
        *figures,
        _raw_lift(sessions, horizon),
        _matched_lift(judged, sessions, horizon),
        _selection_lift(sessions, horizon),
    ]


def _of_class(sessions: pl.DataFrame, name: str, horizon: int) -> list[Figure]:
    twice = sessions.with_columns(
        hits=2 * pl.col(f"hit_{name}"), either=pl.col(f"called_{name}") + pl.col(f"actual_{name}")
    )
    precision = _ratio(sessions, f"hit_{name}", f"called_{name}", horizon)
    recall = _ratio(sessions, f"hit_{name}", f"actual_{name}", horizon)
    f1 = _ratio(twice, "hits", "either", horizon)
    base, called = (_ratio(sessions, f"{kind}_{name}", "rows", horizon).value for kind in ("actual", "called"))
    # Calls made without looking hit as often as the class occurs, and find as much of it as they are many.
    blind = 2 * base * called / (base + called) if base + called else math.nan
    found = (
        ("precision", precision, base, "base rate"),
        ("recall", recall, called, "share of rows called"),
        ("f1", f1, blind, "as many calls made blindly"),
    )
    return [
        Figure(
            f"{kind}_{name.lower()}", f"{kind.capitalize()} of {name}", "classification", test.value,
            test.low, test.high, unit="percent", no_skill=without, baseline=without, baseline_is=what,
            why_undefined=NO_CALL,
        )
        for kind, test, without, what in found
    ]  # fmt: skip


def _raw_lift(sessions: pl.DataFrame, horizon: int) -> Figure:
    parts = {name: sessions[name].to_numpy() for name in ("hit_BUY", "called_BUY", "actual_BUY", "rows")}
    means = {name: float(values.mean()) for name, values in parts.items()}
    if not (means["called_BUY"] and means["actual_BUY"]):
        return Figure("lift_buy", "BUY lift, raw", "classification", math.nan, why_undefined=NO_CALL)
    value = means["hit_BUY"] / means["called_BUY"] / (means["actual_BUY"] / means["rows"])
    relative = {name: values / means[name] if means[name] else values for name, values in parts.items()}
    # Delta method: relative changes of a product's factors add up.
    influence = value * (relative["hit_BUY"] - relative["called_BUY"] - relative["actual_BUY"] + relative["rows"])
    return Figure(
        "lift_buy", "BUY lift, raw", "classification", value,
        *_around(value, overlap_test(influence, horizon, horizon - 1)), no_skill=1.0,
        baseline_is="volatile stocks cross both thresholds more often: it can be above 1 without skill",
    )  # fmt: skip


def _matched_lift(judged: pl.DataFrame, sessions: pl.DataFrame, horizon: int) -> Figure:
    """BUY precision over the base rate of equally volatile rows of all sessions: the headline, without a p-value.

    Over several folds its null is not quite 1: a model calls more BUY after months that rose, and measured against
    the mean of the whole record the months after them then lag. `_selection_lift` compares within the session.
    """
    value, tested = matched_lift(judged), _surprise_test(sessions, "matched", horizon)
    return Figure(
        "matched_lift_buy", "BUY lift at equal volatility", "classification", value, *_around(value, tested),
        no_skill=1.0, why_undefined=NO_VOLATILITY,
    )  # fmt: skip


def _selection_lift(sessions: pl.DataFrame, horizon: int) -> Figure:
    """BUY precision over the base rate of the same session's names that the model believes as volatile.

    The probability of HOLD falls with volatility, and says all that the model knows of it. Among names of one
    session and alike in it, only a direction can tell a BUY from a SELL.
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
    # As in `_ratio`, the value stands where no interval can be had.
    return replace(overlap_test(surprises, horizon, horizon - 1), value=float(surprises.mean()))


def _probabilities(judged: pl.DataFrame, sessions: pl.DataFrame, experiment: Experiment) -> list[Figure]:
    horizon = experiment.horizon
    loss, without = (_ratio(sessions, f"log_loss_{who}", "rows", horizon) for who in ("model", "prior"))
    by_volatility = _ratio(sessions, "log_loss_volatility", "rows", horizon).value
    score = _ratio(sessions, "brier_model", "rows", horizon)
    skill = _ratio(sessions, "brier_model", "brier_prior", horizon)
    skill_by_volatility = 1 - _ratio(sessions, "brier_volatility", "brier_prior", horizon).value
    alone = "volatility-only classifier"
    low, high = _calibration_interval(judged, experiment)
    return [
        Figure(
            "log_loss", "Log loss, nats", "calibration", loss.value, loss.low, loss.high, no_skill=without.value,
            baseline=by_volatility, baseline_is=alone,
        ),
        Figure(
            "brier", "Brier score", "calibration", score.value, score.low, score.high,
            no_skill=_ratio(sessions, "brier_prior", "rows", horizon).value,
            baseline=_ratio(sessions, "brier_volatility", "rows", horizon).value, baseline_is=alone,
        ),
        Figure(
            "brier_skill", "Brier skill over the training prior", "calibration", 1 - skill.value,
            low=1 - skill.high, high=1 - skill.low, no_skill=0.0, baseline=skill_by_volatility, baseline_is=alone,
        ),
        Figure(
            "ece_buy", "Calibration error of p(BUY), above 0 by noise alone", "calibration",
            expected_calibration_error(judged), low=low, high=high, unit="percent",
        ),
    ]  # fmt: skip


def _calibration_interval(judged: pl.DataFrame, experiment: Experiment) -> tuple[float, float]:
    """Percentiles of the calibration error over resampled sessions; bins stay as they are.

    NaN for fewer sessions than two blocks: draws of one block are all alike.
    """
    if judged["session"].n_unique() < 2 * experiment.horizon:
        return math.nan, math.nan
    ordered = judged.sort("probability_buy", "symbol", "session").select(
        "session",
        bin=pl.int_range(pl.len()) * CALIBRATION_BINS // pl.len(),
        gap=(pl.col("label") == "BUY").cast(pl.Float64) - pl.col("probability_buy"),
    )
    gaps = ordered.pivot("bin", index="session", values="gap", aggregate_function="sum").sort("session")
    sums = gaps.drop("session").fill_null(0.0).to_numpy()
    rows = ordered.group_by("session").len().sort("session")["len"].to_numpy()
    weights = bootstrap_weights(len(rows), experiment.horizon, experiment.bootstrap_draws, experiment.seed)
    errors = np.abs(weights @ sums).sum(axis=1) / (weights @ rows)
    low, high = np.quantile(errors, [0.025, 0.975])
    return float(low), float(high)


def _forecasts(sessions: pl.DataFrame, horizon: int) -> list[Figure]:
    squares, absolute = (_ratio(sessions, name, "rows", horizon) for name in ("square", "absolute"))
    part = _ratio(sessions, "square", "square_prior", horizon)
    terms = (sessions["clark_west"] / sessions["rows"]).to_numpy()
    tested = overlap_test(terms, horizon, horizon - 1)
    known = math.sqrt(_ratio(sessions, "square_prior", "rows", horizon).value)
    root = replace(squares, low=max(squares.low, 0.0)) if math.isfinite(squares.low) else squares
    return [
        Figure(
            "r2_over_prior", "R² of the forecast", "regression", 1 - part.value, low=1 - part.high,
            high=1 - part.low, p_value=tested.p_value, no_skill=0.0, baseline=0.0,
            baseline_is="training mean", unit="percent", why_undefined="the realised returns do not vary",
        ),
        Figure(
            "rmse", "RMSE of the forecast", "regression", math.sqrt(squares.value), low=math.sqrt(root.low),
            high=math.sqrt(root.high), baseline=known, baseline_is="training mean", unit="percent",
        ),
        Figure(
            "mae", "MAE of the forecast", "regression", absolute.value, absolute.low, absolute.high, unit="percent"
        ),
    ]  # fmt: skip


def _ratio(sessions: pl.DataFrame, part: str, whole: str, horizon: int) -> MeanTest:
    """Ratio of two sums over the sessions, with its interval; its value alone where no interval can be had."""
    if sessions[part].null_count():
        return UNDEFINED
    return ratio_test(sessions[part].to_numpy(), sessions[whole].to_numpy(), horizon, horizon - 1)


def _around(value: float, test: MeanTest) -> tuple[float, float]:
    """Move a test's interval to lie around another value than its mean."""
    return value + test.low - test.value, value + test.high - test.value
