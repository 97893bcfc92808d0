"""The probability from which a row is called BUY, chosen on the validation set only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import LABEL_TYPE
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.printed import printed, told_apart
from boursomatic_assets.core.measures.calibration import UNCALIBRATED, fit_temperature
from boursomatic_assets.core.measures.classification import PROBABILITIES, VOLATILITY, volatility_deciles
from boursomatic_assets.core.measures.inference import CONFIDENCE
from boursomatic_assets.core.measures.resampling import bootstrap_weights
from boursomatic_assets.core.models.predictions import set_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.dataset.experiment import Experiment

CANDIDATES = 40
# Relative difference of the same sum in another order, which is no advantage.
ROUNDING = 1e-9
CANDIDATE_SCHEMA = pl.Schema(
    {
        "tau": pl.Float64,
        "calls": pl.Int64,
        "sessions": pl.Int64,
        "precision": pl.Float64,
        "lower_bound": pl.Float64,
        "matched_base_rate": pl.Float64,
    }
)


@dataclass(frozen=True)
class Threshold:
    """The decision rule."""

    tau: float | None  # rows with at least this p(BUY) are called BUY; None calls the most probable class
    reason: str  # why this threshold, or why none
    candidates: pl.DataFrame  # of `CANDIDATE_SCHEMA`; `sessions` are those with a call
    temperature: float = UNCALIBRATED  # calibrates the displayed probabilities; the rule reads uncalibrated ones

    def to_json(self) -> dict[str, Any]:
        """As strict JSON: `tau`, `reason`, `temperature`, and `candidates` as a list."""
        return {
            "tau": self.tau,
            "reason": self.reason,
            "temperature": self.temperature,
            "candidates": self.candidates.to_dicts(),
        }


def threshold_of(predictions: pl.DataFrame, experiment: Experiment) -> Threshold:
    """Choose the threshold on the validation rows of `predict_sets`; the test set is not read.

    Blocks are as long as the experiment's horizon; calls on two horizons of sessions are enough.
    """
    horizon = experiment.horizon
    validation = set_of(predictions, "validation")
    chosen = choose_threshold(validation, horizon, experiment.bootstrap_draws, experiment.seed, 2 * horizon)
    probabilities = validation.select(PROBABILITIES).to_numpy()
    return replace(chosen, temperature=fit_temperature(probabilities, validation["label"]))


def choose_threshold(validation: pl.DataFrame, horizon: int, draws: int, seed: int, min_sessions: int) -> Threshold:
    """Choose the p(BUY) from which to call BUY.

    The smallest of 40 quantiles of p(BUY) whose calls are on at least `min_sessions` and whose lower 95 % bound of
    precision is above the base rate of equally volatile rows; without such a quantile, no threshold.

    Parameters
    ----------
    validation : DataFrame
        Predicted rows with their labels: `symbol`, `session`, `label`, `probability_buy`, `vol_20d`.
    horizon : int
        Sessions that a label looks ahead; mean block length of the bootstrap.
    draws, seed : int
        Of the bootstrap.
    min_sessions : int
        Two horizons hold two calls that share no day.

    Notes
    -----
    The bound is the 5 % quantile of the precision over draws of the stationary bootstrap (Politis and Romano 1994)
    of whole sessions, so that what happens to all instruments at once counts once. The matched base rate is that of
    the actual calls and is not resampled; in the draws it moves with precision, so that each value is judged
    strictly. A draw without a call has a precision of 0. Each bound holds for one value: of forty, one is easily
    found by luck without any skill. A threshold is therefore a choice and no evidence, which only the test set
    gives.
    """
    if validation[VOLATILITY].null_count() == validation.height:
        reason = f"no row has {VOLATILITY} to compare it by; {_ARGMAX}"
        return Threshold(None, reason, pl.DataFrame(schema=CANDIDATE_SCHEMA))
    candidates = _candidates(volatility_deciles(validation), horizon, draws, seed)
    better = candidates["lower_bound"] > candidates["matched_base_rate"] + ROUNDING
    enough = candidates["sessions"] >= min_sessions
    suitable = candidates.filter(better & enough)
    if suitable.is_empty():
        missing = f"none with calls on {min_sessions} sessions or more" if better.any() else "none"
        reason = (
            f"of {candidates.height} values of p(BUY), {missing} has a lower 95 % bound of precision above the "
            f"base rate of rows as volatile; {_ARGMAX}"
        )
        return Threshold(None, reason, candidates)
    chosen = suitable.row(0, named=True)
    beside = told_apart(chosen["lower_bound"], chosen["matched_base_rate"], 3)
    assert beside is not None  # noqa: S101 (one is larger than the other)
    reason = (
        f"the smallest of {candidates.height} values with calls on {min_sessions} sessions or more whose precision "
        f"on the validation set, {printed(chosen['precision'], beside.digits)}, has its lower 95 % bound, "
        f"{beside.first}, above the base rate of rows as volatile, {beside.second}"
    )
    return Threshold(chosen["tau"], reason, candidates)


_ARGMAX = "the most probable class is called"


def _candidates(rows: pl.DataFrame, horizon: int, draws: int, seed: int) -> pl.DataFrame:
    """Calls, precision, its lower bound and the matched base rate of each candidate, from the smallest up."""
    probability = rows["probability_buy"].to_numpy()
    # Candidates are values that occur.
    levels = np.arange(CANDIDATES) / CANDIDATES
    taus = np.unique(np.quantile(probability, levels, method="inverted_cdf"))
    called = probability[:, None] >= taus
    hits = called & (rows["label"] == "BUY").to_numpy()[:, None]
    calls_on, hits_on = _sums_within(rows["session"], called), _sums_within(rows["session"], hits)
    calls = calls_on.sum(axis=0)
    base_rates = rows.unique("decile").sort("decile")["base_rate"].to_numpy()
    expected = base_rates @ _sums_within(rows["decile"], called)
    weights = bootstrap_weights(len(calls_on), horizon, draws, seed)
    drawn_calls = weights @ calls_on
    drawn = np.divide(weights @ hits_on, drawn_calls, out=np.zeros_like(drawn_calls), where=drawn_calls > 0)
    return pl.DataFrame(
        {
            "tau": taus,
            "calls": calls,
            "sessions": (calls_on > 0).sum(axis=0),
            "precision": hits_on.sum(axis=0) / calls,
            "lower_bound": np.quantile(drawn, 1 - CONFIDENCE, axis=0),
            "matched_base_rate": expected / calls,
        }
    ).cast(CANDIDATE_SCHEMA)


def _sums_within(group: pl.Series, marks: np.ndarray) -> np.ndarray:
    """Count each column of marks within each group, shape (n_groups, n_columns), in the order of the groups."""
    groups = group.unique().sort()
    place = groups.search_sorted(group).to_numpy()
    cells = place[:, None] * marks.shape[1] + np.arange(marks.shape[1])
    sums = np.bincount(cells[marks], minlength=len(groups) * marks.shape[1])
    return sums.reshape(len(groups), marks.shape[1]).astype(np.float64)


def differences_without_test_set(
    stored: Mapping[str, Any], predictions: pl.DataFrame, experiment: Experiment
) -> list[str]:
    """Describe how a stored threshold differs from one chosen without the test set; empty if it does not.

    `stored` is from `Threshold.to_json`, `predictions` from `predict_sets`. The test rows are dropped once, and
    once inverted: all of them BUY, the least probable first.
    """
    is_test = pl.col("set") == "test"
    turned = pl.when(is_test).then(1 - pl.col("probability_buy")).otherwise("probability_buy")
    bought = pl.when(is_test).then(pl.lit("BUY", LABEL_TYPE)).otherwise("label")
    others = {
        "dropped": predictions.filter(~is_test),
        "turned around": predictions.with_columns(probability_buy=turned, label=bought),
    }
    without = {how: threshold_of(panel, experiment).to_json() for how, panel in others.items()}
    return [
        f"with the test rows {how} the threshold is {value['tau']} (temperature {value['temperature']}), and it is "
        f"stored as {stored['tau']} ({stored.get('temperature')})"
        for how, value in without.items()
        if value != stored
    ]


def with_calls(predictions: pl.DataFrame, tau: float | None) -> pl.DataFrame:
    """Add `call`: BUY from a p(BUY) of `tau` on, else the more probable of HOLD and SELL.

    Without `tau` it is the most probable class. Reads the three probabilities and `predicted_label`.
    """
    if tau is None:
        return predictions.with_columns(call="predicted_label")
    call = (
        pl.when(pl.col("probability_buy") >= tau)
        .then(pl.lit("BUY", LABEL_TYPE))
        .when(pl.col("probability_hold") >= pl.col("probability_sell"))
        .then(pl.lit("HOLD", LABEL_TYPE))
        .otherwise(pl.lit("SELL", LABEL_TYPE))
    )
    return predictions.with_columns(call=call)


def judged_rows(
    predictions: pl.DataFrame, baselines: pl.DataFrame, tau: float | None, name: str = "test"
) -> pl.DataFrame:
    """Rows of one set of `predict_sets`, with their calls and the `baseline_columns` of the same rows."""
    called = with_calls(set_of(predictions, name), tau)
    return called.join(baselines.drop("set"), on=PANEL_KEY, how="left", maintain_order="left")
