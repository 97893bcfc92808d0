"""Proofs of what is reported: on prices without a signal no skill, on prices with one that it is there.

Each simulated panel goes the whole way that real prices go: features, labels, folds, both models and the baseline,
thresholds, books, every figure and the concluding sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from boursomatic_assets.core.dataset.experiment import Experiment, WalkForward
from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.evaluation.book_figures import Trials
from boursomatic_assets.core.evaluation.judging import evaluate_judged, p_values
from boursomatic_assets.core.evaluation.survivors import find_survivors, panel_spans
from boursomatic_assets.core.market.simulation import SimulatedMarket, simulate_bars
from boursomatic_assets.core.measures.ranking import rank_ic
from boursomatic_assets.core.models.folds import plan_folds
from boursomatic_assets.core.models.walk_forward import join_folds, run_fold, sequential_calls
from boursomatic_assets.core.portfolio.books import judged_books

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEVEL = 0.05
# A random walk rises as often as it falls: with thresholds as far up as down both calls are made. Without cost the
# null of every book is exactly zero; cost would only hide a test that rejects too often.
EXPERIMENT = Experiment(
    buy_threshold=0.04,
    sell_threshold=-0.04,
    cost_bps=0.0,
    bootstrap_draws=500,
    walk_forward=WalkForward(folds=4),
)
NOTHING_TO_FIND = SimulatedMarket(symbols=60, sessions=800)
# A drift that gives the feature which shows it a rank IC of 0.05 over 20 sessions, as `planted_rank_ic` measures.
SOMETHING_TO_FIND = SimulatedMarket(symbols=500, sessions=1250, signal=0.052)
SIGNAL_FEATURE = "volume_zscore"


def judge_simulated(
    market: SimulatedMarket, seed: int, experiment: Experiment = EXPERIMENT, threads: int = 0
) -> dict[str, Any]:
    """Take simulated prices all the way to an evaluation.

    Parameters
    ----------
    market : SimulatedMarket
    seed : int
    experiment : Experiment
    threads : int
        0 for all cores. Changes the time taken, never the result.

    Returns
    -------
    dict
        As `evaluate_judged` gives it of all folds, with `planted_rank_ic`: the mean rank IC of the feature that
        shows the signal, on the same rows.
    """
    bars = simulate_bars(market, seed)
    labels = label_panel(compute_features(bars), bars, experiment)
    folds = plan_folds(labels, experiment)
    panel = join_folds({fold.number: run_fold(labels, fold, experiment, threads).panel for fold in folds})
    judged, _ = sequential_calls(panel, experiment)
    books = judged_books(judged, bars, experiment.horizon, experiment.cost_bps)
    shown = judged.join(labels.select("symbol", "session", SIGNAL_FEATURE), on=["symbol", "session"])
    return {
        **evaluate_judged(judged, books, experiment, "walk-forward", Trials(), find_survivors(panel_spans(bars))),
        "planted_rank_ic": float(rank_ic(shown, SIGNAL_FEATURE)["rank_ic"].to_numpy().mean()),
    }


@dataclass(frozen=True)
class NullCalibration:
    """What was reported on panels with nothing to find.

    Attributes
    ----------
    panels : int
    rejected : dict of str to float
        Share of the panels in which each reported p-value was below 0.05; about 0.05 for a test that holds.
    matched_lift : float
        Mean BUY lift at equal volatility; 1 without skill.
    no_evidence : float
        Share of the panels whose sentence says that there is no evidence of skill.
    """

    panels: int
    rejected: dict[str, float]
    matched_lift: float
    no_evidence: float


def null_calibration(evaluations: Sequence[Mapping[str, Any]]) -> NullCalibration:
    """Count rejections over evaluations of panels with nothing to find.

    Parameters
    ----------
    evaluations : sequence of mapping
        As `judge_simulated` gives them.
    """
    found: dict[str, list[float]] = {}
    for evaluation in evaluations:
        for name, p_value in p_values(evaluation).items():
            found.setdefault(name, []).append(p_value)
    lifts = [_value(evaluation, "matched_lift_buy") for evaluation in evaluations]
    return NullCalibration(
        panels=len(evaluations),
        rejected={name: float(np.mean(np.array(values) < LEVEL)) for name, values in found.items()},
        matched_lift=float(np.mean([lift for lift in lifts if lift is not None])),
        no_evidence=1.0 - _share_with_skill(evaluations),
    )


@dataclass(frozen=True)
class Power:
    """What was reported on panels with a planted signal.

    Attributes
    ----------
    panels : int
    found : float
        Share of the panels that were reported as skill.
    planted_rank_ic : float
        Mean rank IC of the signal itself.
    rank_ic : float
        Mean rank IC of the forecasts.
    """

    panels: int
    found: float
    planted_rank_ic: float
    rank_ic: float


def power(evaluations: Sequence[Mapping[str, Any]]) -> Power:
    """Count how often a planted signal was reported.

    Parameters
    ----------
    evaluations : sequence of mapping
        As `judge_simulated` gives them.
    """
    return Power(
        panels=len(evaluations),
        found=_share_with_skill(evaluations),
        planted_rank_ic=float(np.mean([evaluation["planted_rank_ic"] for evaluation in evaluations])),
        rank_ic=float(np.mean([_value(evaluation, "rank_ic") for evaluation in evaluations])),
    )


def _share_with_skill(evaluations: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([evaluation["verdict"]["skill"] for evaluation in evaluations]))


def _value(evaluation: Mapping[str, Any], name: str) -> float | None:
    value: float | None = next(figure["value"] for figure in evaluation["figures"] if figure["name"] == name)
    return value
