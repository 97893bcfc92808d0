"""Simulated panels that prove the figures: no skill on prices without a signal, skill on prices with one.

Each panel takes the whole way of real prices: features, labels, folds, models, baselines, books, figures, verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from boursomatic_assets.core.dataset.experiment import Experiment, WalkForward
from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.evaluation.book_figures import Trials
from boursomatic_assets.core.evaluation.evaluation import Evaluation
from boursomatic_assets.core.evaluation.judging import evaluate_judged
from boursomatic_assets.core.evaluation.survivors import find_survivors, panel_spans
from boursomatic_assets.core.market.simulation import SimulatedMarket, simulate_bars
from boursomatic_assets.core.measures.ranking import rank_ic
from boursomatic_assets.core.models.folds import plan_folds
from boursomatic_assets.core.models.walk_forward import join_folds, run_fold, sequential_calls
from boursomatic_assets.core.portfolio.books import judged_books

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.05
# Symmetric thresholds, so that a random walk has both labels. Without cost the null of every book is exactly zero.
EXPERIMENT = Experiment(
    buy_threshold=0.04, sell_threshold=-0.04, cost_bps=0.0, bootstrap_draws=500, walk_forward=WalkForward(folds=4)
)
NOTHING_TO_FIND = SimulatedMarket(symbols=60, sessions=800)
# A drift that gives its feature a rank IC of 0.05 over 20 sessions.
SOMETHING_TO_FIND = SimulatedMarket(symbols=500, sessions=1250, signal=0.052)
SIGNAL_FEATURE = "volume_zscore"


class SimulatedEvaluation(Evaluation):
    """Of a simulated panel, with the mean rank IC of the signal's feature on the same rows."""

    planted_rank_ic: float


def judge_simulated(
    market: SimulatedMarket, seed: int, experiment: Experiment = EXPERIMENT, threads: int = 0
) -> SimulatedEvaluation:
    """Simulate prices and evaluate them over all folds; `threads` (0 for all cores) never changes the result."""
    bars = simulate_bars(market, seed)
    labels = label_panel(compute_features(bars), bars, experiment)
    folds = plan_folds(labels, experiment)
    panel = join_folds({fold.number: run_fold(labels, fold, experiment, threads).panel for fold in folds})
    judged, _ = sequential_calls(panel, experiment)
    books = judged_books(judged, bars, experiment.horizon, experiment.cost_bps)
    shown = judged.join(labels.select("symbol", "session", SIGNAL_FEATURE), on=["symbol", "session"])
    survivors = find_survivors(panel_spans(bars))
    evaluation = evaluate_judged(judged, books, experiment, "walk-forward", Trials(), survivors)
    planted = float(rank_ic(shown, SIGNAL_FEATURE)["rank_ic"].to_numpy().mean())
    return SimulatedEvaluation(**dict(evaluation), planted_rank_ic=planted)


@dataclass(frozen=True)
class NullCalibration:
    """Results on panels without a signal.

    `rejected` is the share of panels in which each p-value was below 0.05; `matched_lift` the mean BUY lift at
    equal volatility (1 without skill); `no_evidence` the share of panels with a verdict of no skill.
    """

    panels: int
    rejected: dict[str, float]
    matched_lift: float
    no_evidence: float


def null_calibration(evaluations: Sequence[SimulatedEvaluation]) -> NullCalibration:
    """Count rejections over evaluations of panels without a signal."""
    found: dict[str, list[float]] = {}
    for evaluation in evaluations:
        for name, p_value in evaluation.p_values.items():
            found.setdefault(name, []).append(p_value)
    lifts = [evaluation.values["matched_lift_buy"] for evaluation in evaluations]
    return NullCalibration(
        panels=len(evaluations),
        rejected={name: float(np.mean(np.array(values) < LEVEL)) for name, values in found.items()},
        matched_lift=float(np.nanmean(lifts)),
        no_evidence=1.0 - _share_with_skill(evaluations),
    )


@dataclass(frozen=True)
class Power:
    """Results on panels with a signal: share `found`, mean rank IC of the signal itself and of the forecasts."""

    panels: int
    found: float
    planted_rank_ic: float
    rank_ic: float


def power(evaluations: Sequence[SimulatedEvaluation]) -> Power:
    """Count how often a planted signal was found."""
    return Power(
        panels=len(evaluations),
        found=_share_with_skill(evaluations),
        planted_rank_ic=float(np.mean([evaluation.planted_rank_ic for evaluation in evaluations])),
        rank_ic=float(np.mean([evaluation.values["rank_ic"] for evaluation in evaluations])),
    )


def _share_with_skill(evaluations: Sequence[SimulatedEvaluation]) -> float:
    return float(np.mean([evaluation.verdict.skill for evaluation in evaluations]))
